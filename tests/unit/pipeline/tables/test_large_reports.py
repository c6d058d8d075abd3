"""What keeps a report of very many tiles small: row groups one by one, and a map that draws squares of tiles."""

from __future__ import annotations

import io
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

import pipeline.tables.geoparquet
from pipeline.findings.extract import outline_tiles
from pipeline.grid.grid import Grid
from pipeline.report.page.map import MAX_DRAWN_SIDE, MapFrame, describe_map, outline_places
from pipeline.tables.geoparquet import encode_geoparquet, make_frame, order_along_hilbert
from pipeline.tables.schemas import FINDINGS_SCHEMA
from pipeline.tiles.table import TileTable


def make_grid(n_rows: int, n_cols: int) -> Grid:
    return Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=600_000.0,
        origin_y=3_300_000.0,
        tile_size_px=16,
        n_rows=n_rows,
        n_cols=n_cols,
        width_px=n_cols * 16,
        height_px=n_rows * 16,
    )


def make_findings(grid: Grid, *, share_failed: float) -> gpd.GeoDataFrame:
    tiles = TileTable.make(grid)
    is_failed = np.random.default_rng(2).random(len(tiles)) < share_failed
    columns = {name: pa.nulls(len(tiles)) for name in FINDINGS_SCHEMA.names if name != "geometry"}
    columns |= {
        "tile_id": [tile.tile_id for tile in tiles],
        "row": tiles.rows,
        "col": tiles.cols,
        "status": np.where(is_failed, "failed", "analysed"),
        "valid_fraction": tiles.valid_fractions + 1,
        "is_changed": [None if failed else True for failed in is_failed],
    }
    columns |= {name: ["same"] * len(tiles) for name in ("model_id", "run_id")}
    return make_frame(columns, schema=FINDINGS_SCHEMA, geometry=outline_tiles(tiles, grid=grid), crs=grid.crs)


@pytest.mark.parametrize("rows_per_group", [1, 5, 12, 100])
def test_row_groups_are_written_one_by_one_and_hold_every_row_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows_per_group: int
) -> None:
    findings = make_findings(make_grid(3, 4), share_failed=0.3)
    order = order_along_hilbert(findings, key="tile_id")
    monkeypatch.setattr(pipeline.tables.geoparquet, "ROWS_PER_GROUP", rows_per_group)

    (tmp_path / "tiles.parquet").write_bytes(encode_geoparquet(findings, schema=FINDINGS_SCHEMA, order=order))

    metadata = pq.read_metadata(tmp_path / "tiles.parquet")
    sizes = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sizes == [rows_per_group] * (12 // rows_per_group) + [12 % rows_per_group] * (12 % rows_per_group > 0)
    found = gpd.read_parquet(tmp_path / "tiles.parquet")
    assert_geodataframe_equal(found, findings.iloc[order].reset_index(drop=True), check_less_precise=False)


def test_a_table_without_rows_has_schema_and_no_row_group() -> None:
    findings = make_findings(make_grid(1, 1), share_failed=0).iloc[:0]

    data = encode_geoparquet(findings, schema=FINDINGS_SCHEMA, order=order_along_hilbert(findings, key="tile_id"))

    assert pq.read_metadata(io.BytesIO(data)).num_row_groups == 0
    assert list(gpd.read_parquet(io.BytesIO(data)).columns) == FINDINGS_SCHEMA.names


def test_few_tiles_are_drawn_as_they_are() -> None:
    grid = make_grid(MAX_DRAWN_SIDE, 2)
    findings = make_findings(grid, share_failed=0).iloc[[3, 17]]

    assert list(outline_places(findings, grid=grid)) == list(findings.geometry)


def test_of_many_tiles_squares_are_drawn_that_cover_them_and_end_with_the_grid() -> None:
    grid = make_grid(2 * MAX_DRAWN_SIDE + 1, 7)
    findings = make_findings(grid, share_failed=0).iloc[[0, 1, 7, 7 * 9 + 4, -1]]

    squares = outline_places(findings, grid=grid)

    # Three tiles by three.
    assert [square.area for square in squares] == [24.0 * 24, 24 * 24, 8.0 * 16]
    covered = shapely.union_all(squares)
    assert all(covered.covers(outline) for outline in findings.geometry)
    assert shapely.box(*findings.total_bounds).covers(covered)


def test_the_map_stays_small_however_many_tiles_have_failed_here_and_there() -> None:
    grid = make_grid(250, 250)
    findings = make_findings(grid, share_failed=0.02)
    changes = gpd.GeoDataFrame({"kind": []}, geometry=[], crs=grid.crs)

    drawn = describe_map(findings, ranked=changes, frame=MapFrame(grid=grid), n_markers=3)

    # 15,625 squares of 2 x 2 tiles at most; each tile by itself would take 1.7 MB for those without a place alone.
    assert len(drawn["tiles"]["unknown"]) < 100_000
    assert len(drawn["unplaced"]) < 700_000
