"""What a file tells about itself, what makes a pair, and everything that does not."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.enums import ColorInterp

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.config.scene import SceneConfig
from pipeline.scenes.classes import HiddenClasses
from pipeline.scenes.headers import parse_tag_datetime
from pipeline.scenes.pair import compute_content_key, find_pair
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Asset, BandSource, Scene, ScenePart
from pipeline.scenes.stretch import Stretch

ELSEWHERE = Affine(1.0, 0.0, 600_000.0, 0.0, -1.0, 3_300_000.0)


def find(before: Path | str, after: Path | str, *assignments: str) -> Any:
    values = {"before": str(before), "after": str(after), "output": "never-written"}
    pair, summary = find_pair(load_config(values=values, assignments=("grid.resolution_m=1", *assignments)))
    assert summary.done == 2
    return pair


def change_sources(scene: Scene, **changes: Any) -> Scene:
    part = scene.parts[0]
    red, green, blue = (replace(source, **changes) for source in part.colours)
    return replace(scene, parts=(replace(part, red=red, green=green, blue=blue),))


@pytest.fixture
def before(tmp_path: Path, write_raster: Any) -> Path:
    return Path(write_raster(tmp_path / "before_2019.tif", tags={"ACQUISITION_DATETIME": "2019-05-01T10:30:00Z"}))


@pytest.fixture
def after(tmp_path: Path, write_raster: Any) -> Path:
    return Path(write_raster(tmp_path / "after.tif", tags={"TIFFTAG_DATETIME": "2021:07:02 08:00:00"}))


def test_a_pair_tells_all_that_later_stages_need(before: Path, after: Path) -> None:
    pair = find(before, after)
    asset = Asset(
        uri=str(before),
        checksum=hashlib.sha256(before.read_bytes()).hexdigest(),
        crs="EPSG:32614",
        transform=(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0),
        width=64,
        height=64,
        footprint=pair.before.footprint,
    )
    red, green, blue = (BandSource(asset=asset, band=band, dtype="uint8") for band in (1, 2, 3))
    assert pair.before == Scene(
        scene_id="before_2019",
        datetime="2019-05-01T10:30:00Z",
        parts=(ScenePart(red=red, green=green, blue=blue, footprint=asset.footprint),),
        hidden=HiddenClasses(values=(3, 8, 9, 10)),
        footprint=asset.footprint,
    )
    assert pair.before.checksum == asset.checksum
    assert Scene.from_dict(json.loads(json.dumps(pair.before.to_dict()))) == pair.before
    assert pair.stretch == Stretch(before=None, after=None)
    assert pair.after.datetime == "2021-07-02T08:00:00Z"
    assert (pair.grid.origin_x, pair.grid.origin_y) == (500_000.0, 3_300_000.0)
    assert (pair.grid.width_px, pair.grid.height_px) == (64, 64)
    assert pair.before.footprint.bounds == pytest.approx((-99.0, 29.82989, -98.99934, 29.83047), abs=1e-5)


def test_the_config_knows_the_time_better_than_the_file(before: Path) -> None:
    moment = dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    scene = read_scene(SceneConfig(uri=str(before), datetime=moment), date="before")
    assert scene.datetime == "2020-01-01T10:00:00Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2022:01:17 10:43:43", "2022-01-17T10:43:43Z"),
        ("2022-07-22T11:08:08.756Z", "2022-07-22T11:08:08.756000Z"),
        ("2022-07-22T11:08:08+02:00", "2022-07-22T09:08:08Z"),
        ("2022-07-22", "2022-07-22T00:00:00Z"),
        ("0000:00:00 00:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_read_as_files_write_them(text: str, expected: str | None) -> None:
    assert parse_tag_datetime(text) == expected


def test_the_content_key_is_of_contents_and_not_of_names(tmp_path: Path, before: Path, after: Path) -> None:
    pair = find(before, after)
    (tmp_path / "other").mkdir()
    moved = [shutil.copy(path, tmp_path / "other" / f"x-{path.name}") for path in (before, after)]
    assert find(*moved).content_key == pair.content_key
    former: dict[str, Any] = {
        name: getattr(pair, name) for name in ("before", "after", "grid", "resampling", "stretch")
    }
    changes = [
        {"before": change_sources(pair.before, asset=replace(pair.before.assets[0], checksum="0"))},
        {"after": change_sources(pair.after, band=3)},
        {"after": change_sources(pair.after, nodata=0.0)},
        {"after": change_sources(pair.after, offset=-1000.0)},
        {"after": replace(pair.after, mosaic="median")},
        {"grid": replace(pair.grid, tile_size_px=128)},
        {"resampling": "cubic"},
        {"stretch": Stretch(before=None, after=((0, 1),) * 3)},
    ]
    keys = {compute_content_key(**former | change) for change in changes}
    assert len(keys | {pair.content_key}) == len(changes) + 1


def test_a_mosaic_is_summed_over_its_parts(tmp_path: Path, before: Path, write_raster: Any) -> None:
    vrt = tmp_path / "mosaic.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><ColorInterp>{colour}</ColorInterp><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{before.name}</SourceFilename><SourceBand>{n}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for n, colour in enumerate(("Red", "Green", "Blue"), start=1)
    )
    vrt.write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32614</SRS>'
        f"<GeoTransform>500000, 1, 0, 3300000, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )
    former = read_scene(SceneConfig(uri=str(vrt)), date="before")
    write_raster(before, bands=np.full((3, 64, 64), 9, np.uint8))
    assert read_scene(SceneConfig(uri=str(vrt)), date="before").checksum != former.checksum


# Everything below ends in one message that names the file or the key.


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def scramble(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:600] + bytes(len(content) - 1200) + content[-600:])


def make_no_raster(path: Path) -> None:
    path.write_text("no raster at all")


@pytest.mark.parametrize("spoil", [cut_off, scramble, make_no_raster])
def test_a_spoilt_file_is_named(before: Path, after: Path, write_raster: Any, spoil: Callable[[Path], None]) -> None:
    write_raster(after, compress="deflate")
    spoil(after)
    with pytest.raises(InputError, match=r"^after: .*after\.tif (cannot be read|ends after)"):
        find(before, after)


def bytes_of(count: int) -> Any:
    return np.full((count, 64, 64), 77, np.uint8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crs": None}, "no CRS"),
        ({"bands": bytes_of(1)}, "1 band;.*at least 3 bands"),
        ({"bands": bytes_of(2)}, "2 bands;.*at least 3 bands"),
        ({"bands": bytes_of(5)}, r"5 bands;.*after\.bands"),
        ({"bands": bytes_of(3).astype(np.uint16)}, r"before holds bytes.*after holds uint16.*tiles\.stretch\.limits"),
        ({"bands": bytes_of(3).astype(np.complex64)}, "holds complex64;.*intensity"),
        ({"bands": bytes_of(3), "nodata": 77}, "no valid pixel"),
        ({"bands": bytes_of(3), "mask": np.zeros((64, 64), bool)}, "no valid pixel"),
        ({"transform": ELSEWHERE}, "overlap"),
        ({"crs": "+proj=eqc +R=3396190 +units=m +no_defs"}, "on Earth"),
        ({"tags": {"ACQUISITION_DATETIME": "2018-01-01"}}, "2019-05-01.*2018-01-01.*earlier scene first"),
    ],
)
def test_what_makes_no_pair_is_refused(
    before: Path, after: Path, write_raster: Any, options: dict[str, Any], words: str
) -> None:
    write_raster(after, **options)
    with pytest.raises(InputError, match=words) as caught:
        find(before, after)
    assert "after" in str(caught.value)


def test_three_bands_of_which_one_is_alpha_are_two(before: Path, after: Path, write_raster: Any) -> None:
    colours = (ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha)
    write_raster(after, bands=bytes_of(3), colours=colours, photometric="minisblack")
    with pytest.raises(InputError, match="2 bands"):
        find(before, after)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_a_place_is_refused(before: Path, after: Path, write_raster: Any) -> None:
    write_raster(after, transform=Affine.identity())
    with pytest.raises(InputError, match=r"after\.tif has no geotransform"):
        find(before, after)


def test_valid_pixels_that_an_overview_skips_are_found(before: Path, after: Path, write_raster: Any) -> None:
    bands = np.zeros((3, 2100, 2100), np.uint8)
    bands[:, 1, 1] = 9
    write_raster(after, bands=bands, nodata=0, compress="deflate")
    assert find(before, after).after.parts[0].red.nodata == 0


def test_the_same_scene_twice_is_refused(tmp_path: Path, before: Path) -> None:
    copy = shutil.copy(before, tmp_path / "copy.tif")
    (tmp_path / "link.tif").symlink_to(before)
    for twin in (before, copy, tmp_path / "link.tif"):
        with pytest.raises(InputError, match="the same file"):
            find(before, twin)


def test_a_missing_file_and_a_folder_are_named(before: Path, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "nowhere.tif", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=f"^after: .*{path.name} {words}"):
            find(before, path)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("after.bands=[1, 2, 9]", r"after\.bands is 9"),
        ("after.bands=[0, 1, 2]", r"after\.bands is 0"),
        ("grid.resolution_m=0.01", r"grid\.resolution_m is 0\.01.*about 1 m"),
        ("grid.crs=EPSG:4326", r"grid\.crs"),
        ("aoi=nowhere.geojson", "aoi nowhere"),
    ],
)
def test_settings_that_do_not_fit_are_named(before: Path, after: Path, assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find(before, after, assignment)


def test_a_grid_of_more_tiles_than_anybody_means_is_asked_about(before: Path, after: Path) -> None:
    words = r"the grid has \d+ tiles .* at most the 3 of grid\.max_tiles;.*--set grid\.max_tiles=(\d+)"
    with pytest.raises(InputError, match=words) as refusal:
        find(before, after, "grid.tile_size_px=16", "grid.max_tiles=3")
    found = re.search(words, str(refusal.value))
    assert found is not None
    pair = find(before, after, "grid.tile_size_px=16", f"grid.max_tiles={found[1]}")
    assert pair.grid.n_rows * pair.grid.n_cols == int(found[1])
