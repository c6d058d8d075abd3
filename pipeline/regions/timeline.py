"""Changes linked over time: which of them an earlier pair has seen already, and since when.

Pairs overlap in time: a house built in March is seen by every weekly pair whose two dates have that March between
them. An event is what happened at one place once, however many pairs have seen it. Pair by pair, in the order of
their later dates, each change is held against the events so far:

1. An event can be the same only if it is of the same kind and can have happened between the two dates of the pair. Of
   an event so much is known: it happened between the latest `before` and the earliest `after` of the pairs that saw it.
   So what is built between the first and the second date of a series and torn down between the second and the third
   is two events at one place, and both are new.
2. The change is a further sighting where at least half of its area lies on ground of such events; it belongs to the one
   it shares most ground with, which from then on covers its ground as well. Else it is new, and an event of its own.

Whether a change is new depends on earlier pairs alone: a later pass never takes that back, unless it puts a missing
earlier pair in.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import shapely

MIN_SEEN_FRACTION = 0.5
"""Part of a change's area that has to be seen by earlier pairs for the change to be no new one."""

_Geometries = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class PairChanges:
    """The changes of one pair, in one CRS in metres with those of all others."""

    pair_id: str
    """Name of the pair."""
    before: dt.datetime
    """Its earlier date."""
    after: dt.datetime
    """Its later date."""
    change_ids: Sequence[str]
    """Names of its changes, unique within the pair."""
    kinds: Sequence[str]
    """Kind of each change."""
    geometry: _Geometries
    """Polygon of each change."""
    pair_ids: Sequence[str] = ()
    """Pair of each change, where several of the same days are taken as one; empty: all are of `pair_id`."""

    def name_change(self, place: int) -> str:
        """Give pair and change, with a slash between."""
        return f"{self.pair_ids[place] if self.pair_ids else self.pair_id}/{self.change_ids[place]}"


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What the other pairs tell of one change."""

    is_new: bool
    """Whether no earlier pair has seen its event."""
    new_fraction: float
    """Part of its area where no earlier pair has seen the like, 0 to 1."""
    first_seen: dt.datetime
    """Later date of the first pair that saw the event."""
    last_seen: dt.datetime
    """Later date of the last one."""
    times_seen: int
    """Pairs that saw it."""
    first_sighting: str
    """Pair and change, with a slash between, that saw it first."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a change stands among those that were linked."""

    pair: int
    """Place of its pair."""
    change: int
    """Its place in the pair."""


@dataclass(kw_only=True)
class Event:
    """What happened at one place once, as far as it is known."""

    kind: str
    """What changed."""
    first_pair: PairChanges
    """The pair that saw it first."""
    first_ground: shapely.Geometry
    """What that pair saw of it."""
    earliest: dt.datetime
    """It happened after this."""
    latest: dt.datetime
    """It happened by then."""
    ground: shapely.Geometry
    """All that its sightings cover."""
    first_sighting: str
    """Pair and change, with a slash between, that saw it first."""
    last_seen: dt.datetime
    """Later date of the last pair that saw it."""
    sightings: list[Place] = field(default_factory=list)
    """The changes that tell of it, in the order of their pairs' dates."""

    @property
    def first_seen(self) -> dt.datetime:
        """Later date of the first pair that saw it."""
        return self.first_pair.after

    @property
    def times_seen(self) -> int:
        """Pairs that saw it."""
        return len({place.pair for place in self.sightings})

    def may_be_between(self, before: dt.datetime, after: dt.datetime) -> bool:
        """Tell whether it can have happened between two dates."""
        return self.earliest < after and before < self.latest

    def take_in(self, pair: PairChanges, *, place: Place) -> None:
        """Make a change of a pair a further sighting."""
        geometry = pair.geometry[place.change]
        self.earliest, self.latest = max(self.earliest, pair.before), min(self.latest, pair.after)
        self.ground = self.ground.union(geometry)
        self.last_seen = max(self.last_seen, pair.after)
        self.sightings.append(place)


@dataclass(frozen=True, kw_only=True)
class LinkedChanges:
    """What the changes of many pairs are together."""

    sightings: list[list[Sighting]]
    """For each pair, as they were given, the sightings of its changes in their order."""
    events: list[Event]
    """What happened, in the order of the first sightings."""


def link_changes(pairs: Sequence[PairChanges]) -> LinkedChanges:
    """Link the changes of many pairs over time; the module's text has the rule.

    Args:
        pairs: In any order; equal ones in another order give the same.
    """
    events: dict[str, list[Event]] = {}
    linked: list[list[tuple[Event, float, bool]]] = [[] for _ in pairs]
    order = sorted(range(len(pairs)), key=lambda index: rank_pair(pairs[index]))
    for index in order:
        linked[index] = _link_pair(pairs[index], index=index, events=events)
    sightings = [
        [
            Sighting(
                is_new=is_new,
                new_fraction=part,
                first_seen=event.first_seen,
                last_seen=event.last_seen,
                times_seen=event.times_seen,
                first_sighting=event.first_sighting,
            )
            for event, part, is_new in found
        ]
        for found in linked
    ]
    first = [event for index in order for event, _, is_new in linked[index] if is_new]
    return LinkedChanges(sightings=sightings, events=first)


def rank_pair(pair: PairChanges) -> tuple[dt.datetime, dt.datetime, str]:
    """Give what pairs are put in order by: the later date first of all."""
    return pair.after, pair.before, pair.pair_id


def _link_pair(pair: PairChanges, *, index: int, events: dict[str, list[Event]]) -> list[tuple[Event, float, bool]]:
    """Hold the changes of one pair against the events so far, and add what is new to them."""
    matches: list[tuple[Event | None, float]] = [(None, 1.0)] * len(pair.geometry)
    for kind in sorted(set(pair.kinds)):
        places = np.flatnonzero(np.asarray(pair.kinds, dtype=object) == kind)
        known = [event for event in events.get(kind, []) if event.may_be_between(pair.before, pair.after)]
        for place, matched in zip(places, _match(pair.geometry[places], known), strict=True):
            matches[place] = matched
    # All are matched before any is taken in: what one change adds to an event must not decide about the next.
    found: list[tuple[Event, float, bool]] = []
    for position, (match, new_fraction) in enumerate(matches):
        event = match or _begin_event(pair, position)
        if match is None:
            events.setdefault(pair.kinds[position], []).append(event)
        event.take_in(pair, place=Place(pair=index, change=position))
        found.append((event, new_fraction, match is None))
    return found


def _match(geometry: _Geometries, known: Sequence[Event]) -> list[tuple[Event | None, float]]:
    """Find for each polygon the event it is a sighting of, and the part of its area on which none was seen."""
    matches: list[tuple[Event | None, float]] = [(None, 1.0)] * len(geometry)
    if not known:
        return matches
    grounds = np.array([event.ground for event in known], dtype=object)
    ours, theirs = shapely.STRtree(grounds).query(geometry, predicate="intersects")
    order = np.lexsort((theirs, ours))
    ours, theirs = ours[order], theirs[order]
    shared = shapely.intersection(geometry[ours], grounds[theirs])
    areas = shapely.area(shared)
    places, starts = np.unique(ours, return_index=True)
    for place, start, end in zip(places, starts, np.append(starts, len(ours))[1:], strict=True):
        seen = shapely.area(shapely.union_all(shared[start:end])) / shapely.area(geometry[place])
        # Of events that share as much ground, the one that began first.
        best = known[theirs[start + int(np.argmax(areas[start:end]))]]
        matches[place] = (best if seen >= MIN_SEEN_FRACTION else None, float(max(0.0, 1.0 - seen)))
    return matches


def _begin_event(pair: PairChanges, position: int) -> Event:
    return Event(
        kind=pair.kinds[position],
        first_pair=pair,
        first_ground=pair.geometry[position],
        earliest=pair.before,
        latest=pair.after,
        ground=pair.geometry[position],
        first_sighting=pair.name_change(position),
        last_seen=pair.after,
    )
