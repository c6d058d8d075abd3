"""What covers the ground of a synthetic scene, and how each cover looks in one season."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.synthesis.geometry import FloatArray

Rgb = tuple[int, int, int]
CoverKind = Literal["lawn", "pasture", "scrub", "crop", "earth", "woods", "gravel", "water", "sand", "mulch"]

MIX_LEVELS: Final = 64
"""How many mixtures of a cover's colours are told apart."""

_N_ROW_HARMONICS: Final = 40


@dataclass(frozen=True, kw_only=True)
class CoverTraits:
    """What all variants of one kind of ground have in common."""

    variants: int
    """How many variants a landscape has."""
    dry_rgb: tuple[int, int, int]
    """Colour in the dry season."""
    green_rgb: tuple[int, int, int]
    """Colour in the lush season."""
    weights: tuple[float, float, float, float]
    """How much the variation over 70 m, over 12 to 30 m, over 2 to 8 m and below moves the mix of its colours."""
    grain: float
    """Relative strength of the finest texture."""
    tufts: float
    """How dark and many its tussocks and small shrubs are, 0 to 1."""
    soil_share: float
    """How far the landscape's soil shows through, 0 to 1."""
    trees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Share that stands of the dense, the scattered and the planted trees of the sheets."""
    clumping: float = 0.0
    """0 spreads trees evenly; towards 1 and above they stand in clumps with clearings between."""


TRAITS: Final[dict[CoverKind, CoverTraits]] = {
    "lawn": CoverTraits(
        variants=12,
        dry_rgb=(122, 115, 94),
        green_rgb=(82, 92, 62),
        weights=(0.05, 0.10, 0.07, 0.07),
        grain=0.035,
        tufts=0.1,
        soil_share=0.1,
        clumping=0.2,
    ),
    "pasture": CoverTraits(
        variants=12,
        dry_rgb=(130, 121, 100),
        green_rgb=(92, 95, 70),
        weights=(0.06, 0.10, 0.08, 0.10),
        grain=0.045,
        tufts=0.35,
        soil_share=0.25,
        trees=(0.0, 0.06, 0.0),
        clumping=1.5,
    ),
    "scrub": CoverTraits(
        variants=8,
        dry_rgb=(140, 130, 108),
        green_rgb=(106, 105, 82),
        weights=(0.08, 0.11, 0.12, 0.13),
        grain=0.06,
        tufts=1.0,
        soil_share=0.5,
        trees=(0.10, 0.55, 0.0),
        clumping=1.0,
    ),
    "crop": CoverTraits(
        variants=24,
        dry_rgb=(122, 112, 100),
        green_rgb=(82, 96, 64),
        weights=(0.08, 0.09, 0.05, 0.06),
        grain=0.035,
        tufts=0.0,
        soil_share=0.35,
    ),
    "earth": CoverTraits(
        variants=10,
        dry_rgb=(166, 154, 132),
        green_rgb=(150, 137, 114),
        weights=(0.06, 0.09, 0.07, 0.06),
        grain=0.04,
        tufts=0.12,
        soil_share=0.7,
    ),
    "woods": CoverTraits(
        variants=6,
        dry_rgb=(106, 97, 82),
        green_rgb=(78, 78, 60),
        weights=(0.10, 0.12, 0.14, 0.12),
        grain=0.06,
        tufts=0.8,
        soil_share=0.25,
        trees=(0.95, 0.0, 0.0),
        clumping=0.3,
    ),
    "gravel": CoverTraits(
        variants=4,
        dry_rgb=(184, 178, 164),
        green_rgb=(178, 172, 157),
        weights=(0.06, 0.12, 0.12, 0.10),
        grain=0.05,
        tufts=0.1,
        soil_share=0.3,
    ),
    "water": CoverTraits(
        variants=4,
        dry_rgb=(66, 74, 66),
        green_rgb=(38, 62, 56),
        weights=(0.18, 0.05, 0.02, 0.02),
        grain=0.015,
        tufts=0.0,
        soil_share=0.0,
    ),
    "sand": CoverTraits(
        variants=8,
        dry_rgb=(182, 162, 132),
        green_rgb=(168, 151, 121),
        weights=(0.06, 0.09, 0.06, 0.07),
        grain=0.04,
        tufts=0.5,
        soil_share=0.8,
        trees=(0.0, 0.05, 0.0),
        clumping=1.2,
    ),
    "mulch": CoverTraits(
        variants=6,
        dry_rgb=(104, 88, 72),
        green_rgb=(94, 80, 66),
        weights=(0.04, 0.10, 0.12, 0.10),
        grain=0.045,
        tufts=0.2,
        soil_share=0.3,
    ),
}

KINDS: Final[tuple[CoverKind, ...]] = tuple(TRAITS)
"""The kinds of ground; covers of one kind are neighbours in `Covers`."""


@dataclass(frozen=True, kw_only=True)
class Covers:
    """All variants of all kinds of ground of a landscape, as columns of equal length."""

    kind_index: NDArray[np.uint8]
    """(N,) index into `KINDS`."""
    tint: FloatArray
    """(N, 3) factor on red, green and blue."""
    patchiness: FloatArray
    """(N,) how strongly a cover's two colours differ, 0 to about 1."""
    crop_greenness: FloatArray
    """(N, 2) how green a field stands before and after; fields follow the farmer, not the season."""
    row_angle_rad: FloatArray
    """(N,) direction across the rows of a field."""
    row_period_m: FloatArray
    """(N,) distance after which the pattern of rows repeats."""
    row_profile: FloatArray
    """(N, 256) relative brightness across one period; 0 where there are no rows."""
    trees: FloatArray
    """(N, 3) share that stands of the dense, scattered and planted trees."""
    soil_rgb: tuple[int, int, int]
    """Colour of bare soil in this landscape."""

    def indices_of(self, kind: CoverKind) -> NDArray[np.intp]:
        """Return the indices of all variants of one kind."""
        return np.flatnonzero(self.kind_index == KINDS.index(kind))


def draw_covers(rng: np.random.Generator, *, soil_rgb: tuple[int, int, int], tree_factor: float = 1.0) -> Covers:
    """Draw the variants of every kind of ground.

    Args:
        rng: Source of all decisions.
        soil_rgb: Colour of the landscape's bare soil.
        tree_factor: How many trees stand, 1 for the usual number.
    """
    traits = list(TRAITS.values())
    kind_index = np.repeat(np.arange(len(KINDS)), [trait.variants for trait in traits]).astype(np.uint8)
    count = len(kind_index)
    warmth, level = rng.normal(0.0, 0.02, count), rng.normal(1.0, 0.09, count)
    trees = np.array([trait.trees for trait in traits])[kind_index] * rng.uniform(0.5, 1.4, (count, 1))
    lawn = kind_index == KINDS.index("lawn")
    trees[lawn, 1], trees[lawn, 2] = (rng.random(lawn.sum()) ** 2) * 0.22, rng.uniform(0.0, 0.8, lawn.sum())
    return Covers(
        kind_index=kind_index,
        tint=np.stack([level * (1 + warmth), level, level * (1 - warmth)], axis=1).astype(np.float32),
        patchiness=rng.uniform(0.3, 0.9, count).astype(np.float32),
        crop_greenness=rng.beta(0.5, 1.0, (count, 2)).astype(np.float32),
        row_angle_rad=rng.uniform(0.0, math.pi, count).astype(np.float32),
        row_period_m=rng.uniform(24.0, 60.0, count).astype(np.float32),
        row_profile=_draw_row_profiles(rng, kind_index),
        trees=(trees * tree_factor).astype(np.float32),
        soil_rgb=soil_rgb,
    )


def _draw_row_profiles(rng: np.random.Generator, kind_index: NDArray[np.uint8]) -> FloatArray:
    """Draw how brightness varies across the rows that seeding, mowing or grading leave: (N, 256)."""
    count = len(kind_index)
    passes = (
        rng.normal(0.0, 1.0, (count, _N_ROW_HARMONICS, 2)) / np.sqrt(np.arange(1, _N_ROW_HARMONICS + 1))[None, :, None]
    )
    furrow = rng.integers(14, _N_ROW_HARMONICS, count)
    passes[np.arange(count), furrow - 1] = rng.normal(0.0, 1.2, (count, 2))
    turns = np.arange(256) * (math.tau / 256) * np.arange(1, _N_ROW_HARMONICS + 1)[:, None]
    profile = passes[:, :, 0] @ np.cos(turns) + passes[:, :, 1] @ np.sin(turns)
    is_crop = kind_index == KINDS.index("crop")
    may_have = np.isin(kind_index, [KINDS.index(kind) for kind in ("earth", "pasture", "lawn")])
    strength = np.where(is_crop, rng.uniform(0.006, 0.022, count), rng.uniform(0.004, 0.010, count))
    has_rows = is_crop | (may_have & (rng.random(count) < 0.35))
    return np.asarray(profile * np.where(has_rows, strength, 0.0)[:, None], np.float32)


def look_at_covers(covers: Covers, *, date_index: int, greenness: float) -> NDArray[np.uint32]:
    """Compute the colours of all covers at one date.

    Args:
        covers: All covers of the landscape.
        date_index: 0 for before, 1 for after.
        greenness: Season of natural vegetation, 0 (dry) to 1 (lush).

    Returns:
        (N * MIX_LEVELS,) colours as bytes red, green, blue, 0: cover by cover, from its low colour to its high one.
    """
    kinds = covers.kind_index
    soil = np.array(covers.soil_rgb, np.float32)
    share = np.array([trait.soil_share for trait in TRAITS.values()], np.float32)[:, None]
    dry_rgb = np.array([trait.dry_rgb for trait in TRAITS.values()], np.float32)
    green_rgb = np.array([trait.green_rgb for trait in TRAITS.values()], np.float32)
    dry_rgb = (dry_rgb + (soil - dry_rgb) * share)[kinds]
    green_rgb = (green_rgb + (soil - green_rgb) * share * np.float32(0.5))[kinds]
    is_crop = kinds == KINDS.index("crop")
    green = np.where(is_crop, covers.crop_greenness[:, date_index], np.float32(greenness))[:, None]
    middle = dry_rgb + (green_rgb - dry_rgb) * green
    spread = covers.patchiness[:, None]
    low = (middle + (green_rgb - middle) * spread * np.float32(0.6)) * np.float32(0.70) * covers.tint
    high = (middle + (dry_rgb - middle) * spread * np.float32(0.8)) * np.float32(1.26) * covers.tint
    steps = np.linspace(0.0, 1.0, MIX_LEVELS, dtype=np.float32)[None, :, None]
    table = np.zeros((len(kinds), MIX_LEVELS, 4), np.uint8)
    table[:, :, :3] = np.clip(low[:, None] + (high - low)[:, None] * steps + np.float32(0.5), 0.0, 255.0)
    return np.ascontiguousarray(table).view(np.uint32).reshape(-1)
