"""Random fields and exact polygon rasters that the synthetic scenes are made of.

Every field is a pure function of the position in the scene: a block of a large scene holds the same values
whichever block it is rendered in, so scenes can be rendered block by block without seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
MaskArray = NDArray[np.bool_]
PointArray = NDArray[np.float64]

FIELD_SPACINGS_M = (70.0, 18.0, 5.0, 1.4)
"""Distance between the nodes of the four smooth fields, from landscape to tussock."""

_LATTICE_SIZE = 192
_GRAIN_SIZE = 512


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

    def pixel_centres(self) -> tuple[FloatArray, FloatArray]:
        """Returns broadcastable (height, 1) rows and (1, width) columns of the pixel centres, in pixels."""
        rows = np.arange(self.y0, self.y0 + self.height_px, dtype=np.float32) + np.float32(0.5)
        columns = np.arange(self.x0, self.x0 + self.width_px, dtype=np.float32) + np.float32(0.5)
        return rows[:, None], columns[None, :]


@dataclass(frozen=True, kw_only=True)
class NoiseField:
    """Smooth random fields of four scales and a white grain, all periodic and addressed by scene position."""

    lattices: tuple[FloatArray, ...]
    """One (192, 192) lattice of unit normal values per entry of `FIELD_SPACINGS_M`."""
    angles_rad: tuple[float, ...]
    """Rotation of each lattice against the scene, so that no lattice direction shows."""
    grain: FloatArray
    """(512, 512) unit normal values, one per pixel."""
    resolution_m: float
    """Size of a scene pixel in metres."""

    def sample_smooth(self, scale: int, block: Block) -> FloatArray:
        """Returns a (height, width) field of about unit variance; `scale` indexes `FIELD_SPACINGS_M`."""
        step = self.resolution_m / FIELD_SPACINGS_M[scale]
        cosine, sine = math.cos(self.angles_rad[scale]) * step, math.sin(self.angles_rad[scale]) * step
        matrix = np.array(
            [
                [cosine, -sine, cosine * block.x0 - sine * block.y0],
                [sine, cosine, sine * block.x0 + cosine * block.y0],
            ]
        )
        # warpAffine loses its wrap-around far outside the lattice: bring the origin back into one period.
        matrix[:, 2] = np.mod(matrix[:, 2], _LATTICE_SIZE)
        field = cv2.warpAffine(
            self.lattices[scale],
            matrix,
            (block.width_px, block.height_px),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        return np.asarray(field, dtype=np.float32) * np.float32(1.3)

    def sample_grain(self, block: Block, *, shift_px: int = 0) -> FloatArray:
        """Returns (height, width) white noise of unit variance; another shift gives unrelated noise."""
        rows = (np.arange(block.y0, block.y0 + block.height_px) + shift_px) % _GRAIN_SIZE
        columns = (np.arange(block.x0, block.x0 + block.width_px) + 3 * shift_px) % _GRAIN_SIZE
        return self.grain[np.ix_(rows, columns)]


def make_noise_field(rng: np.random.Generator, *, resolution_m: float) -> NoiseField:
    """Draws the lattices of a noise field."""
    shape = (_LATTICE_SIZE, _LATTICE_SIZE)
    return NoiseField(
        lattices=tuple(rng.standard_normal(shape, dtype=np.float32) for _ in FIELD_SPACINGS_M),
        angles_rad=tuple(float(angle) for angle in rng.uniform(0.0, math.tau, len(FIELD_SPACINGS_M))),
        grain=rng.standard_normal((_GRAIN_SIZE, _GRAIN_SIZE), dtype=np.float32),
        resolution_m=resolution_m,
    )


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
    y0, y1 = max(0, math.floor(polygon[:, 0].min())), min(height_px, math.ceil(polygon[:, 0].max()))
    x0, x1 = max(0, math.floor(polygon[:, 1].min())), min(width_px, math.ceil(polygon[:, 1].max()))
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
