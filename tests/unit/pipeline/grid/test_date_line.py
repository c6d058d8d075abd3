"""Shapes over the date line: run on beyond 180 and cut at it, they stay the same ground."""

from __future__ import annotations

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grid.date_line import make_box, unwrap_shape, wrap_shape


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        ([(179, 0), (-179, 0), (-179, 1), (179, 1)], (179, 0, 181, 1)),
        ([(-179, 0), (179, 0), (179, 1), (-179, 1)], (-181, 0, -179, 1)),
        ([(-180, -90), (180, -90), (180, -60), (-180, -60)], (-180, -90, 180, -60)),
        ([(1, 0), (2, 0), (2, 1), (1, 1)], (1, 0, 2, 1)),
        # More than half the globe, as it is drawn.
        ([(-100, 0), (100, 0), (100, 1), (-100, 1)], (-100, 0, 100, 1)),
    ],
)
def test_an_edge_the_long_way_round_crosses_the_date_line(
    ring: list[tuple[float, float]], expected: tuple[float, ...]
) -> None:
    assert unwrap_shape(shapely.Polygon(ring)).bounds == expected


@settings(deadline=None)
@given(
    west=st.integers(-1800, 1799).map(lambda tenth: tenth / 10),
    width=st.integers(1, 850).map(lambda tenth: tenth / 10),
    turn=st.sampled_from([-360.0, 0.0, 360.0]),
)
def test_all_forms_of_one_box_are_the_same_ground(west: float, width: float, turn: float) -> None:
    east = west + width
    wrapped_east = east - 360 if east > 180 else east
    expected = make_box(west, 10.0, wrapped_east, 20.0)
    ring = [(west, 10.0), (wrapped_east, 10.0), (wrapped_east, 20.0), (west, 20.0)]

    assert expected.area == pytest.approx(width * 10)
    assert -180 <= expected.bounds[0] < expected.bounds[2] <= 180
    forms = [
        wrap_shape(shapely.box(west + turn, 10.0, east + turn, 20.0)),
        wrap_shape(unwrap_shape(shapely.Polygon(ring))),
    ]
    for form in map(wrap_shape, forms):
        assert shapely.symmetric_difference(form, expected).area == pytest.approx(0, abs=1e-6)
