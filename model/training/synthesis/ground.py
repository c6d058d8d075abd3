"""What covers the ground of a synthetic scene and how each cover looks in one season."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from model.training.synthesis.texture import FloatArray

CoverKind = Literal["lawn", "pasture", "scrub", "crop", "earth", "woods", "gravel", "water"]

_VARIANTS: dict[CoverKind, int] = {
    "lawn": 10,
    "pasture": 10,
    "scrub": 8,
    "crop": 24,
    "earth": 10,
    "woods": 6,
    "gravel": 4,
    "water": 4,
}

_DRY: dict[CoverKind, tuple[int, int, int]] = {
    "lawn": (130, 118, 96),
    "pasture": (134, 121, 98),
    "scrub": (146, 134, 111),
    "crop": (124, 110, 98),
    "earth": (174, 159, 134),
    "woods": (108, 97, 81),
    "gravel": (186, 178, 160),
    "water": (56, 61, 56),
}
_GREEN: dict[CoverKind, tuple[int, int, int]] = {
    "lawn": (94, 104, 70),
    "pasture": (100, 104, 75),
    "scrub": (112, 109, 82),
    "crop": (86, 106, 64),
    "earth": (156, 138, 113),
    "woods": (82, 81, 60),
    "gravel": (178, 171, 154),
    "water": (50, 62, 58),
}


@dataclass(frozen=True, kw_only=True)
class Cover:
    """One kind of ground in one of its variants; patches name it by its index in the list of covers."""

    kind: CoverKind
    """What grows or lies there."""
    tint: tuple[float, float, float]
    """Factor on red, green and blue."""
    patchiness: float
    """How strongly its two colours alternate, 0 (even) to about 1."""
    row_angle_rad: float
    """Direction across the rows of a field."""
    row_spacing_m: float
    """Distance between rows of a field."""
    crop_greenness: tuple[float, float]
    """How green a field stands before and after; fields follow the farmer, not the season."""


@dataclass(frozen=True, kw_only=True)
class GroundLook:
    """Look-up tables over cover indices for one date; all float32."""

    low_rgb: FloatArray
    """(covers, 3) colour where the mixing field is low."""
    high_rgb: FloatArray
    """(covers, 3) colour where the mixing field is high."""
    weights: FloatArray
    """(covers, 4) share of each smooth field in the mix."""
    grain: FloatArray
    """(covers,) relative strength of the white grain."""
    row_strength: FloatArray
    """(covers,) relative strength of the rows."""
    row_frequency: FloatArray
    """(covers, 2) phase in radians per metre along y and x."""


def draw_covers(rng: np.random.Generator) -> tuple[Cover, ...]:
    """Draws the variants of every kind of ground."""
    covers = []
    for kind in get_args(CoverKind):
        for _ in range(_VARIANTS[kind]):
            warmth, level = rng.normal(0.0, 0.025), rng.normal(1.0, 0.08)
            covers.append(
                Cover(
                    kind=kind,
                    tint=(float(level * (1 + warmth)), float(level), float(level * (1 - warmth))),
                    patchiness=float(rng.uniform(0.25, 0.8)),
                    row_angle_rad=float(rng.uniform(0.0, math.pi)),
                    row_spacing_m=float(rng.uniform(2.2, 5.5)),
                    crop_greenness=(float(rng.beta(0.5, 1.0)), float(rng.beta(0.5, 1.0))),
                )
            )
    return tuple(covers)


def indices_of(covers: tuple[Cover, ...], kind: CoverKind) -> tuple[int, ...]:
    """Returns the indices of all variants of one kind."""
    return tuple(index for index, cover in enumerate(covers) if cover.kind == kind)


def look_at_covers(covers: tuple[Cover, ...], *, date_index: int, greenness: float) -> GroundLook:
    """Computes the look of all covers at one date.

    Args:
        covers: All covers of the landscape.
        date_index: 0 for before, 1 for after.
        greenness: Season of natural vegetation, 0 (dry) to 1 (lush).
    """
    pairs = [_colours_of(cover, date_index=date_index, greenness=greenness) for cover in covers]
    is_crop = np.array([cover.kind == "crop" for cover in covers])
    angles = np.array([cover.row_angle_rad for cover in covers])
    spacings = np.array([cover.row_spacing_m for cover in covers])
    frequency = np.stack([np.sin(angles), np.cos(angles)], axis=1) * (math.tau / spacings)[:, None]
    return GroundLook(
        low_rgb=np.array([low for low, _ in pairs], dtype=np.float32),
        high_rgb=np.array([high for _, high in pairs], dtype=np.float32),
        weights=np.array([_weights_of(cover) for cover in covers], dtype=np.float32),
        grain=np.array([_GRAIN[cover.kind] for cover in covers], dtype=np.float32),
        row_strength=np.where(is_crop, 0.07, 0.0).astype(np.float32),
        row_frequency=frequency.astype(np.float32),
    )


_GRAIN: dict[CoverKind, float] = {
    "lawn": 0.06,
    "pasture": 0.075,
    "scrub": 0.11,
    "crop": 0.05,
    "earth": 0.05,
    "woods": 0.10,
    "gravel": 0.06,
    "water": 0.015,
}


def _weights_of(cover: Cover) -> tuple[float, float, float, float]:
    """Returns how much each smooth field moves the mix of a cover's two colours."""
    by_kind: dict[CoverKind, tuple[float, float, float, float]] = {
        "lawn": (0.06, 0.16, 0.14, 0.13),
        "pasture": (0.18, 0.24, 0.20, 0.22),
        "scrub": (0.16, 0.24, 0.28, 0.34),
        "crop": (0.24, 0.12, 0.04, 0.05),
        "earth": (0.15, 0.24, 0.18, 0.14),
        "woods": (0.12, 0.18, 0.21, 0.24),
        "gravel": (0.06, 0.15, 0.15, 0.12),
        "water": (0.18, 0.06, 0.01, 0.01),
    }
    first, second, third, fourth = by_kind[cover.kind]
    strength = 0.5 + cover.patchiness
    return first * strength, second * strength, third * strength, fourth * strength


def _colours_of(cover: Cover, *, date_index: int, greenness: float) -> tuple[FloatArray, FloatArray]:
    """Returns the two colours that a cover's texture alternates between, each (3,)."""
    green = cover.crop_greenness[date_index] if cover.kind == "crop" else greenness
    dry_rgb, green_rgb = np.array(_DRY[cover.kind], np.float32), np.array(_GREEN[cover.kind], np.float32)
    tint = np.array(cover.tint, np.float32)
    spread = np.float32(0.5 * cover.patchiness)
    middle = dry_rgb + (green_rgb - dry_rgb) * np.float32(green)
    low = (middle + (green_rgb - middle) * spread) * np.float32(0.90)
    high = (middle + (dry_rgb - middle) * spread) * np.float32(1.12)
    return low * tint, high * tint
