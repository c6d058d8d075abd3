"""Which pieces of changes are one: those that meet at a border of tiles, or of single buildings those that fit there.

Everything is decided in whole pixels. Two pieces meet where they share an edge of at least a pixel; that they are
simplified on either side changes nothing about it, as `pipeline.answers.outlines` leaves what lies on the border of a
tile.

Of a mask that is cut into tiles, whatever meets is one. Where a model tells buildings apart, pieces that meet may be
neighbours all the same, and joining all of them would undo the splitting. There the rule is: of two pieces that meet
along a border, each must be the one that the other shares most of that border with, and what they share must be at
least half of what the shorter of them has on it. So a building that is cut by a border is put together, and the tip of
one that merely touches another there is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from pipeline.grid.cells import BoolArray, IntArray, label_joined
from pipeline.grid.grid import Grid

MIN_SHARED = 0.5
"""Part of the shorter piece's edge on a border that two pieces of single buildings share if they are one."""

_POLYGONS_AT_ONCE = 20_000

Polygons = npt.NDArray[np.object_]


def label_meeting(
    polygons: Polygons,
    *,
    grid: Grid,
    is_instance: BoolArray | None = None,
    reached: tuple[IntArray, IntArray] | None = None,
) -> IntArray:
    """Number groups of pieces that belong together over the borders of tiles, in the order of each group's first piece.

    Args:
        polygons: Pieces in pixels of the grid; each lies on the ground of one tile.
        grid: The grid.
        is_instance: Which of them are single buildings; None: none.
        reached: Further pairs of pieces that are one, as `find_reached` gives them; None: none.
    """
    edges = [np.empty((0, 5), dtype=np.int64)]
    for start in range(0, len(polygons), _POLYGONS_AT_ONCE):
        found = _list_border_edges(polygons[start : start + _POLYGONS_AT_ONCE], grid=grid)
        edges.append(found + np.array([0, 0, 0, 0, start]))
    single = np.zeros(len(polygons), dtype=np.bool_) if is_instance is None else is_instance
    joins = [_meet_along(axis, np.concatenate(edges), polygons=polygons, single=single, grid=grid) for axis in (0, 1)]
    first, second = (np.concatenate(ends) for ends in zip(*joins, *([reached] if reached else []), strict=True))
    return label_joined(first, second, n_parts=len(polygons))


def _list_border_edges(polygons: Polygons, *, grid: Grid) -> IntArray:
    """List the edges of pieces that may lie on a border of tiles: x and y of both ends, and the piece's number."""
    corners, piece = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    corners = np.rint(corners).astype(np.int64)
    is_edge = (piece[1:] == piece[:-1]) & ((corners[1:] == corners[:-1]) & (corners[1:] % grid.stride_px == 0)).any(
        axis=1
    )
    return np.column_stack([corners[:-1][is_edge], corners[1:][is_edge], piece[1:][is_edge]])


def _meet_along(
    axis: int, edges: IntArray, *, polygons: Polygons, single: BoolArray, grid: Grid
) -> tuple[IntArray, IntArray]:
    """Find pairs of pieces that are one over borders across one axis: x for 0, y for 1."""
    is_across = (edges[:, axis] == edges[:, axis + 2]) & (edges[:, axis] % grid.stride_px == 0)
    borders, owner = edges[is_across, axis], edges[is_across, 4]
    ends = edges[is_across][:, [1 - axis, 3 - axis]]
    low, lengths = ends.min(axis=1), np.ptp(ends, axis=1)
    # One entry per pixel along each edge; a border and a place on it make one number.
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.repeat(borders * (max(grid.shape_px) + 1) + low, lengths) + steps
    pieces = np.repeat(owner, lengths)
    # A piece that begins at the border lies behind it, and what it may meet ends there.
    is_behind = np.repeat(shapely.bounds(polygons[owner]).reshape(-1, 4)[:, axis] == borders, lengths)
    _, before, behind = np.intersect1d(places[~is_behind], places[is_behind], return_indices=True)
    pairs, shared = np.unique(
        np.column_stack([pieces[~is_behind][before], pieces[is_behind][behind]]), axis=0, return_counts=True
    )
    before_border, behind_border = (
        np.bincount(pieces[side], minlength=len(polygons)) for side in (~is_behind, is_behind)
    )
    is_one = ~single[pairs].any(axis=1) | _fit(pairs, shared=shared, on_border=(before_border, behind_border))
    return pairs[is_one, 0], pairs[is_one, 1]


def _fit(pairs: IntArray, *, shared: IntArray, on_border: tuple[IntArray, IntArray]) -> BoolArray:
    """Tell which pairs of pieces are one building: each has most with the other, and enough.

    Args:
        pairs: Pieces before and behind borders, ascending.
        shared: Pixels that each pair has in common.
        on_border: Pixels that each piece has on the border behind it, and on the one before it.
    """
    is_enough = shared >= MIN_SHARED * np.minimum(on_border[0][pairs[:, 0]], on_border[1][pairs[:, 1]])
    return np.asarray(is_enough & _find_largest(pairs[:, 0], shared) & _find_largest(pairs[:, 1], shared))


def _find_largest(owners: IntArray, shared: IntArray) -> BoolArray:
    """Tell which rows have most of all of their owner; of equals the first."""
    order = np.lexsort((np.arange(len(owners)), -shared, owners))
    _, firsts = np.unique(owners[order], return_index=True)
    is_largest = np.zeros(len(owners), dtype=np.bool_)
    is_largest[order[firsts]] = True
    return is_largest
