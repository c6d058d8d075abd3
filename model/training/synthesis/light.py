"""Sun, season and camera of one date, and what they do to colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.texture import FloatArray

LONGEST_SHADOW_M = 24.0


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
    noise_level: float
    """Standard deviation of the sensor's noise in grey levels."""
    jpeg_quality: int


def draw_light(rng: np.random.Generator) -> Light:
    """Draws the conditions of one date, between 9 and 15 o'clock somewhere north of the tropics."""
    azimuth = math.radians(float(rng.uniform(115.0, 245.0)))
    gain = float(rng.uniform(0.72, 1.12))
    red, green, blue = (gain * (1.0 + cast) for cast in rng.normal(0.0, 0.025, 3).tolist())
    return Light(
        towards_sun_yx=(-math.cos(azimuth), math.sin(azimuth)),
        sun_elevation_rad=math.radians(float(rng.uniform(34.0, 62.0))),
        greenness=float(rng.beta(0.9, 1.1)),
        ambient=float(rng.uniform(0.34, 0.52)),
        gain_rgb=(red, green, blue),
        contrast=float(rng.uniform(0.95, 1.25)),
        haze=float(rng.uniform(-4.0, 8.0)),
        blur_px=float(rng.uniform(0.36, 0.6)),
        noise_level=float(rng.uniform(1.0, 2.6)),
        jpeg_quality=int(rng.integers(86, 96)),
    )


def cast_shadows(heights: FloatArray, light: Light, *, resolution_m: float) -> FloatArray:
    """Finds what lies in shadow.

    A point is in shadow when some point towards the sun rises above the ray. Looking 1, 2, 4, ... pixels
    further each time covers all distances in a few steps instead of one step per pixel.

    Args:
        heights: (H, W) metres above the ground.
        light: The date's sun.
        resolution_m: Size of a pixel in metres.

    Returns:
        (H, W) share of direct light lost, 0 (sunlit) to 1.
    """
    drop_m = math.tan(light.sun_elevation_rad) * resolution_m
    blockers = heights - np.float32(0.15)
    steps = math.ceil(math.log2(LONGEST_SHADOW_M / resolution_m))
    height_px, width_px = heights.shape
    for step in range(steps):
        distance_px = 2.0**step if step else 1.0
        dy, dx = light.towards_sun_yx[0] * distance_px, light.towards_sun_yx[1] * distance_px
        matrix = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])
        shifted = cv2.warpAffine(
            blockers,
            matrix,
            (width_px, height_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=-1e3,
        )
        blockers = np.maximum(blockers, np.asarray(shifted, np.float32) - np.float32(distance_px * drop_m))
    return np.asarray(np.clip((blockers - heights) * np.float32(1.6), 0.0, 1.0), np.float32)


def shade_slopes(heights: FloatArray, light: Light, *, resolution_m: float) -> FloatArray:
    """Returns the (H, W) brightness of rough slopes (tree crowns) relative to level ground."""
    smooth = cv2.GaussianBlur(heights, (0, 0), 0.7)
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125 / resolution_m)
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125 / resolution_m)
    facing = -(slope_y * np.float32(light.towards_sun_yx[0]) + slope_x * np.float32(light.towards_sun_yx[1]))
    cotangent = np.float32(0.42 / math.tan(light.sun_elevation_rad))
    return np.asarray(np.clip(1.0 + facing * cotangent, 0.55, 1.5), np.float32)


def shade_plane(outward_yx: tuple[float, float], slope: float, light: Light) -> float:
    """Returns the brightness of a roof plane that falls towards `outward_yx`, relative to level ground."""
    facing = outward_yx[0] * light.towards_sun_yx[0] + outward_yx[1] * light.towards_sun_yx[1]
    direct = (slope * facing / math.tan(light.sun_elevation_rad) + 1.0) / math.hypot(slope, 1.0)
    return light.ambient + (1.0 - light.ambient) * max(0.05, direct)


def develop(linear_rgb: FloatArray, light: Light, grain: FloatArray) -> FloatArray:
    """Applies lens blur, noise, exposure, contrast and colour cast to an (H, W, 3) image; returns 0..255."""
    image = np.asarray(cv2.GaussianBlur(linear_rgb, (0, 0), light.blur_px), np.float32)
    gain = np.array(light.gain_rgb, np.float32) * np.float32(light.contrast)
    offset = np.float32(light.haze + 105.0 * (1.0 - light.contrast))
    image = image * gain + offset + grain[:, :, None] * np.float32(light.noise_level)
    return np.clip(image, 0.0, 255.0)


def compress(image: NDArray[np.uint8], light: Light) -> NDArray[np.uint8]:
    """Returns an (H, W, 3) RGB image after a JPEG round trip, as most aerial imagery has had one."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, light.jpeg_quality]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), flags)
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[:, :, ::-1])
