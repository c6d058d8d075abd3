"""What a model was made for: read from its config, and compared with tiles and pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.home import ModelFit, ModelHome
from model.registry import identify_model

HOME = ModelHome(tile_m=(100, 160), pixel_m=(0.1, 1.2))


@pytest.mark.parametrize(
    ("tile_m", "pixel_m", "fit"),
    [
        (128, 0.5, ModelFit.INSIDE),
        (100, 1.2, ModelFit.INSIDE),
        (2560, 10, ModelFit.COARSE),
        (128, 2, ModelFit.COARSE),
        (256, 0.5, ModelFit.COARSE),
        (64, 0.5, ModelFit.FINE),
        (128, 0.05, ModelFit.FINE),
        # Fine pixels do not make up for tiles that are too large.
        (500, 0.05, ModelFit.COARSE),
    ],
)
def test_tiles_and_pixels_are_compared(tile_m: float, pixel_m: float, fit: ModelFit) -> None:
    assert HOME.judge(tile_m=tile_m, pixel_m=pixel_m) is fit


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {},
        {"home": None},
        {"home": "Texas"},
        {"home": {"tile_m": [1, 2]}},
        {"home": {"tile_m": [2, 1], "pixel_m": [1, 2]}},
        {"home": {"tile_m": [1, 2, 3], "pixel_m": [1, 2]}},
        {"home": {"tile_m": ["a", 2], "pixel_m": [1, 2]}},
        {"home": {"tile_m": [float("nan"), 2], "pixel_m": [1, 2]}},
        {"home": {"tile_m": 5, "pixel_m": [1, 2]}},
    ],
)
def test_what_makes_no_sense_tells_nothing(config: Any) -> None:
    assert ModelHome.from_config(config) is None


def test_a_model_tells_its_home(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"home": {"tile_m": [100, 160], "pixel_m": [0.1, 1.2]}}))

    assert identify_model(str(tmp_path)).home == HOME


def test_the_model_that_ships_knows_its_home() -> None:
    home = identify_model("deltavlm-tiny").home

    assert home is not None
    assert home.judge(tile_m=128, pixel_m=0.5) is ModelFit.INSIDE
    assert home.judge(tile_m=2560, pixel_m=10) is ModelFit.COARSE
