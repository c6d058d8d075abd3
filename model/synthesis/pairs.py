"""Makes pairs of aerial-looking images whose every change is known, one at a time or many from one landscape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.synthesis.canvas import Canvas
from model.synthesis.drawing import Stage, draw_block, set_stage
from model.synthesis.geometry import MAX_SHIFT_PX, Block, ByteArray
from model.synthesis.light import Light, draw_light, expose, halo_px
from model.synthesis.planning import plan_landscape
from model.synthesis.truth import (
    SAMPLE_STEP_PX,
    Dates,
    PairFacts,
    SyntheticObject,
    draw_truth,
    sample_land,
    state_facts,
)

DEFAULT_CHANGE_LEVEL: Final = 0.3
DEFAULT_REMOVAL_LEVEL: Final = 0.15
MIN_SIZE_PX: Final = 64
MAX_SIZE_PX: Final = 16384
RESOLUTION_RANGE_M: Final = (0.2, 2.0)

BLOCK_PX: Final = 512
"""Side of a rendered block; a multiple of 16, so that JPEG's blocks fall as in the whole image."""

_TILES_PER_SIDE: Final = 4

_VISITS: Final = 2
"""How often each tile is seen, every time under other suns, in other seasons, by other cameras."""

TILES_PER_LANDSCAPE: Final = _VISITS * _TILES_PER_SIDE**2
"""Consecutive seeds that show one landscape: seeds in order are much quicker than seeds at random."""

_REVISITS: Final[tuple[tuple[float, Dates], ...]] = ((0.45, (0, 1)), (0.65, (1, 0)), (0.80, (0, 0)), (1.0, (1, 1)))
"""Running shares of what the second visit shows: growth, demolition, or that light and season are no change."""

_LANDSCAPE_STREAM = 0x7113
"""Keeps the landscapes of tiles apart from those of `synthesize_pair`."""


_Images = tuple[ByteArray, ByteArray]
"""(height, width, 3) RGB before and after."""
_Lights = tuple[Light, Light]


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
    """Make a pair of images of a scene of its own; equal arguments give equal pixels.

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
    _check_seed(seed)
    for name, size in (("height_px", height_px), ("width_px", width_px)):
        _check_size(name, size, largest_px=MAX_SIZE_PX)
    _check_scene(resolution_m=resolution_m, change_level=change_level, removal_level=removal_level)
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
    images, sample = _render(stage, lights, whole)
    return _finish(seed, stage, images, lights, sample, draw_truth(stage, whole))


def _render(stage: Stage, lights: _Lights, whole: Block) -> tuple[_Images, ByteArray]:
    """Draw a scene block by block and take its two pictures; return them and what `sample_land` saw."""
    height_px, width_px = whole.shape
    images = np.empty((height_px, width_px, 3), np.uint8), np.empty((height_px, width_px, 3), np.uint8)
    sample = np.empty((-(-height_px // SAMPLE_STEP_PX), -(-width_px // SAMPLE_STEP_PX), 4), np.uint8)
    for block in _cut_blocks(height_px, width_px):
        canvas = draw_block(stage, block.grow(halo_px(stage.resolution_m)))
        for date_index, (image, light) in enumerate(zip(images, lights, strict=True)):
            noise_offset = stage.offsets_px[1 + date_index]
            seen = expose(stage, canvas, block, date_index=date_index, light=light, noise_offset_px=noise_offset)
            image[block.window] = seen
        land = sample_land(canvas, block, stage.landscape.covers)
        top, left = block.y0 // SAMPLE_STEP_PX, block.x0 // SAMPLE_STEP_PX
        sample[top : top + land.shape[0], left : left + land.shape[1]] = land
    return images, sample


def _cut_blocks(height_px: int, width_px: int) -> Iterator[Block]:
    """Cut a scene into blocks that are rendered one after the other, so that memory stays bounded."""
    for y0 in range(0, height_px, BLOCK_PX):
        for x0 in range(0, width_px, BLOCK_PX):
            rows, columns = min(BLOCK_PX, height_px - y0), min(BLOCK_PX, width_px - x0)
            yield Block(y0=y0, x0=x0, height_px=rows, width_px=columns)


def synthesize_tiles(
    seeds: Iterable[int],
    *,
    size_px: int = 256,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = DEFAULT_REMOVAL_LEVEL,
    max_shift_px: float = 2.0,
) -> Iterator[SyntheticPair]:
    """Make one tile pair per seed; equal arguments give equal pixels, whatever other seeds are asked for.

    `TILES_PER_LANDSCAPE` consecutive seeds show one landscape: its sixteen tiles, then the same tiles again, where a
    fifth has its dates swapped and a third shows one date twice, so that nothing changed but light, season and
    camera. Ask for seeds in order: the last landscape is kept, so tiles of it cost a fraction of the first one.

    Args:
        seeds: Integers from 0.
        size_px: Height and width, 64 to 4096.
        resolution_m: Size of a pixel in metres, 0.2 to 2.
        change_level: Probability that buildings or roads come or go in a district (about 300 m wide), 0 to 1.
        removal_level: Probability that such a district loses buildings rather than gaining some, 0 to 1.
        max_shift_px: Greatest misregistration of the first date, 0 to 2. The mask lies on the second date; what
            went is marked where the first date shows it.

    Yields:
        Pairs in the order of the seeds. Outlines of objects are where the mask has them.

    Raises:
        InputError: An argument is outside its range.
    """
    if not 0.0 <= max_shift_px <= MAX_SHIFT_PX:
        raise InputError(
            f"max_shift_px is {max_shift_px}", expected=f"0 to {MAX_SHIFT_PX} pixels", remedy="pass another shift"
        )
    _check_size("size_px", size_px, largest_px=MAX_SIZE_PX // _TILES_PER_SIDE)
    _check_scene(resolution_m=resolution_m, change_level=change_level, removal_level=removal_level)
    for seed in seeds:
        _check_seed(seed)
        number = seed // TILES_PER_LANDSCAPE
        stage, canvas = _survey(number, size_px, resolution_m, change_level, removal_level)
        yield _take_pictures(stage, canvas, seed, size_px=size_px, max_shift_px=max_shift_px)


@lru_cache(maxsize=1)
def _survey(
    number: int, size_px: int, resolution_m: float, change_level: float, removal_level: float
) -> tuple[Stage, Canvas]:
    """Plan and draw a landscape, ready to take pictures of."""
    plan_seed, texture_seed = np.random.SeedSequence([_LANDSCAPE_STREAM, number]).spawn(2)
    extent_px = size_px * _TILES_PER_SIDE
    landscape = plan_landscape(
        np.random.default_rng(plan_seed),
        height_px=extent_px,
        width_px=extent_px,
        resolution_m=resolution_m,
        change_level=change_level,
        removal_level=removal_level,
        tile_px=size_px,
    )
    stage = set_stage(landscape, np.random.default_rng(texture_seed), resolution_m=resolution_m)
    whole = Block(y0=0, x0=0, height_px=extent_px, width_px=extent_px)
    return stage, draw_block(stage, whole.grow(halo_px(resolution_m)))


def _take_pictures(stage: Stage, canvas: Canvas, seed: int, *, size_px: int, max_shift_px: float) -> SyntheticPair:
    """Take the two pictures of one tile and look up its truth."""
    rng = np.random.default_rng([_LANDSCAPE_STREAM, seed, 1])
    visit, tile = divmod(seed % TILES_PER_LANDSCAPE, _TILES_PER_SIDE**2)
    row, column = divmod(tile, _TILES_PER_SIDE)
    block = Block(y0=row * size_px, x0=column * size_px, height_px=size_px, width_px=size_px)
    draw = float(rng.random())
    dates = next(dates for share, dates in _REVISITS if draw < share) if visit else (0, 1)
    # Most pairs are registered well: the mean shift is a third of the greatest one.
    shift_y, shift_x = (rng.beta(1.0, 2.0, 2) * rng.choice((-1.0, 1.0), 2) * max_shift_px).tolist()
    lights = (draw_light(rng, date_index=0), draw_light(rng, date_index=1))
    before, after = (
        expose(
            stage,
            canvas,
            block,
            date_index=date_index,
            light=light,
            shift_px=shift,
            noise_offset_px=(int(rng.integers(1 << 16)), int(rng.integers(1 << 16))),
        )
        for date_index, light, shift in zip(dates, lights, ((shift_y, shift_x), (0.0, 0.0)), strict=True)
    )
    sample = sample_land(canvas, block, stage.landscape.covers, dates=dates)
    truth = draw_truth(stage, block, dates=dates, before_shift_px=(shift_y, shift_x))
    return _finish(seed, stage, (before, after), lights, sample, truth)


def _finish(
    seed: int,
    stage: Stage,
    images: _Images,
    lights: _Lights,
    sample: ByteArray,
    truth: tuple[ByteArray, tuple[SyntheticObject, ...]],
) -> SyntheticPair:
    """Put a pair together, with what can be said of it."""
    change_mask, objects = truth
    setting, greenness = stage.landscape.setting.name, (lights[0].greenness, lights[1].greenness)
    return SyntheticPair(
        before=images[0],
        after=images[1],
        change_mask=change_mask,
        objects=objects,
        seed=seed,
        resolution_m=stage.resolution_m,
        facts=state_facts(sample, change_mask, objects, setting=setting, greenness=greenness),
    )


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}", expected="an integer from 0", remedy="pass a non-negative seed")


def _check_size(name: str, size_px: int, *, largest_px: int) -> None:
    if not MIN_SIZE_PX <= size_px <= largest_px:
        raise InputError(
            f"{name} is {size_px}", expected=f"{MIN_SIZE_PX} to {largest_px} pixels", remedy="pass another size"
        )


def _check_scene(*, resolution_m: float, change_level: float, removal_level: float) -> None:
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
