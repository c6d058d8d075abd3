"""Changes that go on into tiles which do not tell of them: one polygon, nothing twice, neighbours kept apart."""

from __future__ import annotations

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_outlines import make_findings, make_grid, make_table, make_tile

from pipeline.answers.outlines import Outline, trace_mask
from pipeline.findings.changes import dissolve_changes

TILE = 32
GRID = make_grid(n_rows=2, n_cols=3, tile=TILE)


def trace(box: tuple[slice, slice], *, row: int = 0, col: int = 0, beyond: shapely.Polygon | None = None) -> Outline:
    """Outline a box of a tile; what it reaches is told in pixels of the grid."""
    mask = np.zeros((TILE, TILE), np.float32)
    mask[box] = 0.9
    (outline,) = trace_mask(mask, kind="building", tile=make_tile(GRID, row, col), grid=GRID)
    return replace(outline, beyond=None if beyond is None else shapely.MultiPolygon([beyond]))


def dissolve(outlines: list[Outline], *, is_second_changed: bool = True) -> gpd.GeoDataFrame:
    findings = make_findings(GRID, {(0, 1): {"is_changed": is_second_changed}}, building_count=1)
    return dissolve_changes(findings, grid=GRID, outlines=[make_table(outlines)])


def locate(*corners: float) -> shapely.Polygon:
    """Give a box in pixels of the grid where it lies on the map."""
    left, top, right, bottom = (0.5 * corner for corner in corners)
    x, y = GRID.origin_x, GRID.origin_y
    return shapely.box(x + left, y - bottom, x + right, y - top)


def test_a_change_goes_on_into_a_tile_that_is_called_unchanged() -> None:
    plain = dissolve([trace(np.s_[8:16, 24:32])], is_second_changed=False)
    found = dissolve([trace(np.s_[8:16, 24:32], beyond=shapely.box(32, 8, 35, 16))], is_second_changed=False)

    assert len(found) == 1
    assert found.geometry[0].equals(locate(24, 8, 35, 16))
    assert found["area_m2"][0] == pytest.approx(plain["area_m2"][0] * 11 / 8, rel=1e-9)
    told = ["change_id", "count", "tile_ids", "mask_probability"]
    assert found[told].equals(plain[told])


def test_what_both_tiles_tell_of_is_one_change_and_there_once() -> None:
    first = trace(np.s_[8:16, 24:32], beyond=shapely.box(32, 8, 35, 16))
    second = trace(np.s_[10:14, 1:9], col=1, beyond=shapely.box(30, 10, 32, 14))
    found = dissolve([first, second])

    assert len(found) == 1
    assert found["count"][0] == 2
    assert found.geometry[0].equals(shapely.union(locate(24, 8, 35, 16), locate(33, 10, 41, 14)))
    apart = dissolve([trace(np.s_[8:16, 24:32]), trace(np.s_[10:14, 1:9], col=1)])
    assert len(apart) == 2
    per_pixel = apart["area_m2"].sum() / apart.area.sum()
    assert found["area_m2"][0] == pytest.approx(found.area[0] * per_pixel, rel=1e-6)


def test_what_meets_at_corners_alone_stays_apart() -> None:
    first = trace(np.s_[8:16, 24:32], beyond=shapely.box(32, 8, 35, 16))
    found = dissolve([first, trace(np.s_[16:20, 3:9], col=1)])
    assert len(found) == 2


def test_what_two_tiles_reach_of_a_third_is_one_where_it_meets() -> None:
    above = trace(np.s_[20:32, 28:32], beyond=shapely.box(32, 20, 34, 32))
    below = trace(np.s_[0:6, 24:27], row=1, col=0, beyond=None)
    beside = trace(np.s_[0:6, 0:2], row=1, col=1, beyond=shapely.box(32, 28, 34, 32))
    found = dissolve([above, below, beside], is_second_changed=False)
    assert sorted(found["tile_ids"].str.count(";")) == [0, 1]
    assert found.area.sum() == pytest.approx(found.union_all().area)


@pytest.mark.parametrize(("rows", "n_expected"), [(slice(8, 16), 1), (slice(15, 26), 2)])
def test_single_buildings_are_joined_if_they_share_enough(rows: slice, n_expected: int) -> None:
    first = replace(trace(np.s_[8:16, 24:32], beyond=shapely.box(32, 8, 36, 16)), is_instance=True)
    second = replace(trace((rows, slice(1, 12)), col=1), is_instance=True)

    found = dissolve([first, second])

    assert len(found) == n_expected
    assert found.area.sum() == pytest.approx(found.union_all().area)
