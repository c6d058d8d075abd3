"""Ids of events that stay: made from kind, first pair and place, and kept from then on by whoever is the same event.

The id of a new event depends on nothing else: not on the order of rows, the grid or the name of a run. Outlines are
drawn a little differently when a pair is answered anew, and a missing earlier pair may come later; so what an earlier
pass has named keeps its name as long as it is of the same kind, can have happened at the same time, and shares at least
half of the smaller ground.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from pipeline.regions.timeline import Event

MIN_SHARED_FRACTION = 0.5
"""Part of the smaller ground that two events share if they are one."""

_DEGREES_DIGITS = 5
# ^ About a metre.
_HASH_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class KnownEvent:
    """An event as the last pass that told of it knew it."""

    event_id: str
    """Its id."""
    kind: str
    """What changed."""
    earliest: dt.datetime
    """It happened after this."""
    latest: dt.datetime
    """It happened by then."""
    ground: shapely.Geometry
    """What its sightings covered, in the CRS of the events that it is compared with."""
    is_retired: bool
    """Whether it was told no longer at the end."""


def identify_events(events: Sequence[Event], *, known: Sequence[KnownEvent], crs: str) -> list[str]:
    """Give each event its id: that of a known one if it is the same, else a new one.

    Args:
        events: In any order.
        known: What earlier passes knew, in any order.
        crs: CRS of the events.
    """
    ids: dict[int, str] = {}
    # What is told still goes before what once was.
    for is_retired in (False, True):
        pool = sorted((each for each in known if each.is_retired is is_retired), key=lambda each: each.event_id)
        free = [at for at in range(len(events)) if at not in ids]
        for at, to in _match([events[at] for at in free], pool):
            ids[free[at]] = pool[to].event_id
    taken = {each.event_id for each in known}
    fresh = [at for at in range(len(events)) if at not in ids]
    named = zip(fresh, name_events([events[at] for at in fresh], crs=crs), strict=True)
    for at, name in sorted(named, key=lambda each: _rank_shape(events[each[0]])):
        ids[at] = next(each for each in _number(name) if each not in taken)
        taken.add(ids[at])
    return [ids[at] for at in range(len(events))]


def name_events(events: Sequence[Event], *, crs: str) -> list[str]:
    """Name events by kind, first pair and place alone; two of one kind may have one name, which are in one another."""
    if not events:
        return []
    shapes = np.array([event.first_ground for event in events], dtype=object)
    centres = shapely.get_coordinates(shapely.centroid(shapes))
    lons, lats = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(*centres.T)
    return [_name(event, lon=lon, lat=lat) for event, lon, lat in zip(events, lons, lats, strict=True)]


def _name(event: Event, *, lon: float, lat: float) -> str:
    first = event.first_pair
    place = f"{lon:.{_DEGREES_DIGITS}f} {lat:.{_DEGREES_DIGITS}f}".replace("-0.00000", "0.00000")
    content = f"{event.kind} {first.before:%Y%m%d} {first.after:%Y%m%d} {place}"
    return f"{event.kind}_{first.after:%Y%m%d}_{hashlib.sha256(content.encode()).hexdigest()[:_HASH_LENGTH]}"


def _number(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in range(2, 1_000_000))


def _rank_shape(event: Event) -> tuple[float, bytes]:
    shape = event.first_ground
    return float(shape.area), shapely.to_wkb(shape.normalize(), byte_order=1)


def _match(events: Sequence[Event], known: Sequence[KnownEvent]) -> Iterable[tuple[int, int]]:
    """Give places of events and of the known ones that they are, each at most once, the best that fit first."""
    if not events or not known:
        return []
    grounds, others = _list_grounds(events), np.array([each.ground for each in known], dtype=object)
    ours, theirs = shapely.STRtree(others).query(grounds, predicate="intersects")
    is_possible = [_may_be_one(events[at], known[to]) for at, to in zip(ours, theirs, strict=True)]
    ours, theirs = ours[is_possible], theirs[is_possible]
    shared = shapely.area(shapely.intersection(grounds[ours], others[theirs]))
    sizes = np.stack([shapely.area(grounds[ours]), shapely.area(others[theirs])])
    likeness = shared / (sizes.sum(axis=0) - shared)
    is_close = shared >= MIN_SHARED_FRACTION * sizes.min(axis=0)
    candidates = sorted(
        (-float(likeness[row]), *_rank_pairing(events[ours[row]], known[theirs[row]]), int(ours[row]), int(theirs[row]))
        for row in np.flatnonzero(is_close)
    )
    found: dict[int, int] = {}
    used: set[int] = set()
    for *_, at, to in candidates:
        if at not in found and to not in used:
            found[at] = to
            used.add(to)
    return found.items()


def _list_grounds(events: Sequence[Event]) -> npt.NDArray[np.object_]:
    return np.array([event.ground for event in events], dtype=object)


def _may_be_one(event: Event, known: KnownEvent) -> bool:
    return event.kind == known.kind and event.may_be_between(known.earliest, known.latest)


def _rank_pairing(event: Event, known: KnownEvent) -> tuple[float, str, str]:
    """Decide between equal likeness: nearest in time, then by names, never by the order of rows."""
    apart = abs((event.earliest - known.earliest).total_seconds()) + abs((event.latest - known.latest).total_seconds())
    return apart, known.event_id, event.first_sighting
