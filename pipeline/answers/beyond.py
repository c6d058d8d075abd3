"""What a change reaches of the ground beside its own tile, as far as windows over the border show it.

The tile on the other side may not see what its edge cuts to a sliver, or may be called unchanged for all that. An
outline that ended there would end in a straight line that is on no map. So it goes on into the tiles beside it, for a
part of a tile's side at most, as the windows over that border tell. The other tile, and a third one, may tell of the
same ground; `pipeline.findings.reaching` puts all together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import shapely

from pipeline.answers.pieces import THRESHOLD, Labels, Probabilities, draw_pieces
from pipeline.grid.grid import Grid
from pipeline.tiles.table import Tile

REACH = 1 / 8
"""Part of a tile's side that outlines go on for."""

Range = tuple[int, int]
"""First pixel of the grid along one axis, and the one after the last."""


class _Strip(NamedTuple):
    """Ground beside a tile's own."""

    rows: Range
    """Its rows in the grid's pixels."""
    cols: Range
    """Its columns."""
    axis: int
    """Axis across the border: 0 for strips above and below."""
    is_before: bool
    """Whether it lies above or to the left."""


@dataclass(frozen=True, kw_only=True)
class OwnGround:
    """The ground of a tile, and the pieces on it."""

    tile: Tile
    """The tile."""
    rows: Range
    """Its rows in the grid's pixels, as far as they are in the grid."""
    cols: Range
    """Its columns likewise."""
    labels: Labels
    """Number of the piece that each of its pixels belongs to, 0 for none."""


def measure_reach(grid: Grid) -> int:
    """Give how many pixels outlines go on for beside the ground of their tile."""
    return max(1, round(grid.stride_px * REACH))


def measure_padding(grid: Grid) -> int:
    """Give how many of them lie beyond all that the model saw of the tile itself."""
    return max(0, measure_reach(grid) - grid.overlap_px // 2)


def draw_beyond(
    ground: OwnGround, wider: Probabilities, *, grid: Grid, tolerance_px: float
) -> dict[int, shapely.MultiPolygon]:
    """Draw how far pieces go on beside the ground of their tile.

    Args:
        ground: The tile's ground.
        wider: Probability of change of all that the model saw of the tile and `measure_padding` pixels more on every
            side, (y, x), 0 where no window lies.
        grid: The grid.
        tolerance_px: How much is simplified, as outlines are.

    Returns:
        Polygons in pixels of the grid, by the number of the piece that they go on from.
    """
    found: dict[int, list[shapely.Polygon]] = {}
    margin = grid.overlap_px // 2 + measure_padding(grid)
    top, left = ground.tile.row * grid.stride_px - margin, ground.tile.col * grid.stride_px - margin
    for strip in _list_strips(ground, grid=grid):
        (first_row, end_row), (first_col, end_col) = strip.rows, strip.cols
        if first_row >= end_row or first_col >= end_col:
            continue
        shown = wider[first_row - top : end_row - top, first_col - left : end_col - left]
        regions, n_regions = scipy.ndimage.label(shown >= THRESHOLD)
        owners = _find_owners(regions, strip=strip, labels=ground.labels, n_regions=n_regions)
        kept = np.flatnonzero(owners)
        if not len(kept):
            continue
        ranks = np.zeros(n_regions + 1, np.int32)
        ranks[kept] = np.arange(1, len(kept) + 1)
        drawn = draw_pieces(ranks[regions], tolerance_px=tolerance_px)
        corner = np.array([first_col, first_row])
        for owner, polygon in zip(owners[kept].tolist(), drawn, strict=True):
            found.setdefault(owner, []).append(shapely.transform(polygon, lambda xy, corner=corner: xy + corner))
    return {owner: shapely.MultiPolygon(polygons) for owner, polygons in found.items()}


def _list_strips(ground: OwnGround, *, grid: Grid) -> Iterator[_Strip]:
    """List the strips beside a tile's ground, as far as they are in the grid."""
    reach, stride = measure_reach(grid), grid.stride_px
    whole = (grid.top_px, grid.top_px + grid.height_px), (grid.left_px, grid.left_px + grid.width_px)
    first_row, first_col = ground.tile.row * stride, ground.tile.col * stride
    yield _Strip((max(whole[0][0], first_row - reach), first_row), ground.cols, 0, is_before=True)
    yield _Strip((first_row + stride, min(whole[0][1], first_row + stride + reach)), ground.cols, 0, is_before=False)
    yield _Strip(ground.rows, (max(whole[1][0], first_col - reach), first_col), 1, is_before=True)
    yield _Strip(ground.rows, (first_col + stride, min(whole[1][1], first_col + stride + reach)), 1, is_before=False)


def _find_owners(
    regions: npt.NDArray[np.int32], *, strip: _Strip, labels: Labels, n_regions: int
) -> npt.NDArray[np.int64]:
    """Find the piece that each region of a strip goes on from, the one that it shares most of the border with.

    Returns:
        Its number by that of the region, 0 where there is none; of equals the first.
    """
    outside = np.take(regions, -1 if strip.is_before else 0, axis=strip.axis)
    inside = np.take(labels, 0 if strip.is_before else -1, axis=strip.axis)
    n_pieces = int(labels.max(initial=0))
    shared = np.zeros((n_regions + 1, n_pieces + 1), np.int64)
    np.add.at(shared, (outside, inside), 1)
    shared[0], shared[:, 0] = 0, 0
    return np.where(shared.any(axis=1), shared.argmax(axis=1), 0)
