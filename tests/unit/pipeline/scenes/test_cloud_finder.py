"""Clouds of scenes without classes, found by a stand-in for OmniCloudMask that has its interface and no network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.transform import from_origin
from stac_material import make_item, make_reflectance, write_json, write_rasters

from model.errors import InputError
from pipeline.config.run import RunConfig, load_config
from pipeline.grid.window import Window
from pipeline.scenes.cloud_finder import MARGIN_PX, SQUARE_PX, find_clouds
from pipeline.scenes.composite import restore_scene
from pipeline.scenes.pair import find_pair

LEFT, TOP, SIZE = 620_000, 3_360_000, 96
"""The middle of the scenes lies on the border of two squares of the lattice."""
STEP_M = SQUARE_PX * 10
X, Y = (round(place / STEP_M) * STEP_M for place in (LEFT, TOP))
CLOUD, SHADOW = (slice(20, 52), slice(30, 70)), (slice(60, 80), slice(10, 40))
BRIGHT, DARK = 230, 4
STAND_IN = """
import numpy as np

asked = []

def predict_from_array(input_array, patch_size=1000, patch_overlap=300, no_data_value=0, apply_no_data_mask=True):
    asked.append(input_array.shape)
    red, green, nir = input_array
    assert input_array.dtype == np.float32
    classes = np.where(red > 200, 1, 0) + np.where((nir > 0) & (nir < 5), 3, 0)
    return classes[None].astype(np.uint8)
"""


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a package of this name be installed."""
    folder = tmp_path / "packages"
    (folder / "omnicloudmask-1.7.0.dist-info").mkdir(parents=True)
    (folder / "omnicloudmask-1.7.0.dist-info" / "METADATA").write_text("Name: omnicloudmask\nVersion: 1.7.0\n")
    (folder / "omnicloudmask.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "omnicloudmask", raising=False)
    return folder


def write_scene(
    path: Path, *, seed: int, pixel_m: float = 10.0, hidden: bool = True, names: tuple[str, ...] = ("nir",)
) -> npt.NDArray[np.bool_]:
    """Write red, green, blue and further bands; gives where clouds or their shadows are."""
    side = round(SIZE * 10 / pixel_m)
    step = side // SIZE
    pixels = np.random.default_rng(seed).integers(40, 90, (3 + len(names), side, side), dtype=np.uint8)
    mask = np.zeros((side, side), dtype=np.bool_)
    if hidden:
        cloud, shadow = (tuple(slice(edge.start * step, edge.stop * step) for edge in each) for each in (CLOUD, SHADOW))
        pixels[:, *cloud], pixels[:, *shadow] = BRIGHT, DARK
        mask[cloud] = mask[shadow] = True
    half_m = SIZE * 10 / 2
    profile = {"driver": "GTiff", "dtype": "uint8", "count": len(pixels), "width": side, "height": side}
    transform = from_origin(X - half_m, Y + half_m, pixel_m, pixel_m)
    with rasterio.open(path, "w", crs="EPSG:32614", transform=transform, photometric="RGB", **profile) as file:
        file.write(pixels)
        file.colorinterp = [*file.colorinterp[:3], *[rasterio.enums.ColorInterp.undefined] * len(names)]
        for place, name in enumerate(names, start=4):
            file.set_band_description(place, name)
    return mask


def make_config(folder: Path, *, resolution_m: float = 10, **scene: Any) -> RunConfig:
    asked = {"bands": [1, 2, 3], "clouds": {"method": "omnicloudmask"}} | scene
    scenes = {
        date: {"uri": str(folder / f"{date}.tif"), "datetime": f"{year}-06-01T10:00:00Z", **asked}
        for date, year in (("before", 2024), ("after", 2025))
    }
    settings = {
        "output": str(folder / "run"),
        "grid": {"resolution_m": resolution_m, "tile_size_px": 32, "anchor": "overlap"},
        "tiles": {"resampling": "nearest"},
        "registration": {"estimate": False},
    }
    return load_config(values=scenes | settings)


def list_asked() -> list[tuple[int, ...]]:
    return sys.modules["omnicloudmask"].asked  # type: ignore[attr-defined, no-any-return]


def test_clouds_and_shadows_are_found_the_same_in_every_window(tmp_path: Path) -> None:
    mask = write_scene(tmp_path / "before.tif", seed=1)
    write_scene(tmp_path / "after.tif", seed=2, hidden=False)

    pair, _ = find_pair(make_config(tmp_path))
    whole = pair.read_block("before", window=(0, 0, SIZE, SIZE))
    part = pair.read_block("before", window=(13, 37, 40, 30))

    np.testing.assert_array_equal(whole.is_cloudy, mask)
    np.testing.assert_array_equal(whole.is_valid, ~mask)
    np.testing.assert_array_equal(part.is_cloudy, mask[13:53, 37:67])
    assert not pair.read_block("after", window=(0, 0, SIZE, SIZE)).is_cloudy.any()
    assert pair.has_classes
    # Four squares of each date that meet in its middle, each seen once with its margin.
    assert list_asked() == [(3, SQUARE_PX + 2 * MARGIN_PX, SQUARE_PX + 2 * MARGIN_PX)] * 8


def test_finer_pixels_are_shown_as_of_10_m(tmp_path: Path) -> None:
    mask = write_scene(tmp_path / "before.tif", seed=3, pixel_m=2.0)
    write_scene(tmp_path / "after.tif", seed=4, pixel_m=2.0, hidden=False)

    pair, _ = find_pair(make_config(tmp_path, resolution_m=2))

    np.testing.assert_array_equal(pair.read_block("before", window=(0, 0, 480, 480)).is_cloudy, mask)
    assert len(list_asked()) == 4


def test_what_lies_off_the_scene_is_not_known(tmp_path: Path) -> None:
    write_scene(tmp_path / "before.tif", seed=5)
    write_scene(tmp_path / "after.tif", seed=6)
    pair, _ = find_pair(make_config(tmp_path))
    around = pair.grid.move(-SIZE, -SIZE)

    is_cloudy, is_known = find_clouds(pair.before.parts[0], grid=around, window=(0, 0, 3 * SIZE, 3 * SIZE))

    inner = slice(SIZE, 2 * SIZE)
    assert is_known[inner, inner].all()
    assert is_known.sum() == SIZE**2
    assert not is_cloudy[~is_known].any()


def test_records_and_content_keys_tell_who_finds_clouds(tmp_path: Path, network: Path) -> None:
    for date, seed in (("before", 7), ("after", 8)):
        write_scene(tmp_path / f"{date}.tif", seed=seed)
    pair, _ = find_pair(make_config(tmp_path))
    plain, _ = find_pair(make_config(tmp_path, clouds=None))

    restored = restore_scene(pair.before.to_dict())
    (network / "omnicloudmask-1.7.0.dist-info" / "METADATA").write_text("Name: omnicloudmask\nVersion: 1.8.0\n")
    newer, _ = find_pair(make_config(tmp_path))

    assert pair.before.cloud_method == "omnicloudmask 1.7.0"
    assert (restored.cloud_method, restored.parts) == (pair.before.cloud_method, pair.before.parts)
    assert len({pair.content_key, plain.content_key, newer.content_key}) == 3
    assert "cloud_method" not in plain.before.to_dict()
    assert "nir" not in plain.before.to_dict()["parts"][0]


def test_a_class_band_comes_first(tmp_path: Path) -> None:
    for date, seed in (("before", 9), ("after", 10)):
        write_scene(tmp_path / f"{date}.tif", seed=seed, names=("nir", "scl"))

    pair, _ = find_pair(make_config(tmp_path, classes={"band": "scl"}))

    assert pair.before.cloud_method is None
    assert pair.before.parts[0].nir is None


def test_a_composite_takes_from_each_date_what_is_clear(tmp_path: Path) -> None:
    mask = write_scene(tmp_path / "cloudy.tif", seed=11)
    write_scene(tmp_path / "clear.tif", seed=12, hidden=False)
    write_scene(tmp_path / "later.tif", seed=13, hidden=False)
    config = make_config(tmp_path)
    composite = {"rule": "first_clear", "cloud_buffer_m": 0}
    days = {"before": ("2024-06-09", "2024-06-01"), "after": ("2025-06-01",)}
    files = {"before": ("cloudy", "clear"), "after": ("later",)}
    scenes = {
        date: getattr(config, date).model_dump(exclude={"datetime"})
        | {
            "uri": [str(tmp_path / f"{name}.tif") for name in files[date]],
            "composite": composite | {"datetimes": [f"{day}T10:00:00Z" for day in days[date]]},
        }
        for date in days
    }

    pair, _ = find_pair(load_config(values=config.model_dump() | scenes))
    block = pair.read_block("before", window=Window(0, 0, SIZE, SIZE))

    assert block.is_valid.all()
    assert block.made_of is not None
    np.testing.assert_array_equal(block.made_of == 0b10, mask)


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(tmp_path / "before.tif", seed=14)
    monkeypatch.setitem(sys.modules, "omnicloudmask", None)

    with pytest.raises(InputError, match=r"before.*omnicloudmask.*pip install 'deltavlm-monitor\[clouds\]'"):
        find_pair(make_config(tmp_path))


def test_without_near_infrared_it_is_refused(tmp_path: Path) -> None:
    for date, seed in (("before", 15), ("after", 16)):
        write_scene(tmp_path / f"{date}.tif", seed=seed, names=("edge",))

    with pytest.raises(InputError, match="nir"):
        find_pair(make_config(tmp_path))


def test_an_item_without_near_infrared_is_refused(tmp_path: Path) -> None:
    item = make_item("a", "2024-06-01T17:00:00Z", width=64, height=64)
    item["assets"] = {key: asset for key, asset in item["assets"].items() if key in ("red", "green", "blue")}
    write_rasters(tmp_path, item, make_reflectance(height=64, width=64, seed=1))
    path = write_json(tmp_path / "a.json", item)
    scene = {"stac": {"href": str(path)}, "clouds": {"method": "omnicloudmask"}}

    with pytest.raises(InputError, match=r"has no class band, and beside it is no near infrared.*stac\.nir"):
        find_pair(load_config(values={"before": scene, "after": scene, "output": str(tmp_path / "run")}))


def test_a_network_that_cannot_be_had_is_told_in_words(tmp_path: Path, network: Path) -> None:
    for date, seed in (("before", 17), ("after", 18)):
        write_scene(tmp_path / f"{date}.tif", seed=seed)
    (network / "omnicloudmask.py").write_text(
        "def predict_from_array(*arguments, **words):\n    raise OSError('the hub does not answer')\n"
    )
    pair, _ = find_pair(make_config(tmp_path))

    with pytest.raises(InputError, match=r"finds no clouds \(OSError: the hub does not answer\)"):
        pair.read_block("before", window=(0, 0, SIZE, SIZE))
