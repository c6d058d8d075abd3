"""Places on a scene's raster, exact polygon rasters, and the ground that planned things take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
MaskArray = NDArray[np.bool_]
PointArray = NDArray[np.float64]

Presence = tuple[bool, bool]
"""Whether a thing stands before, and after."""

MARGIN_M: Final = 32.0
"""Belt around the scene that is planned too: its trees and houses throw shadows into the scene."""

_GAP_PX: Final = 2
"""Free pixels kept between any two buildings, so that external contours count them one by one."""

MAX_SHIFT_PX: Final = 2
"""Greatest misregistration of the dates; around a building that goes, this much more is kept free."""

_MIN_VISIBLE_PX: Final = 12
"""A building cut by the border of a tile counts only when at least this much of it is seen."""

_COMPASS: Final = ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
_ROAD_BITS: Final = (1, 2)
_BUILDING_BITS: Final = (4, 8)
_FIXED_BITS: Final = 4

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Thing = TypeVar("_Thing")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A half-open rectangle of scene pixels; it may reach outside the scene."""

    y0: int
    """First row."""
    x0: int
    """First column."""
    height_px: int
    """Number of rows."""
    width_px: int
    """Number of columns."""

    @classmethod
    def between(cls, y0: int, x0: int, y1: int, x1: int) -> Block | None:
        """Span a block from its first row and column to those after its last; None where it would be empty."""
        return cls(y0=y0, x0=x0, height_px=y1 - y0, width_px=x1 - x0) if y1 > y0 and x1 > x0 else None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, as NumPy wants them."""
        return self.height_px, self.width_px

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the block lies in a raster that begins at (0, 0)."""
        return slice(self.y0, self.y0 + self.height_px), slice(self.x0, self.x0 + self.width_px)

    def grow(self, distance_px: int) -> Block:
        """Make the block wider by the same distance on all four sides."""
        height_px, width_px = self.height_px + 2 * distance_px, self.width_px + 2 * distance_px
        return Block(y0=self.y0 - distance_px, x0=self.x0 - distance_px, height_px=height_px, width_px=width_px)

    def move(self, rows: int, columns: int) -> Block:
        """Shift the block down and right."""
        return Block(y0=self.y0 + rows, x0=self.x0 + columns, height_px=self.height_px, width_px=self.width_px)

    def cut(self, raster: NDArray[_Scalar], *, of: Block) -> NDArray[_Scalar]:
        """View this block in a raster of the block `of`, which holds it."""
        return raster[self.move(-of.y0, -of.x0).window]

    def pixel_centres(self) -> tuple[FloatArray, FloatArray]:
        """Return broadcastable (height, 1) rows and (1, width) columns of the pixel centres, in pixels."""
        rows = np.arange(self.y0, self.y0 + self.height_px, dtype=np.float32) + np.float32(0.5)
        columns = np.arange(self.x0, self.x0 + self.width_px, dtype=np.float32) + np.float32(0.5)
        return rows[:, None], columns[None, :]


def bound(points: PointArray) -> tuple[float, float, float, float]:
    """Return the bounding box of (N, 2) vertices: y low, x low, y high, x high."""
    (low_y, low_x), (high_y, high_x) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return low_y, low_x, high_y, high_x


class SpatialIndex(Generic[_Thing]):
    """Things with the bounding boxes of their outlines, to find what a block holds."""

    def __init__(self, things: Sequence[_Thing], outlines: Sequence[PointArray]) -> None:
        self._things = things
        self._boxes = np.array([bound(outline) for outline in outlines], np.float64).reshape(-1, 4)

    def find_in(self, block: Block, *, pixel_size: float = 1.0, reach: float = 0.0) -> list[_Thing]:
        """Return the things that come within reach of a block, in their order.

        Args:
            block: Where.
            pixel_size: How many units of the outlines a pixel is wide.
            reach: How far around the block to look, in units of the outlines.
        """
        low = np.array([block.y0, block.x0]) * pixel_size - reach
        high = np.array([block.y0 + block.height_px, block.x0 + block.width_px]) * pixel_size + reach
        touches = (self._boxes[:, :2] < high).all(axis=1) & (self._boxes[:, 2:] > low).all(axis=1)
        return [self._things[index] for index in np.flatnonzero(touches).tolist()]


def offset_polyline(centreline: PointArray, half_widths: float | NDArray[np.float64]) -> PointArray:
    """Return the outline of a strip around a line.

    Args:
        centreline: (N, 2) vertices (y, x).
        half_widths: Half the width of the strip, one value or one per vertex, in the unit of the vertices.

    Returns:
        (2 N, 2) vertices: along the left side and back along the right side.
    """
    tangents = np.gradient(centreline, axis=0)
    tangents /= np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-9)[:, None]
    normals = np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
    widths = np.broadcast_to(np.asarray(half_widths, dtype=np.float64), (len(centreline),))[:, None]
    return np.concatenate([centreline + normals * widths, (centreline - normals * widths)[::-1]])


def rasterize_polygon(polygon: PointArray, shape: tuple[int, int]) -> tuple[Block, MaskArray] | None:
    """Find the pixels whose centre lies inside a polygon (even-odd rule).

    OpenCV's `fillPoly` also takes every pixel that the boundary touches, which swells a house by half a pixel
    on each side; a truth mask may not.

    Args:
        polygon: (N, 2) vertices (y, x) in pixels; pixel (0, 0) covers 0..1.
        shape: Rows and columns of the raster the polygon is clipped to.

    Returns:
        The polygon's block within the raster and its (height, width) mask, or None where it has no pixel.
    """
    low_y, low_x, high_y, high_x = bound(polygon)
    y0, y1 = max(0, math.floor(low_y)), min(shape[0], math.ceil(high_y))
    x0, x1 = max(0, math.floor(low_x)), min(shape[1], math.ceil(high_x))
    block = Block.between(y0, x0, y1, x1)
    if block is None:
        return None
    start, end = polygon, np.roll(polygon, -1, axis=0)
    rows = np.arange(y0, y1) + 0.5
    crosses = (start[:, 0] <= rows[:, None]) != (end[:, 0] <= rows[:, None])
    row_index, edge_index = np.nonzero(crosses)
    rise = end[edge_index] - start[edge_index]
    fraction = (rows[row_index] - start[edge_index, 0]) / rise[:, 0]
    columns = np.ceil(start[edge_index, 1] + fraction * rise[:, 1] - 0.5).astype(np.int64)
    # Each crossing flips inside and outside for all pixels to its right: a running sum fills
    # the row, and its parity survives that bytes wrap around.
    flips = np.zeros((y1 - y0, x1 - x0 + 1), dtype=np.uint8)
    np.add.at(flips, (row_index, np.clip(columns - x0, 0, x1 - x0)), 1)
    mask = np.cumsum(flips[:, :-1], axis=1, dtype=np.uint8) % 2 == 1
    return (block, mask) if mask.any() else None


class Footprints:
    """Keeps planned things apart: the taken ground of a scene and its margin, as bits per date of each pixel.

    No two buildings touch in the change mask, and no tile sees a building in two pieces.
    """

    def __init__(self, *, height_px: int, width_px: int, resolution_m: float, tile_px: int | None) -> None:
        """Start with free ground.

        Args:
            height_px: Rows of the scene.
            width_px: Columns of the scene.
            resolution_m: Size of a pixel in metres.
            tile_px: Side of the tiles that the scene will be cut into; None keeps it whole.
        """
        self._resolution_m = resolution_m
        self._margin_px = math.ceil(MARGIN_M / resolution_m)
        self._scene_shape = (height_px, width_px)
        self._spans = [
            list(itertools.pairwise([*range(0, size_px, tile_px or size_px), size_px])) for size_px in self._scene_shape
        ]
        shape = (height_px + 2 * self._margin_px, width_px + 2 * self._margin_px)
        self._taken: ByteArray = np.zeros(shape, dtype=np.uint8)

    def is_near(self, outline: PointArray) -> bool:
        """Tell whether the bounding box of an outline in metres touches the scene or its margin."""
        low_y, low_x, high_y, high_x = bound(outline)
        margin = self._margin_px * self._resolution_m
        height, width = (size * self._resolution_m for size in self._scene_shape)
        return high_y > -margin and high_x > -margin and low_y < height + margin and low_x < width + margin

    def add_road(self, outline: PointArray, is_at: Presence) -> None:
        """Take the ground of a road outline (metres)."""
        found = self._cover(self._to_raster(outline), grow_px=0)
        if found is not None:
            block, mask = found
            self._taken[block.window][mask > 0] |= _choose_bits(_ROAD_BITS, is_at)

    def add_building(self, outline: PointArray, is_at: Presence) -> bool:
        """Take the ground of a building unless it would touch another one or a road, or be cut oddly.

        Args:
            outline: (N, 2) vertices in metres.
            is_at: Before and after.

        Returns:
            Whether the building can stand there.
        """
        height, width = self._taken.shape
        pixels = self._to_raster(outline)
        low_y, low_x, high_y, high_x = bound(pixels)
        halo = MAX_SHIFT_PX if is_at == (True, False) else 0
        reach = _GAP_PX + halo
        spare = reach + 2
        if low_y < spare or low_x < spare or high_y > height - spare or high_x > width - spare:
            return False
        found = self._cover(pixels, grow_px=reach)
        if found is None:
            return False
        block, mask = found
        view = self._taken[block.window]
        if cv2.bitwise_and(view, _grow(mask, reach)).any() or not self._is_whole(pixels - self._margin_px):
            return False
        view |= _grow(mask, halo) & np.uint8(_choose_bits(_BUILDING_BITS, is_at))
        return True

    def is_open(self, outline: PointArray) -> bool:
        """Tell whether no road or building takes any of the ground of an outline (metres) at either date."""
        found = self._cover(self._to_raster(outline), grow_px=0)
        return found is None or not cv2.bitwise_and(self._taken[found[0].window], found[1]).any()

    def is_free(self, position_px: FloatArray, reach_px: FloatArray, *, date_index: int) -> MaskArray:
        """Tell for (N, 2) scene positions in pixels whether no road or building is within reach at a date."""
        bits = _ROAD_BITS[date_index] | _BUILDING_BITS[date_index]
        limit = np.array(self._taken.shape) - 1
        is_free = np.ones(len(position_px), np.bool_)
        for toward in _COMPASS:
            pixels = np.floor(position_px + reach_px[:, None] * np.array(toward)).astype(np.int64) + self._margin_px
            pixels = np.clip(pixels, 0, limit)
            is_free &= self._taken[pixels[:, 0], pixels[:, 1]] & bits == 0
        return is_free

    def _to_raster(self, outline: PointArray) -> PointArray:
        """Convert scene positions in metres to pixels of the raster, which begins at the margin's corner."""
        return np.asarray(outline / self._resolution_m + self._margin_px)

    def _cover(self, pixels: PointArray, *, grow_px: int) -> tuple[Block, ByteArray] | None:
        """Return the block of an outline within the raster and 255 in every pixel that it touches."""
        low = np.floor(pixels.min(axis=0)).astype(int) - grow_px
        high = np.ceil(pixels.max(axis=0)).astype(int) + grow_px
        (y0, x0), (y1, x1) = np.maximum(low, 0).tolist(), np.minimum(high + 1, self._taken.shape).tolist()
        block = Block.between(y0, x0, y1, x1)
        if block is None:
            return None
        mask = np.zeros(block.shape, np.uint8)
        fixed = np.rint((pixels[:, ::-1] - np.array([x0 + 0.5, y0 + 0.5])) * (1 << _FIXED_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_8, _FIXED_BITS)
        return block, mask

    def _is_whole(self, pixels: PointArray) -> bool:
        """Tell whether each tile sees a building, given in scene pixels, in one piece or not at all.

        An L-shaped house cut by a border can fall into two pieces, which contours would count twice.
        """
        low_y, low_x, high_y, high_x = bound(pixels)
        rows = [span for span in self._spans[0] if low_y < span[1] + 1 and high_y > span[0] - 1]
        columns = [span for span in self._spans[1] if low_x < span[1] + 1 and high_x > span[0] - 1]
        if not rows or not columns:
            return True
        top, bottom, left, right = rows[0][0], rows[-1][1], columns[0][0], columns[-1][1]
        is_inside = low_y > top + 1 and low_x > left + 1 and high_y < bottom - 1 and high_x < right - 1
        if len(rows) == len(columns) == 1 and is_inside:
            return True
        return all(
            _is_one_piece(pixels - np.array([y0, x0]), (y1 - y0, x1 - x0)) for y0, y1 in rows for x0, x1 in columns
        )


def _grow(mask: ByteArray, distance_px: int) -> ByteArray:
    return np.asarray(cv2.dilate(mask, np.ones((2 * distance_px + 1, 2 * distance_px + 1), np.uint8)), np.uint8)


def _is_one_piece(pixels: PointArray, tile_shape: tuple[int, int]) -> bool:
    """Tell whether a tile sees an outline in one piece that is large enough to be seen, or not at all.

    The same must hold where the dates are shifted against each other by a pixel or two, so the visible part may not
    be a sliver.
    """
    found = rasterize_polygon(pixels, tile_shape)
    if found is None:
        return True
    _, mask = found
    pieces, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return int(mask.sum()) >= _MIN_VISIBLE_PX and int(pieces) == 2


def _choose_bits(bits: tuple[int, int], is_at: Presence) -> int:
    """Return the bits of the dates at which something stands."""
    return (bits[0] if is_at[0] else 0) | (bits[1] if is_at[1] else 0)
