"""Lets light fall on a drawing and takes the picture: shadows, season, lens, sensor, compression."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.canvas import Canvas, Drawing, Stage
from model.training.synthesis.crowns import HEIGHT_UNIT_M
from model.training.synthesis.ground import look_at_covers
from model.training.synthesis.light import LONGEST_SHADOW_M, Light, cast_shadows, slope_kernel
from model.training.synthesis.sheets import NEUTRAL
from model.training.synthesis.texture import Block, ByteArray, FloatArray, crop_periodic

_LENS_HALO_PX = 8
"""Pixels around a picture that blur and shift take their values from."""


def halo_px(resolution_m: float) -> int:
    """Returns how far around a picture things must be drawn: their shadows fall into it."""
    return max(_LENS_HALO_PX, math.ceil(LONGEST_SHADOW_M / resolution_m))


def expose(
    stage: Stage,
    canvas: Canvas,
    block: Block,
    *,
    date_index: int,
    light: Light,
    shift_px: tuple[float, float] = (0.0, 0.0),
    noise_offset_px: tuple[int, int] = (0, 0),
) -> NDArray[np.uint8]:
    """Takes the picture of a block at one date.

    Args:
        stage: The landscape and its textures.
        canvas: A drawing that reaches `halo_px` beyond the block.
        block: What the picture shows.
        date_index: 0 for before, 1 for after.
        light: Sun, season and camera.
        shift_px: How far down and right things appear from where they stand.
        noise_offset_px: Where in its sheet the sensor's noise begins.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    drawing = canvas.drawings[date_index]
    near = block.grow(_LENS_HALO_PX)
    table = look_at_covers(stage.landscape.covers, date_index=date_index, greenness=light.greenness)
    rgb, crown_share = _colour(drawing, near, canvas.block, table, light)
    lit = _illuminate(drawing, near, canvas, light, crown_share)
    seen = cv2.multiply(rgb, lit, dtype=cv2.CV_32F)
    focused = _focus(np.asarray(seen, np.float32), light, shift_px)
    inner = slice(_LENS_HALO_PX, -_LENS_HALO_PX)
    noise = crop_periodic(stage.sheets.noise, block, offset_px=noise_offset_px) * np.float32(light.noise_level)
    raw = cv2.add(np.ascontiguousarray(focused[inner, inner]), cv2.merge([noise, noise, noise]))
    image = cv2.LUT(np.rint(raw).clip(0, 255).astype(np.uint8), light.curve_table())
    return _compress(np.asarray(image, np.uint8), light)


def _colour(
    drawing: Drawing, near: Block, of: Block, table: NDArray[np.uint32], light: Light
) -> tuple[ByteArray, FloatArray]:
    """Returns the (H, W, 3) colours without light and the share of each pixel under crowns."""
    ground = np.take(table, near.cut(drawing.ground, of=of)).view(np.uint8)
    rgb = cv2.cvtColor(ground.reshape(near.height_px, near.width_px, 4), cv2.COLOR_BGRA2BGR)
    share = _share(near.cut(drawing.paint_share, of=of))
    if share.any():
        paint = np.ascontiguousarray(near.cut(drawing.paint, of=of))
        rgb = cv2.blendLinear(paint, rgb, share, 1.0 - share)
    crown = np.ascontiguousarray(near.cut(drawing.crown, of=of))
    tone = np.ascontiguousarray(near.cut(drawing.tone, of=of))
    solid = cv2.LUT(crown, np.clip(np.arange(256) * 0.9 * HEIGHT_UNIT_M * 255, 0, 255).astype(np.uint8))
    crown_share = _share(cv2.multiply(solid, cv2.LUT(tone, light.density_table()), scale=1 / 255))
    if crown_share.any():
        leaves = cv2.applyColorMap(tone, light.leaf_table())
        rgb = cv2.blendLinear(leaves, rgb, crown_share, 1.0 - crown_share)
    return np.asarray(rgb, np.uint8), crown_share


def _share(values: NDArray[Any]) -> FloatArray:
    """Returns bytes of 255 as shares of one."""
    return np.asarray(np.multiply(values, np.float32(1 / 255), dtype=np.float32))


def _illuminate(drawing: Drawing, near: Block, canvas: Canvas, light: Light, crown_share: FloatArray) -> FloatArray:
    """Returns the (H, W, 3) light that falls on each pixel, 1 for level sunlit ground."""
    reach = halo_px(canvas.resolution_m) - _LENS_HALO_PX
    wide = near.grow(reach)
    heights = np.maximum(wide.cut(drawing.height, of=canvas.block), wide.cut(drawing.crown, of=canvas.block))
    shadow = near.cut(cast_shadows(heights, light, resolution_m=canvas.resolution_m), of=wide)
    lost = _share(shadow)
    texture = np.multiply(near.cut(drawing.texture, of=canvas.block), np.float32(1 / NEUTRAL), dtype=np.float32)
    planes = cv2.LUT(np.ascontiguousarray(near.cut(drawing.plane, of=canvas.block)), light.plane_table())
    crown = np.ascontiguousarray(near.cut(drawing.crown, of=canvas.block))
    slopes = cv2.filter2D(crown, cv2.CV_32F, slope_kernel(light, resolution_m=canvas.resolution_m), delta=1.0)
    slopes = np.clip(slopes, 0.42, 1.6, out=slopes)
    dark = np.float32(1.0 - light.ambient)
    lit = planes * (1.0 - lost * dark) * (1.0 - crown_share)
    lit += slopes * (1.0 - lost * (dark * np.float32(0.85))) * crown_share
    lit *= texture
    # Shadows are lit by the blue sky.
    return np.asarray(cv2.merge([lit, lit, lit + lost * np.float32(0.04)]), np.float32)


def _focus(seen: FloatArray, light: Light, shift_px: tuple[float, float]) -> FloatArray:
    """Applies misregistration, lens blur and sharpening."""
    if shift_px != (0.0, 0.0):
        matrix = np.array([[1.0, 0.0, shift_px[1]], [0.0, 1.0, shift_px[0]]])
        size = (seen.shape[1], seen.shape[0])
        seen = np.asarray(cv2.warpAffine(seen, matrix, size, flags=cv2.INTER_CUBIC), np.float32)
    blurred = cv2.GaussianBlur(seen, (5, 5) if light.blur_px < 0.75 else (7, 7), light.blur_px)
    if light.sharpening > 0:
        wide = cv2.GaussianBlur(blurred, (7, 7), 1.1)
        blurred = cv2.addWeighted(blurred, 1.0 + light.sharpening, wide, -light.sharpening, 0.0)
    return np.asarray(blurred, np.float32)


def _compress(image: ByteArray, light: Light) -> NDArray[np.uint8]:
    """Returns an (H, W, 3) image after a JPEG round trip, as most aerial imagery has had one."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, light.jpeg_quality]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
