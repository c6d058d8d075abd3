"""Makes many tiles quickly: plans and draws one landscape, then takes pictures of sixteen tiles of it, twice each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from model.errors import InputError
from model.training.synthesis.canvas import Canvas, Stage
from model.training.synthesis.drawing import Boxes, draw_block
from model.training.synthesis.exposure import expose, halo_px
from model.training.synthesis.facts import sample_land, state_facts
from model.training.synthesis.footprint import MAX_SHIFT_PX
from model.training.synthesis.light import draw_light
from model.training.synthesis.pair import (
    DEFAULT_CHANGE_LEVEL,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    SyntheticPair,
    check_arguments,
    set_stage,
)
from model.training.synthesis.planning import plan_landscape
from model.training.synthesis.texture import Block
from model.training.synthesis.truth import Outlines, draw_change_mask, list_objects, outline_objects

DEFAULT_REMOVAL_LEVEL: Final = 0.15
TILES_PER_SIDE: Final = 4
VISITS: Final = 2
"""How often each tile is seen, every time under other suns, in other seasons, by other cameras."""
TILES_PER_LANDSCAPE: Final = VISITS * TILES_PER_SIDE**2
"""Consecutive seeds that show one landscape: seeds in order are much quicker than seeds at random."""

Dates = tuple[int, int]
"""Which dates of the plan, 0 or 1, the two pictures show."""

_REVISITS: Final[tuple[tuple[float, Dates], ...]] = ((0.45, (0, 1)), (0.65, (1, 0)), (0.80, (0, 0)), (1.0, (1, 1)))
"""Running shares of what the second visit shows: growth, demolition, or that light and season are no change."""
_LANDSCAPE_STREAM = 0x7113
"""Keeps the landscapes of tiles apart from those of `synthesize_pair`."""


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """A landscape that is planned and drawn, ready to take pictures of."""

    stage: Stage
    canvas: Canvas
    outlines: tuple[Outlines, ...]


def synthesize_tiles(
    seeds: Iterable[int],
    *,
    size_px: int = 256,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
    removal_level: float = DEFAULT_REMOVAL_LEVEL,
    max_shift_px: float = 2.0,
) -> Iterator[SyntheticPair]:
    """Makes one tile pair per seed; equal arguments give equal pixels, whatever other seeds are asked for.

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
    largest_px = MAX_SIZE_PX // TILES_PER_SIDE
    if not MIN_SIZE_PX <= size_px <= largest_px:
        raise InputError(
            f"size_px is {size_px}", expected=f"{MIN_SIZE_PX} to {largest_px} pixels", remedy="pass another size"
        )
    for seed in seeds:
        check_arguments(
            seed,
            height_px=size_px,
            width_px=size_px,
            resolution_m=resolution_m,
            change_level=change_level,
            removal_level=removal_level,
        )
        survey = _survey(seed // TILES_PER_LANDSCAPE, size_px, resolution_m, change_level, removal_level)
        yield _take_pictures(survey, seed, size_px=size_px, max_shift_px=max_shift_px)


@lru_cache(maxsize=1)
def _survey(number: int, size_px: int, resolution_m: float, change_level: float, removal_level: float) -> _Survey:
    """Plans and draws a landscape."""
    plan_seed, texture_seed = np.random.SeedSequence([_LANDSCAPE_STREAM, number]).spawn(2)
    extent_px = size_px * TILES_PER_SIDE
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
    canvas = draw_block(stage, Boxes(landscape), whole.grow(halo_px(resolution_m)))
    return _Survey(stage=stage, canvas=canvas, outlines=outline_objects(landscape, resolution_m=resolution_m))


def _take_pictures(survey: _Survey, seed: int, *, size_px: int, max_shift_px: float) -> SyntheticPair:
    """Takes the two pictures of one tile and looks up its truth."""
    rng = np.random.default_rng([_LANDSCAPE_STREAM, seed, 1])
    visit, tile = divmod(seed % TILES_PER_LANDSCAPE, TILES_PER_SIDE**2)
    row, column = divmod(tile, TILES_PER_SIDE)
    block = Block(y0=row * size_px, x0=column * size_px, height_px=size_px, width_px=size_px)
    draw = float(rng.random())
    dates = next(dates for share, dates in _REVISITS if draw < share) if visit else (0, 1)
    # Most pairs are registered well: the mean shift is a third of the greatest one.
    shift_y, shift_x = (rng.beta(1.0, 2.0, 2) * rng.choice((-1.0, 1.0), 2) * max_shift_px).tolist()
    lights = (draw_light(rng, date_index=0), draw_light(rng, date_index=1))
    images = [
        expose(
            survey.stage,
            survey.canvas,
            block,
            date_index=date_index,
            light=light,
            shift_px=shift,
            noise_offset_px=(int(rng.integers(1 << 16)), int(rng.integers(1 << 16))),
        )
        for date_index, light, shift in zip(dates, lights, ((shift_y, shift_x), (0.0, 0.0)), strict=True)
    ]
    landscape = survey.stage.landscape
    outlines = tuple(kind.at_dates(dates) for kind in survey.outlines)
    change_mask = draw_change_mask(outlines, block, before_shift_px=(shift_y, shift_x))
    objects = list_objects(outlines, block, before_shift_px=(shift_y, shift_x))
    sample = sample_land(survey.canvas, block, landscape.covers, dates=dates)
    return SyntheticPair(
        before=images[0],
        after=images[1],
        change_mask=change_mask,
        objects=objects,
        seed=seed,
        resolution_m=survey.stage.resolution_m,
        facts=state_facts(sample, change_mask, objects, setting=landscape.setting, lights=lights),
    )
