"""Clouds over a made scene and their shadows, with the classes that an archive would give for them.

The classes are those of Sentinel-2's scene classification (SCL). As real ones do, they miss the hazy edges of clouds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.synthesis.geometry import ByteArray, MaskArray

SHADOW, VEGETATION, BARE, CLOUD, DENSE_CLOUD = 3, 4, 5, 8, 9
"""Classes of SCL."""

HAZE_PX: Final = 10
"""How far beyond what the classes call a cloud or a shadow it is seen."""

_SIGMA_PX = HAZE_PX / 4
_DENSE = 0.8
_WHITE = 245.0
_DARKENING = 0.55
_CLOUDS_PER_SIDE = 8
_SHADOW_SHARE = 0.35
# ^ How far a shadow lies from its cloud, in sizes of a cloud.
_NOISE_PX = 8


@dataclass(frozen=True, kw_only=True)
class Sky:
    """What hides the ground of a scene, each (height, width)."""

    opacity: NDArray[np.float32]
    """How far clouds hide what lies below, 0 to 1."""
    shade: NDArray[np.float32]
    """How far the ground lies in their shadow, 0 to 1."""
    is_cloudy: MaskArray
    """What the classes call clouds."""
    is_shaded: MaskArray
    """What they call their shadows."""

    def cover(self, pixels: ByteArray) -> ByteArray:
        """Draw the sky over a clear scene, (height, width, 3)."""
        opacity, shade = self.opacity[..., None], self.shade[..., None]
        seen = pixels * (1 - _DARKENING * shade) * (1 - opacity) + _WHITE * opacity
        return np.rint(seen).astype(np.uint8)

    def classify(self, pixels: ByteArray) -> ByteArray:
        """Give the classes of a scene, whose clear pixels tell what grows."""
        classes = np.where(pixels[..., 1] > pixels[..., 0], VEGETATION, BARE)
        classes[self.is_shaded] = SHADOW
        classes[self.is_cloudy] = np.where(self.opacity[self.is_cloudy] > _DENSE, DENSE_CLOUD, CLOUD)
        return classes.astype(np.uint8)


def draw_sky(rng: np.random.Generator, *, height_px: int, width_px: int, cloud_share: float) -> Sky:
    """Draw clouds as what is high of smoothed noise of two scales, and their shadows beside them.

    Args:
        rng: Where they are.
        height_px: Rows.
        width_px: Columns.
        cloud_share: Share of the scene that the classes call clouds, 0 to 1.
    """
    cloud_px = max(height_px, width_px) / _CLOUDS_PER_SIDE
    noise = _draw_noise(rng, height_px, width_px, scale_px=cloud_px)
    noise += 0.5 * _draw_noise(rng, height_px, width_px, scale_px=cloud_px / 5)
    is_cloudy = noise > np.quantile(noise, 1 - cloud_share)
    shift = round(_SHADOW_SHARE * cloud_px)
    below = np.zeros_like(is_cloudy)
    below[shift:, shift:] = is_cloudy[: height_px - shift, : width_px - shift]
    return Sky(opacity=_soften(is_cloudy), shade=_soften(below), is_cloudy=is_cloudy, is_shaded=below & ~is_cloudy)


def _draw_noise(rng: np.random.Generator, height_px: int, width_px: int, *, scale_px: float) -> NDArray[np.float32]:
    """Draw noise of one scale, of deviation 1."""
    step = max(1.0, scale_px / _NOISE_PX)
    rows, columns = (int(np.ceil(size / step)) + 1 for size in (height_px, width_px))
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), scale_px / step / 2, borderType=cv2.BORDER_REFLECT)
    wide = cv2.resize(smooth, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(wide / wide.std(), dtype=np.float32)


def _soften(mask: MaskArray) -> NDArray[np.float32]:
    size_px = 2 * HAZE_PX + 1
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (size_px, size_px), _SIGMA_PX), dtype=np.float32)
