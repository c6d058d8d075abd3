"""Cells of all tiles as one lattice: what each covers, which of them touch, and how those are drawn as polygons.

A cell is known by its third row and third column, counted over all tiles from the upper left one. Areas and edges
are whole numbers of thirds of a pixel, so nothing is rounded before the grid gives coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from model.interface import CELL_NAMES
from pipeline.grid.grid import Grid
from pipeline.grid.projections import compute_area_scale

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_IN_TILE = np.divmod(np.arange(len(CELL_NAMES)), 3)
# ^ Row and column of each cell in its tile, in the order of `CELL_NAMES`.


@dataclass(frozen=True, kw_only=True)
class CellAreas:
    """Areas of the nine cells of some tiles in ninths of a square pixel, as far as both scenes reach; (tile, 9)."""

    owned: IntArray
    """What lies on the ground that the tile owns."""
    seen: IntArray
    """All of the cell, what a neighbour owns of it included; without tile overlap the same."""


def parse_cell_names(texts: Iterable[str]) -> BoolArray:
    """Read texts such as ``top-left;center-center`` into (text, 9) flags in the order of `CELL_NAMES`.

    Raises:
        ValueError: a name is none of `CELL_NAMES`.
    """
    rows = [[CELL_NAMES.index(name) for name in text.split(";") if name] for text in texts]
    flags = np.zeros((len(rows), len(CELL_NAMES)), dtype=np.bool_)
    for flag, named in zip(flags, rows, strict=True):
        flag[named] = True
    return flags


def measure_cells(rows: IntArray, cols: IntArray, *, grid: Grid) -> CellAreas:
    """Measure the cells of tiles.

    Args:
        rows: Row of each tile in the grid.
        cols: Its column.
        grid: The grid.
    """
    heights = _measure_sides(rows, grid=grid, first_px=grid.top_px, length_px=grid.height_px)
    widths = _measure_sides(cols, grid=grid, first_px=grid.left_px, length_px=grid.width_px)
    owned, seen = (
        height[:, _IN_TILE[0]] * width[:, _IN_TILE[1]] for height, width in zip(heights, widths, strict=True)
    )
    return CellAreas(owned=owned, seen=seen)


def _measure_sides(tiles: IntArray, *, grid: Grid, first_px: int, length_px: int) -> tuple[IntArray, IntArray]:
    """Give owned and seen lengths of the three cells of each tile along one axis, (tile, 3), in thirds of a pixel."""
    ends = 3 * first_px, 3 * (first_px + length_px)
    owned = grid.count_thirds(3 * tiles[:, np.newaxis] + np.arange(4))
    start = 3 * (tiles[:, np.newaxis] * grid.stride_px - grid.overlap_px // 2)
    seen = start + np.arange(4) * grid.tile_size_px
    first, second = (np.diff(np.clip(edges, *ends), axis=1) for edges in (owned, seen))
    return first, second


def list_cells(rows: IntArray, cols: IntArray) -> tuple[IntArray, IntArray]:
    """Give third row and third column of the nine cells of tiles, each (tile, 9)."""
    return 3 * rows[:, np.newaxis] + _IN_TILE[0], 3 * cols[:, np.newaxis] + _IN_TILE[1]


def name_cell(third_row: int, third_col: int) -> str:
    """Name a cell by its place in its tile."""
    return CELL_NAMES[3 * (third_row % 3) + third_col % 3]


def label_touching(third_rows: IntArray, third_cols: IntArray) -> IntArray:
    """Number groups of cells that are joined by edges, in the row-major order of each group's first cell.

    Args:
        third_rows: Rows of distinct cells, in row-major order.
        third_cols: Their columns.
    """
    n_cells = len(third_rows)
    width = int(third_cols.max(initial=0)) + 2
    # ^ One more than there are columns: the end of a row does not touch the start of the next.
    places = third_rows * width + third_cols
    pairs = []
    for step in (1, width):
        found = np.searchsorted(places, places + step)
        is_there = found < n_cells
        is_there[is_there] = places[found[is_there]] == places[is_there] + step
        pairs.append((np.flatnonzero(is_there), found[is_there]))
    first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return label_joined(first, second, n_parts=n_cells)


def label_joined(first: IntArray, second: IntArray, *, n_parts: int) -> IntArray:
    """Number groups of parts that are joined to each other, in the order of each group's first part.

    Args:
        first: One part of each pair that is joined.
        second: The other one.
        n_parts: How many parts there are.
    """
    joins = coo_array((np.ones(len(first), dtype=np.bool_), (first, second)), shape=(n_parts, n_parts))
    _, labels = connected_components(joins, directed=False)
    _, firsts, labels = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), dtype=np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    return rank[labels]


def draw_groups(third_rows: IntArray, third_cols: IntArray, *, labels: IntArray, grid: Grid) -> npt.NDArray[np.object_]:
    """Unite groups of touching cells into one polygon each, holes kept, with corners where they turn only.

    Args:
        third_rows: Rows of distinct cells.
        third_cols: Their columns.
        labels: Group of each cell, as `label_touching` numbers them.
        grid: The grid.
    """
    # Whole numbers unite without rounding; the corners get their coordinates afterwards, from the grid.
    order = np.argsort(labels, kind="stable")
    ys, xs = -third_rows[order], third_cols[order]
    boxes = shapely.box(xs, ys - 1, xs + 1, ys)
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    united = np.empty(len(sizes), dtype=np.object_)
    # All groups of one size at once: a call for each of a hundred thousand groups takes longer than the uniting.
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        united[members] = shapely.coverage_union_all(boxes[starts[members][:, np.newaxis] + np.arange(size)], axis=1)

    def place(corners: FloatArray) -> FloatArray:
        cols, rows = np.rint(corners).astype(np.int64).T
        return np.column_stack(grid.locate_corner(-rows, cols))

    outlines = shapely.transform(shapely.simplify(shapely.normalize(united), 0), place)
    covered = shapely.box(*grid.shared_bounds)
    shapely.prepare(covered)
    is_beyond = ~shapely.covers(covered, outlines)
    outlines[is_beyond] = shapely.intersection(outlines[is_beyond], covered)
    return np.asarray(outlines, dtype=np.object_)


def measure_ground(
    third_rows: IntArray, third_cols: IntArray, *, ninths: IntArray, grid: Grid
) -> npt.NDArray[np.float64]:
    """Turn areas of cells in ninths of a square pixel into square metres on the ellipsoid.

    Args:
        third_rows: Rows of the cells.
        third_cols: Their columns.
        ninths: Areas as `measure_cells` gives them.
        grid: The grid.
    """
    lefts, tops = grid.locate_corner(third_rows, third_cols)
    rights, bottoms = grid.locate_corner(third_rows + 1, third_cols + 1)
    scale = compute_area_scale(grid.crs, xs=(lefts + rights) / 2, ys=(bottoms + tops) / 2)
    return np.asarray(ninths / 9 * grid.resolution_m**2 / scale, dtype=np.float64)
