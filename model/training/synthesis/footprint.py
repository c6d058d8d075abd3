"""Keeps planned things apart with a raster of what is taken: no two buildings touch in the change mask."""

from __future__ import annotations

import itertools
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.texture import Block, ByteArray, PointArray, rasterize_polygon

Presence = tuple[bool, bool]
"""Whether a thing stands before, and after."""

GAP_PX: Final = 2
"""Free pixels kept between any two buildings, so that external contours count them one by one."""

MAX_SHIFT_PX: Final = 2
"""Greatest misregistration of the dates; around a building that goes, this much more is kept free."""

MIN_VISIBLE_PX: Final = 12
"""A building cut by the border of a tile counts only when at least this much of it is seen."""

_COMPASS: Final = ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
_ROAD_BITS: Final = (1, 2)
_BUILDING_BITS: Final = (4, 8)
_FIXED_BITS: Final = 4


class Footprints:
    """The taken ground of a scene and a margin around it, as bits per date in a raster of scene pixels."""

    def __init__(
        self, *, height_px: int, width_px: int, resolution_m: float, margin_m: float, tile_px: int | None = None
    ) -> None:
        """Starts with free ground.

        Args:
            height_px: Rows of the scene.
            width_px: Columns of the scene.
            resolution_m: Size of a pixel in metres.
            margin_m: Width of the belt outside the scene where things are planned too.
            tile_px: Side of the tiles that the scene will be cut into; None keeps it whole.
        """
        self.resolution_m = resolution_m
        self.margin_px = int(np.ceil(margin_m / resolution_m))
        self.scene_shape = (height_px, width_px)
        self._cuts = (_list_cuts(height_px, tile_px), _list_cuts(width_px, tile_px))
        shape = (height_px + 2 * self.margin_px, width_px + 2 * self.margin_px)
        self._taken: ByteArray = np.zeros(shape, dtype=np.uint8)

    def is_near(self, outline: PointArray) -> bool:
        """Tells whether the bounding box of an outline in metres touches the scene or its margin."""
        (low_y, low_x), (high_y, high_x) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        margin = self.margin_px * self.resolution_m
        height, width = (size * self.resolution_m for size in self.scene_shape)
        return bool(high_y > -margin and high_x > -margin and low_y < height + margin and low_x < width + margin)

    def add_road(self, outline: PointArray, is_at: Presence) -> None:
        """Takes the ground of a road outline (metres)."""
        found = self._cover(outline / self.resolution_m + self.margin_px, grow_px=0)
        if found is not None:
            block, mask = found
            self._view(block)[mask > 0] |= _bits(_ROAD_BITS, is_at)

    def add_building(self, outline: PointArray, is_at: Presence) -> bool:
        """Takes the ground of a building unless it would touch another one or a road, or be cut oddly.

        Args:
            outline: (N, 2) vertices in metres.
            is_at: Before and after.

        Returns:
            Whether the building can stand there.
        """
        height, width = self._taken.shape
        pixels = outline / self.resolution_m + self.margin_px
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        halo = MAX_SHIFT_PX if is_at == (True, False) else 0
        reach = GAP_PX + halo
        spare = reach + 2
        if (low < spare).any() or high[0] > height - spare or high[1] > width - spare:
            return False
        found = self._cover(pixels, grow_px=reach)
        if found is None:
            return False
        block, mask = found
        view = self._view(block)
        if cv2.bitwise_and(view, _grow(mask, reach)).any() or not self._is_whole(pixels - self.margin_px):
            return False
        view |= _grow(mask, halo) & np.uint8(_bits(_BUILDING_BITS, is_at))
        return True

    def is_open(self, outline: PointArray) -> bool:
        """Tells whether no road or building takes any of the ground of an outline (metres) at either date."""
        found = self._cover(outline / self.resolution_m + self.margin_px, grow_px=0)
        return found is None or not cv2.bitwise_and(self._view(found[0]), found[1]).any()

    def is_free(
        self, position_px: NDArray[np.float32], reach_px: NDArray[np.float32], *, date_index: int
    ) -> NDArray[np.bool_]:
        """Tells for (N, 2) scene positions in pixels whether no road or building is within reach at a date."""
        bits = _ROAD_BITS[date_index] | _BUILDING_BITS[date_index]
        limit = np.array(self._taken.shape) - 1
        is_free = np.ones(len(position_px), np.bool_)
        for toward in _COMPASS:
            pixels = np.floor(position_px + reach_px[:, None] * np.array(toward)).astype(np.int64) + self.margin_px
            pixels = np.clip(pixels, 0, limit)
            is_free &= self._taken[pixels[:, 0], pixels[:, 1]] & bits == 0
        return is_free

    def _view(self, block: Block) -> ByteArray:
        """Returns the part of the raster under a block."""
        return self._taken[block.y0 : block.y0 + block.height_px, block.x0 : block.x0 + block.width_px]

    def _cover(self, pixels: PointArray, *, grow_px: int) -> tuple[Block, ByteArray] | None:
        """Returns the block of an outline within the raster and 255 in every pixel that it touches."""
        height, width = self._taken.shape
        low, high = (
            np.floor(pixels.min(axis=0)).astype(int) - grow_px,
            np.ceil(pixels.max(axis=0)).astype(int) + grow_px,
        )
        (y0, x0), (y1, x1) = np.maximum(low, 0).tolist(), np.minimum(high + 1, [height, width]).tolist()
        if y1 <= y0 or x1 <= x0:
            return None
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.rint((pixels[:, ::-1] - np.array([x0 + 0.5, y0 + 0.5])) * (1 << _FIXED_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_8, _FIXED_BITS)
        return Block(y0=y0, x0=x0, height_px=y1 - y0, width_px=x1 - x0), mask

    def _is_whole(self, pixels: PointArray) -> bool:
        """Tells whether each tile sees a building, given in scene pixels, in one piece or not at all.

        An L-shaped house cut by a border can fall into two pieces, which contours would count twice.
        """
        (low_y, low_x), (high_y, high_x) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        rows = [span for span in itertools.pairwise(self._cuts[0]) if low_y < span[1] + 1 and high_y > span[0] - 1]
        columns = [span for span in itertools.pairwise(self._cuts[1]) if low_x < span[1] + 1 and high_x > span[0] - 1]
        if not rows or not columns:
            return True
        top, bottom, left, right = rows[0][0], rows[-1][1], columns[0][0], columns[-1][1]
        is_inside = low_y > top + 1 and low_x > left + 1 and high_y < bottom - 1 and high_x < right - 1
        if len(rows) == len(columns) == 1 and is_inside:
            return True
        return all(
            _is_one_piece(pixels - np.array([y0, x0]), height_px=y1 - y0, width_px=x1 - x0)
            for y0, y1 in rows
            for x0, x1 in columns
        )


def _grow(mask: ByteArray, distance_px: int) -> ByteArray:
    """Returns a mask made wider on all sides."""
    return np.asarray(cv2.dilate(mask, np.ones((2 * distance_px + 1, 2 * distance_px + 1), np.uint8)), np.uint8)


def _list_cuts(size_px: int, tile_px: int | None) -> list[int]:
    """Returns where tiles begin, and the end of the scene."""
    return [*range(0, size_px, tile_px or size_px), size_px]


def _is_one_piece(pixels: PointArray, *, height_px: int, width_px: int) -> bool:
    """Tells whether a tile sees an outline in one piece that is large enough to be seen, or not at all.

    The same must hold where the dates are shifted against each other by a pixel or two, so the visible part may not
    be a sliver.
    """
    found = rasterize_polygon(pixels, height_px=height_px, width_px=width_px)
    if found is None:
        return True
    _, mask = found
    pieces, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return int(mask.sum()) >= MIN_VISIBLE_PX and int(pieces) == 2


def _bits(bits: tuple[int, int], is_at: Presence) -> int:
    """Returns the bits of the dates at which something stands."""
    return (bits[0] if is_at[0] else 0) | (bits[1] if is_at[1] else 0)
