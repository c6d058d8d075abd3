"""A run stops where its model was not made for its scenes or tiles, unless it is to go on and say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from model.errors import InputError
from model.home import ModelHome
from model.interface import ModelIdentity
from pipeline.config.model import ModelConfig
from pipeline.config.run import load_config
from pipeline.runs.model_fit import check_model_fit
from pipeline.scenes.pair import ScenePair, find_pair

HOME = ModelHome(tile_m=(100, 160), pixel_m=(0.1, 1.2))


def make_pair(folder: Path, *, pixel_m: float, resolution_m: float, tile_size_px: int = 256) -> ScenePair:
    """Make two scenes of one square kilometre, or more where tiles are larger."""
    size_m = max(1000.0, 2 * tile_size_px * resolution_m)
    size_px = round(size_m / pixel_m)
    for value, date in ((90, "before"), (110, "after")):
        with rasterio.open(
            folder / f"{date}.tif",
            "w",
            driver="GTiff",
            count=3,
            width=size_px,
            height=size_px,
            dtype="uint8",
            crs="EPSG:32614",
            transform=from_origin(621_000.0, 3_362_000.0, pixel_m, pixel_m),
        ) as file:
            file.write(np.full((3, size_px, size_px), value, dtype=np.uint8))
    config = load_config(
        values={
            **{date: str(folder / f"{date}.tif") for date in ("before", "after")},
            "output": str(folder / "run"),
            "grid": {"crs": "EPSG:32614", "resolution_m": resolution_m, "tile_size_px": tile_size_px},
            "registration": {"estimate": False},
        }
    )
    return find_pair(config)[0]


def identify(home: ModelHome | None) -> ModelIdentity:
    return ModelIdentity(model_id="made@0", weight_hash="0", path="", home=home)


def test_nothing_is_said_at_home_or_where_nobody_tells(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, pixel_m=1.0, resolution_m=0.5)
    for home in (HOME, None):
        assert check_model_fit(pair, identity=identify(home), config=ModelConfig()) is None


def test_coarse_pixels_stop_a_run_and_ask_for_another_model(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, pixel_m=10.0, resolution_m=10.0)
    with pytest.raises(InputError, match="tiles of 2,560 m in pixels of 10 m") as refusal:
        check_model_fit(pair, identity=identify(HOME), config=ModelConfig())
    assert "100 to 160 m in pixels of 0.1 to 1.2 m" in refusal.value.expected
    assert "model.name" in refusal.value.remedy
    assert "model.outside=warn" in refusal.value.remedy


def test_a_finer_grid_makes_no_finer_pixels(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, pixel_m=4.0, resolution_m=0.5)
    with pytest.raises(InputError, match="in pixels of 4 m"):
        check_model_fit(pair, identity=identify(HOME), config=ModelConfig())


def test_tiles_of_another_size_are_told_which_would_fit(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, pixel_m=1.0, resolution_m=1.0)
    with pytest.raises(InputError, match="tiles of 256 m") as refusal:
        check_model_fit(pair, identity=identify(HOME), config=ModelConfig())
    assert "set grid.tile_size_px to 128" in refusal.value.remedy


def test_a_run_that_goes_on_says_so(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, pixel_m=10.0, resolution_m=10.0)
    note = check_model_fit(pair, identity=identify(HOME), config=ModelConfig(outside="warn"))
    assert note is not None
    assert "made@0 was not made for tiles of 2,560 m" in note
    assert "nobody has measured" in note
