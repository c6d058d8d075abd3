"""The rasters that a block of a scene is drawn on, before any light falls on it.

What stands there is drawn once; how it is seen follows from light and camera alone. So many tiles, each with its own
sun and season, can be cut from one drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.crowns import HEIGHT_UNIT_M
from model.training.synthesis.footprint import Presence
from model.training.synthesis.landscape import Landscape, Rgb
from model.training.synthesis.sheets import NEUTRAL, Sheets
from model.training.synthesis.texture import Block, ByteArray, PointArray

SUBPIXEL_BITS = 4
"""Binary digits after the point in the coordinates that OpenCV draws with."""

_FRINGE_RGB = (138, 130, 112)
"""Colour that half-covered edge pixels mix with before they are blended with the ground."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What drawing needs besides the block: the landscape, its textures and where they begin."""

    landscape: Landscape
    sheets: Sheets
    offsets_px: tuple[tuple[int, int], ...]
    """Row and column of the sheets at the scene's first pixel: for textures, and for each sheet of crowns."""
    coarse_lattice: NDArray[np.float32]
    """(N, N) unit normal values, `coarse_spacing_m` apart: the slow variation of the ground."""
    coarse_angle_rad: float
    """Rotation of that lattice against the scene."""

    @property
    def resolution_m(self) -> float:
        """Size of a pixel in metres."""
        return self.sheets.resolution_m


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a block shows at one date, before light; rasters are (H, W) and drawn into in place."""

    ground: NDArray[np.uint16]
    """Index into the table of `look_at_covers`."""
    texture: ByteArray
    """Factor of fine texture in 1/128."""
    paint: ByteArray
    """(H, W, 3) colours of everything built."""
    paint_share: ByteArray
    """Share of the pixel that paint covers, of 255."""
    plane: ByteArray
    """How the surface leans: an index into `Light.plane_table`."""
    height: ByteArray
    """Height of built things above ground in `HEIGHT_UNIT_M`."""
    crown: ByteArray
    """Height of tree crowns above ground in `HEIGHT_UNIT_M`."""
    tone: ByteArray
    """Tone of the tree on top."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """One block of a scene at its two dates."""

    block: Block
    resolution_m: float
    drawings: tuple[Drawing, Drawing]

    def at(self, is_at: Presence) -> list[Drawing]:
        """Returns the drawings of the dates at which something stands."""
        return [drawing for drawing, stands in zip(self.drawings, is_at, strict=True) if stands]

    def to_pixels(self, points_m: PointArray) -> NDArray[np.int32]:
        """Converts (N, 2) scene positions (y, x) in metres to OpenCV's fixed-point (x, y) within the block."""
        unit = 1 << SUBPIXEL_BITS
        shift = np.array([self.block.x0 + 0.5, self.block.y0 + 0.5])
        return np.asarray(np.rint((points_m[:, ::-1] / self.resolution_m - shift) * unit), np.int32)

    def fill(self, outline_m: PointArray, rgb: Rgb, is_at: Presence, *, height_m: float = 0.0) -> None:
        """Paints an outline in metres, with smooth edges, at the dates at which it is there."""
        pixels = [self.to_pixels(outline_m)]
        for drawing in self.at(is_at):
            cv2.fillPoly(drawing.paint, pixels, rgb, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.fillPoly(drawing.paint_share, pixels, (255,), cv2.LINE_AA, SUBPIXEL_BITS)
            if height_m > 0:
                cv2.fillPoly(drawing.height, pixels, to_height(height_m), cv2.LINE_8, SUBPIXEL_BITS)

    def draw_line(self, line_m: PointArray, rgb: Rgb, is_at: Presence, *, share: float, height_m: float = 0.0) -> None:
        """Paints a line one pixel wide along (N, 2) positions in metres; `share` is how far it hides the ground."""
        pixels = [self.to_pixels(line_m)]
        for drawing in self.at(is_at):
            cv2.polylines(drawing.paint, pixels, False, rgb, 1, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.polylines(drawing.paint_share, pixels, False, (round(255 * share),), 1, cv2.LINE_AA, SUBPIXEL_BITS)
            if height_m > 0:
                cv2.polylines(drawing.height, pixels, False, to_height(height_m), 2, cv2.LINE_8, SUBPIXEL_BITS)


def to_height(height_m: float) -> Any:
    """Returns metres as a value of the height rasters, the way OpenCV takes colours."""
    return (min(255, round(height_m / HEIGHT_UNIT_M)),)


def start_canvas(block: Block, *, resolution_m: float) -> Canvas:
    """Returns an empty canvas."""
    first, second = _start_drawing(block), _start_drawing(block)
    return Canvas(block=block, resolution_m=resolution_m, drawings=(first, second))


def _start_drawing(block: Block) -> Drawing:
    """Returns an empty drawing."""
    shape = (block.height_px, block.width_px)
    paint = np.asarray(cv2.merge([np.full(shape, level, np.uint8) for level in _FRINGE_RGB]), np.uint8)
    return Drawing(
        ground=np.zeros(shape, np.uint16),
        texture=np.full(shape, NEUTRAL, np.uint8),
        paint=paint,
        paint_share=np.zeros(shape, np.uint8),
        plane=np.zeros(shape, np.uint8),
        height=np.zeros(shape, np.uint8),
        crown=np.zeros(shape, np.uint8),
        tone=np.zeros(shape, np.uint8),
    )
