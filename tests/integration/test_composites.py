"""A region whose dates are made of several scenes, none of which shows all of the ground."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from distributed import Client
from made_scenes import CELL_PX, LEFT_M, N_COLS, N_ROWS, TILE_PX, TOP_M
from rasterio.transform import from_origin
from region_passes import make_pass

from flows.cluster import open_run_cluster
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.config.run import RunConfig
from pipeline.runs.run import StageCall, detect_changes, rebuild_report
from pipeline.summary import StageSummary, ignore_progress

pytestmark = pytest.mark.timeout(600)

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
CLEAR, CLOUD = 4, 9
HOUSE = (slice(0, CELL_PX), slice(0, CELL_PX))
BEFORE, AFTER = ("2024-06-01", "2024-06-09", "2024-06-17"), ("2025-06-01", "2025-06-09", "2025-06-17")
WIDTH = N_COLS * TILE_PX
CLOUDS = {
    # The newest shows the west, the one before it the east, the first all but a corner of the grid.
    "17": (slice(None), slice(WIDTH // 2, None)),
    "09": (slice(None), slice(0, WIDTH // 2)),
    "01": (slice(0, TILE_PX), slice(WIDTH - TILE_PX, None)),
}


def write_archive(folder: Path) -> None:
    """Write scenes with a band of classes; under a cloud everything is white."""
    ground = np.random.default_rng(5).integers(20, 60, (3, N_ROWS * TILE_PX, WIDTH), dtype=np.uint8)
    folder.mkdir(parents=True)
    for n, day in enumerate((*BEFORE, *AFTER)):
        pixels, classes = ground + np.uint8(n), np.full((1, *ground.shape[1:]), CLEAR, np.uint8)
        if day in AFTER:
            pixels[:, *HOUSE] += 150
        clouds = CLOUDS[day[-2:]]
        pixels[:, *clouds], classes[0, *clouds] = 255, CLOUD
        with rasterio.open(
            folder / f"scene_{day.replace('-', '')}.tif",
            "w",
            driver="GTiff",
            dtype="uint8",
            count=4,
            height=ground.shape[1],
            width=WIDTH,
            crs="EPSG:32614",
            transform=from_origin(LEFT_M, TOP_M, 1.0, 1.0),
        ) as file:
            file.write(np.concatenate([pixels, classes]))
            file.set_band_description(4, "SCL")


def make_region(folder: Path, client: Client, **dates: Any) -> RegionConfig:
    frame = shapely.box(LEFT_M, TOP_M - N_ROWS * TILE_PX, LEFT_M + WIDTH, TOP_M)
    gpd.GeoSeries([frame], crs="EPSG:32614").to_crs("EPSG:4326").to_file(folder / "area.geojson")
    scene = {"bands": [1, 2, 3], "classes": {"band": "SCL"}, "has_alpha": False}
    settings = {
        "name": "made",
        "aoi": str(folder / "area.geojson"),
        "source": {"kind": "folder", "folder": str(folder / "scenes"), "files": "scene_%Y%m%d.tif", "scene": scene},
        "pairing": {"kind": "dates", "before_dates": "2024-06", "after_dates": "2025-06"},
        "dates": dates,
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX, "anchor": "overlap"},
        "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in"},
        "cluster": {"kind": "address", "address": client.scheduler.address},
    }
    return load_region_config(values=settings)


def run_one(config: RunConfig) -> None:
    detect_changes(config, open_cluster=partial(open_run_cluster, config))


def run_without(path: Path, config: RunConfig) -> None:
    """Run a pair while whose shards are written a file is gone, though it was there when the scenes were found."""

    def around(stage: str, call: StageCall[Any]) -> tuple[Any, StageSummary]:
        if stage != "write_tiles":
            return call(ignore_progress)
        hidden = path.rename(path.with_name("hidden"))
        result = call(ignore_progress)
        hidden.rename(path)
        return result

    detect_changes(config, open_cluster=partial(open_run_cluster, config), around_stage=around)


def read_tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("report/*.parquet")}


def find_first_seen(run: Path) -> str:
    """Give the day on which the one change of a run was first seen."""
    (day,) = gpd.read_parquet(run / "report" / "changes.parquet")["first_seen"].astype(str).str[:10]
    return str(day)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_archive(tmp_path / "scenes")
    return tmp_path


def test_composites_see_what_no_single_date_does(scenes: Path, client: Client) -> None:
    config = make_region(scenes, client, composite="first_clear", cloud_buffer_m=0)
    report = make_pass(config, now=NOW, run_pair=run_one)
    assert report.is_complete
    (state,) = report.states
    run = scenes / "region" / state.record.run_name
    tiles = gpd.read_parquet(run / "report" / "tiles.parquet").set_index("tile_id")
    west, east = tiles.loc["r0000_c0000"], tiles.loc[f"r0001_c{N_COLS - 1:04d}"]

    assert tiles["status"].eq("analysed").all()
    assert tiles["cloud_fraction"].eq(0).all()
    assert [str(west[name])[:10] for name in ("before_datetime", "before_from", "before_to")] == [BEFORE[2]] * 3
    assert [str(east[name])[:10] for name in ("after_datetime", "after_from", "after_to")] == [AFTER[1]] * 3
    assert tiles["n_scenes"].eq(2).all()
    changes = gpd.read_parquet(run / "report" / "changes.parquet")
    assert changes["tile_ids"].tolist() == ["r0000_c0000"]
    assert find_first_seen(run) == AFTER[2]

    item = json.loads((run / "report" / "item.json").read_bytes())
    told = item["properties"]["deltavlm:before"]
    assert (told["rule"], told["n_scenes"], told["from"][:10], told["to"][:10]) == (
        "first_clear", 3, BEFORE[0], BEFORE[2]
    )  # fmt: skip
    assert "before_from" in [column["name"] for column in item["assets"]["tiles"]["table:columns"]]
    assert f"first_clear of 3 dates, {BEFORE[0]} to {BEFORE[2]}" in (run / "report" / "index.html").read_text()
    tables = read_tables(run)
    rebuild_report(str(run))
    assert read_tables(run) == tables
    assert make_pass(config, now=NOW, run_pair=run_one).summary.n_skipped == 1


def test_composite_of_which_half_the_scenes_fail_goes_on_with_the_others(scenes: Path, client: Client) -> None:
    broken = [scenes / "scenes" / f"scene_{day.replace('-', '')}.tif" for day in (BEFORE[0], BEFORE[2], AFTER[0])]
    for path in broken:
        path.write_bytes(b"not a raster")
    config = make_region(scenes, client, composite="median", cloud_buffer_m=0)
    report = make_pass(config, now=NOW, run_pair=run_one)
    (state,) = report.states
    words = f"before: only 1 of 3 parts of median of 3 dates, {BEFORE[0]} to {BEFORE[2]} were there to be read"

    assert report.summary.failed == {state.pair_id: words}
    record = json.loads((scenes / "region" / state.record.run_name / "run.json").read_bytes())
    assert "before is made of 1 of 3 dates: 2 could not be read" in record["notes"]
    assert "after is made of 2 of 3 dates: 1 could not be read" in record["notes"]
    assert sum(str(path) in note for note in record["notes"] for path in broken) == 3
    # Of the west the only scene of before that is left shows nothing.
    counts = {status: count for status, count in record["status_counts"].items() if count}
    assert counts == {"analysed": N_ROWS * N_COLS // 2, "cloudy": N_ROWS * N_COLS // 2}


def test_scene_that_fails_while_it_is_read_leaves_a_gap_that_the_next_pass_fills(scenes: Path, client: Client) -> None:
    config = make_region(scenes, client, composite="first_clear", cloud_buffer_m=0)
    gone = scenes / "scenes" / f"scene_{AFTER[2].replace('-', '')}.tif"
    report = make_pass(config, now=NOW, run_pair=partial(run_without, gone))
    (state,) = report.states
    run = scenes / "region" / state.record.run_name
    record = json.loads((run / "run.json").read_bytes())

    assert "shards lack a scene that could not be read there" in report.summary.failed[state.pair_id]
    assert all(str(gone) in why for _, _, why in record["gaps"])
    assert any(str(gone) in note for note in record["notes"])
    # In place of the newest date the first, as the second is cloudy there.
    assert find_first_seen(run) == AFTER[0]
    rebuild_report(str(run))
    assert json.loads((run / "run.json").read_bytes())["gaps"] == record["gaps"]

    assert make_pass(config, now=NOW, run_pair=run_one).is_complete
    filled = json.loads((run / "run.json").read_bytes())
    assert (filled["gaps"], find_first_seen(run)) == ([], AFTER[2])
    assert not any(str(gone) in note for note in filled["notes"])
    whole = load_region_config(values=config.model_dump() | {"output": str(scenes / "whole")})
    make_pass(whole, now=NOW, run_pair=run_one)
    assert read_tables(run) == read_tables(scenes / "whole" / state.record.run_name)
