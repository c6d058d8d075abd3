"""The whole job, from two files to a report, with real workers; only the model is one that cannot be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import geoparquet_validator
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import rasterio.windows
import shapely
from made_scenes import (
    N_COLS,
    N_ROWS,
    TILE_PX,
    MadeScenes,
    make_config,
    make_scenes,
    read_result,
    run_arguments,
)
from rasterio.transform import from_origin
from rasterio.windows import Window
from stand_in_model import KILLS_COLOUR, MUMBLES_COLOUR, RAISES_COLOUR

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.report.result import Report
from pipeline.runs.run import OpenCluster, detect_changes, rebuild_report

RunCommand = Callable[..., subprocess.CompletedProcess[str]]
CHANGED = {
    (0, 0): ["top-left", "center-center"],
    (1, 2): ["center-right"],
    (1, 3): ["center-left", "bottom-left"],
    (3, 5): ["bottom-right"],
}


def read_tiles(run: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(run / "report" / "tiles.parquet").set_index("tile_id").sort_index()


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that several tests look at."""

    scenes: MadeScenes
    folder: Path
    report: Report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shared_cluster: OpenCluster) -> FinishedRun:
    folder = tmp_path_factory.mktemp("finished")
    scenes = make_scenes(folder / "scenes", changed=CHANGED)
    report = detect_changes(make_config(scenes, output=folder / "run"), open_cluster=shared_cluster)
    return FinishedRun(scenes=scenes, folder=folder / "run", report=report)


def test_report_tells_exactly_what_changed(finished: FinishedRun) -> None:
    expected_cells = {f"r{row:04d}_c{col:04d}": "" for row in range(N_ROWS) for col in range(N_COLS)}
    expected_cells |= finished.scenes.building_cells

    tiles = read_tiles(finished.folder)
    assert tiles["building_cells"].to_dict() == expected_cells
    assert tiles["is_changed"].to_dict() == {tile_id: cells != "" for tile_id, cells in expected_cells.items()}
    assert tiles["building_count"].sum() == sum(len(cells) for cells in CHANGED.values())
    assert set(tiles["status"]) == {"analysed"}
    assert finished.report.is_complete
    # Two cells of (0, 0) touch by a corner only; those of (1, 2) and (1, 3) by an edge over the tiles' border.
    changes = gpd.read_parquet(finished.folder / "report" / "changes.parquet")
    # The plane of the UTM zone is 0.04 % smaller here than the ellipsoid under it.
    cell_m2 = (TILE_PX / 3) ** 2 * 1.000438
    assert sorted(changes["area_m2"]) == pytest.approx([cell_m2, cell_m2, cell_m2, 3 * cell_m2])


def test_changes_lie_where_the_pixels_changed(finished: FinishedRun) -> None:
    with rasterio.open(finished.scenes.before) as before, rasterio.open(finished.scenes.after) as after:
        is_changed = np.abs(after.read(1).astype(int) - before.read(1)) > 100
        crs, transform = before.crs, before.transform
    expected = shapely.union_all(
        [
            shapely.geometry.shape(geometry)
            for geometry, _ in rasterio.features.shapes(
                is_changed.astype(np.uint8), mask=is_changed, transform=transform
            )
        ]
    )

    changes = gpd.read_parquet(finished.folder / "report" / "changes.parquet").to_crs(crs)
    assert changes.union_all().symmetric_difference(expected).area == pytest.approx(0, abs=1e-6)


def test_record_names_every_file_with_its_hash(finished: FinishedRun) -> None:
    record = json.loads((finished.folder / "run.json").read_text())
    found = (path for folder in ("report", "answers") for path in (finished.folder / folder).rglob("*"))
    files = {path for path in found if path.is_file()}
    assert set(record["files"]) == {str(path.relative_to(finished.folder)) for path in files}
    for path in files:
        described = record["files"][str(path.relative_to(finished.folder))]
        assert described == {
            "size_bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    assert record["inputs"]["before"]["checksum"] == hashlib.sha256(finished.scenes.before.read_bytes()).hexdigest()
    assert record["status_counts"]["analysed"] == N_ROWS * N_COLS
    assert [stage["stage"] for stage in record["stages"]] == [
        "find_pair",
        "write_tiles",
        "select_tiles",
        "collect_answers",
        "extract_findings",
        "write_report",
    ]


def test_area_of_interest_leaves_the_rest_outside(tmp_path: Path, shared_cluster: OpenCluster) -> None:
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED)
    left, top = 621_000.0, 3_362_000.0
    # Well inside the four tiles of the upper left, and told in longitude and latitude.
    area = shapely.box(left + 5, top - 2 * TILE_PX + 5, left + 2 * TILE_PX - 5, top - 5)
    gpd.GeoSeries([area], crs="EPSG:32614").to_crs("EPSG:4326").to_file(tmp_path / "area.geojson")
    inside = {"r0000_c0000", "r0000_c0001", "r0001_c0000", "r0001_c0001"}

    config = make_config(scenes, output=tmp_path / "run", assignments=(f"aoi={tmp_path / 'area.geojson'}",))
    detect_changes(config, open_cluster=shared_cluster)

    tiles = read_tiles(tmp_path / "run")
    assert set(tiles.index[tiles["status"] == "analysed"]) == inside
    assert set(tiles["status"][~tiles.index.isin(inside)]) == {"outside"}
    assert tiles["is_changed"][~tiles.index.isin(inside)].isna().all()


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory, shared_cluster: OpenCluster) -> FinishedRun:
    """A run with a tile that the model trips over, and one of which it says what nobody can read."""
    folder = tmp_path_factory.mktemp("troubled")
    marked = {(0, 0): RAISES_COLOUR, (2, 3): MUMBLES_COLOUR}
    scenes = make_scenes(folder / "scenes", changed={(0, 1): ["center-center"]}, marked=marked)
    report = detect_changes(make_config(scenes, output=folder / "run"), open_cluster=shared_cluster)
    return FinishedRun(scenes=scenes, folder=folder / "run", report=report)


def test_tile_that_the_model_trips_over_is_one_failed_row(troubled: FinishedRun) -> None:
    tiles = read_tiles(troubled.folder)
    others = {"r0000_c0000": "failed", "r0002_c0003": "unreadable"}
    assert tiles["status"].to_dict() == {tile_id: others.get(tile_id, "analysed") for tile_id in tiles.index}
    assert "the model tripped over a tile" in tiles.loc["r0000_c0000", "reason"]
    assert tiles.loc["r0000_c0001", "building_cells"] == "center-center"
    assert not troubled.report.is_complete


def test_unreadable_answer_is_a_row_with_its_words(troubled: FinishedRun) -> None:
    row = read_tiles(troubled.folder).loc["r0002_c0003"]
    assert row["status"] == "unreadable"
    assert "colourless green ideas" in row["reason"]
    assert row["is_changed"] is not False
    assert troubled.report.status_counts["unreadable"] == 1


def test_every_tile_is_tried_when_the_model_trips_over_all(tmp_path: Path, shared_cluster: OpenCluster) -> None:
    everywhere = {(row, col): RAISES_COLOUR for row in range(N_ROWS) for col in range(N_COLS)}
    scenes = make_scenes(tmp_path / "scenes", marked=everywhere)

    report = detect_changes(make_config(scenes, output=tmp_path / "run"), open_cluster=shared_cluster)

    assert report.status_counts["failed"] == N_ROWS * N_COLS
    reasons = read_tiles(tmp_path / "run")["reason"]
    assert reasons.str.contains("the model tripped over a tile").all()


def test_report_is_rebuilt_without_scenes_or_workers(troubled: FinishedRun) -> None:
    run = troubled.folder
    report = [path for path in (run / "report").rglob("*") if path.is_file()]
    expected = {path: path.read_bytes() for path in [run / "run.json", *report]}
    troubled.scenes.before.unlink(missing_ok=True)
    for path in report:
        path.unlink()

    rebuild_report(str(run))

    assert {path: path.read_bytes() for path in expected} == expected


def test_report_is_not_rebuilt_from_a_store_with_gaps(tmp_path: Path, finished: FinishedRun) -> None:
    run = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    expected = (run / "report" / "tiles.parquet").read_bytes()
    next(iter(sorted((run / "marks").iterdir()))).unlink()

    with pytest.raises(InputError, match="lacks 1 shards"):
        rebuild_report(str(run))

    assert (run / "report" / "tiles.parquet").read_bytes() == expected


def test_command_ends_with_code_1_and_one_json_line(tmp_path: Path, run_command: RunCommand) -> None:
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED, marked={(2, 4): KILLS_COLOUR, (0, 1): MUMBLES_COLOUR})

    # Batches of one tile: a worker that dies is started again four times per batch before its task is given up.
    arguments = run_arguments(scenes, output=tmp_path / "run", n_workers=1)
    result = run_command(*arguments, "--set", "tiles.shard_size_tiles=1")

    assert result.returncode == 1, result.stderr
    values = read_result(result)
    assert values["exit_code"] == 1
    assert values["status_counts"]["failed"] == 1
    assert values["status_counts"]["unreadable"] == 1
    assert values["status_counts"]["analysed"] == N_ROWS * N_COLS - 2
    assert len(result.stdout.splitlines()) == 1
    # Not a word of Dask's about the workers that died: the row tells it.
    assert "distributed" not in result.stderr
    assert "Coverage" in result.stderr
    row = read_tiles(tmp_path / "run").loc["r0002_c0004"]
    assert row["status"] == "failed"
    assert "worker died" in row["reason"]


# rasterio hides it in one thread, and so may show it in the other.
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_two_runs_of_one_pair_share_a_cluster(
    tmp_path: Path, finished: FinishedRun, shared_cluster: OpenCluster
) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]

    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(detect_changes, make_config(finished.scenes, output=output), open_cluster=shared_cluster)
            for output in outputs
        ]
        reports = [run.result() for run in runs]

    assert [report.status_counts["analysed"] for report in reports] == [N_ROWS * N_COLS] * 2
    one, two = [(output / "report" / "tiles.parquet").read_bytes() for output in outputs]
    assert one == two


REAL_PAIRS = {
    "levir": ("levir_geo/A/train_1.tif", "levir_geo/B/train_1.tif"),
    # Before in EPSG:26915, after in EPSG:4326, and they overlap in part.
    "joplin": ("joplin_geo/input/pre/tile_337-9136.tif", "joplin_geo/input/post/tile_31500-5137.tif"),
}


@pytest.mark.parametrize("name", REAL_PAIRS)
def test_real_scenes_end_in_a_report_that_others_read(
    name: str, tmp_path: Path, shared_data: Path, shared_cluster: OpenCluster
) -> None:
    before, after = (str(shared_data / "data" / "fixtures" / part) for part in REAL_PAIRS[name])
    config = load_config(
        values={"before": before, "after": after, "output": str(tmp_path / "run"), "model": {"name": "stand-in"}}
    )

    detect_changes(config, open_cluster=shared_cluster)

    grid = json.loads((tmp_path / "run" / "run.json").read_text())["grid"]
    expected_ids = {f"r{row:04d}_c{col:04d}" for row in range(grid["n_rows"]) for col in range(grid["n_cols"])}
    path = tmp_path / "run" / "report" / "tiles.parquet"
    assert set(read_tiles(tmp_path / "run").index) == expected_ids
    assert set(pq.read_table(path)["tile_id"].to_pylist()) == expected_ids
    assert {row[0] for row in duckdb.sql(f"select tile_id from '{path}'").fetchall()} == expected_ids
    for file in path.parent.glob("*.parquet"):
        outcomes = geoparquet_validator.check(str(file))["outcomes"]
        assert [outcome for outcome in outcomes if outcome["status"] == "fail"] == []
        assert outcomes
    assert_footprints_where_rasterio_says(read_tiles(tmp_path / "run"), grid=grid)


def assert_footprints_where_rasterio_says(tiles: gpd.GeoDataFrame, *, grid: dict[str, Any]) -> None:
    transform = from_origin(grid["origin_x"], grid["origin_y"], grid["resolution_m"], grid["resolution_m"])
    size = grid["tile_size_px"]
    for row in tiles.to_crs("EPSG:4326").itertuples():
        bounds = rasterio.windows.bounds(Window(row.col * size, row.row * size, size, size), transform)
        xs, ys = shapely.box(*bounds).exterior.xy
        lons, lats = rasterio.warp.transform(grid["crs"], "EPSG:4326", xs, ys)
        expected = shapely.Polygon(zip(lons, lats, strict=True))
        assert row.geometry.hausdorff_distance(expected) < 1e-6
