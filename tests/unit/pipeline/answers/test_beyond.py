"""Outlines that go on beside their tile: how far, from which piece, and nothing of it twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from made_outlines import make_findings, make_grid, make_table, make_tile

from pipeline.answers.beyond import measure_padding, measure_reach
from pipeline.answers.outlines import Outline, trace_mask
from pipeline.findings.changes import dissolve_changes
from pipeline.grid.grid import Grid

TILE = 32


def trace(grid: Grid, field: np.ndarray, *, row: int, col: int) -> list[Outline]:
    """Trace a tile whose windows show all of a field of probabilities of the whole grid."""
    top, left, height, width = grid.tile_window(row, col)
    padding, margin = measure_padding(grid), 2 * grid.tile_size_px
    around = np.pad(field, margin)
    wider = around[
        top + margin - padding : top + margin + height + padding,
        left + margin - padding : left + margin + width + padding,
    ]
    seen = wider[padding : padding + height, padding : padding + width]
    return trace_mask(seen, kind="building", tile=make_tile(grid, row, col), grid=grid, wider=wider)


def paint(grid: Grid, *boxes: tuple[slice, slice]) -> np.ndarray:
    field = np.zeros(grid.shape_px, np.float32)
    for box in boxes:
        field[box] = 0.9
    return field


@pytest.mark.parametrize("overlap_px", [0, 4, 12])
def test_a_piece_goes_on_into_all_four_neighbours(overlap_px: int) -> None:
    grid = make_grid(n_rows=3, n_cols=3, tile=TILE, overlap_px=overlap_px)
    side, reach = grid.stride_px, measure_reach(grid)
    middle = slice(side + side // 2 - 2, side + side // 2 + 2)
    field = paint(grid, np.s_[middle, side - 2 : 2 * side + 3], np.s_[side - 1 : 2 * side + 40, middle])

    (outline,) = trace(grid, field, row=1, col=1)

    assert outline.beyond is not None
    boxes = sorted(tuple(int(value) for value in part.bounds) for part in outline.beyond.geoms)
    across, along = (middle.start, middle.stop), (side, 2 * side)
    assert boxes == sorted(
        [
            (across[0], along[0] - 1, across[1], along[0]),
            # No further than outlines go on for.
            (across[0], along[1], across[1], min(along[1] + reach, grid.height_px)),
            (along[0] - 2, across[0], along[0], across[1]),
            (along[1], across[0], min(along[1] + 3, along[1] + reach), across[1]),
        ]
    )


def test_what_does_not_touch_a_piece_of_the_tile_is_left_to_the_other_one() -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=TILE)
    apart, below = np.s_[4:8, TILE + 1 : TILE + 4], np.s_[20:24, TILE : TILE + 3]
    (outline,) = trace(grid, paint(grid, np.s_[4:8, 20:TILE], apart, below), row=0, col=0)
    assert outline.beyond is None


def test_of_two_pieces_the_one_with_more_of_the_border_goes_on() -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=TILE)
    field = paint(grid, np.s_[4:6, 20:TILE], np.s_[8:14, 20:TILE], np.s_[4:14, TILE : TILE + 2])
    small, large = trace(grid, field, row=0, col=0)
    assert small.beyond is None
    assert large.beyond is not None
    assert large.beyond.equals(shapely.MultiPolygon([shapely.box(TILE, 4, TILE + 2, 14)]))


@pytest.mark.parametrize("overlap_px", [0, 6])
@pytest.mark.parametrize("size", [{}, {"width_px": 83, "height_px": 70}])
def test_outlines_go_on_inside_the_grid_alone_and_nothing_counts_twice(overlap_px: int, size: dict[str, int]) -> None:
    grid = make_grid(n_rows=3, n_cols=3, tile=TILE, overlap_px=overlap_px, **size)
    field = np.asarray(np.random.default_rng(3).random(grid.shape_px) < 0.8, np.float32)
    whole = shapely.box(grid.left_px, grid.top_px, grid.left_px + grid.width_px, grid.top_px + grid.height_px)
    outlines = []
    for row, col in np.ndindex(3, 3):
        first_row, first_col = row * grid.stride_px, col * grid.stride_px
        own = shapely.box(first_col, first_row, first_col + grid.stride_px, first_row + grid.stride_px)
        traced = trace(grid, field, row=row, col=col)
        beyond = [each.beyond for each in traced if each.beyond is not None]
        assert beyond
        assert shapely.union_all(beyond).intersection(own).area == 0
        assert shapely.union_all(beyond).difference(whole).area == 0
        outlines += traced
    for some in (outlines, [replace(each, is_instance=True) for each in outlines]):
        changes = dissolve_changes(make_findings(grid), grid=grid, outlines=[make_table(some)])
        assert changes.is_valid.all()
        # What changes share after their corners came onto whole pixels is parts of a pixel.
        assert changes.area.sum() == pytest.approx(changes.union_all().area, rel=1e-3)
