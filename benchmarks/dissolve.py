"""How long the changes of a large region take to put together: 1,000,000 tiles, a fifth of them changed.

Cells are strewn at random, which makes many more and smaller changes than a real region has. The bars: 30 seconds of
one core, which is all it uses, and 1.5 GB of memory on top of the findings themselves.

With ``--outlines`` the tiles have outlines in place of cells: one to three blobs of each kind per changed tile, many of
them over a border; they may take 3 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from scipy import ndimage
from shapely.affinity import translate

from model.interface import CELL_NAMES
from pipeline.answers.outlines import trace_mask
from pipeline.answers.parts import decode_outlines, encode_outlines
from pipeline.findings.changes import dissolve_changes
from pipeline.grid.grid import Grid
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGE_KINDS, FINDINGS_SCHEMA
from pipeline.tiles.table import Tile

BAR_S = 30.0
BAR_BYTES = 1.5e9
OUTLINES_BAR_BYTES = 3e9
CHANGED_FRACTION = 0.2
CELL_FRACTION = 0.35
TILES_PER_TABLE = 8192


def make_findings(grid: Grid, *, seed: int) -> gpd.GeoDataFrame:
    """Make findings of every tile of a grid; changes are strewn at random."""
    rng = np.random.default_rng(seed)
    rows, cols = (places.ravel() for places in np.indices((grid.n_rows, grid.n_cols)))
    n_tiles = len(rows)
    is_changed = rng.random(n_tiles) < CHANGED_FRACTION
    texts = [";".join(name for bit, name in enumerate(CELL_NAMES) if code >> bit & 1) for code in range(512)]

    def strew_cells() -> list[str]:
        codes = (rng.random((n_tiles, 9)) < CELL_FRACTION) @ (1 << np.arange(9)) * is_changed
        return [texts[code] for code in codes]

    columns = {
        **dict.fromkeys(FINDINGS_SCHEMA.names, [None] * n_tiles),
        "tile_id": [grid.tile_id(*place) for place in zip(rows, cols, strict=True)],
        "row": rows,
        "col": cols,
        "status": ["analysed"] * n_tiles,
        "valid_fraction": np.ones(n_tiles),
        "is_changed": is_changed,
        "change_confidence": rng.random(n_tiles),
        "description": ["some houses appear beside the road ."] * n_tiles,
        "building_count": rng.integers(0, 9, n_tiles),
        "road_count": rng.integers(0, 3, n_tiles),
        "building_cells": strew_cells(),
        "road_cells": strew_cells(),
        "model_id": ["made"] * n_tiles,
        "run_id": ["made"] * n_tiles,
    }
    geometry = np.full(n_tiles, shapely.Point(0, 0), dtype=object)
    # ^ Tiles' own footprints take no part.
    return make_frame(columns, schema=FINDINGS_SCHEMA, geometry=geometry, crs=grid.crs)


def make_outlines(findings: gpd.GeoDataFrame, *, grid: Grid, seed: int) -> Iterator[pa.Table]:
    """Make the outlines of all changed tiles, in tables of many parts as they are read; shapes repeat."""
    rng = np.random.default_rng(seed)
    one_tile = replace(grid, n_rows=1, n_cols=1, width_px=grid.stride_px, height_px=grid.stride_px, overlap_px=0)
    one_tile = replace(one_tile, tile_size_px=grid.stride_px)
    tile = Tile(row=0, col=0, tile_id="", valid_fraction=1.0, status=None, reason="")
    masks = (ndimage.zoom(rng.random((7, 7)), one_tile.stride_px / 7, order=1) for _ in range(40))
    shapes = [trace_mask(mask.astype(np.float32) - 0.2, kind="", tile=tile, grid=one_tile)[:3] for mask in masks]
    changed = findings[findings["is_changed"].astype(bool)]
    for start in range(0, len(changed), TILES_PER_TABLE):
        outlines = [
            replace(
                shape,
                kind=kind,
                tile_id=tile_id,
                first_row_px=shape.first_row_px + row * grid.stride_px,
                first_col_px=shape.first_col_px + col * grid.stride_px,
                geometry=translate(shape.geometry, col * grid.stride_px, row * grid.stride_px),
            )
            for row, col, tile_id in changed[["row", "col", "tile_id"]]
            .iloc[start : start + TILES_PER_TABLE]
            .itertuples(index=False)
            for kind in CHANGE_KINDS
            for shape in shapes[rng.integers(len(shapes))]
        ]
        yield decode_outlines(encode_outlines(outlines, tiles=[]))


def main() -> None:
    """Print a line for people, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-tiles", type=int, default=1000, help="rows and columns of tiles")
    parser.add_argument("--overlap-px", type=int, default=0, help="pixels that neighbouring tiles share")
    parser.add_argument("--outlines", action="store_true", help="give the tiles outlines")
    options = parser.parse_args()
    side, overlap_px = options.side_tiles, options.overlap_px
    size_px = side * (256 - overlap_px)
    grid = Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=600_000.0,
        origin_y=3_300_000.0,
        tile_size_px=256,
        n_rows=side,
        n_cols=side,
        width_px=size_px,
        height_px=size_px,
        overlap_px=overlap_px,
    )
    findings = make_findings(grid, seed=1)
    # Made beforehand and kept, so that making them takes no part.
    tables = list(make_outlines(findings, grid=grid, seed=2)) if options.outlines else []
    n_pieces = sum(len(table) for table in tables)
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.process_time()
    changes = dissolve_changes(findings, grid=grid, outlines=tables)
    seconds = time.process_time() - start
    extra_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before_bytes
    cost = f"{seconds:.1f} s of one core, {extra_bytes / 1e6:.0f} MB more"
    print(f"{len(findings)} tiles to {len(changes)} changes: {cost}")
    figures = {
        "n_tiles": len(findings),
        "n_changes": len(changes),
        "n_pieces": n_pieces,
        "seconds": round(seconds, 2),
        "extra_bytes": extra_bytes,
    }
    bar_bytes = OUTLINES_BAR_BYTES if options.outlines else BAR_BYTES
    bar = {"seconds": BAR_S, "extra_bytes": bar_bytes}
    holds = seconds < BAR_S and extra_bytes < bar_bytes
    print(json.dumps({"name": "dissolve", "figures": figures, "bar": bar, "holds": holds}))


if __name__ == "__main__":
    main()
