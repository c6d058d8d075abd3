"""Changes: cells of one kind that touch, put together into polygons over the borders of tiles.

Nothing counts twice. A cell is cut to the ground that its tile owns, so that no two tiles claim the same ground. A
tile's count is shared out over its cells of that kind by their area, all that the model saw of them; the part on
ground that a neighbour owns is left to the neighbour, which saw the same things and counted them as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.cells import (
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
from pipeline.geoparquet import make_frame
from pipeline.grid import Grid
from pipeline.schemas import CHANGE_KINDS, CHANGES_SCHEMA

_CONSTANT_COLUMNS = {
    "before_datetime": "before_datetime",
    "after_datetime": "after_datetime",
    "first_seen": "after_datetime",
    "model_id": "model_id",
    "run_id": "run_id",
}
# ^ By the column of the findings that each is taken from.


def dissolve_changes(findings: gpd.GeoDataFrame, *, grid: Grid) -> gpd.GeoDataFrame:
    """Put cells of one kind that touch by an edge together, over the borders of tiles as well.

    Tiles that the model calls unchanged bring no cells, whatever its other answers say, and cells beyond the
    overlap of both scenes are left out or cut off there.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, of any tiles of the grid.
        grid: The grid.

    Returns:
        The columns of `CHANGES_SCHEMA`, kind by kind, row-major by the first cell of each change.
    """
    parts = [_dissolve_kind(findings, kind=kind, grid=grid) for kind in CHANGE_KINDS]
    geometry = np.concatenate([outlines for _, outlines in parts])
    columns = {name: [value for part, _ in parts for value in part[name]] for name in parts[0][0]}
    columns |= {name: [findings[source].iloc[0]] * len(geometry) for name, source in _CONSTANT_COLUMNS.items()}
    return make_frame(columns, schema=CHANGES_SCHEMA, geometry=geometry, crs=grid.crs)


def count_owned(findings: gpd.GeoDataFrame, *, kind: str, grid: Grid) -> FloatArray:
    """Give the part of each tile's count that falls on ground the tile owns; NaN where no count was told.

    Sums of these count no thing twice, where sums of the tiles' counts do once tiles overlap. A tile that names
    no cell spreads its count over all it saw.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, of any tiles of the grid.
        kind: One of `CHANGE_KINDS`.
        grid: The grid.
    """
    counts = _to_floats(findings[f"{kind}_count"])
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


def _to_floats(values: pd.Series[Any]) -> FloatArray:
    return np.asarray(values.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))


@dataclass(frozen=True, kw_only=True)
class _Claims:
    """What tiles say about one kind of change: flat arrays over their cells, row-major, and over the tiles."""

    tiles: pd.DataFrame
    """Columns of the findings that changes are made of, row-major."""
    third_rows: IntArray
    """Row of each cell."""
    third_cols: IntArray
    """Its column."""
    tile_of_cell: IntArray
    """Position of each cell's tile in `tiles`."""
    owned: IntArray
    """Area of each cell that its tile owns, in ninths of a square pixel."""
    seen_of_tile: IntArray
    """Area of all cells that a tile claims, what neighbours own of them included."""


def _read_claims(findings: gpd.GeoDataFrame, *, kind: str, grid: Grid) -> _Claims:
    is_denied = findings["is_changed"].eq(other=False).fillna(value=False).astype(bool)
    claims = findings[~is_denied & findings[f"{kind}_cells"].fillna("").ne("")].sort_values(["row", "col"])
    names = {f"{kind}_cells": "cells", f"{kind}_count": "count", "change_confidence": "confidence"}
    tiles = pd.DataFrame(claims[["tile_id", "row", "col", "description", *names]]).rename(columns=names)
    rows, cols = (tiles[name].to_numpy(dtype=np.int64) for name in ("row", "col"))
    is_claimed, areas = _read_cells(tiles["cells"]), measure_cells(rows, cols, grid=grid)
    tile_of_cell, cell_of_tile = np.nonzero(is_claimed & (areas.owned > 0))
    third_rows, third_cols = (thirds[tile_of_cell, cell_of_tile] for thirds in list_cells(rows, cols))
    order = np.lexsort((third_cols, third_rows))
    return _Claims(
        tiles=tiles,
        third_rows=third_rows[order],
        third_cols=third_cols[order],
        tile_of_cell=tile_of_cell[order],
        owned=areas.owned[tile_of_cell, cell_of_tile][order],
        seen_of_tile=(areas.seen * is_claimed).sum(axis=1),
    )


def _dissolve_kind(
    findings: gpd.GeoDataFrame, *, kind: str, grid: Grid
) -> tuple[dict[str, list[Any]], npt.NDArray[np.object_]]:
    claims = _read_claims(findings, kind=kind, grid=grid)
    cells = claims.third_rows, claims.third_cols
    labels = label_touching(*cells)
    _, first_cells = np.unique(labels, return_index=True)
    first_tiles = claims.tiles["tile_id"].iloc[claims.tile_of_cell[first_cells]]
    first_names = (name_cell(cells[0][cell], cells[1][cell]) for cell in first_cells)
    areas = measure_ground(*cells, ninths=claims.owned, grid=grid)
    columns = {
        "change_id": [f"{kind}_{tile}_{name}" for tile, name in zip(first_tiles, first_names, strict=True)],
        "kind": [kind] * len(first_cells),
        "area_m2": np.bincount(labels, weights=areas).tolist(),
        "cell_count": np.bincount(labels).tolist(),
        **_sum_up(claims, labels=labels),
    }
    return columns, draw_groups(*cells, labels=labels, grid=grid)


def _sum_up(claims: _Claims, *, labels: IntArray) -> dict[str, list[Any]]:
    """Sum up the tiles of each change."""
    n_changes, n_tiles = int(labels.max(initial=-1)) + 1, max(len(claims.tiles), 1)
    # A share is what one tile brings to one change; shares are sorted by change, then row-major by tile.
    places, share_of_cell = np.unique(labels * n_tiles + claims.tile_of_cell, return_inverse=True)
    changes, tiles = np.divmod(places, n_tiles)
    share_cells = np.bincount(share_of_cell, minlength=len(places))
    share_areas = np.bincount(share_of_cell, weights=claims.owned, minlength=len(places))
    shares = claims.tiles.take(tiles)
    counts, confidences = _to_floats(shares["count"]), _to_floats(shares["confidence"])
    # The quotient first: it is 1 exactly where a change has all cells of a tile, and then whole counts stay whole.
    parts = counts * (share_areas / claims.seen_of_tile[tiles])
    return {
        "tile_count": np.bincount(changes, minlength=n_changes).tolist(),
        "count": _add_told(parts, changes=changes, n_changes=n_changes, is_told=~np.isnan(parts)).tolist(),
        "confidence": (
            _add_told(confidences * share_cells, changes=changes, n_changes=n_changes, is_told=~np.isnan(confidences))
            / np.maximum(np.bincount(changes, weights=share_cells * ~np.isnan(confidences), minlength=n_changes), 1)
        ).tolist(),
        "description": _choose_descriptions(shares, changes=changes, confidences=confidences, n_changes=n_changes),
        "tile_ids": _join_tiles(shares, changes=changes, n_changes=n_changes),
    }


def _add_told(values: FloatArray, *, changes: IntArray, n_changes: int, is_told: BoolArray) -> FloatArray:
    """Add values up per change; NaN where none was told."""
    sums = np.bincount(changes[is_told], weights=values[is_told], minlength=n_changes)
    n_told = np.bincount(changes[is_told], minlength=n_changes)
    return np.where(n_told > 0, sums, np.nan)


def _choose_descriptions(
    shares: pd.DataFrame, *, changes: IntArray, confidences: FloatArray, n_changes: int
) -> list[str | None]:
    """Give per change the description of its most confident tile that has one; of equals the first."""
    texts = shares["description"]
    told = np.flatnonzero(texts.notna())
    ranked = told[np.lexsort((told, -np.nan_to_num(confidences[told]), changes[told]))]
    described, firsts = np.unique(changes[ranked], return_index=True)
    chosen: list[str | None] = [None] * n_changes
    for change, text in zip(described, texts.iloc[ranked[firsts]], strict=True):
        chosen[change] = text
    return chosen


def _join_tiles(shares: pd.DataFrame, *, changes: IntArray, n_changes: int) -> list[str]:
    names = shares["tile_id"].tolist()
    ends = np.searchsorted(changes, np.arange(n_changes + 1))
    return [";".join(names[first:last]) for first, last in pairwise(ends)]
