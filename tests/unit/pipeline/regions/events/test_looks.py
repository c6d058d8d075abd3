"""Which pairs speak of an event: those that saw it, and those that looked at its ground and could have."""

from __future__ import annotations

import io

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_events import CRS, make_pair, view_pair

from pipeline.regions.events.looks import PairView, choose_seen, gather_looks
from pipeline.regions.timeline import link_changes

GROUND = shapely.box(621_000, 3_361_000, 621_300, 3_361_300)
HOUSE = shapely.box(621_110, 3_361_110, 621_140, 3_361_140)
BARN = shapely.box(621_150, 3_361_150, 621_170, 3_361_170)


def tell(views: list[PairView]) -> list[str]:
    """Give for each event what the pairs say, in the order of time."""
    events = link_changes([view.changes for view in views]).events
    return ["".join("+" if look.has_seen else "-" for look in looks) for looks in gather_looks(events, views)]


def test_later_pairs_that_looked_and_did_not_see_it_speak_against_it() -> None:
    weeks = [[], [HOUSE], [], [HOUSE], []]

    views = [view_pair(make_pair(shapes, week=week), ground=GROUND) for week, shapes in enumerate(weeks)]

    assert tell(views) == ["+-+-"]
    assert tell(views[::-1]) == ["+-+-"]


@pytest.mark.parametrize(
    ("ground", "valid_fraction", "said"),
    [
        (GROUND, 1.0, "+-"),
        (GROUND, 0.85, "+"),
        (shapely.box(621_200, 3_361_000, 621_300, 3_361_300), 1.0, "+"),
        (None, 1.0, "+"),
    ],
)
def test_not_seen_is_not_unchanged(ground: shapely.Geometry | None, valid_fraction: float, said: str) -> None:
    first = view_pair(make_pair([HOUSE], week=0), ground=GROUND)
    second = view_pair(make_pair([], week=1), ground=ground, valid_fraction=valid_fraction)

    assert tell([first, second]) == [said]


def test_a_pair_that_begins_after_it_may_have_happened_says_nothing() -> None:
    # The house was there before half of the year had gone, for all that the first pair knows.
    early, late = (view_pair(make_pair([], week=week), ground=GROUND) for week in (26, 27))
    first = view_pair(make_pair([HOUSE], week=0), ground=GROUND)

    assert tell([first, early]) == ["+-"]
    assert tell([first, late]) == ["+"]


def test_a_tile_in_which_something_else_changed_has_no_confidence_that_this_did_not() -> None:
    views = [
        view_pair(make_pair([HOUSE], week=0), ground=GROUND),
        view_pair(make_pair([BARN], week=1), ground=GROUND, changed=[BARN]),
        view_pair(make_pair([], week=2), ground=GROUND, confidence=0.7),
    ]
    events = link_changes([view.changes for view in views]).events

    house = gather_looks(events, views)[0]

    assert [look.confidence for look in house] == [0.8, None, pytest.approx(0.7)]


def test_only_tiles_with_a_verdict_were_looked_at() -> None:
    tiles = gpd.GeoDataFrame(
        {
            "tile_id": list("abcde"),
            "status": ["analysed", "identical", "analysed", "cloudy", "unreadable"],
            "is_changed": [True, False, None, None, None],
            "valid_fraction": 1.0,
            "change_confidence": [0.9, None, None, None, None],
            "other": 1,
        },
        geometry=[shapely.box(n, 0, n + 1, 1) for n in range(5)],
        crs=CRS,
    ).astype({"is_changed": "boolean", "change_confidence": "Float32"})
    data = io.BytesIO()
    tiles.to_parquet(data)

    seen = choose_seen(data.getvalue())

    assert seen["tile_id"].tolist() == ["a", "b"]
    assert seen["change_confidence"].to_numpy(np.float64, na_value=-1).tolist() == pytest.approx([0.9, -1])
