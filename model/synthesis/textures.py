"""Textures and trees on sheets that repeat without a seam: drawn once per resolution, shared by all scenes.

A texture costs far more to compute than to copy. So the close-up look of each kind of ground, of paving, roofs and
leaves, and three populations of trees are drawn once per process; a scene takes its part from an offset of its own.

Each pixel of a sheet of crowns knows the tree above it, and each tree has its place among the others of its sheet: a
draw between 0 and 1. Ground on which a share of the trees stands keeps those whose draw lies below. So planting is a
look-up, and where ground changes between dates, the trees that remain are the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from model.synthesis.geometry import Block, ByteArray, FloatArray, PointArray
from model.synthesis.ground import TRAITS, CoverKind

HEIGHT_UNIT_M: Final = 0.1
"""Heights are kept in bytes of this unit."""

_LARGEST_CROWN_M: Final = 6.0

EVERGREEN_TONE: Final = 110
"""Trees of a lower tone are leafless in the dry season."""

_VARIANTS = 5
_EVERGREEN_SHARE = 0.62
_SHEET_EXTENT_M: Final = 400.0
_LARGEST_SHEET_PX: Final = 1024

NEUTRAL: Final = 128
"""Value of a sheet that leaves the colour or the brightness as it is."""

_SHEET_SEED = 20260622

_BANDS_M = ((30.0, 18.0, 11.0), (7.0, 4.2, 2.4), (1.5, 0.9, 0.6))
"""Distances between the nodes of the smooth fields that make up the three bands of variation below 70 m."""


_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class CrownSheet:
    """One population of trees."""

    height: ByteArray
    """(S, S) height of the crown above the ground in `HEIGHT_UNIT_M`; 0 beside crowns."""
    tone: ByteArray
    """(S, S) tone of the tree on top."""
    tree: NDArray[np.uint16]
    """(S, S) number of the tree on top, from 1; 0 beside crowns."""
    position_px: FloatArray
    """(trees + 1, 2) centres (y, x); entry 0 stands for no tree."""
    radius_px: FloatArray
    """(trees + 1,) crown radii."""
    draw: FloatArray
    """(trees + 1,) place among all trees, 0 to 1; above 1 for entry 0, which never stands."""


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
    """Draw the textures, the same for every scene of one resolution."""
    rng = np.random.default_rng(_SHEET_SEED)
    size_px = min(_LARGEST_SHEET_PX, math.ceil(_SHEET_EXTENT_M / resolution_m))
    bands = [_draw_band(rng, spacings, size_px, resolution_m) for spacings in _BANDS_M]
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
        crowns=_grow_crown_sheets(rng, size_px, resolution_m),
    )


def _draw_field(rng: np.random.Generator, spacing_m: float, size_px: int, resolution_m: float) -> FloatArray:
    """Draw a smooth (S, S) field of about unit variance, of random values about `spacing_m` apart."""
    nodes = max(4, round(size_px * resolution_m / spacing_m))
    if nodes >= size_px:
        return rng.standard_normal((size_px, size_px), dtype=np.float32)
    lattice = np.pad(rng.standard_normal((nodes, nodes), dtype=np.float32), 3, mode="wrap")
    scale = nodes / size_px
    # Pixel centres of the output in units of nodes, within the lattice that was made wider by three nodes.
    matrix = np.array([[scale, 0.0, 3.0 + 0.5 * scale - 0.5], [0.0, scale, 3.0 + 0.5 * scale - 0.5]])
    field = cv2.warpAffine(lattice, matrix, (size_px, size_px), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(field, np.float32) * np.float32(1.35)


def _draw_band(
    rng: np.random.Generator, spacings_m: tuple[float, ...], size_px: int, resolution_m: float
) -> FloatArray:
    """Draw a field of about unit variance that varies over several distances."""
    fields = [_draw_field(rng, spacing, size_px, resolution_m) for spacing in spacings_m]
    return np.asarray(np.sum(fields, axis=0) / math.sqrt(len(fields)), np.float32)


def _weigh(bands: list[FloatArray], weights: tuple[float, ...]) -> FloatArray:
    total = np.zeros_like(bands[0])
    for band, weight in zip(bands, weights, strict=True):
        total += band * np.float32(weight)
    return total


def _scatter_tufts(rng: np.random.Generator, size_px: int, resolution_m: float) -> FloatArray:
    """Draw tussocks and small shrubs, denser here than there: (S, S) darkness, 0 to about 0.4."""
    clumps = _draw_field(rng, 14.0, size_px, resolution_m) + _draw_field(rng, 5.0, size_px, resolution_m)
    seeds = rng.random((size_px, size_px), dtype=np.float32)
    per_px = np.clip(0.03 * resolution_m**2 * (1.0 + clumps), 0.0, 0.2)
    points = np.where(seeds < per_px, rng.uniform(0.4, 1.0, seeds.shape), 0.0).astype(np.float32)
    radius_px = max(0.55, 0.5 / resolution_m)
    spread = np.asarray(cv2.GaussianBlur(points, (0, 0), radius_px), np.float32)
    return np.asarray(np.minimum(spread * np.float32(0.36 * math.tau * radius_px**2), np.float32(0.45)))


def _draw_bend(rng: np.random.Generator, size_px: int, resolution_m: float) -> NDArray[np.int16]:
    """Draw by how much the borders of natural patches are bent: (S, S, 2) pixels (x, y)."""
    sides = []
    for _ in range(2):
        wide, fine = (_draw_field(rng, spacing, size_px, resolution_m) for spacing in (6.0, 1.6))
        sides.append((wide * np.float32(1.2) + fine * np.float32(0.5)) / np.float32(resolution_m))
    return np.round(np.stack(sides, axis=2)).astype(np.int16)


def _to_bytes(values: FloatArray, scale: float) -> ByteArray:
    """Return values around zero as bytes around `NEUTRAL`."""
    return np.clip(np.round(values * np.float32(scale) + np.float32(NEUTRAL)), 0, 255).astype(np.uint8)


def _roll(field: FloatArray, distance_px: int) -> FloatArray:
    """Return a field moved around its period, which makes it unrelated to itself."""
    return np.roll(field, (distance_px, 3 * distance_px), axis=(0, 1))


def crop_periodic(sheet: NDArray[_Value], block: Block, *, offset_px: tuple[int, int]) -> NDArray[_Value]:
    """Return what a sheet that repeats for ever shows in a block.

    Args:
        sheet: (S, S) or (S, S, channels).
        block: Which part, in scene pixels.
        offset_px: Row and column of the sheet that lie at the scene's first pixel.
    """
    parts = find_repetitions(block, sheet.shape[0], offset_px)
    if len(parts) == 1:
        return sheet[parts[0][1].window]
    out = np.empty((*block.shape, *sheet.shape[2:]), sheet.dtype)
    for part, on_sheet in parts:
        part.cut(out, of=block)[:] = sheet[on_sheet.window]
    return out


def find_repetitions(block: Block, size_px: int, offset_px: tuple[int, int]) -> list[tuple[Block, Block]]:
    """Return the parts of a block that see one repetition of a sheet each, in the scene and on the sheet."""
    parts = []
    for top in _begin(block.y0, block.height_px, size_px, offset_px[0]):
        for left in _begin(block.x0, block.width_px, size_px, offset_px[1]):
            y0, x0 = max(top, block.y0), max(left, block.x0)
            y1, x1 = min(top + size_px, block.y0 + block.height_px), min(left + size_px, block.x0 + block.width_px)
            part = Block(y0=y0, x0=x0, height_px=y1 - y0, width_px=x1 - x0)
            parts.append((part, part.move(-top, -left)))
    return parts


def _begin(start: int, length: int, size_px: int, offset: int) -> range:
    """Return where along one axis of the scene the repetitions begin that are seen from `start` on."""
    return range((start + offset) // size_px * size_px - offset, start + length, size_px)


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


def _grow_crown_sheets(rng: np.random.Generator, size_px: int, resolution_m: float) -> tuple[CrownSheet, ...]:
    largest_px = math.ceil(_LARGEST_CROWN_M / resolution_m)
    # A few crowns for each radius: square arrays of relative height, 0 outside.
    shapes = [[_draw_shape(rng, radius) for _ in range(_VARIANTS)] for radius in range(1, largest_px + 1)]
    return tuple(_grow(rng, population, shapes, size_px, resolution_m) for population in _POPULATIONS)


def _draw_shape(rng: np.random.Generator, radius_px: int) -> FloatArray:
    """Draw one crown: a dome of smaller domes, ragged at its rim."""
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
    """Stamp a population on an empty sheet, the taller tree on top."""
    count = min(60_000, int(population.per_m2 * (size_px * resolution_m) ** 2))
    position = rng.random((count, 2)) * size_px
    radius = np.clip(population.radius_m * np.exp(rng.normal(0.0, population.spread, count)), 0.6, _LARGEST_CROWN_M)
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


def _thin_out(position: PointArray, reach_px: NDArray[np.float64], size_px: int) -> NDArray[np.intp]:
    """Return the trees that keep their distance from all that came earlier, around the sheet's edges too."""
    kept = np.zeros(len(position), np.bool_)
    for index in range(len(position)):
        apart = np.abs(position[:index] - position[index])
        apart = np.minimum(apart, size_px - apart)
        is_close = (apart**2).sum(axis=1) < (reach_px[:index] + reach_px[index]) ** 2
        kept[index] = not (is_close & kept[:index]).any()
    return np.flatnonzero(kept)


def _stamp(
    position: PointArray,
    radius_px: NDArray[np.float64],
    height_m: NDArray[np.float64],
    source: NDArray[np.intp],
    shapes: list[list[FloatArray]],
    size_px: int,
) -> tuple[ByteArray, NDArray[np.uint16]]:
    """Return the heights of the crowns and the number of the tree on top, both (S, S).

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
