"""Blocks of pixels on the grid out of several dates: the first that shows the ground, or the median of all that do.

Of each date its class band is read first, a little beyond the block; where it says that the date shows nothing that is
wanted, its colours are not opened. With `first_clear` no date is opened once every pixel is filled.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from model.errors import InputError
from pipeline.config.limits import get_limits
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, Window
from pipeline.scenes.cloud_finder import find_clouds
from pipeline.scenes.composite import CompositeScene
from pipeline.scenes.mosaic import (
    Block,
    cut_strips,
    list_parts_in_window,
    outline_window,
    read_block,
    take_median,
    touches,
)
from pipeline.scenes.scene import Scene
from pipeline.scenes.signing import use_signer
from pipeline.scenes.stretch import BandLimits
from pipeline.scenes.warp import read_bands


def read_composite(
    scene: CompositeScene, *, grid: Grid, window: Window, resampling: str, limits: BandLimits | None = None
) -> Block:
    """Read a rectangle of the grid out of several dates.

    Any window gives the same pixels. A date that cannot be read is done without; which, the block tells. One whose
    server falls silent is not: the rectangle can be read later.

    Args:
        scene: The dates, and by which rule they go together.
        grid: What they are warped onto.
        window: What to read, in pixels of the grid.
        resampling: ``auto`` or the name of one of rasterio's resampling methods.
        limits: Physical values that become 0 and 255; None where the scene holds bytes to be shown.

    Raises:
        InputError: no date that reaches there can be read, or a server was silent for too long.
    """
    reading = _Reading(scene=scene, grid=grid, resampling=resampling, limits=limits)
    with use_signer(scene.sign):
        block = reading.take_first(window) if scene.rule == "first_clear" else reading.take_medians(window)
    reading.check()
    return replace(block, unread=reading.list_unread())


@dataclass(kw_only=True)
class _Reading:
    """How a rectangle is read, and what has become of the dates so far, by their place among all."""

    scene: CompositeScene
    grid: Grid
    resampling: str
    limits: BandLimits | None
    problems: dict[int, InputError] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)

    def list_unread(self) -> tuple[str, ...]:
        return tuple(
            f"{self.scene.dates[place].scene_id} ({problem.found})" for place, problem in sorted(self.problems.items())
        )

    def check(self) -> None:
        if self.problems and not self.read:
            raise next(iter(self.problems.values()))

    def take_first(self, window: Window) -> Block:
        shape = window[2:]
        pixels = np.zeros((3, *shape), dtype=np.uint8)
        is_valid, is_cloudy = np.zeros((2, *shape), dtype=np.bool_)
        made_of = np.zeros(shape, dtype=self.scene.bit_type)
        for place in self._list_dates(window):
            ys, xs = _bound(~is_valid)
            missing = Window(window.top + ys.start, window.left + xs.start, ys.stop - ys.start, xs.stop - xs.start)
            found = self._read_date(place, window=missing, is_wanted=~is_valid[ys, xs])
            if found is None:
                continue
            is_new = found.is_valid & ~is_valid[ys, xs]
            for seen, known in zip(found.pixels, pixels[:, ys, xs], strict=True):
                np.copyto(known, seen, where=is_new)
            made_of[ys, xs][is_new] = made_of.dtype.type(1 << place)
            is_valid[ys, xs] |= is_new
            is_cloudy[ys, xs] |= found.is_cloudy
            if is_valid.all():
                break
        return Block(pixels=pixels, is_valid=is_valid, is_cloudy=is_cloudy & ~is_valid, made_of=made_of)

    def take_medians(self, window: Window) -> Block:
        """Take the median strip by strip, so that never all dates of all of the rectangle are held."""
        strips = cut_strips(window, n_layers=len(self.scene.dates))
        blocks = [self._take_median(strip) for strip, _ in strips]
        return Block(
            pixels=np.concatenate([block.pixels for block in blocks], axis=1),
            is_valid=np.concatenate([block.is_valid for block in blocks]),
            is_cloudy=np.concatenate([block.is_cloudy for block in blocks]),
            made_of=np.concatenate([block.made_of for block in blocks if block.made_of is not None]),
        )

    def _take_median(self, window: Window) -> Block:
        shape = window[2:]
        made_of = np.zeros(shape, dtype=self.scene.bit_type)
        is_cloudy, everywhere = np.zeros(shape, dtype=np.bool_), np.ones(shape, dtype=np.bool_)
        layers = []
        for place in self._list_dates(window):
            found = self._read_date(place, window=window, is_wanted=everywhere)
            if found is None:
                continue
            is_cloudy |= found.is_cloudy
            if found.is_valid.any():
                layers.append(found)
                made_of[found.is_valid] |= made_of.dtype.type(1 << place)
        if not layers:
            nothing = np.zeros(shape, dtype=np.bool_)
            return Block(pixels=np.zeros((3, *shape), np.uint8), is_valid=nothing, is_cloudy=is_cloudy, made_of=made_of)
        block = take_median(layers)
        return replace(block, is_cloudy=is_cloudy & ~block.is_valid, made_of=made_of)

    def _list_dates(self, window: Window) -> list[int]:
        area = outline_window(window, grid=self.grid)
        return [place for place, date in enumerate(self.scene.dates) if touches(date.footprint, area)]

    def _read_date(self, place: int, *, window: Window, is_wanted: BoolArray) -> Block | None:
        """Read one date; None where it cannot be read."""
        if place in self.problems:
            return None
        date, start = self.scene.dates[place], time.monotonic()
        try:
            is_hidden, is_told = find_hidden(date, grid=self.grid, window=window, buffer_m=self.scene.cloud_buffer_m)
            # By the class band alone, so that it does not depend on whether the colours were opened.
            is_cloudy = is_hidden & is_told
            if (is_wanted & ~is_hidden).any():
                block = read_block(
                    date,
                    grid=self.grid,
                    window=window,
                    resampling=self.resampling,
                    limits=self.limits,
                    is_hidden=is_hidden,
                )
                block = replace(block, is_cloudy=is_cloudy)
            else:
                black = np.broadcast_to(np.uint8(0), (3, *is_hidden.shape))
                block = Block(pixels=black, is_valid=np.zeros_like(is_hidden), is_cloudy=is_cloudy)
        except InputError as problem:
            if time.monotonic() - start >= get_limits().server_silence_s:
                raise
            self.problems[place] = problem
            return None
        self.read.add(place)
        return block


def find_hidden(date: Scene, *, grid: Grid, window: Window, buffer_m: float) -> tuple[BoolArray, BoolArray]:
    """Tell where a date's class bands say that the ground is hidden, with a buffer around it, and where they tell.

    Args:
        date: One acquisition.
        grid: What the classes are laid onto.
        window: What to read, in pixels of the grid.
        buffer_m: So many metres on the ground around what hides it count as hidden, what lies outside of the window
            and of the grid among it.

    Raises:
        InputError: a file cannot be read to the end.
    """
    margin_px = math.ceil(buffer_m / grid.ground_resolution_m)
    inner = slice(margin_px, margin_px + window.height), slice(margin_px, margin_px + window.width)
    wide = pad_grid(grid, margin_px)
    around = Window(window.top, window.left, window.height + 2 * margin_px, window.width + 2 * margin_px)
    is_hidden, is_told = np.zeros((2, around.height, around.width), dtype=np.bool_)
    for part in list_parts_in_window(date, grid=wide, window=around):
        if part.nir is not None:
            is_cloudy, is_known = find_clouds(part, grid=wide, window=around)
            is_hidden |= is_cloudy
            is_told |= is_known
        elif part.classes is not None and date.hidden:
            (classes,), is_known = read_bands([part.classes], grid=wide, window=around, resampling="nearest")
            is_hidden |= date.hidden.find(classes) & is_known
            is_told |= is_known
    return grow(is_hidden, margin_px)[inner], is_told[inner]


def pad_grid(grid: Grid, margin_px: int) -> Grid:
    """Give a grid with so many pixels more on each side, at least; row and column 0 lie so far up and to the left."""
    if not margin_px:
        return grid
    n_more = -(-2 * margin_px // grid.stride_px)
    return replace(
        grid.move(-margin_px, -margin_px),
        n_rows=grid.n_rows + n_more,
        n_cols=grid.n_cols + n_more,
        # What both scenes show stays where it is: scales are measured in its middle.
        top_px=grid.top_px + margin_px,
        left_px=grid.left_px + margin_px,
    )


def grow(mask: BoolArray, radius_px: int) -> BoolArray:
    """Add every pixel whose centre lies at most so many pixels from that of one in the mask.

    Row by row of a disk: twice as quick as a distance transform of the whole.
    """
    if not radius_px or not mask.any():
        return mask
    grown, height = mask.copy(), len(mask)
    values = mask.view(np.uint8)
    for dy in range(min(radius_px, height - 1) + 1):
        half_px = math.isqrt(radius_px**2 - dy**2)
        spread = scipy.ndimage.maximum_filter1d(values, 2 * half_px + 1, axis=1, mode="constant").view(np.bool_)
        grown[dy:] |= spread[: height - dy]
        grown[: height - dy] |= spread[dy:]
    return grown


def _bound(mask: BoolArray) -> tuple[slice, slice]:
    """Give rows and columns of the smallest rectangle that holds all of a mask, which is not empty."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
