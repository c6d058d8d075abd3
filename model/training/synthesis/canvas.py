"""The rasters one block of a scene is drawn on, and what all drawing needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.landscape import Landscape, Rgb
from model.training.synthesis.light import Light
from model.training.synthesis.texture import Block, FloatArray, NoiseField, PointArray

SUBPIXEL_BITS = 4
"""Binary digits after the point in the coordinates that OpenCV draws with."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What drawing needs besides the block: the landscape, its date, light and textures."""

    landscape: Landscape
    date_index: int
    """0 for before, 1 for after."""
    light: Light
    noise: NoiseField
    crowns: tuple[tuple[FloatArray, ...], ...]
    """Crown shapes by radius and variant."""
    resolution_m: float


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The rasters of one block, drawn into in place.

    Heights reach further than colours: what stands outside the colours still throws its shadow into them.
    """

    block: Block
    """Where the colour rasters lie in the scene."""
    wide_block: Block
    """Where the rasters of heights lie; it holds `block`."""
    resolution_m: float
    rgb: NDArray[np.uint8]
    """(H, W, 3) colours without light."""
    texture: FloatArray
    """(H, W) factor of fine texture."""
    relief: FloatArray
    """(H, W) brightness of slopes relative to level ground."""
    heights: FloatArray
    """(wide H, wide W) metres above ground."""

    def to_pixels(self, points_m: PointArray, block: Block) -> NDArray[np.int32]:
        """Converts (N, 2) scene positions (y, x) in metres to OpenCV's fixed-point (x, y) within a block."""
        pixels = points_m / self.resolution_m - np.array([block.y0, block.x0]) - 0.5
        return np.asarray(np.round(pixels[:, ::-1] * (1 << SUBPIXEL_BITS)), dtype=np.int32)

    def fill(self, image: NDArray[np.uint8], outline_m: PointArray, value: Rgb | int) -> None:
        """Fills an outline in metres on a raster of colours or shares, with smooth edges."""
        colour: Any = value
        cv2.fillPoly(image, [self.to_pixels(outline_m, self.block)], colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def raise_to(self, outline_m: PointArray, height_m: float) -> None:
        """Gives everything inside an outline in metres one height."""
        pixels = self.to_pixels(outline_m, self.wide_block)
        cv2.fillPoly(self.heights, [pixels], height_m, cv2.LINE_8, SUBPIXEL_BITS)

    def crop_wide(self, raster: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Returns the part of a raster of the wide block that lies under the colours."""
        top, left = self.block.y0 - self.wide_block.y0, self.block.x0 - self.wide_block.x0
        return raster[top : top + self.block.height_px, left : left + self.block.width_px]


def start_canvas(block: Block, wide_block: Block, *, resolution_m: float) -> Canvas:
    """Returns an empty canvas."""
    shape = (block.height_px, block.width_px)
    return Canvas(
        block=block,
        wide_block=wide_block,
        resolution_m=resolution_m,
        rgb=np.zeros((*shape, 3), np.uint8),
        texture=np.ones(shape, np.float32),
        relief=np.ones(shape, np.float32),
        heights=np.zeros((wide_block.height_px, wide_block.width_px), np.float32),
    )
