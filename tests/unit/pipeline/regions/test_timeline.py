"""Changes linked over time: what is new, and what was seen before."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest
import shapely

from pipeline.regions.timeline import PairChanges, Sighting, link_changes

HOUSE = shapely.box(0, 0, 10, 10)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def seen(before: str, after: str, *shapes: shapely.Geometry, kind: str = "building") -> PairChanges:
    return PairChanges(
        pair_id=f"{before}_{after}",
        before=at(before),
        after=at(after),
        change_ids=[f"c{number}" for number in range(len(shapes))],
        kinds=[kind] * len(shapes),
        geometry=np.array(shapes, dtype=object),
    )


def link(pairs: list[PairChanges]) -> list[list[Sighting]]:
    return link_changes(pairs).sightings


def tell_new(linked: list[list[Sighting]]) -> list[list[bool]]:
    return [[sighting.is_new for sighting in found] for found in linked]


def test_house_is_new_once_and_seen_by_every_pair_that_spans_its_building() -> None:
    weekly = [
        seen("2025-01-01", "2026-01-01"),
        seen("2025-01-08", "2026-01-08", HOUSE),
        seen("2025-01-15", "2026-01-15", HOUSE),
        seen("2025-01-22", "2026-01-22", shapely.box(1, 0, 11, 10)),
    ]

    linked = link(weekly)

    assert tell_new(linked) == [[], [True], [False], [False]]
    assert {(found[0].first_seen, found[0].last_seen, found[0].times_seen) for found in linked[1:]} == {
        (at("2026-01-08"), at("2026-01-22"), 3)
    }
    assert {found[0].first_sighting for found in linked[1:]} == {"2025-01-08_2026-01-08/c0"}


def test_built_and_torn_down_between_dates_of_a_series_are_two_events() -> None:
    linked = link([seen("2024-06-01", "2025-06-01", HOUSE), seen("2025-06-01", "2026-06-01", HOUSE)])

    assert tell_new(linked) == [[True], [True]]
    assert [found[0].times_seen for found in linked] == [1, 1]


def test_torn_down_a_year_later_is_new_though_some_sightings_of_both_overlap() -> None:
    # Built in the first days of March 2025, torn down in February 2026.
    pairs = [
        seen("2024-03-01", "2025-03-01"),
        seen("2024-03-08", "2025-03-08", HOUSE),
        seen("2024-12-01", "2025-12-01", HOUSE),
        seen("2025-02-20", "2026-02-20"),
        seen("2025-03-15", "2026-03-15", HOUSE),
    ]

    assert tell_new(link(pairs)) == [[], [True], [False], [], [True]]


@pytest.mark.parametrize(
    ("later", "is_new", "new_fraction"),
    [
        (HOUSE, False, 0.0),
        (shapely.box(0, 0, 20, 10), False, 0.5),
        (shapely.box(0, 0, 21, 10), True, 11 / 21),
        (shapely.box(0, 0, 2, 2), False, 0.0),
        (shapely.box(10, 0, 20, 10), True, 1.0),
        (shapely.box(500, 500, 510, 510), True, 1.0),
    ],
)
def test_half_of_its_own_area_decides(later: shapely.Geometry, is_new: bool, new_fraction: float) -> None:
    linked = link([seen("2024-01-01", "2026-01-01", HOUSE), seen("2024-01-01", "2026-02-01", later)])

    assert linked[1][0].is_new is is_new
    assert linked[1][0].new_fraction == pytest.approx(new_fraction)


def test_what_grew_together_was_seen_before() -> None:
    thirds = [shapely.box(x, 0, x + 4, 10) for x in (0, 8, 16)]
    whole = shapely.box(0, 0, 20, 10)

    linked = link([seen("2024-01-01", "2026-01-01", *thirds), seen("2024-01-01", "2026-02-01", whole)])

    assert linked[1][0].is_new is False
    assert linked[1][0].new_fraction == pytest.approx(0.4)
    assert linked[1][0].first_sighting.endswith("/c0")


def test_other_kind_is_another_event() -> None:
    road = seen("2024-01-01", "2026-02-01", HOUSE, kind="road")

    assert tell_new(link([seen("2024-01-01", "2026-01-01", HOUSE), road])) == [[True], [True]]


def test_order_of_the_pairs_does_not_matter() -> None:
    pairs = [
        seen("2025-01-08", "2026-01-08", HOUSE, shapely.box(20, 0, 30, 10)),
        seen("2025-01-15", "2026-01-15", HOUSE),
        seen("2025-01-22", "2026-01-22", shapely.box(2, 0, 28, 10)),
    ]
    expected = dict(zip((pair.pair_id for pair in pairs), link(pairs), strict=True))

    for shuffled in itertools.permutations(pairs):
        assert dict(zip((pair.pair_id for pair in shuffled), link(shuffled), strict=True)) == expected
