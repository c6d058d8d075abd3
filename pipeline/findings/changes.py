"""Changes: parts of one kind that touch, put together into polygons over the borders of tiles.

The parts of a tile are the outlines of what changed, where the model has masks, and else the cells that it names. The
two are not mixed: a change is made of outlines or of cells, and a tile with outlines of a kind brings no cells of it.

Nothing counts twice. A part is cut to the ground that its tile owns, so that no two tiles claim the same ground. A
tile's count is shared out over its parts of that kind by their area, all that the model saw of them; what lies on
ground that a neighbour owns is left to the neighbour, which saw the same things and counted them as well. What an
outline reaches beside its tile (`pipeline.findings.reaching`) makes its polygon larger, and no count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from model.certainty import Certainty
from pipeline.findings.dates import find_dates
from pipeline.findings.outline_changes import OutlinedTiles, dissolve_outlines, gather_outlines
from pipeline.findings.shares import Claims, select_claims, sum_up_shares, to_floats
from pipeline.grid.cells import (
    BoolArray,
    FloatArray,
    IntArray,
    draw_groups,
    label_touching,
    list_cells,
    measure_cells,
    measure_ground,
    name_cell,
    parse_cell_names,
)
from pipeline.grid.grid import Grid
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGE_KINDS, DISSOLVED_SCHEMA

_DATE_COLUMNS = {
    "before_datetime": "before_datetime",
    "after_datetime": "after_datetime",
    "first_seen": "after_datetime",
}
# ^ By the column of the findings that each is taken from.


def dissolve_changes(
    findings: gpd.GeoDataFrame, *, grid: Grid, outlines: Iterable[pa.Table] = (), certainty: Certainty | None = None
) -> gpd.GeoDataFrame:
    """Put parts of one kind that touch by an edge together, over the borders of tiles as well.

    Tiles that the model calls unchanged bring nothing, whatever its other answers and its masks say, and cells beyond
    the overlap of both scenes are left out or cut off there.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, of any tiles of the grid.
        grid: The grid.
        outlines: Tables with the columns of `OUTLINES_SCHEMA`.
        certainty: What was measured of the model; None: nothing was, and no change has a confidence.

    Returns:
        The columns of `DISSOLVED_SCHEMA`, kind by kind, cells before outlines, row-major by the first part of each
        change.
    """
    outlined = gather_outlines(outlines, findings=findings, grid=grid)
    parts = []
    for kind in CHANGE_KINDS:
        parts.append(_pack(*_dissolve_cells(findings, kind=kind, grid=grid, outlined=outlined)))
        if outlined.pieces.num_rows:
            parts.append(_pack(*dissolve_outlines(outlined, findings, kind=kind, grid=grid, certainty=certainty)))
    del outlined
    geometry = np.concatenate([polygons for _, polygons in parts])
    columns = {name: pa.chunked_array([part[name] for part, _ in parts]) for name in parts[0][0]}
    for name in ("model_id", "run_id"):
        value = pa.scalar(findings[name].iloc[0], DISSOLVED_SCHEMA.field(name).type, from_pandas=True)
        columns[name] = pa.repeat(value, len(geometry))
    for name, source in _DATE_COLUMNS.items():
        columns[name] = find_dates(findings, source, tile_ids=columns["tile_ids"])
    return make_frame(columns, schema=DISSOLVED_SCHEMA, geometry=geometry, crs=grid.crs)


def is_sure_enough(changes: gpd.GeoDataFrame, *, min_confidence: float) -> BoolArray:
    """Tell which changes have no confidence below one; those of which none was measured have not."""
    confidences = to_floats(changes["confidence"])
    return np.asarray(np.isnan(confidences) | (confidences >= min_confidence), dtype=np.bool_)


def rank_changes(changes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Put the largest changes first, equal ones by name."""
    return changes.sort_values(["area_m2", "change_id"], ascending=[False, True], ignore_index=True)


def _pack(
    columns: dict[str, list[Any]], geometry: npt.NDArray[np.object_]
) -> tuple[dict[str, pa.Array], npt.NDArray[np.object_]]:
    # Lists of a million numbers take ten times the room of arrays.
    types = {name: DISSOLVED_SCHEMA.field(name).type for name in columns}
    return {name: pa.array(values, types[name], from_pandas=True) for name, values in columns.items()}, geometry


def count_owned(findings: gpd.GeoDataFrame, *, kind: str, grid: Grid) -> FloatArray:
    """Give the part of each tile's count that falls on ground the tile owns; NaN where no count was told.

    Sums of these count no thing twice, where sums of the tiles' counts do once tiles overlap. A tile that names
    no cell spreads its count over all it saw.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, of any tiles of the grid.
        kind: One of `CHANGE_KINDS`.
        grid: The grid.
    """
    counts = to_floats(findings[f"{kind}_count"])
    if not grid.overlap_px:
        return counts
    rows, cols = (findings[name].to_numpy(dtype=np.int64) for name in ("row", "col"))
    areas = measure_cells(rows, cols, grid=grid)
    is_claimed = _read_cells(findings[f"{kind}_cells"])
    is_claimed[(areas.seen * is_claimed).sum(axis=1) == 0] = True
    return np.asarray(counts * (areas.owned * is_claimed).sum(axis=1) / (areas.seen * is_claimed).sum(axis=1))


def _read_cells(texts: pd.Series[Any]) -> BoolArray:
    # Few of all texts differ, however many tiles there are.
    codes, distinct = pd.factorize(texts.fillna(""))
    flags: BoolArray = parse_cell_names(distinct)[codes]
    return flags


def _dissolve_cells(
    findings: gpd.GeoDataFrame, *, kind: str, grid: Grid, outlined: OutlinedTiles
) -> tuple[dict[str, list[Any]], npt.NDArray[np.object_]]:
    claims, third_rows, third_cols = _read_claims(
        findings, kind=kind, grid=grid, is_outlined=outlined.find_tiles(kind, findings=findings)
    )
    labels = label_touching(third_rows, third_cols)
    _, first_cells = np.unique(labels, return_index=True)
    first_tiles = claims.tiles["tile_id"].iloc[claims.tile_of_part[first_cells]]
    first_names = (name_cell(third_rows[cell], third_cols[cell]) for cell in first_cells)
    areas = measure_ground(third_rows, third_cols, ninths=claims.owned, grid=grid)
    sums = sum_up_shares(claims, labels=labels)
    del sums["yes"]
    columns = {
        "change_id": [f"{kind}_{tile}_{name}" for tile, name in zip(first_tiles, first_names, strict=True)],
        "kind": [kind] * len(first_cells),
        # No answer tells it of a cell.
        "change": [None] * len(first_cells),
        "area_m2": np.bincount(labels, weights=areas).tolist(),
        "cell_count": np.bincount(labels).tolist(),
        "mask_probability": [None] * len(first_cells),
        "geometry_source": ["cells"] * len(first_cells),
        # Nothing has been measured of cells: what they are is coarser than any truth.
        "confidence": [None] * len(first_cells),
        **sums,
    }
    return columns, draw_groups(third_rows, third_cols, labels=labels, grid=grid)


def _read_claims(
    findings: gpd.GeoDataFrame, *, kind: str, grid: Grid, is_outlined: BoolArray
) -> tuple[Claims, IntArray, IntArray]:
    """Give the cells of one kind, and third row and third column of each, row-major."""
    is_denied = findings["is_changed"].eq(other=False).fillna(value=False).astype(bool)
    is_named = ~is_denied & findings[f"{kind}_cells"].fillna("").ne("") & ~is_outlined
    tiles = select_claims(findings[is_named], kind=kind).sort_values(["row", "col"])
    rows, cols = (tiles[name].to_numpy(dtype=np.int64) for name in ("row", "col"))
    is_claimed, areas = _read_cells(tiles["cells"]), measure_cells(rows, cols, grid=grid)
    tile_of_cell, cell_of_tile = np.nonzero(is_claimed & (areas.owned > 0))
    third_rows, third_cols = (thirds[tile_of_cell, cell_of_tile] for thirds in list_cells(rows, cols))
    order = np.lexsort((third_cols, third_rows))
    claims = Claims(
        tiles=tiles,
        tile_of_part=tile_of_cell[order],
        owned=areas.owned[tile_of_cell, cell_of_tile][order],
        weights=np.ones(len(order), dtype=np.int64),
        seen_of_tile=(areas.seen * is_claimed).sum(axis=1),
    )
    return claims, third_rows[order], third_cols[order]
