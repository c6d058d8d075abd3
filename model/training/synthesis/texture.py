"""Places on a scene's raster, exact polygon rasters, and the fields that the textures are made of."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
MaskArray = NDArray[np.bool_]
PointArray = NDArray[np.float64]

_Scalar = TypeVar("_Scalar", bound=np.generic)


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

    def grow(self, distance_px: int) -> Block:
        """Returns the block made wider by the same distance on all four sides."""
        return Block(
            y0=self.y0 - distance_px,
            x0=self.x0 - distance_px,
            height_px=self.height_px + 2 * distance_px,
            width_px=self.width_px + 2 * distance_px,
        )

    def cut(self, raster: NDArray[_Scalar], *, of: Block) -> NDArray[_Scalar]:
        """Returns the view of this block in a raster of the block `of`, which holds it."""
        top, left = self.y0 - of.y0, self.x0 - of.x0
        return raster[top : top + self.height_px, left : left + self.width_px]

    def pixel_centres(self) -> tuple[FloatArray, FloatArray]:
        """Returns broadcastable (height, 1) rows and (1, width) columns of the pixel centres, in pixels."""
        rows = np.arange(self.y0, self.y0 + self.height_px, dtype=np.float32) + np.float32(0.5)
        columns = np.arange(self.x0, self.x0 + self.width_px, dtype=np.float32) + np.float32(0.5)
        return rows[:, None], columns[None, :]


def crop_periodic(sheet: NDArray[_Scalar], block: Block, *, offset_px: tuple[int, int]) -> NDArray[_Scalar]:
    """Returns what a sheet that repeats for ever shows in a block.

    Args:
        sheet: (S, S) or (S, S, channels).
        block: Which part, in scene pixels.
        offset_px: Row and column of the sheet that lie at the scene's first pixel.
    """
    size = sheet.shape[0]
    top, left = (block.y0 + offset_px[0]) % size, (block.x0 + offset_px[1]) % size
    if top + block.height_px <= size and left + block.width_px <= size:
        return sheet[top : top + block.height_px, left : left + block.width_px]
    out = np.empty((block.height_px, block.width_px, *sheet.shape[2:]), sheet.dtype)
    for (y, rows), (x, columns) in itertools.product(
        _spans(top, block.height_px, size), _spans(left, block.width_px, size)
    ):
        part = sheet[rows, columns]
        out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out


def _spans(start: int, length: int, size: int) -> list[tuple[int, slice]]:
    """Returns where each repetition begins in the output, and which part of the sheet it takes."""
    spans = []
    done = 0
    while done < length:
        first = (start + done) % size
        count = min(size - first, length - done)
        spans.append((done, slice(first, first + count)))
        done += count
    return spans


def make_periodic_field(rng: np.random.Generator, *, size_px: int, nodes: int) -> FloatArray:
    """Draws a smooth (size, size) field of about unit variance that repeats without a seam.

    Args:
        rng: Source of the values.
        size_px: Period in pixels.
        nodes: Random values along one side.
    """
    if nodes >= size_px:
        return rng.standard_normal((size_px, size_px), dtype=np.float32)
    lattice = np.pad(rng.standard_normal((nodes, nodes), dtype=np.float32), 3, mode="wrap")
    scale = nodes / size_px
    # Pixel centres of the output in units of nodes, within the lattice that was made wider by three nodes.
    matrix = np.array([[scale, 0.0, 3.0 + 0.5 * scale - 0.5], [0.0, scale, 3.0 + 0.5 * scale - 0.5]])
    field = cv2.warpAffine(lattice, matrix, (size_px, size_px), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(field, np.float32) * np.float32(1.35)


def offset_polyline(centreline: PointArray, half_widths: float | NDArray[np.float64]) -> PointArray:
    """Returns the outline of a strip around a line.

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


def rasterize_polygon(polygon: PointArray, *, height_px: int, width_px: int) -> tuple[Block, MaskArray] | None:
    """Finds the pixels whose centre lies inside a polygon (even-odd rule).

    OpenCV's `fillPoly` also takes every pixel that the boundary touches, which swells a house by half a pixel
    on each side; a truth mask may not.

    Args:
        polygon: (N, 2) vertices (y, x) in pixels; pixel (0, 0) covers 0..1.
        height_px: Rows of the raster the polygon is clipped to.
        width_px: Columns of that raster.

    Returns:
        The polygon's block within the raster and its (height, width) mask, or None where it has no pixel.
    """
    (low_y, low_x), (high_y, high_x) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
    y0, y1 = max(0, math.floor(low_y)), min(height_px, math.ceil(high_y))
    x0, x1 = max(0, math.floor(low_x)), min(width_px, math.ceil(high_x))
    if y1 <= y0 or x1 <= x0:
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
    if not mask.any():
        return None
    return Block(y0=y0, x0=x0, height_px=y1 - y0, width_px=x1 - x0), mask
