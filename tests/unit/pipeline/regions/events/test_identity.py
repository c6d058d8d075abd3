"""Ids of events stay, whatever order things come in and whatever comes on top."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from made_events import CRS, make_pair

from pipeline.regions.events.identity import KnownEvent, identify_events
from pipeline.regions.timeline import Event, PairChanges, link_changes

LEFT, BOTTOM = 621_000, 3_361_000
WEEKS = 4


def make_house(number: int, *, shift_m: float = 0.0) -> shapely.Geometry:
    """Make one of many houses, 60 m apart and 30 m wide."""
    x, y = LEFT + 60 * (number % 8) + shift_m, BOTTOM + 60 * (number // 8)
    return shapely.box(x, y, x + 30, y + 30)


def identify(pairs: Sequence[PairChanges], known: Sequence[KnownEvent] = ()) -> dict[str, Event]:
    events = link_changes(pairs).events
    return dict(zip(identify_events(events, known=known, crs=CRS), events, strict=True))


def remember(found: dict[str, Event], *, is_retired: bool = False) -> list[KnownEvent]:
    return [
        KnownEvent(
            event_id=event_id,
            kind=event.kind,
            earliest=event.earliest,
            latest=event.latest,
            ground=event.ground,
            is_retired=is_retired,
        )
        for event_id, event in found.items()
    ]


def place(found: dict[str, Event]) -> dict[int, str]:
    """Give ids by the number of the house."""
    centres = {event_id: event.ground.centroid for event_id, event in found.items()}
    return {
        round((point.x - LEFT - 15) / 60) + 8 * round((point.y - BOTTOM - 15) / 60): event_id
        for event_id, point in centres.items()
    }


series = st.lists(st.sets(st.integers(0, 15), max_size=6), min_size=1, max_size=WEEKS)


@settings(max_examples=40, deadline=None)
@given(weeks=series, order=st.randoms(use_true_random=False), further=st.sets(st.integers(0, 15), max_size=6))
def test_ids_stay(weeks: list[set[int]], order: np.random.Generator, further: set[int]) -> None:
    pairs = [make_pair([make_house(n) for n in sorted(houses)], week=week) for week, houses in enumerate(weeks, 1)]
    first = identify(pairs)

    # Recomputed, out of what the region's folder holds or with what was told before.
    assert identify(pairs).keys() == identify(pairs, remember(first)).keys() == first.keys()
    # In another order of pairs and of rows.
    mixed = [make_pair(order.sample(list(pair.geometry), len(pair.kinds)), week=w) for w, pair in enumerate(pairs, 1)]
    order.shuffle(mixed)
    assert place(identify(mixed)) == place(identify(mixed, remember(first)[::-1])) == place(first)
    # A further pair, after the others or one that was missing before them.
    for week in (0, WEEKS + 1):
        more = [*pairs, make_pair([make_house(n) for n in sorted(further)], week=week)]
        assert place(first).items() <= place(identify(more, remember(first))).items()
    # All pairs answered anew, with outlines that are drawn a little differently and other names.
    anew = [
        make_pair([make_house(n, shift_m=2.5) for n in sorted(houses)], week=week, settings="b")
        for week, houses in enumerate(weeks, 1)
    ]
    assert place(identify(anew, remember(first))) == place(first)


def test_id_depends_on_kind_first_pair_and_place_alone() -> None:
    (one,) = identify([make_pair([make_house(0)], week=1)])
    (other_settings,) = identify([make_pair([make_house(0)], week=1, settings="b")])
    (other_place,) = identify([make_pair([make_house(1)], week=1)])
    (other_week,) = identify([make_pair([make_house(0)], week=2)])

    assert one == other_settings
    assert one.startswith("building_20260112_")
    assert len({one, other_place, other_week}) == 3


def test_rings_around_one_place_have_two_ids_in_any_order() -> None:
    ring = make_house(0).buffer(20).difference(make_house(0).buffer(10))

    shapes = [make_house(0), ring]
    ids = [place_by_area(identify([make_pair(order, week=1)])) for order in (shapes, shapes[::-1])]

    assert ids[0] == ids[1]
    assert sorted(event_id.endswith("-2") for event_id in ids[0].values()) == [False, True]


def place_by_area(found: dict[str, Event]) -> dict[float, str]:
    return {round(event.ground.area, 3): event_id for event_id, event in found.items()}


def test_what_was_torn_down_and_built_again_is_another_event() -> None:
    known = remember(identify([make_pair([make_house(0)], week=0)]))

    (later,) = identify([make_pair([make_house(0)], week=60)], known)

    assert later != known[0].event_id


def test_what_comes_back_has_its_former_id() -> None:
    first = identify([make_pair([make_house(0)], week=0)])

    (again,) = identify([make_pair([make_house(0, shift_m=5)], week=1)], remember(first, is_retired=True))

    assert [again] == list(first)


@pytest.mark.parametrize("shift_m", [0.0, 14.0])
def test_of_two_parts_the_liker_one_keeps_the_id(shift_m: float) -> None:
    whole = shapely.box(LEFT, BOTTOM, LEFT + 60, BOTTOM + 30)
    known = remember(identify([make_pair([whole], week=0)]))
    west = shapely.box(LEFT, BOTTOM, LEFT + 29 - shift_m, BOTTOM + 30)
    parts = [west, shapely.box(LEFT + 31, BOTTOM, LEFT + 60, BOTTOM + 30)]

    found = identify([make_pair(parts, week=0, settings="b")], known)

    kept = found[known[0].event_id]
    assert len(found) == 2
    assert kept.ground.area == max(part.area for part in parts)
