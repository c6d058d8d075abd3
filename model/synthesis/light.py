"""Sun, season and camera of one date, and the pictures they take of a drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.synthesis.canvas import PARAPET_PLANE, PLANE_DIRECTIONS, PLANE_SLOPES, Canvas, Drawing
from model.synthesis.drawing import Stage
from model.synthesis.geometry import Block, ByteArray, FloatArray
from model.synthesis.ground import look_at_covers
from model.synthesis.textures import EVERGREEN_TONE, HEIGHT_UNIT_M, NEUTRAL, crop_periodic

_LONGEST_SHADOW_M: Final = 24.0

_LENS_HALO_PX = 8
"""Pixels around a picture that blur and shift take their values from; fewer than the longest shadow has."""

_SHOULDER = 165.0
_TOE = 18.0
_BARE_RGB = (118, 109, 98)
_LEAFY_RGB = (64, 71, 52)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Conditions of one acquisition."""

    towards_sun_yx: tuple[float, float]
    """Horizontal unit vector towards the sun; y points south."""
    sun_elevation_rad: float
    greenness: float
    """Season of natural vegetation, 0 (dry, trees bare) to 1 (lush)."""
    ambient: float
    """Share of light that reaches a shadow."""
    gain_rgb: tuple[float, float, float]
    """Exposure and colour cast."""
    contrast: float
    """Factor on the distance from middle grey."""
    haze: float
    """Grey levels added everywhere."""
    blur_px: float
    """Standard deviation of the camera's blur."""
    sharpening: float
    """How strongly the image was sharpened afterwards, 0 for not at all."""
    noise_level: float
    """Standard deviation of the sensor's noise in grey levels."""
    jpeg_quality: int

    def plane_table(self) -> FloatArray:
        """Return for each byte of a plane (see `PLANE_DIRECTIONS`) its brightness relative to level ground."""
        turns = np.arange(PLANE_DIRECTIONS) * (math.tau / PLANE_DIRECTIONS)
        facing = np.sin(turns) * self.towards_sun_yx[0] + np.cos(turns) * self.towards_sun_yx[1]
        slopes = np.array(PLANE_SLOPES)[:, None]
        direct = (slopes * facing / math.tan(self.sun_elevation_rad) + 1.0) / np.hypot(slopes, 1.0)
        table = np.ones(256, np.float32)
        shades = self.ambient + (1.0 - self.ambient) * np.maximum(0.05, direct)
        table[1 : 1 + shades.size] = shades.ravel()
        table[PARAPET_PLANE] = 1.12
        return table

    def leaf_table(self) -> ByteArray:
        """Return the (256, 1, 3) colour of crowns by their tone."""
        bare, leafy = np.array(_BARE_RGB, np.float32), np.array(_LEAFY_RGB, np.float32)
        tone = np.arange(256, dtype=np.float32)
        colours = (bare + (leafy - bare) * self._list_leaves()[:, None]) * (0.72 + tone * 0.0014)[:, None]
        return np.asarray(np.rint(colours).astype(np.uint8)[:, None, :])

    def density_table(self) -> ByteArray:
        """Return the (256,) share of the ground that a crown hides by its tone, of 255."""
        return np.rint(255 * (0.62 + 0.38 * np.minimum(self._list_leaves() * 2.0, 1.0))).astype(np.uint8)

    def _list_leaves(self) -> NDArray[np.float64]:
        """Return the (256,) share of its leaves that a tree of each tone has."""
        return np.where(np.arange(256) > EVERGREEN_TONE, 0.85, self.greenness)

    def curve_table(self) -> ByteArray:
        """Return the (256, 1, 3) tone curves of the camera."""
        levels = np.arange(256, dtype=np.float32)[:, None]
        gain = np.array(self.gain_rgb, np.float32) * np.float32(self.contrast)
        curve = levels * gain + np.float32(self.haze + 105.0 * (1.0 - self.contrast))
        # Film and sensors alike press the brightest and darkest parts together instead of cutting them off.
        bright, dark = np.maximum(curve - _SHOULDER, 0.0), np.maximum(_TOE - curve, 0.0)
        curve = np.clip(curve, _TOE, _SHOULDER)
        curve += (255.0 - _SHOULDER) * (1.0 - np.exp(-bright / (255.0 - _SHOULDER)))
        curve -= _TOE * (1.0 - np.exp(-dark / _TOE))
        return np.asarray(np.rint(curve).astype(np.uint8)[:, None, :], np.uint8)


def draw_light(rng: np.random.Generator, *, date_index: int) -> Light:
    """Draw the conditions of one date, between 9 and 15 o'clock somewhere north of the tropics.

    Pictures of the first date (0) are hard and bright more often than those of the second one (1), as in LEVIR-CD.
    """
    azimuth = math.radians(float(rng.uniform(110.0, 250.0)))
    camera = _CAMERAS[int(np.searchsorted(np.cumsum(_CAMERA_SHARES[date_index]), rng.random(), side="right"))]
    gain = float(rng.uniform(*camera.gain))
    red, green, blue = (gain * (1.0 + cast) for cast in rng.normal(0.0, 0.022, 3).tolist())
    return Light(
        towards_sun_yx=(-math.cos(azimuth), math.sin(azimuth)),
        sun_elevation_rad=math.radians(float(rng.uniform(30.0, 64.0))),
        greenness=float(rng.beta(0.9, 1.1)),
        ambient=float(rng.uniform(*camera.ambient)),
        gain_rgb=(red, green, blue),
        contrast=float(rng.uniform(*camera.contrast)),
        haze=float(rng.uniform(*camera.haze)),
        blur_px=float(rng.uniform(*camera.blur_px)),
        sharpening=float(rng.uniform(*camera.sharpening)),
        noise_level=float(rng.uniform(0.6, 2.2)),
        jpeg_quality=int(rng.integers(80, 96)),
    )


@dataclass(frozen=True, kw_only=True)
class _Camera:
    """Ranges that the pictures of one sort of camera and its processing lie in."""

    gain: tuple[float, float]
    ambient: tuple[float, float]
    contrast: tuple[float, float]
    haze: tuple[float, float]
    blur_px: tuple[float, float]
    sharpening: tuple[float, float]


_CAMERAS = (
    # Bright and hard, sharpened until edges ring.
    _Camera(
        gain=(0.95, 1.25),
        ambient=(0.22, 0.40),
        contrast=(1.15, 1.6),
        haze=(-14.0, 4.0),
        blur_px=(0.55, 0.9),
        sharpening=(0.4, 1.3),
    ),
    # Dark and soft.
    _Camera(
        gain=(0.62, 0.92),
        ambient=(0.30, 0.45),
        contrast=(0.85, 1.15),
        haze=(-8.0, 8.0),
        blur_px=(0.5, 0.8),
        sharpening=(0.0, 0.6),
    ),
    # Even, a little hazy, not too sharp.
    _Camera(
        gain=(0.8, 1.1),
        ambient=(0.36, 0.52),
        contrast=(0.75, 1.1),
        haze=(0.0, 18.0),
        blur_px=(0.6, 1.1),
        sharpening=(0.0, 0.5),
    ),
)

_CAMERA_SHARES = ((0.5, 0.2, 0.3), (0.2, 0.5, 0.3))
"""How often each camera takes the pictures of the first date, and of the second."""


def _cast_shadows(heights: ByteArray, light: Light, *, resolution_m: float) -> ByteArray:
    """Find what lies in shadow.

    A point is in shadow when some point towards the sun rises above the ray. Looking 1, 2, 4, ... pixels
    further each time covers all distances in a few steps instead of one step per pixel.

    Args:
        heights: (H, W) above the ground in `HEIGHT_UNIT_M`.
        light: The date's sun.
        resolution_m: Size of a pixel in metres.

    Returns:
        (H, W) share of direct light lost, 0 (sunlit) to 255.
    """
    drop = math.tan(light.sun_elevation_rad) * resolution_m / HEIGHT_UNIT_M
    blockers = _lower(heights, 1)
    # The tallest thing decides how far shadows reach.
    reach_px = min(_LONGEST_SHADOW_M / resolution_m, float(cv2.minMaxLoc(heights)[1]) / drop)
    steps = math.ceil(math.log2(reach_px + 1)) if reach_px > 0 else 0
    height_px, width_px = heights.shape
    for step in range(steps):
        distance_px = 2.0**step
        dy, dx = light.towards_sun_yx[0] * distance_px, light.towards_sun_yx[1] * distance_px
        shifted = cv2.warpAffine(
            blockers,
            np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]),
            (width_px, height_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        blockers = np.maximum(blockers, _lower(np.asarray(shifted, np.uint8), round(distance_px * drop)))
    lost = cv2.subtract(blockers, heights)
    return np.asarray(cv2.convertScaleAbs(lost, None, 255 * HEIGHT_UNIT_M * 1.6), np.uint8)


def _lower(heights: ByteArray, drop: int) -> ByteArray:
    level = np.uint8(min(drop, 255))
    return np.maximum(heights, level) - level


def _slope_kernel(light: Light, *, resolution_m: float) -> FloatArray:
    """Return the (3, 3) kernel that turns crown heights into how far they face the sun."""
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
    y, x = light.towards_sun_yx
    strength = 0.58 / math.tan(light.sun_elevation_rad) * 0.125 / resolution_m * HEIGHT_UNIT_M
    return -(sobel * np.float32(x) + sobel.T * np.float32(y)) * np.float32(strength)


def halo_px(resolution_m: float) -> int:
    """Return how far around a picture things must be drawn: their shadows fall into it."""
    return math.ceil(_LONGEST_SHADOW_M / resolution_m)


def expose(
    stage: Stage,
    canvas: Canvas,
    block: Block,
    *,
    date_index: int,
    light: Light,
    shift_px: tuple[float, float] = (0.0, 0.0),
    noise_offset_px: tuple[int, int],
) -> NDArray[np.uint8]:
    """Take the picture of a block at one date.

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
    """Return the (H, W, 3) colours without light and the share of each pixel under crowns."""
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
    return np.asarray(np.multiply(values, np.float32(1 / 255), dtype=np.float32))


def _illuminate(drawing: Drawing, near: Block, canvas: Canvas, light: Light, crown_share: FloatArray) -> FloatArray:
    """Return the (H, W, 3) light that falls on each pixel, 1 for level sunlit ground."""
    reach = halo_px(canvas.resolution_m) - _LENS_HALO_PX
    wide = near.grow(reach)
    heights = np.maximum(wide.cut(drawing.height, of=canvas.block), wide.cut(drawing.crown, of=canvas.block))
    shadow = near.cut(_cast_shadows(heights, light, resolution_m=canvas.resolution_m), of=wide)
    lost = _share(shadow)
    texture = np.multiply(near.cut(drawing.texture, of=canvas.block), np.float32(1 / NEUTRAL), dtype=np.float32)
    planes = cv2.LUT(np.ascontiguousarray(near.cut(drawing.plane, of=canvas.block)), light.plane_table())
    crown = np.ascontiguousarray(near.cut(drawing.crown, of=canvas.block))
    slopes = cv2.filter2D(crown, cv2.CV_32F, _slope_kernel(light, resolution_m=canvas.resolution_m), delta=1.0)
    slopes = np.clip(slopes, 0.42, 1.6, out=slopes)
    dark = np.float32(1.0 - light.ambient)
    lit = planes * (1.0 - lost * dark) * (1.0 - crown_share)
    lit += slopes * (1.0 - lost * (dark * np.float32(0.85))) * crown_share
    lit *= texture
    # Shadows are lit by the blue sky.
    return np.asarray(cv2.merge([lit, lit, lit + lost * np.float32(0.04)]), np.float32)


def _focus(seen: FloatArray, light: Light, shift_px: tuple[float, float]) -> FloatArray:
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
    """Return an (H, W, 3) image after a JPEG round trip, as most aerial imagery has had one."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, light.jpeg_quality]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
