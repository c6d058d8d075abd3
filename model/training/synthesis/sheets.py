"""Textures that repeat without a seam: drawn once per resolution, shared by all scenes, addressed by position.

A texture costs far more to compute than to copy. So the close-up look of each kind of ground, of paving, roofs and
leaves, and three populations of trees are drawn once per process; a scene takes its part from an offset of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.crowns import CrownSheet, grow_crown_sheets
from model.training.synthesis.ground import TRAITS, CoverKind
from model.training.synthesis.texture import ByteArray, FloatArray, make_periodic_field

SHEET_EXTENT_M: Final = 400.0
LARGEST_SHEET_PX: Final = 1024
NEUTRAL: Final = 128
"""Value of a sheet that leaves the colour or the brightness as it is."""

_SHEET_SEED = 20260622
_BANDS_M = ((30.0, 18.0, 11.0), (7.0, 4.2, 2.4), (1.5, 0.9, 0.6))
"""Distances between the nodes of the smooth fields that make up the three bands of variation below 70 m."""


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """All textures for one resolution; each has (S, S) pixels unless said otherwise."""

    resolution_m: float
    """Size of a pixel in metres."""
    mix: dict[CoverKind, ByteArray]
    """Which of its two colours a kind of ground shows; 128 is the middle."""
    grain: dict[str, ByteArray]
    """Brightness of a kind of ground, or of `paved`, `roof` and `leaf`, in 1/128."""
    bend: NDArray[np.int16]
    """(S, S, 2) displacement (x, y) in pixels of the borders of natural patches."""
    noise: FloatArray
    """Unit normal values, one per pixel: the sensor's noise."""
    crowns: tuple[CrownSheet, ...]
    """Dense, scattered and planted trees."""

    @property
    def size_px(self) -> int:
        """Period of all sheets."""
        return int(self.noise.shape[0])


@lru_cache(maxsize=4)
def make_sheets(resolution_m: float) -> Sheets:
    """Draws the textures, the same for every scene of one resolution."""
    rng = np.random.default_rng(_SHEET_SEED)
    size_px = min(LARGEST_SHEET_PX, math.ceil(SHEET_EXTENT_M / resolution_m))
    bands = [
        _sum_fields([_make_field(rng, spacing, size_px, resolution_m) for spacing in spacings]) for spacings in _BANDS_M
    ]
    white = rng.standard_normal((size_px, size_px), dtype=np.float32)
    tufts = _scatter_tufts(rng, size_px, resolution_m)
    grain = {
        str(kind): _to_bytes(white * np.float32(trait.grain) - tufts * np.float32(trait.tufts), NEUTRAL)
        for kind, trait in TRAITS.items()
    }
    worn = white * np.float32(0.012) + bands[0] * np.float32(0.025) + bands[1] * np.float32(0.02)
    grain["paved"] = _to_bytes(worn, NEUTRAL)
    grain["roof"] = _to_bytes(_roll(white, 91) * np.float32(0.03) + bands[2] * np.float32(0.02), NEUTRAL)
    leaves = np.asarray(cv2.GaussianBlur(white, (0, 0), 0.7), np.float32)
    grain["leaf"] = _to_bytes(leaves * np.float32(0.30), NEUTRAL)
    return Sheets(
        resolution_m=resolution_m,
        mix={kind: _to_bytes(_weigh(bands, trait.weights[1:]), 256.0) for kind, trait in TRAITS.items()},
        grain=grain,
        bend=_draw_bend(rng, size_px, resolution_m),
        noise=_roll(white, 201),
        crowns=grow_crown_sheets(rng, size_px=size_px, resolution_m=resolution_m),
    )


def _make_field(rng: np.random.Generator, spacing_m: float, size_px: int, resolution_m: float) -> FloatArray:
    """Draws a periodic field whose nodes are about `spacing_m` apart."""
    return make_periodic_field(rng, size_px=size_px, nodes=max(4, round(size_px * resolution_m / spacing_m)))


def _sum_fields(fields: list[FloatArray]) -> FloatArray:
    """Returns a sum of fields of about unit variance."""
    return np.asarray(np.sum(fields, axis=0) / math.sqrt(len(fields)), np.float32)


def _weigh(bands: list[FloatArray], weights: tuple[float, ...]) -> FloatArray:
    """Returns the weighted sum of fields."""
    total = np.zeros_like(bands[0])
    for band, weight in zip(bands, weights, strict=True):
        total += band * np.float32(weight)
    return total


def _scatter_tufts(rng: np.random.Generator, size_px: int, resolution_m: float) -> FloatArray:
    """Draws tussocks and small shrubs, denser here than there: (S, S) darkness, 0 to about 0.4."""
    clumps = _make_field(rng, 14.0, size_px, resolution_m) + _make_field(rng, 5.0, size_px, resolution_m)
    seeds = rng.random((size_px, size_px), dtype=np.float32)
    per_px = np.clip(0.03 * resolution_m**2 * (1.0 + clumps), 0.0, 0.2)
    points = np.where(seeds < per_px, rng.uniform(0.4, 1.0, seeds.shape), 0.0).astype(np.float32)
    radius_px = max(0.55, 0.5 / resolution_m)
    spread = np.asarray(cv2.GaussianBlur(points, (0, 0), radius_px), np.float32)
    return np.asarray(np.minimum(spread * np.float32(0.36 * math.tau * radius_px**2), np.float32(0.45)))


def _draw_bend(rng: np.random.Generator, size_px: int, resolution_m: float) -> NDArray[np.int16]:
    """Draws by how much the borders of natural patches are bent: (S, S, 2) pixels (x, y)."""
    sides = []
    for _ in range(2):
        wide, fine = (_make_field(rng, spacing, size_px, resolution_m) for spacing in (6.0, 1.6))
        sides.append((wide * np.float32(1.2) + fine * np.float32(0.5)) / np.float32(resolution_m))
    return np.round(np.stack(sides, axis=2)).astype(np.int16)


def _to_bytes(values: FloatArray, scale: float) -> ByteArray:
    """Returns values around zero as bytes around `NEUTRAL`."""
    return np.clip(np.round(values * np.float32(scale) + np.float32(NEUTRAL)), 0, 255).astype(np.uint8)


def _roll(field: FloatArray, distance_px: int) -> FloatArray:
    """Returns a field moved around its period, which makes it unrelated to itself."""
    return np.roll(field, (distance_px, 3 * distance_px), axis=(0, 1))
