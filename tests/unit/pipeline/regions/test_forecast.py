"""What the next pass over a region would do, before it does anything."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box, mapping
from stac_material import write_json

from model.errors import InputError
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.regions.forecast import forecast_pass

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def make_region(folder: Path, **values: Any) -> RegionConfig:
    for day in ("20240601", "20250601", "20260601"):
        (folder / "scenes").mkdir(exist_ok=True)
        (folder / "scenes" / f"scene_{day}.tif").touch()
    write_json(folder / "area.geojson", mapping(box(-99.0, 29.82, -98.99, 29.83)))
    settings = {
        "name": "made",
        "aoi": str(folder / "area.geojson"),
        "source": {"kind": "folder", "folder": str(folder / "scenes"), "files": "scene_%Y%m%d.tif"},
        "pairing": {"kind": "series", "since": "2024-01-01"},
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": 256},
    }
    return load_region_config(values={**settings, **values})


def test_pass_is_foretold_and_nothing_is_written(tmp_path: Path) -> None:
    config = make_region(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    figures = forecast_pass(config, now=NOW)

    # About a kilometre each way, on a lattice that lies across it.
    n_tiles = figures["n_tiles_per_pair_at_most"]
    assert isinstance(n_tiles, int)
    assert 4 * 5 <= n_tiles <= 6 * 6
    assert figures == {
        "n_dates_found": 3,
        "n_pairs_to_do": 2,
        "n_pairs_done_already": 0,
        "n_scenes_to_read": 3,
        "n_items_or_files_to_read": 3,
        "pairs": figures["pairs"],
        "n_tiles_per_pair_at_most": n_tiles,
        "n_answers_at_most": 2 * n_tiles * 4,
        "read_bytes_about": 2 * 2 * n_tiles * 256**2 * 3 * 2,
        "store_bytes_before_compression": 2 * 2 * n_tiles * 256**2 * 4,
        "hours_about": "unknown: no pair of this region has been done yet",
    }
    assert str(figures["pairs"]).startswith("20240601_20250601_")
    assert sorted(tmp_path.rglob("*")) == before


def test_pass_that_has_nothing_to_do_says_why(tmp_path: Path) -> None:
    figures = forecast_pass(make_region(tmp_path, pairing={"kind": "year-earlier"}), now=NOW)

    assert (figures["n_pairs_to_do"], figures["left_out"]) == (0, "no scene that is good enough (2)")
    assert "hours_about" not in figures


def test_seasons_that_lie_apart_are_foretold(tmp_path: Path) -> None:
    pairing = {"kind": "year-earlier", "window_days": 183, "max_season_days": 0}
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "scene_20250801.tif").touch()

    figures = forecast_pass(make_region(tmp_path, pairing=pairing), now=NOW)

    assert "61 days apart in the year" in str(figures["warnings"])


def test_signer_that_is_not_there_is_told_before_the_search(tmp_path: Path) -> None:
    source = {"kind": "stac", "search": {"href": "nowhere.json"}, "sign": "no_such_module:sign"}

    with pytest.raises(InputError, match=r"^sign no_such_module:sign: No module named"):
        forecast_pass(make_region(tmp_path, source=source), now=NOW)


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    config = make_region(tmp_path)
    (tmp_path / "region").mkdir()
    (tmp_path / "region" / "notes.txt").touch()

    with pytest.raises(InputError, match=r"holds 1 other files, such as notes\.txt"):
        forecast_pass(config, now=NOW)
