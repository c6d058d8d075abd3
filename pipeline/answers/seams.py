"""Masks without seams: where something changed beside a border of tiles, further windows look over it.

What a model sees of a thing ends at the edge of its tile, and so does the outline that it draws. So wherever the mask
of a tile comes close to an inner border, or to a corner where four tiles meet, a window of a tile's size is shown to
the model that lies half a tile further, with the border in its middle. The masks of all windows over one pixel are
blended, each by how far the pixel lies from that window's edges: towards a border the tile's own mask fades and that of
the window across it takes over, and the tile on the other side, if it looks through the very same window, comes to the
same values there. Where its own mask stays away from the border, or its answers tell of no change, the windows tell how
far the outline goes on (`pipeline.answers.beyond`).

What becomes of a tile depends on its own mask, on the pixels around it, and on which tiles around it are asked about:
not on what the model says of these, on batches, workers or shards, nor on the order of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.interface import ChangeMasks
from pipeline.answers.beyond import measure_padding
from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.tiles.table import Tile

NEAR = 0.3
"""Least probability of change that asks for a further look."""
SIDE_REACH = 1 / 16
"""A mask comes close to a border within this part of a tile's side. Not at its edge alone: there a model sees least."""
CORNER_REACH = 1 / 8
"""Likewise to a corner, by both sides."""

WINDOWS_AT_ONCE = 16
"""Windows whose pixels and masks are held together."""

_LEAST_WEIGHT = 1e-3
# ^ So that a pixel at the edge of all its windows has a mask as well.

Place = tuple[int, int]
"""Row and column of a tile; of a window over a border in halves, so that tile (r, c) is (2 r, 2 c)."""
Masks = npt.NDArray[np.float32]
LookAgain = Callable[[Sequence[Window]], ChangeMasks]
"""Gives the masks of windows of a tile's size, wherever they lie on the grid."""


@dataclass(frozen=True, kw_only=True)
class SeamPlan:
    """Which further windows there are to be, and which of them a tile is blended with."""

    windows: Sequence[Place]
    """All, ascending."""
    by_tile: Sequence[Sequence[Place]]
    """Those of each tile, in the order of the tiles."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blended:
    """The masks of some tiles, blended with those of the windows over their borders."""

    masks: ChangeMasks
    """Of all that the model saw of each tile."""
    wider: Sequence[Masks | None]
    """The same layers, labels and then aspects, with `measure_padding` pixels more on every side, (layer, y, x), and 0
    where no window lies; None of a tile that no window lies over."""


def blend_seams(
    masks: ChangeMasks,
    *,
    tiles: Sequence[Tile],
    is_drawn: npt.NDArray[np.bool_],
    asked: frozenset[Place],
    grid: Grid,
    look_again: LookAgain,
) -> Blended:
    """Blend the masks of tiles with those of windows over their borders, where something changed there.

    Args:
        masks: Masks of all that the model saw of the tiles.
        tiles: The tiles.
        is_drawn: Which labels of each are outlined, (tile, label): no other asks for a further look.
        asked: Row and column of the tiles that are asked about: windows lie on these alone.
        grid: The grid.
        look_again: Is called with some windows at a time, if there are any.
    """
    is_near: npt.NDArray[np.bool_] = np.any(
        (masks.probabilities >= NEAR) & is_drawn[:, :, np.newaxis, np.newaxis], axis=1
    )
    plan = plan_windows(is_near, tiles=tiles, asked=asked, grid=grid)
    if not plan.windows:
        return Blended(masks=masks, wider=[None] * len(tiles))
    blends = [Blend(layers, tile=tile, grid=grid) for layers, tile in zip(_stack(masks), tiles, strict=True)]
    wanted_by = {
        place: [blend for blend, places in zip(blends, plan.by_tile, strict=True) if place in places]
        for place in plan.windows
    }
    for start in range(0, len(plan.windows), WINDOWS_AT_ONCE):
        some = plan.windows[start : start + WINDOWS_AT_ONCE]
        windows = [locate_window(place, grid=grid) for place in some]
        for place, window, layers in zip(some, windows, _stack(look_again(windows)), strict=True):
            for blend in wanted_by[place]:
                blend.add(layers, window=window)
    blended = np.stack([blend.finish() for blend in blends])
    n_labels = len(masks.labels)
    return Blended(
        masks=ChangeMasks(
            labels=masks.labels,
            probabilities=blended[:, :n_labels],
            aspects={name: blended[:, index] for index, name in enumerate(masks.aspects, start=n_labels)},
        ),
        wider=[blend.widen() for blend in blends],
    )


def _stack(masks: ChangeMasks) -> Masks:
    """Put labels and aspects into one array of shape (tile, layer, y, x)."""
    return np.concatenate([masks.probabilities, *(layer[:, np.newaxis] for layer in masks.aspects.values())], axis=1)


def plan_windows(
    is_near: npt.NDArray[np.bool_], *, tiles: Sequence[Tile], asked: frozenset[Place], grid: Grid
) -> SeamPlan:
    """Choose the windows.

    Args:
        is_near: Where something may have changed in all that the model saw of each tile, (tile, y, x).
        tiles: The tiles.
        asked: As `blend_seams`.
        grid: The grid.
    """
    margin, stride = grid.overlap_px // 2, grid.stride_px
    by_tile = []
    for of_tile, tile in zip(is_near, tiles, strict=True):
        owned = of_tile[margin : margin + stride, margin : margin + stride]
        steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
        by_tile.append(
            [
                (2 * tile.row + y, 2 * tile.col + x)
                for y, x in steps
                if _comes_close(owned, step=(y, x))
                and all((tile.row + dy, tile.col + dx) in asked for dy in {0, y} for dx in {0, x})
            ]
        )
    return SeamPlan(windows=sorted({place for places in by_tile for place in places}), by_tile=by_tile)


def _comes_close(is_changed: npt.NDArray[np.bool_], *, step: Place) -> bool:
    """Tell whether a mask comes close to a side, or to a corner, of the ground of its tile."""
    reach = CORNER_REACH if all(step) else SIDE_REACH
    parts = []
    for side, length in zip(step, is_changed.shape, strict=True):
        depth = max(1, round(length * reach))
        parts.append({-1: slice(0, depth), 0: slice(None), 1: slice(length - depth, length)}[side])
    return bool(is_changed[tuple(parts)].any())


def locate_window(place: Place, *, grid: Grid) -> Window:
    """Give the pixels of the grid in a window."""
    top, left = (index * grid.stride_px // 2 - grid.overlap_px // 2 for index in place)
    return Window(top, left, grid.tile_size_px, grid.tile_size_px)


class Blend:
    """All that a model tells of one tile, blended with what it tells of windows that lie over it in part."""

    def __init__(self, layers: Masks, *, tile: Tile, grid: Grid) -> None:
        """Begin with the tile's own probabilities, of shape (layer, y, x)."""
        self._own, self._padding = grid.tile_window(tile.row, tile.col), measure_padding(grid)
        self._layers, self._weight = layers, weigh_pixels(grid.tile_size_px)
        sides = (self._padding, self._padding)
        self._sums = np.pad(layers * self._weight, ((0, 0), sides, sides))
        self._weights = np.pad(self._weight, sides)
        self._is_alone = True

    def add(self, layers: Masks, *, window: Window) -> None:
        """Blend in what is told of a window."""
        shifts = (window.top - self._own.top, window.left - self._own.left)
        rows, cols = (_overlap(shift, len(self._weight), padding=self._padding) for shift in shifts)
        target, source = zip(rows, cols, strict=True)
        self._sums[(slice(None), *target)] += layers[(slice(None), *source)] * self._weight[source]
        self._weights[target] += self._weight[source]
        self._is_alone = False

    def finish(self) -> Masks:
        """Give the blended probabilities; those of a tile that no window lies over stay as they are, to the bit."""
        if self._is_alone:
            return self._layers
        inner = slice(self._padding, self._padding + len(self._weight))
        # In float32 a mean of equal numbers may come out beyond them.
        return np.asarray((self._sums[:, inner, inner] / self._weights[inner, inner]).clip(0, 1), np.float32)

    def widen(self) -> Masks | None:
        """Give the blended probabilities of the tile and what lies around it; None where no window lies over it."""
        if self._is_alone:
            return None
        return np.asarray((self._sums / np.maximum(self._weights, _LEAST_WEIGHT**2)).clip(0, 1), np.float32)


def _overlap(shift: int, size: int, *, padding: int) -> tuple[slice, slice]:
    """Give what a window so far behind another covers of it and its padding: its place there, and in itself."""
    low, high = max(-padding, shift), min(size + padding, size + shift)
    return slice(low + padding, high + padding), slice(low - shift, high - shift)


def weigh_pixels(size: int) -> npt.NDArray[np.float32]:
    """Give how much each pixel of a window counts, (y, x): 1 in its middle, falling to next to nothing at its edges."""
    places = np.arange(size) + 0.5
    side = np.maximum(np.minimum(places, size - places) / (size / 2), _LEAST_WEIGHT)
    return np.asarray(np.outer(side, side), np.float32)
