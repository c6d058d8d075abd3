"""What other sensors, weather and compression do to an image, drawn at random."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

Image = npt.NDArray[np.uint8]

EACH_FRACTION = 0.4
"""How often each of the effects is there, in an image that is degraded at all."""
MAX_COARSENING = 4.0
"""Greatest pixel size, in pixels of the image: 0.5 m become 2 m."""
MAX_BLUR_PX = 1.5
MAX_HAZE = 0.45
MAX_NOISE = 10.0
"""Standard deviation in grey values."""
MIN_JPEG_QUALITY = 25


def coarsen(image: Image, random: np.random.Generator) -> Image:
    """Show an image as a sensor of larger pixels would, at the same size."""
    height, width = image.shape[:2]
    factor = float(np.exp(random.uniform(0, np.log(MAX_COARSENING))))
    small = cv2.resize(
        image, (max(8, round(width / factor)), max(8, round(height / factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def blur(image: Image, random: np.random.Generator) -> Image:
    """Put an image out of focus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, MAX_BLUR_PX)), np.uint8)


def veil(image: Image, random: np.random.Generator) -> Image:
    """Lay haze over an image: less contrast, and towards a bright bluish grey."""
    depth = random.uniform(0, MAX_HAZE)
    air = np.array([200.0, 208.0, 218.0]) + random.uniform(-20, 20)
    return np.clip(image * (1 - depth) + air * depth, 0, 255).astype(np.uint8)


def bend_histogram(image: Image, random: np.random.Generator) -> Image:
    """Give an image the contrast and the saturation of another sensor's product."""
    contrast, saturation = random.uniform(0.55, 1.6), random.uniform(0.3, 1.5)
    pixels = image.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    middle = float(pixels.mean())
    bent = (grey + (pixels - grey) * saturation - middle) * contrast + middle
    return np.asarray(np.clip(bent, 0, 255), np.uint8)


def add_noise(image: Image, random: np.random.Generator) -> Image:
    """Add noise that is alike in all bands, as that of a panchromatic one is, and some that is not."""
    strength = random.uniform(0, MAX_NOISE)
    grey = random.standard_normal((*image.shape[:2], 1), np.float32)
    coloured = random.standard_normal(image.shape, np.float32)
    return np.clip(image + strength * (0.8 * grey + 0.4 * coloured), 0, 255).astype(np.uint8)


def compress(image: Image, random: np.random.Generator) -> Image:
    """Pack an image as a JPEG of low quality, and unpack it."""
    quality = int(random.integers(MIN_JPEG_QUALITY, 90))
    packed = io.BytesIO()
    PIL.Image.fromarray(image).save(packed, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(packed).convert("RGB"), dtype=np.uint8)


EFFECTS: tuple[Callable[[Image, np.random.Generator], Image], ...] = (
    coarsen,
    blur,
    veil,
    bend_histogram,
    add_noise,
    compress,
)
"""In the order in which they come about, from the ground to the file."""


def degrade(image: Image, *, random: np.random.Generator) -> Image:
    """Let some of the effects act on a uint8 RGB image of shape (y, x, 3)."""
    for effect in EFFECTS:
        if random.random() < EACH_FRACTION:
            image = effect(image, random)
    return image
