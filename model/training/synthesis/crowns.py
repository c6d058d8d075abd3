"""Populations of trees on sheets that repeat without a seam.

Each pixel of a sheet knows the tree above it, and each tree has its place among the others of its sheet: a draw
between 0 and 1. Ground on which a share of the trees stands keeps those whose draw lies below. So planting is a
look-up, and where ground changes between dates, the trees that remain are the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.texture import ByteArray, FloatArray

HEIGHT_UNIT_M: Final = 0.1
"""Heights are kept in bytes of this unit."""
LARGEST_CROWN_M: Final = 6.0
EVERGREEN_TONE: Final = 110
"""Trees of a lower tone are leafless in the dry season."""

_VARIANTS = 5
_EVERGREEN_SHARE = 0.62


@dataclass(frozen=True, kw_only=True)
class CrownSheet:
    """One population of trees."""

    height: ByteArray
    """(S, S) height of the crown above the ground in `HEIGHT_UNIT_M`; 0 beside crowns."""
    tone: ByteArray
    """(S, S) tone of the tree on top."""
    tree: NDArray[np.uint16]
    """(S, S) number of the tree on top, from 1; 0 beside crowns."""
    position_px: NDArray[np.float32]
    """(trees + 1, 2) centres (y, x); entry 0 stands for no tree."""
    radius_px: FloatArray
    """(trees + 1,) crown radii."""
    draw: FloatArray
    """(trees + 1,) place among all trees, 0 to 1; above 1 for entry 0, which never stands."""


@dataclass(frozen=True, kw_only=True)
class _Population:
    """How a sheet's trees are spread."""

    per_m2: float
    radius_m: float
    spread: float
    """Standard deviation of the logarithm of the radii."""
    gap: float
    """Least distance of two trees as a share of the sum of their radii."""


_POPULATIONS = (
    _Population(per_m2=0.075, radius_m=2.5, spread=0.30, gap=0.0),
    _Population(per_m2=0.020, radius_m=2.3, spread=0.42, gap=0.75),
    _Population(per_m2=0.006, radius_m=1.1, spread=0.25, gap=1.0),
)


def grow_crown_sheets(rng: np.random.Generator, *, size_px: int, resolution_m: float) -> tuple[CrownSheet, ...]:
    """Draws the sheets of dense, scattered and planted trees."""
    shapes = _draw_shapes(rng, math.ceil(LARGEST_CROWN_M / resolution_m))
    return tuple(_grow(rng, population, shapes, size_px, resolution_m) for population in _POPULATIONS)


def _draw_shapes(rng: np.random.Generator, largest_px: int) -> list[list[FloatArray]]:
    """Draws a few crowns for each radius 1..largest_px: square arrays of relative height, 0 outside."""
    return [[_draw_shape(rng, radius) for _ in range(_VARIANTS)] for radius in range(1, largest_px + 1)]


def _draw_shape(rng: np.random.Generator, radius_px: int) -> FloatArray:
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


def _grow(
    rng: np.random.Generator, population: _Population, shapes: list[list[FloatArray]], size_px: int, resolution_m: float
) -> CrownSheet:
    """Stamps a population on an empty sheet, the taller tree on top."""
    count = min(60_000, int(population.per_m2 * (size_px * resolution_m) ** 2))
    position = rng.random((count, 2)) * size_px
    radius = np.clip(population.radius_m * np.exp(rng.normal(0.0, population.spread, count)), 0.6, LARGEST_CROWN_M)
    radius_px = radius / resolution_m
    if population.gap > 0:
        keep = _thin_out(position, radius_px * population.gap, size_px)
        position, radius, radius_px = position[keep], radius[keep], radius_px[keep]
    count = len(position)
    height_m = radius * rng.uniform(1.2, 1.9, count)
    tone = np.where(rng.random(count) < _EVERGREEN_SHARE, rng.integers(120, 256, count), rng.integers(0, 100, count))
    draw = rng.random(count)
    # A crown over an edge is seen at the opposite edge too, as a tree of its own that stands outside the sheet.
    margin = len(shapes) + 2
    shifts = [np.array([y, x]) * size_px for y in (-1, 0, 1) for x in (-1, 0, 1)]
    copies = np.concatenate([position + shift for shift in shifts])
    is_near = ((copies > -margin) & (copies < size_px + margin)).all(axis=1)
    source = np.tile(np.arange(count), len(shifts))[is_near]
    position = copies[is_near]
    height, trees = _stamp(position, radius_px[source], height_m[source], source, shapes, size_px)
    return CrownSheet(
        height=height,
        tone=np.concatenate([[0], tone[source]]).astype(np.uint8)[trees],
        tree=trees,
        position_px=np.concatenate([np.full((1, 2), -1e6), position]).astype(np.float32),
        radius_px=np.concatenate([[0.0], radius_px[source]]).astype(np.float32),
        draw=np.concatenate([[2.0], draw[source]]).astype(np.float32),
    )


def _thin_out(position: NDArray[np.float64], reach_px: NDArray[np.float64], size_px: int) -> NDArray[np.intp]:
    """Returns the trees that keep their distance from all that came earlier, around the sheet's edges too."""
    kept = np.zeros(len(position), np.bool_)
    for index in range(len(position)):
        apart = np.abs(position[:index] - position[index])
        apart = np.minimum(apart, size_px - apart)
        is_close = (apart**2).sum(axis=1) < (reach_px[:index] + reach_px[index]) ** 2
        kept[index] = not (is_close & kept[:index]).any()
    return np.flatnonzero(kept)


def _stamp(
    position: NDArray[np.float64],
    radius_px: NDArray[np.float64],
    height_m: NDArray[np.float64],
    source: NDArray[np.intp],
    shapes: list[list[FloatArray]],
    size_px: int,
) -> tuple[ByteArray, NDArray[np.uint16]]:
    """Returns the heights of the crowns and the number of the tree on top, both (S, S).

    Args:
        position: (N, 2) centres (y, x) in pixels, up to one crown outside the sheet.
        radius_px: (N,) crown radii.
        height_m: (N,) heights.
        source: (N,) which tree each one is; copies of a tree have its shape.
        shapes: Crowns by radius and variant.
        size_px: Period of the sheet.
    """
    margin = 2 * len(shapes) + 4
    heights = np.zeros((size_px + 2 * margin, size_px + 2 * margin), np.float32)
    trees = np.zeros(heights.shape, np.uint16)
    centres = np.floor(position).astype(np.int64) + margin
    radii = np.clip(np.round(radius_px), 1, len(shapes)).astype(np.int64)
    columns = zip(centres.tolist(), radii.tolist(), height_m.tolist(), source.tolist(), strict=True)
    for number, ((row, column), radius, height, tree) in enumerate(columns, start=1):
        crown = shapes[radius - 1][tree % _VARIANTS] * np.float32(height)
        reach = radius + 1
        view = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
        np.copyto(trees[view], np.uint16(number), where=crown > heights[view])
        np.maximum(heights[view], crown, out=heights[view])
    inner = slice(margin, margin + size_px)
    scaled = np.round(heights[inner, inner] / np.float32(HEIGHT_UNIT_M))
    return np.clip(scaled, 0, 255).astype(np.uint8), np.ascontiguousarray(trees[inner, inner])
