"""Which tiles people have settled, and what becomes of them: outlines as masks, rejected ones as unchanged ground."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_outlines import make_findings, make_grid

from pipeline.grid.grid import Grid
from pipeline.reviews.review import Verdict
from pipeline.reviews.settle import Settled
from pipeline.training_data.reviewed_tiles import ReviewedLook, TileWord, TrueShape, draw_settled, settle_tiles

RIGHT, WRONG = Settled(verdict=Verdict.RIGHT), Settled(verdict=Verdict.WRONG)


def place(grid: Grid, *, rows: slice, cols: slice) -> shapely.Polygon:
    """Give the ground of some pixels."""
    left, top = grid.transform @ (cols.start, rows.start)
    right, bottom = grid.transform @ (cols.stop, rows.stop)
    return shapely.box(left, bottom, right, top)


def make_look(
    told: dict[str, tuple[slice, slice]],
    settled: dict[str, Settled],
    *,
    overlap_px: int = 0,
    columns: dict[str, Any] | None = None,
    **more: Any,
) -> ReviewedLook:
    """Make what was told, by change_id with rows and columns of its pixels, and what was said of it."""
    grid = make_grid(overlap_px=overlap_px)
    plain: dict[str, Any] = {"kind": "building", "change": None, "geometry_source": "outline"} | (columns or {})
    shapes = [place(grid, rows=rows, cols=cols) for rows, cols in told.values()]
    changes = gpd.GeoDataFrame(
        {"change_id": list(told), **{name: [value] * len(told) for name, value in plain.items()}},
        geometry=shapes,
        crs=grid.crs,
    )
    return ReviewedLook(grid=grid, tiles=make_findings(grid), changes=changes, settled=settled, **more)


TWO = {"one": (slice(4, 12), slice(4, 12)), "two": (slice(20, 28), slice(20, 28))}
"""Two changes in the tile at the upper left."""


def test_right_outlines_become_the_mask_and_rejected_ones_unchanged_ground() -> None:
    look = make_look(TWO, {"one": RIGHT, "two": WRONG})

    (tile,), left_out = settle_tiles(look)

    expected = np.zeros((32, 32), np.uint8)
    expected[TWO["one"]] = 255
    np.testing.assert_array_equal(draw_settled(tile, grid=look.grid), expected)
    assert (tile.tile_id, tile.has_road_truth, tile.is_removal, left_out) == ("r0000_c0000", False, False, {})


@pytest.mark.parametrize("said", [{}, {"two": Settled(verdict=Verdict.UNSURE)}])
def test_a_tile_with_one_change_that_is_open_is_no_truth(said: dict[str, Settled]) -> None:
    settled, left_out = settle_tiles(make_look(TWO, {"one": RIGHT} | said))

    assert settled == []
    assert list(left_out.values()) == [1]
    assert "not reviewed" in next(iter(left_out))


def test_tiles_that_nobody_has_touched_are_neither_taken_nor_told() -> None:
    assert settle_tiles(make_look(TWO, {})) == ([], {})


def test_a_change_over_a_border_is_truth_on_both_sides_and_margins_count() -> None:
    """The models of tiles that overlap see the change in each other's margin: there it is open as well."""
    told = {"one": (slice(4, 12), slice(28, 40)), "two": (slice(4, 12), slice(65, 70))}
    tiles, _ = settle_tiles(make_look(told, {"one": RIGHT}))
    assert [tile.tile_id for tile in tiles] == ["r0000_c0000", "r0000_c0001"]

    tiles, left_out = settle_tiles(
        make_look({**told, "two": (slice(4, 12), slice(50, 54))}, {"one": RIGHT}, overlap_px=16)
    )
    assert left_out.total() > 0
    assert "r0000_c0002" not in [tile.tile_id for tile in tiles]


def test_corrections_hold() -> None:
    said = {"one": Settled(verdict=Verdict.WRONG, kind="road"), "two": Settled(verdict=Verdict.WRONG, count=0.0)}
    look = make_look(TWO, said, columns={"change": "built"})

    (tile,), _ = settle_tiles(look)

    assert tile.has_road_truth
    assert set(np.unique(draw_settled(tile, grid=look.grid))) == {0, 128}


def test_removed_things_are_told_apart_and_no_pair_holds_both_ways() -> None:
    removed = Settled(verdict=Verdict.RIGHT, direction="removed")
    (tile,), _ = settle_tiles(make_look(TWO, {"one": removed, "two": removed}))
    assert tile.is_removal

    settled, left_out = settle_tiles(make_look(TWO, {"one": removed, "two": RIGHT}))
    assert settled == []
    assert "some removed" in next(iter(left_out))


@pytest.mark.parametrize(
    ("said", "columns", "why"),
    [
        (Settled(verdict=Verdict.RIGHT, count=3.0), {}, "another number"),
        (RIGHT, {"geometry_source": "cells"}, "cells alone"),
        (RIGHT, {"change": "altered"}, "some removed"),
    ],
)
def test_an_outline_that_does_not_show_what_is_true_is_none(said: Settled, columns: dict[str, Any], why: str) -> None:
    settled, left_out = settle_tiles(make_look({"one": TWO["one"]}, {"one": said}, columns=columns))

    assert settled == []
    assert why in next(iter(left_out))


def test_what_was_drawn_is_truth_and_where_it_was_seen_on_other_dates_it_is_open() -> None:
    grid = make_grid()
    shape = place(grid, rows=slice(40, 50), cols=slice(70, 80))
    drawn = [TrueShape(kind="building", direction=None, geometry=shape)]

    (tile,), _ = settle_tiles(make_look({}, {}, drawn=drawn))
    assert (tile.tile_id, int((draw_settled(tile, grid=grid) == 255).sum())) == ("r0001_c0002", 100)

    settled, left_out = settle_tiles(make_look({}, {}, drawn=drawn, unclear=[shape]))
    assert settled == []
    assert "other dates" in next(iter(left_out))


@pytest.mark.parametrize(
    ("word", "settled", "why"),
    [
        (TileWord(is_changed=False, counts={"building": 0, "road": 0}), {}, None),
        (TileWord(is_changed=False), {"one": RIGHT}, "found it unchanged"),
        (TileWord(is_changed=True), {"one": WRONG, "two": WRONG}, "nobody has drawn"),
        (TileWord(is_changed=True, counts={"building": 3}), {"one": RIGHT, "two": RIGHT}, "another number"),
        (TileWord(is_changed=None), {"one": RIGHT, "two": RIGHT}, "not sure"),
    ],
)
def test_words_about_whole_tiles_settle_what_is_open_and_must_not_contradict(
    word: TileWord, settled: dict[str, Settled], why: str | None
) -> None:
    tiles, left_out = settle_tiles(make_look(TWO, settled, words={"r0000_c0000": word}))

    if why is None:
        assert [(tile.shapes, tile.has_road_truth) for tile in tiles] == [((), True)]
    else:
        assert tiles == []
        assert why in next(iter(left_out))
