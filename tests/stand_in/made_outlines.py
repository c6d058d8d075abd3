"""Grids, findings and outlines for tests of what becomes of masks."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa

from pipeline.answers.outlines import Outline
from pipeline.answers.parts import decode_outlines, encode_outlines
from pipeline.grid.grid import Grid
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import FINDINGS_SCHEMA
from pipeline.tiles.table import Tile


def make_grid(*, n_rows: int = 2, n_cols: int = 3, tile: int = 32, overlap_px: int = 0, **options: Any) -> Grid:
    stride = tile - overlap_px
    size = {"width_px": n_cols * stride, "height_px": n_rows * stride} | options
    return Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=621_000.0,
        origin_y=3_362_000.0,
        tile_size_px=tile,
        n_rows=n_rows,
        n_cols=n_cols,
        overlap_px=overlap_px,
        **size,
    )


def make_tile(grid: Grid, row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=grid.tile_id(row, col), valid_fraction=1.0, status=None, reason="")


def make_table(outlines: list[Outline]) -> pa.Table:
    return decode_outlines(encode_outlines(outlines, tiles=[]))


def make_findings(
    grid: Grid, tiles: dict[tuple[int, int], dict[str, Any]] | None = None, **all_tiles: Any
) -> gpd.GeoDataFrame:
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    plain = {
        "status": "analysed",
        "valid_fraction": 1.0,
        "is_changed": True,
        "model_id": "m",
        "run_id": "r",
    } | all_tiles
    rows = [
        plain | {"tile_id": grid.tile_id(*place), "row": place[0], "col": place[1]} | (tiles or {}).get(place, {})
        for place in places
    ]
    columns = {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"}
    geometry = np.array([grid.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=FINDINGS_SCHEMA, geometry=geometry, crs=grid.crs)
