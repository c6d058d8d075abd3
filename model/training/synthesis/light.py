"""Sun, season and camera of one date."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from model.training.synthesis.crowns import EVERGREEN_TONE, HEIGHT_UNIT_M
from model.training.synthesis.roofs import PARAPET_PLANE, PLANE_DIRECTIONS, PLANE_SLOPES
from model.training.synthesis.texture import ByteArray, FloatArray

LONGEST_SHADOW_M: Final = 24.0

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
        """Returns for each byte of a plane (see `encode_plane`) its brightness relative to level ground."""
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
        """Returns the (256, 1, 3) colour of crowns by their tone."""
        tone = np.arange(256, dtype=np.float32)
        leaf = np.where(tone > EVERGREEN_TONE, 0.85, self.greenness)[:, None]
        bare, leafy = np.array(_BARE_RGB, np.float32), np.array(_LEAFY_RGB, np.float32)
        colours = (bare + (leafy - bare) * leaf) * (0.72 + tone * 0.0014)[:, None]
        return np.asarray(np.rint(colours).astype(np.uint8)[:, None, :])

    def density_table(self) -> ByteArray:
        """Returns the (256,) share of the ground that a crown hides by its tone, of 255."""
        tone = np.arange(256)
        leaf = np.where(tone > EVERGREEN_TONE, 0.85, self.greenness)
        return np.rint(255 * (0.62 + 0.38 * np.minimum(leaf * 2.0, 1.0))).astype(np.uint8)

    def curve_table(self) -> ByteArray:
        """Returns the (256, 1, 3) tone curves of the camera."""
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
    """Draws the conditions of one date, between 9 and 15 o'clock somewhere north of the tropics.

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


def cast_shadows(heights: ByteArray, light: Light, *, resolution_m: float) -> ByteArray:
    """Finds what lies in shadow.

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
    reach_px = min(LONGEST_SHADOW_M / resolution_m, float(cv2.minMaxLoc(heights)[1]) / drop)
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
    """Returns heights made less by `drop`, not below zero."""
    level = np.uint8(min(drop, 255))
    return np.maximum(heights, level) - level


def slope_kernel(light: Light, *, resolution_m: float) -> FloatArray:
    """Returns the (3, 3) kernel that turns crown heights into how far they face the sun."""
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
    y, x = light.towards_sun_yx
    strength = 0.58 / math.tan(light.sun_elevation_rad) * 0.125 / resolution_m * HEIGHT_UNIT_M
    return -(sobel * np.float32(x) + sobel.T * np.float32(y)) * np.float32(strength)
