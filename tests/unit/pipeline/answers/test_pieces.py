"""Buildings that touch come apart, stay apart over the borders of tiles, and say what became of them."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from made_outlines import make_findings, make_grid, make_table, make_tile
from scipy import ndimage

from pipeline.answers.outlines import trace_mask
from pipeline.answers.pieces import label_pieces
from pipeline.findings.changes import dissolve_changes
from pipeline.findings.joining import label_meeting
from pipeline.grid.grid import Grid

WHOLE = (slice(None), slice(None))


def paint(grid: Grid, *boxes: tuple[slice, slice], value: float = 0.9) -> np.ndarray:
    layer = np.full(grid.shape_px, 0.05, np.float32)
    for box in boxes:
        layer[box] = value
    return layer


def find_changes(grid: Grid, mask: np.ndarray, *, kind: str = "building", **aspects: np.ndarray) -> gpd.GeoDataFrame:
    """Cut layers of the whole grid into tiles without overlap, trace them, and join what belongs together."""
    outlines = []
    for row in range(grid.n_rows):
        for col in range(grid.n_cols):
            top, left, height, width = grid.tile_window(row, col)
            part = (slice(top, top + height), slice(left, left + width))
            layers = {name: layer[part] for name, layer in aspects.items()}
            outlines += trace_mask(mask[part], kind=kind, tile=make_tile(grid, row, col), grid=grid, aspects=layers)
    return dissolve_changes(make_findings(grid), grid=grid, outlines=[make_table(outlines)])


def test_buildings_that_touch_are_drawn_apart_and_share_an_edge() -> None:
    grid = make_grid(n_rows=1, n_cols=1, tile=64)
    mask = paint(grid, np.s_[10:30, 5:55])
    border = paint(grid, np.s_[8:32, 28:32])

    first, second = find_changes(grid, mask, border=border).geometry

    assert first.area + second.area == pytest.approx(20 * 50 * grid.resolution_m**2)
    assert first.intersection(second).length == pytest.approx(20 * grid.resolution_m, rel=0.2)
    assert len(find_changes(grid, mask)) == 1
    # What is told of borders is told of buildings.
    assert len(find_changes(grid, mask, kind="road", border=border)) == 1


def test_a_building_over_a_border_of_tiles_is_put_together_and_its_neighbour_stays_apart() -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=32)
    # One from column 20 to 40, over the border at 32, and below it one that ends there and touches it.
    mask = paint(grid, np.s_[4:14, 20:40], np.s_[14:24, 20:32])
    border = paint(grid, np.s_[13:15, 18:34])

    changes = find_changes(grid, mask, border=border)

    sizes = sorted(round(area / grid.resolution_m**2) for area in changes.geometry.area)
    assert sum(sizes) == 10 * 20 + 10 * 12
    assert changes["tile_count"].tolist() == [2, 1]
    assert len(find_changes(grid, mask)) == 1


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        # The pieces behind the border at x = 32 as rows from and to; before it lies one from row 4 to 16.
        ([(4, 16)], [0, 0]),
        ([(10, 22)], [0, 0]),
        # They share 2 of 12 rows.
        ([(14, 26)], [0, 1]),
        # The one that shares most is it; of equals the first.
        ([(2, 9), (9, 18)], [0, 1, 0]),
        ([(4, 10), (10, 16)], [0, 0, 1]),
    ],
)
def test_single_buildings_meet_where_each_has_most_with_the_other(
    behind: list[tuple[int, int]], expected: list[int]
) -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=32)
    shapes = [shapely.box(20, 4, 32, 16), *(shapely.box(32, first, 40, last) for first, last in behind)]
    polygons = np.array(shapes, dtype=object)

    labels = label_meeting(polygons, grid=grid, is_instance=np.ones(len(shapes), bool))

    assert labels.tolist() == expected
    assert set(label_meeting(polygons, grid=grid)) == {0}


@pytest.mark.parametrize(("removed", "expected"), [(0.9, "removed"), (0.1, "built"), (0.5, "altered"), (None, None)])
def test_a_change_says_what_became_of_the_ground(removed: float | None, expected: str | None) -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=32)
    mask = paint(grid, np.s_[4:14, 22:42])
    aspects: dict[str, Any] = {} if removed is None else {"removed": paint(grid, np.s_[4:14, 22:42], value=removed)}

    (change,) = find_changes(grid, mask, **aspects).to_dict("records")

    assert (None if pd.isna(change["change"]) else change["change"]) == expected
    assert (change["tile_count"], change["count"]) == (2, pytest.approx(np.nan, nan_ok=True))


def test_what_its_tiles_tell_of_it_weighs_by_the_ground_in_each() -> None:
    grid = make_grid(n_rows=1, n_cols=2, tile=32)
    # A quarter of it lies in the first tile, which says that it went.
    mask = paint(grid, np.s_[4:14, 28:44])
    removed = np.full(grid.shape_px, 0.1, np.float32)
    removed[:, :32] = 0.9

    assert find_changes(grid, mask, removed=removed)["change"].tolist() == ["built"]


def test_every_pixel_of_the_mask_is_of_a_piece_and_pieces_are_connected() -> None:
    rng = np.random.default_rng(7)
    seen = rng.random((48, 48)).astype(np.float32)
    owned = (slice(4, 40), slice(4, 40))

    labels = label_pieces(seen, borders=rng.random((48, 48)).astype(np.float32), owned=owned)

    np.testing.assert_array_equal(labels > 0, seen[owned] >= 0.5)
    numbers, firsts = np.unique(labels[labels > 0], return_index=True)
    assert numbers.tolist() == list(range(1, labels.max() + 1))
    assert (np.diff(firsts) > 0).all()
    for number in numbers:
        assert ndimage.label(labels == number)[1] == 1
    np.testing.assert_array_equal(label_pieces(seen, borders=None, owned=WHOLE) > 0, seen >= 0.5)
