"""Makes pairs of aerial-looking images whose every change is known, for training, tests and demos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.training.synthesis.canvas import Stage
from model.training.synthesis.drawing import Boxes, draw_block
from model.training.synthesis.exposure import expose, halo_px
from model.training.synthesis.facts import SAMPLE_STEP_PX, PairFacts, sample_land, state_facts
from model.training.synthesis.landscape import Landscape
from model.training.synthesis.light import Light, draw_light
from model.training.synthesis.planning import plan_landscape
from model.training.synthesis.sheets import make_sheets
from model.training.synthesis.terrain import COARSE_LATTICE_SIZE
from model.training.synthesis.texture import Block
from model.training.synthesis.truth import SyntheticObject, draw_change_mask, list_objects, outline_objects

DEFAULT_CHANGE_LEVEL: Final = 0.3
MIN_SIZE_PX: Final = 64
MAX_SIZE_PX: Final = 16384
RESOLUTION_RANGE_M: Final = (0.2, 2.0)
BLOCK_PX: Final = 512
"""Side of a rendered block; a multiple of 16, so that JPEG's blocks fall as in the whole image."""


@dataclass(frozen=True, kw_only=True)
class SyntheticPair:
    """Two images of one place with the exact truth of what changed between them."""

    before: NDArray[np.uint8]
    """(height, width, 3) uint8 RGB."""
    after: NDArray[np.uint8]
    """(height, width, 3) uint8 RGB."""
    change_mask: NDArray[np.uint8]
    """(height, width) uint8: 0 unchanged, 128 road changed, 255 building changed."""
    objects: tuple[SyntheticObject, ...]
    """Every building and road that is seen."""
    seed: int
    """Seed the pair was made from."""
    resolution_m: float
    """Size of a pixel in metres."""

    facts: PairFacts
    """What captions may say of it."""

    @property
    def is_removal(self) -> bool:
        """Whether more went than came; see `PairFacts`."""
        return self.facts.is_removal


def synthesize_pair(
    seed: int,
    *,
    height_px: int = 256,
    width_px: int = 256,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = 0.0,
) -> SyntheticPair:
    """Makes a pair of images of a scene of its own; equal arguments give equal pixels.

    Args:
        seed: Any integer from 0.
        height_px: Rows, 64 to 16384.
        width_px: Columns, 64 to 16384.
        resolution_m: Size of a pixel in metres, 0.2 to 2.
        change_level: Probability that buildings or roads come or go in a district (about 300 m wide), 0 to 1.
            With 0 nothing changes but light, season, cars and ground.
        removal_level: Probability that such a district loses buildings rather than gaining some, 0 to 1. With 0 only
            single houses go.

    Raises:
        InputError: An argument is outside its range.
    """
    check_arguments(
        seed,
        height_px=height_px,
        width_px=width_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    plan_seed, texture_seed, before_seed, after_seed = np.random.SeedSequence(seed).spawn(4)
    landscape = plan_landscape(
        np.random.default_rng(plan_seed),
        height_px=height_px,
        width_px=width_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
    )
    stage = set_stage(landscape, np.random.default_rng(texture_seed), resolution_m=resolution_m)
    lights = (
        draw_light(np.random.default_rng(before_seed), date_index=0),
        draw_light(np.random.default_rng(after_seed), date_index=1),
    )
    whole = Block(y0=0, x0=0, height_px=height_px, width_px=width_px)
    (before, after), sample = _render(stage, lights, whole)
    outlines = outline_objects(landscape, resolution_m=resolution_m)
    change_mask, objects = draw_change_mask(outlines, whole), list_objects(outlines, whole)
    return SyntheticPair(
        before=before,
        after=after,
        change_mask=change_mask,
        objects=objects,
        seed=seed,
        resolution_m=resolution_m,
        facts=state_facts(sample, change_mask, objects, setting=landscape.setting, lights=lights),
    )


def _render(
    stage: Stage, lights: tuple[Light, Light], whole: Block
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]:
    """Draws a scene block by block and takes its two pictures; returns them and what `sample_land` saw."""
    height_px, width_px = whole.height_px, whole.width_px
    images = np.empty((height_px, width_px, 3), np.uint8), np.empty((height_px, width_px, 3), np.uint8)
    sample = np.empty((-(-height_px // SAMPLE_STEP_PX), -(-width_px // SAMPLE_STEP_PX), 4), np.uint8)
    boxes = Boxes(stage.landscape)
    for block in _cut_blocks(height_px, width_px):
        canvas = draw_block(stage, boxes, block.grow(halo_px(stage.resolution_m)))
        for date_index, (image, light) in enumerate(zip(images, lights, strict=True)):
            noise_offset = stage.offsets_px[1 + date_index]
            seen = expose(stage, canvas, block, date_index=date_index, light=light, noise_offset_px=noise_offset)
            block.cut(image, of=whole)[:] = seen
        land = sample_land(canvas, block, stage.landscape.covers)
        top, left = block.y0 // SAMPLE_STEP_PX, block.x0 // SAMPLE_STEP_PX
        sample[top : top + land.shape[0], left : left + land.shape[1]] = land
    return images, sample


def _cut_blocks(height_px: int, width_px: int) -> Iterator[Block]:
    """Cuts a scene into blocks that are rendered one after the other, so that memory stays bounded."""
    for y0 in range(0, height_px, BLOCK_PX):
        for x0 in range(0, width_px, BLOCK_PX):
            rows, columns = min(BLOCK_PX, height_px - y0), min(BLOCK_PX, width_px - x0)
            yield Block(y0=y0, x0=x0, height_px=rows, width_px=columns)


def set_stage(landscape: Landscape, rng: np.random.Generator, *, resolution_m: float) -> Stage:
    """Gives a landscape its textures: their offsets and the slow variation of its ground."""
    sheets = make_sheets(resolution_m)
    offsets = rng.integers(0, sheets.size_px, (2 + len(sheets.crowns), 2)).tolist()
    shape = (COARSE_LATTICE_SIZE, COARSE_LATTICE_SIZE)
    return Stage(
        landscape=landscape,
        sheets=sheets,
        offsets_px=tuple((row, column) for row, column in offsets),
        coarse_lattice=rng.standard_normal(shape, dtype=np.float32),
        coarse_angle_rad=float(rng.uniform(0.0, math.tau)),
    )


def check_arguments(
    seed: int, *, height_px: int, width_px: int, resolution_m: float, change_level: float, removal_level: float
) -> None:
    """Raises ValueError for an argument outside its range."""
    if seed < 0:
        raise InputError(f"seed is {seed}", expected="an integer from 0", remedy="pass a non-negative seed")
    for name, size in (("height_px", height_px), ("width_px", width_px)):
        if not MIN_SIZE_PX <= size <= MAX_SIZE_PX:
            raise InputError(
                f"{name} is {size}", expected=f"{MIN_SIZE_PX} to {MAX_SIZE_PX} pixels", remedy="pass another size"
            )
    low, high = RESOLUTION_RANGE_M
    if not low <= resolution_m <= high:
        raise InputError(
            f"resolution_m is {resolution_m}",
            expected=f"{low} to {high} metres per pixel, at which houses can be seen",
            remedy="pass another resolution",
        )
    for name, level in (("change_level", change_level), ("removal_level", removal_level)):
        if not 0.0 <= level <= 1.0:
            raise InputError(f"{name} is {level}", expected="0 (never) to 1 (always)", remedy="pass a probability")
