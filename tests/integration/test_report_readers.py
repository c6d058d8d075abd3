"""Reports are read by programs that are not ours, and judged by a validator that is not ours."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import geoparquet_validator
import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from model.interface import Prompt, PromptKind
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.totals import sum_up
from pipeline.grid.grid import Grid
from pipeline.report.result import Report
from pipeline.report.write import write_report
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.tables.geoparquet import make_frame
from pipeline.tiles.store import TileStore

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=32,
    n_rows=20,
    n_cols=30,
    width_px=950,
    height_px=640,
)
ASK = Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?")


@dataclass(frozen=True, kw_only=True)
class GreyStore(TileStore):
    """A store whose pixels are all one grey."""

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        return np.full((len(tiles), 2, 3, self.grid.tile_size_px, self.grid.tile_size_px), 90, dtype=np.uint8)


@pytest.fixture(scope="module", params=[True, False], ids=["changes", "no changes"])
def has_changes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def report(has_changes: bool, tmp_path_factory: pytest.TempPathFactory) -> Report:
    schema = make_findings_schema([ASK])
    rows = []
    for row in range(GRID.n_rows):
        for col in range(GRID.n_cols):
            is_seen, is_changed = col < 25, has_changes and (row + col) % 5 == 0
            values = {
                "tile_id": GRID.tile_id(row, col),
                "row": row,
                "col": col,
                "before_datetime": None,
                "status": "analysed" if is_seen else "no_data",
                "reason": None if is_seen else "nothing valid",
                "valid_fraction": float(is_seen),
                "is_changed": is_changed if is_seen else None,
                "building_count": 2 if is_seen and is_changed else None,
                "building_cells": "center-left;center-center;center-right" if is_seen and is_changed else None,
                "model_id": "stand-in@0123",
                "run_id": "abc",
            }
            rows.append(values)
    columns = {name: [row.get(name) for row in rows] for name in schema.names if name != "geometry"}
    geometry = np.array([GRID.tile_polygon(row["row"], row["col"]) for row in rows])
    findings = make_frame(columns, schema=schema, geometry=geometry, crs=GRID.crs)
    folder = RunFolder(str(tmp_path_factory.mktemp("run")))
    store = GreyStore(folder=folder, grid=GRID, content_key="key", shard_size_tiles=8)
    return write_report(findings, totals=sum_up(findings, store=store), store=store, folder=folder, prompts=[ASK])[0]


def find(report: Report, name: str) -> Path:
    return Path(report.folder.uri) / name


@pytest.fixture(scope="module")
def connection() -> Any:
    """DuckDB with its spatial extension out of a wheel: nothing is fetched."""
    files = importlib.metadata.files("duckdb-extension-spatial") or []
    (extension,) = [
        file.locate() for file in files if file.name.endswith((".duckdb_extension", ".duckdb_extension.gz"))
    ]
    database = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    database.execute(f"LOAD '{extension}'")
    yield database
    database.close()


def test_the_validator_finds_no_fault(report: Report) -> None:
    for name in (TILES_NAME, CHANGES_NAME):
        outcomes = geoparquet_validator.check(str(find(report, name)))["outcomes"]
        assert outcomes, name
        assert [o for o in outcomes if o["status"] not in {"pass", "skip"}] == [], name


def test_geopandas_reads_all_rows_and_only_those_asked_for(report: Report, has_changes: bool) -> None:
    tiles = gpd.read_parquet(find(report, TILES_NAME))
    corner = gpd.read_parquet(find(report, TILES_NAME), bbox=(600_001, 3_299_999, 600_002, 3_299_999.5))
    changes = gpd.read_parquet(find(report, CHANGES_NAME))

    assert len(tiles) == GRID.n_rows * GRID.n_cols
    assert tiles["is_changed"].isna().sum() == GRID.n_rows * 5
    assert list(corner["tile_id"]) == ["r0000_c0000"]
    assert (len(changes) > 0) is has_changes
    assert changes.geometry.is_valid.all()


def test_pyarrow_filters_by_the_covering_box(report: Report) -> None:
    dataset = ds.dataset(find(report, TILES_NAME))

    found = dataset.to_table(columns=["tile_id"], filter=ds.field("bbox", "xmax") <= 600_016.0)

    assert sorted(found.column("tile_id").to_pylist()) == [GRID.tile_id(row, 0) for row in range(GRID.n_rows)]
    assert pq.read_metadata(find(report, TILES_NAME)).row_group(0).column(0).compression == "ZSTD"


def test_duckdb_measures_the_same_areas(report: Report, connection: Any) -> None:
    tiles, changes = find(report, TILES_NAME), find(report, CHANGES_NAME)

    n_tiles, area = connection.execute(f"SELECT count(*), sum(ST_Area(geometry)) FROM '{tiles}'").fetchone()
    worst = connection.execute(
        f"SELECT coalesce(max(abs(ST_Area(geometry) / area_m2 - 1)), 0) FROM '{changes}'"
    ).fetchone()
    unseen = connection.execute(f"SELECT count(*) FROM '{tiles}' WHERE is_changed IS NULL").fetchone()

    assert n_tiles == GRID.n_rows * GRID.n_cols
    assert area == pytest.approx(n_tiles * (32 * GRID.resolution_m) ** 2)
    # The plane of a UTM zone is 0.06 % smaller here than the ellipsoid under it.
    assert worst[0] < 1e-3
    assert unseen == (GRID.n_rows * 5,)


def test_duckdb_knows_the_columns_as_flat_types(report: Report, connection: Any) -> None:
    described = connection.execute(f"DESCRIBE SELECT * FROM '{find(report, TILES_NAME)}'").fetchall()
    types = {name: kind for name, kind, *_ in described}

    assert types["building_count"] == "INTEGER"
    assert types["is_changed"] == "BOOLEAN"
    assert types["before_datetime"] == "TIMESTAMP WITH TIME ZONE"
    assert types["geometry"].startswith("GEOMETRY")
    assert [name for name, kind in types.items() if kind.startswith(("STRUCT", "MAP")) or "[" in kind] == ["bbox"]
