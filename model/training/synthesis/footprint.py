"""Keeps planned things apart with a raster of what is taken: no two buildings touch in the change mask."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.landscape import Presence
from model.training.synthesis.texture import PointArray, rasterize_polygon

GAP_PX: Final = 2
"""Free pixels kept between any two buildings, so that external contours count them one by one."""

MIN_VISIBLE_PX: Final = 12
"""A building cut by the scene's border counts only when at least this much of it is seen."""

_ROAD_BITS: Final = (1, 2)
_BUILDING_BITS: Final = (4, 8)


class Footprints:
    """The taken ground of a scene and a margin around it, as bits per date in a raster of scene pixels."""

    def __init__(self, *, height_px: int, width_px: int, resolution_m: float, margin_m: float) -> None:
        """Starts with free ground.

        Args:
            height_px: Rows of the scene.
            width_px: Columns of the scene.
            resolution_m: Size of a pixel in metres.
            margin_m: Width of the belt outside the scene where things are planned too.
        """
        self.resolution_m = resolution_m
        self.margin_px = int(np.ceil(margin_m / resolution_m))
        self.scene_shape = (height_px, width_px)
        shape = (height_px + 2 * self.margin_px, width_px + 2 * self.margin_px)
        self._taken: NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)

    def is_near(self, outline: PointArray) -> bool:
        """Tells whether the bounding box of an outline in metres touches the scene or its margin."""
        pixels = outline / self.resolution_m
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        margin, (height, width) = self.margin_px, self.scene_shape
        return bool(high[0] > -margin and high[1] > -margin and low[0] < height + margin and low[1] < width + margin)

    def add_road(self, outline: PointArray, is_at: Presence) -> None:
        """Takes the ground of a road outline (metres)."""
        found = self._rasterize(outline)
        if found is not None:
            view, mask = found
            view[mask] |= _bits(_ROAD_BITS, is_at)

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
        low, high = np.floor(pixels.min(axis=0)).astype(int), np.ceil(pixels.max(axis=0)).astype(int)
        if (low < GAP_PX + 1).any() or high[0] > height - GAP_PX - 1 or high[1] > width - GAP_PX - 1:
            return False
        found = rasterize_polygon(pixels, height_px=height, width_px=width)
        if found is None:
            return False
        block, mask = found
        rows = slice(block.y0 - GAP_PX, block.y0 + block.height_px + GAP_PX)
        columns = slice(block.x0 - GAP_PX, block.x0 + block.width_px + GAP_PX)
        size = 2 * GAP_PX + 1
        grown = cv2.dilate(np.pad(mask, GAP_PX).astype(np.uint8), np.ones((size, size), dtype=np.uint8))
        is_taken = bool(np.any(self._taken[rows, columns][grown > 0]))
        if is_taken or not self._is_whole(block.y0, block.x0, mask):
            return False
        view = self._taken[block.y0 : block.y0 + block.height_px, block.x0 : block.x0 + block.width_px]
        view[mask] |= _bits(_BUILDING_BITS, is_at)
        return True

    def is_free(self, position_m: PointArray, *, date_index: int) -> NDArray[np.bool_]:
        """Tells for (N, 2) positions in metres whether no road or building stands there at a date."""
        pixels = np.floor(position_m / self.resolution_m).astype(np.int64) + self.margin_px
        pixels = np.clip(pixels, 0, np.array(self._taken.shape) - 1)
        bits = _ROAD_BITS[date_index] | _BUILDING_BITS[date_index]
        return np.asarray(self._taken[pixels[:, 0], pixels[:, 1]] & bits == 0)

    def contains(self, position_m: PointArray) -> NDArray[np.bool_]:
        """Tells for (N, 2) positions in metres whether they lie in the scene or its margin."""
        pixels = np.floor(position_m / self.resolution_m).astype(np.int64) + self.margin_px
        return np.asarray(((pixels >= 0) & (pixels < np.array(self._taken.shape))).all(axis=1))

    def _is_whole(self, y0: int, x0: int, mask: NDArray[np.bool_]) -> bool:
        """Tells whether a building is seen in one piece, or not at all.

        An L-shaped house cut by the border can fall into two pieces, which contours would count twice.
        """
        top, left = max(0, self.margin_px - y0), max(0, self.margin_px - x0)
        bottom = max(0, min(mask.shape[0], self.margin_px + self.scene_shape[0] - y0))
        right = max(0, min(mask.shape[1], self.margin_px + self.scene_shape[1] - x0))
        seen = mask[top:bottom, left:right]
        count = int(seen.sum())
        if count == 0:
            return True
        pieces, _ = cv2.connectedComponents(seen.astype(np.uint8), connectivity=8)
        return count >= MIN_VISIBLE_PX and int(pieces) == 2

    def _rasterize(self, outline: PointArray) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
        """Returns the view of the raster under an outline in metres and the outline's mask in that view."""
        height, width = self._taken.shape
        pixels = outline / self.resolution_m + self.margin_px
        found = rasterize_polygon(pixels, height_px=height, width_px=width)
        if found is None:
            return None
        block, mask = found
        rows = slice(block.y0, block.y0 + block.height_px)
        columns = slice(block.x0, block.x0 + block.width_px)
        return self._taken[rows, columns], mask


def _bits(bits: tuple[int, int], is_at: Presence) -> int:
    """Returns the bits of the dates at which something stands."""
    return (bits[0] if is_at[0] else 0) | (bits[1] if is_at[1] else 0)
