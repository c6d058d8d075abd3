"""Which pairs have looked at the ground of an event, and could have seen it.

"Not seen" is never "not there": a pair speaks against an event only where its tiles were looked at, show nine tenths of
the event's ground, and where the pair could have seen it: its earlier date lies in the first half of the time in which
the event can have happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from pipeline.findings.coverage import SEEN
from pipeline.regions.events.status import Look
from pipeline.regions.schemas import SEEN_SCHEMA
from pipeline.regions.timeline import Event, PairChanges, rank_pair
from pipeline.tables.nested_shapes import read_frame

MIN_LOOK_FRACTION = 0.9
"""Part of an event's ground that a pair has to have looked at to speak against it."""

_FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairView:
    """What a pair tells, and what it has looked at."""

    changes: PairChanges
    """Its changes."""
    scenes: frozenset[object]
    """Its scenes, each by what stays equal when it is processed anew."""
    confidences: _FloatArray
    """How sure it is of each change; NaN where nothing was measured."""
    seen: gpd.GeoDataFrame | None
    """Tiles that it has looked at, with the columns of `SEEN_SCHEMA`; None where nobody knows any more."""


def choose_seen(tiles: bytes) -> gpd.GeoDataFrame:
    """Give the tiles of a run of which it is known whether they changed.

    Args:
        tiles: Its ``tiles.parquet``.
    """
    names = [name for name in SEEN_SCHEMA.names if name != "geometry"]
    frame = read_frame(tiles, columns=[*names, "status", "geometry"])
    is_seen = frame["status"].isin([status.value for status in SEEN]) & frame["is_changed"].notna()
    return frame.loc[is_seen, [*names, "geometry"]].reset_index(drop=True)


def gather_looks(events: Sequence[Event], views: Sequence[PairView]) -> list[list[Look]]:
    """Give what each pair says of each event, in the order of time, from the event's first sighting on.

    Args:
        events: What `link_changes` made of the pairs' changes.
        views: The pairs, in the order that it was given them.
    """
    looks: list[list[Look]] = [[] for _ in events]
    sighted = _place_sightings(events)
    begun: list[int] = []
    for index in sorted(range(len(views)), key=lambda index: rank_pair(views[index].changes)):
        view, own = views[index], sighted.get(index, {})
        missed = [at for at in begun if at not in own and _could_be_seen(events[at], pair=view.changes)]
        for at, confidence in zip(missed, _look_at(events, missed, view=view), strict=True):
            if confidence is not None:
                looks[at].append(_say(view, has_seen=False, confidence=confidence))
        for at, changes in own.items():
            looks[at].append(_say(view, has_seen=True, confidence=_weigh(view, changes)))
        begun += [at for at in own if events[at].sightings[0].pair == index]
    return looks


def _place_sightings(events: Sequence[Event]) -> Mapping[int, Mapping[int, list[int]]]:
    """Give by pair and event the changes that tell of it."""
    placed: dict[int, dict[int, list[int]]] = {}
    for at, event in enumerate(events):
        for place in event.sightings:
            placed.setdefault(place.pair, {}).setdefault(at, []).append(place.change)
    return placed


def _could_be_seen(event: Event, *, pair: PairChanges) -> bool:
    return pair.before <= event.earliest + (event.latest - event.earliest) / 2 and pair.after >= event.latest


def _say(view: PairView, *, has_seen: bool, confidence: float) -> Look:
    return Look(
        after=view.changes.after,
        scenes=view.scenes,
        has_seen=has_seen,
        confidence=None if np.isnan(confidence) else float(confidence),
    )


def _weigh(view: PairView, changes: Sequence[int]) -> float:
    """Give the mean confidence of the changes that tell of one event, by their area; NaN where none has any."""
    confidences, areas = view.confidences[changes], shapely.area(view.changes.geometry[changes])
    is_told = ~np.isnan(confidences)
    return float(np.average(confidences[is_told], weights=areas[is_told])) if is_told.any() else np.nan


def _look_at(events: Sequence[Event], chosen: Sequence[int], *, view: PairView) -> list[float | None]:
    """Tell how sure a pair is that nothing happened on the ground of events; None where it has not looked at it."""
    if view.seen is None or view.seen.empty or not chosen:
        return [None] * len(chosen)
    grounds = np.array([events[at].ground for at in chosen], dtype=object)
    tiles = view.seen.geometry.to_numpy()
    ours, theirs = shapely.STRtree(tiles).query(grounds, predicate="intersects")
    shared = shapely.area(shapely.intersection(grounds[ours], tiles[theirs]))
    valid = view.seen["valid_fraction"].to_numpy(np.float64)
    fractions = np.bincount(ours, weights=shared * valid[theirs], minlength=len(chosen)) / shapely.area(grounds)
    # A tile in which something else changed does not tell how sure it is that this did not.
    is_same = ~view.seen["is_changed"].astype(bool)
    sure = view.seen["change_confidence"].where(is_same).to_numpy(np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        means = np.bincount(ours, weights=shared * sure[theirs], minlength=len(chosen)) / np.bincount(
            ours, weights=shared, minlength=len(chosen)
        )
    return [
        float(mean) if fraction >= MIN_LOOK_FRACTION else None for mean, fraction in zip(means, fractions, strict=True)
    ]
