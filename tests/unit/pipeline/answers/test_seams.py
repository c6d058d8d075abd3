"""Windows over the borders of tiles: where they are looked through, and what becomes of the masks on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from made_outlines import make_grid, make_tile

from model.interface import ChangeMasks
from pipeline.answers.seams import (
    WINDOWS_AT_ONCE,
    blend_seams,
    locate_window,
    plan_windows,
    weigh_pixels,
)
from pipeline.grid.grid import Grid
from pipeline.grid.window import Window

TILE = 32


class NearSighted:
    """Sees a field of probabilities rightly in the middle of a window, and fades out what lies close to its edges."""

    def __init__(self, field: np.ndarray, *, grid: Grid) -> None:
        self.margin = 2 * grid.tile_size_px
        self.field = np.pad(field, self.margin)
        places = np.arange(grid.tile_size_px)
        self.sight = np.minimum(1, (1 + np.minimum(places, places[::-1])) / 4)
        self.seen: list[Window] = []

    def look(self, windows: Sequence[Window]) -> ChangeMasks:
        self.seen += windows
        parts = []
        for top, left, height, width in windows:
            y, x = top + self.margin, left + self.margin
            parts.append(self.field[y : y + height, x : x + width] * np.outer(self.sight, self.sight))
        seen = np.array(parts, np.float32)
        return ChangeMasks(labels=("building",), probabilities=seen[:, np.newaxis], aspects={"removed": seen / 2})


def look_at_all(grid: Grid, field: np.ndarray, *, chosen: Sequence[tuple[int, int]] | None = None) -> dict:
    """Give the blended masks of some tiles, looked at together."""
    every = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    tiles = [make_tile(grid, *place) for place in chosen or every]
    model = NearSighted(field, grid=grid)
    own = model.look([grid.tile_window(tile.row, tile.col) for tile in tiles])
    model.seen.clear()
    is_drawn = np.ones((len(tiles), 1), bool)
    blended = blend_seams(own, tiles=tiles, is_drawn=is_drawn, asked=frozenset(every), grid=grid, look_again=model.look)
    return {
        "own": own.probabilities[:, 0],
        "blended": blended.masks.probabilities[:, 0],
        "removed": blended.masks.aspects["removed"],
        "wider": [None if layers is None else layers[0] for layers in blended.wider],
        "windows": list(model.seen),
    }


def paint(grid: Grid, *boxes: tuple[slice, slice]) -> np.ndarray:
    field = np.zeros(grid.shape_px, np.float32)
    for box in boxes:
        field[box] = 0.9
    return field


@pytest.mark.parametrize("overlap_px", [0, 8])
def test_what_lies_on_a_border_is_seen_whole_and_alike_from_both_sides(overlap_px: int) -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=TILE, overlap_px=overlap_px)
    border = grid.stride_px
    found = look_at_all(grid, paint(grid, np.s_[8:16, border - 6 : border + 6]))

    margin = grid.overlap_px // 2
    assert found["windows"] == [Window(-margin, border // 2 - margin, TILE, TILE)]
    first = found["blended"][0][:, margin : margin + border]
    second = found["blended"][1][:, margin : margin + border]
    inside = slice(8 + margin, 16 + margin)
    assert (found["own"][0][inside, margin + border - 1] < 0.5).all() == (overlap_px == 0)
    assert (first[inside, -1] >= 0.5).all()
    # Neighbouring pixels on both sides: no step where the border is.
    np.testing.assert_allclose(first[inside, -1], second[inside, 0], atol=0.05)
    np.testing.assert_allclose(found["removed"], found["blended"] / 2, atol=1e-6)


def test_where_four_tiles_meet_a_window_lies_over_all() -> None:
    grid = make_grid(n_rows=2, n_cols=2, tile=TILE)
    found = look_at_all(grid, paint(grid, np.s_[24:40, 24:40]))

    assert Window(TILE // 2, TILE // 2, TILE, TILE) in found["windows"]
    assert len(found["windows"]) == len(set(found["windows"])) == 5
    corners = [found["blended"][at][y, x] for at, (y, x) in enumerate([(-1, -1), (-1, 0), (0, -1), (0, 0)])]
    assert min(corners) > 0.8


def test_tiles_without_change_at_a_border_stay_to_the_bit() -> None:
    grid = make_grid(n_rows=2, n_cols=3, tile=TILE)
    found = look_at_all(grid, paint(grid, np.s_[10:20, 10:20]))

    assert found["windows"] == []
    np.testing.assert_array_equal(found["blended"], found["own"])


def test_a_tile_does_not_depend_on_the_others_of_its_batch() -> None:
    grid = make_grid(n_rows=3, n_cols=6, tile=TILE)
    field = np.asarray(np.random.default_rng(5).random(grid.shape_px) < 0.6, np.float32)
    every = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]

    together = look_at_all(grid, field)

    assert len(together["windows"]) > WINDOWS_AT_ONCE
    for some in (every[:5], every[5:], every[::-3]):
        alone = look_at_all(grid, field, chosen=some)
        indexes = [every.index(place) for place in some]
        np.testing.assert_array_equal(alone["blended"], together["blended"][indexes])


def test_windows_lie_on_tiles_that_are_asked_about_alone() -> None:
    grid = make_grid(n_rows=2, n_cols=2, tile=TILE)
    is_near = np.ones((1, TILE, TILE), bool)

    def plan(*asked: tuple[int, int]) -> list[tuple[int, int]]:
        tiles = [make_tile(grid, 0, 0)]
        return list(plan_windows(is_near, tiles=tiles, asked=frozenset(asked), grid=grid).windows)

    assert plan((0, 0)) == []
    assert plan((0, 0), (0, 1)) == [(0, 1)]
    assert plan((0, 0), (0, 1), (1, 1)) == [(0, 1)]
    assert plan((0, 0), (0, 1), (1, 0), (1, 1)) == [(0, 1), (1, 0), (1, 1)]


def test_what_is_not_outlined_asks_for_no_look() -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=TILE)
    masks = ChangeMasks(labels=("road", "building"), probabilities=np.full((2, 2, TILE, TILE), 0.9, np.float32))

    same = blend_seams(
        masks,
        tiles=[make_tile(grid, 0, col) for col in (0, 1)],
        is_drawn=np.zeros((2, 2), bool),
        asked=frozenset([(0, 0), (0, 1)]),
        grid=grid,
        look_again=NearSighted(np.zeros(grid.shape_px), grid=grid).look,
    )

    assert same.masks is masks
    assert same.wider == [None, None]


def test_a_window_of_its_own_place_is_the_tile() -> None:
    grid = make_grid(overlap_px=8)
    assert locate_window((2, 4), grid=grid) == grid.tile_window(1, 2)
    weights = weigh_pixels(TILE)
    assert weights.max() == weights[TILE // 2, TILE // 2]
    assert 0 < weights.min() < 0.01
