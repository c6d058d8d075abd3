"""Plants trees, and stamps their crowns into a raster of heights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.draft import District, Draft
from model.training.synthesis.landscape import Presence, Trees
from model.training.synthesis.texture import FloatArray

LARGEST_CROWN_M = 6.5
"""Largest crown radius."""

_VARIANTS = 4
_CROWN_SEED = 20260622


@dataclass(frozen=True, kw_only=True)
class Grove:
    """Where trees of one sort grow."""

    district: District
    per_m2: float
    """Trees per square metre."""
    clumping: float
    """0 spreads them evenly; towards 1 and above they stand in clumps with clearings between."""
    radius_m: float
    """Mean crown radius."""
    is_at: Presence
    spare_m: float
    """Width kept free along the district's border."""


def plant_trees(draft: Draft, groves: list[Grove]) -> Trees:
    """Draws all trees of the groves; none stands on a road or in a building of its date."""
    batches = [_plant_grove(draft, grove) for grove in groves]
    if not batches:
        batches = [_no_trees()]
    position = np.concatenate([batch.position_m for batch in batches])
    is_at = np.concatenate([batch.is_at for batch in batches])
    for date_index in (0, 1):
        is_at[:, date_index] &= draft.footprints.is_free(position, date_index=date_index)
    keep = is_at.any(axis=1)
    return Trees(
        position_m=position[keep],
        radius_m=np.concatenate([batch.radius_m for batch in batches])[keep],
        height_m=np.concatenate([batch.height_m for batch in batches])[keep],
        tone=np.concatenate([batch.tone for batch in batches])[keep],
        is_at=is_at[keep],
    )


def _no_trees() -> Trees:
    """Returns an empty set of trees."""
    return Trees(
        position_m=np.zeros((0, 2)),
        radius_m=np.zeros(0, np.float32),
        height_m=np.zeros(0, np.float32),
        tone=np.zeros(0, np.uint8),
        is_at=np.zeros((0, 2), np.bool_),
    )


def _plant_grove(draft: Draft, grove: Grove) -> Trees:
    """Draws the trees of one grove within the scene and its margin."""
    rng, district = draft.rng, grove.district
    spare = grove.spare_m
    u_extent = district.u1 - district.u0 - 2 * spare
    v_extent = district.v1 - district.v0 - 2 * spare
    if u_extent <= 0 or v_extent <= 0:
        return _no_trees()
    count = int(rng.poisson(grove.per_m2 * u_extent * v_extent * (1.0 + grove.clumping)))
    u = district.u0 + spare + rng.random(count) * u_extent
    v = district.v0 + spare + rng.random(count) * v_extent
    waves = np.zeros(count)
    for wave_length in (90.0, 47.0, 23.0):
        angle, phase = rng.uniform(0.0, math.tau, 2)
        waves += np.sin(math.tau * (u * math.cos(angle) + v * math.sin(angle)) / wave_length + phase)
    chance = np.clip(1.0 / (1.0 + grove.clumping) + 0.45 * grove.clumping * waves, 0.0, 1.0)
    is_kept = rng.random(count) < chance
    size = np.exp(rng.normal(0.0, 0.32, count)) * (1.0 + 0.10 * waves)
    radius = np.clip(grove.radius_m * size, 0.7, LARGEST_CROWN_M).astype(np.float32)
    share = 0.25 + 0.6 * rng.random()
    tone = np.where(rng.random(count) < share, rng.integers(120, 256, count), rng.integers(0, 100, count))
    position = draft.frame.to_scene(u, v)
    is_kept &= draft.footprints.contains(position)
    return Trees(
        position_m=position[is_kept],
        radius_m=radius[is_kept],
        height_m=(radius * rng.uniform(1.2, 1.9, count)).astype(np.float32)[is_kept],
        tone=tone.astype(np.uint8)[is_kept],
        is_at=np.tile(np.array(grove.is_at), (int(is_kept.sum()), 1)),
    )


@lru_cache(maxsize=8)
def make_crowns(largest_px: int) -> tuple[tuple[FloatArray, ...], ...]:
    """Draws crown shapes, the same for every scene.

    Returns:
        For each radius 1..largest_px a few variants, each a square float32 array of relative height,
        0 outside the crown and about 1 at the top.
    """
    rng = np.random.default_rng(_CROWN_SEED)
    return tuple(tuple(_make_crown(rng, radius) for _ in range(_VARIANTS)) for radius in range(1, largest_px + 1))


def _make_crown(rng: np.random.Generator, radius_px: int) -> FloatArray:
    """Draws one crown: a dome of smaller domes, ragged at its rim."""
    axis = np.arange(-radius_px - 1, radius_px + 2, dtype=np.float32)
    y, x = axis[:, None], axis[None, :]
    crown = np.zeros((len(axis), len(axis)), np.float32)
    for _ in range(4 + 3 * min(radius_px, 6)):
        angle, distance = rng.uniform(0.0, math.tau), radius_px * math.sqrt(rng.uniform(0.0, 0.36))
        lobe = radius_px * rng.uniform(0.36, 0.62)
        reach = ((y - distance * math.sin(angle)) ** 2 + (x - distance * math.cos(angle)) ** 2) / lobe**2
        top = rng.uniform(0.6, 0.85) + 0.2 * (1.0 - distance / radius_px)
        crown = np.maximum(crown, (top * np.sqrt(np.maximum(0.0, 1.0 - reach))).astype(np.float32))
    return crown


def stamp_crowns(
    heights: FloatArray,
    tones: NDArray[np.uint8],
    trees: Trees,
    crowns: tuple[tuple[FloatArray, ...], ...],
    *,
    chosen: NDArray[np.int64],
    corner_px: tuple[int, int],
    resolution_m: float,
) -> None:
    """Raises crowns in a raster of tree heights, the taller tree winning.

    Args:
        heights: (H, W) metres, changed in place.
        tones: (H, W) tone of the tree on top, changed in place.
        trees: All trees.
        crowns: Shapes by radius in pixels and variant.
        chosen: Indices of the trees to stamp.
        corner_px: Scene row and column of the raster's first pixel.
        resolution_m: Size of a pixel in metres.
    """
    height_px, width_px = heights.shape
    centres = np.floor(trees.position_m[chosen] / resolution_m).astype(np.int64) - np.array(corner_px)
    radii = np.clip(np.round(trees.radius_m[chosen] / resolution_m), 1, len(crowns)).astype(np.int64)
    for index, (row, column), radius in zip(chosen.tolist(), centres.tolist(), radii.tolist(), strict=True):
        crown = crowns[radius - 1][index % _VARIANTS]
        reach = radius + 1
        top, left = row - reach, column - reach
        y0, y1 = max(0, top), min(height_px, row + reach + 1)
        x0, x1 = max(0, left), min(width_px, column + reach + 1)
        if y0 >= y1 or x0 >= x1:
            continue
        raised = crown[y0 - top : y1 - top, x0 - left : x1 - left] * trees.height_m[index]
        view = heights[y0:y1, x0:x1]
        np.copyto(tones[y0:y1, x0:x1], trees.tone[index], where=raised > view)
        np.maximum(raised, view, out=view)
