"""The table of events: ids, status and figures of what was linked, by the rules of what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from pipeline.polygons.near import place_polygons
from pipeline.polygons.zones import Zones
from pipeline.regions.events.reviewed import REJECTED, is_rejected
from pipeline.regions.events.status import Verdict
from pipeline.regions.page import frame_ground
from pipeline.regions.schemas import EVENTS_SCHEMA
from pipeline.regions.timeline import Event
from pipeline.report.reviewed import mark_changes
from pipeline.reviews.settle import Settled
from pipeline.tables.geoparquet import make_frame

MIN_EXCLUDED_FRACTION = 0.5
"""Part of an event's ground that lies in excluded polygons if it is not told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TellingRules:
    """Which events are told, when, and what is said of their place; none of it asks a model anything."""

    min_area_m2: float = 0.0
    """Smaller ones are not told."""
    excluded: gpd.GeoSeries | None = None
    """Valid polygons in which nothing is told, in any CRS; None: there are none."""
    zones: Zones | None = None
    """Polygons that events are told to lie in; None: there are none."""
    waits_for_confirmation: bool = False
    """Whether an event is told as new once it is confirmed, rather than at its first sighting."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EventTable:
    """All events, and why some are not told."""

    frame: gpd.GeoDataFrame
    """The columns of `EVENTS_SCHEMA`, of all events, in the order of their first sightings."""
    reasons: tuple[str | None, ...]
    """Why each is not told; None: it is."""
    by_sighting: dict[str, int] = field(default_factory=dict)
    """Row of each event by its first sighting."""

    @property
    def told(self) -> gpd.GeoDataFrame:
        """The events that are told, by their ids."""
        is_told = np.array([reason is None for reason in self.reasons], dtype=np.bool_)
        return self.frame[is_told].sort_values("event_id", ignore_index=True)

    def count_offered(self) -> int:
        """Count the events that are told, or were until people rejected them."""
        return sum(reason in (None, REJECTED) for reason in self.reasons)

    def list_reasons(self) -> dict[str, str]:
        """Give why events are not told, by their ids."""
        pairs = zip(self.frame["event_id"], self.reasons, strict=True)
        return {event_id: reason for event_id, reason in pairs if reason is not None}


def tabulate_events(
    events: Sequence[Event],
    *,
    ids: Sequence[str],
    verdicts: Sequence[Verdict],
    changes: Sequence[gpd.GeoDataFrame],
    rules: TellingRules,
    crs: str,
    reviews: Sequence[Settled | None] | None = None,
) -> EventTable:
    """Give the table of events.

    Args:
        events: What `link_changes` made of the changes.
        ids: Their ids.
        verdicts: What the pairs say of each.
        changes: The changes of each pair, in the order that they were linked in.
        rules: Which are told.
        crs: CRS of the events.
        reviews: What people have said of each; None: nobody has reviewed any, and there are no columns about it.
    """
    grounds = np.array([event.ground for event in events], dtype=object)
    sightings = _pick_sightings(events, changes) if events else pd.DataFrame()
    areas = _measure(events, sightings) if events else []
    columns: dict[str, list[Any]] = {
        "event_id": list(ids),
        "kind": [event.kind for event in events],
        "change": _choose_told(events, sightings, column="change") if events else [],
        "status": [verdict.status.value for verdict in verdicts],
        "event_confidence": [verdict.confidence for verdict in verdicts],
        "area_m2": areas,
        "description": _choose_told(events, sightings, column="description") if events else [],
        "happened_after": [event.earliest for event in events],
        "happened_by": [event.latest for event in events],
        "first_seen": [event.first_seen for event in events],
        "last_seen": [event.last_seen for event in events],
        "confirmed_at": [verdict.confirmed_at for verdict in verdicts],
        "times_seen": [event.times_seen for event in events],
        "pairs_for": [verdict.n_for for verdict in verdicts],
        "pairs_against": [verdict.n_against for verdict in verdicts],
        "zone_ids": _name_zones(grounds, zones=rules.zones, crs=crs),
    }
    frame = make_frame(columns, schema=EVENTS_SCHEMA, geometry=grounds, crs=crs)
    reasons = _find_reasons(grounds, areas=areas, rules=rules, crs=crs)
    if reviews is not None:
        settled = {event_id: each for event_id, each in zip(ids, reviews, strict=True) if each is not None}
        frame = mark_changes(frame, settled, key="event_id")
        reasons = [REJECTED if is_rejected(each) else why for each, why in zip(reviews, reasons, strict=True)]
    return EventTable(
        frame=frame,
        reasons=tuple(reasons),
        by_sighting={event.first_sighting: row for row, event in enumerate(events)},
    )


def _pick_sightings(events: Sequence[Event], changes: Sequence[gpd.GeoDataFrame]) -> pd.DataFrame:
    """Give area, area in the CRS and what else is told of every sighting, and the place of its event."""
    names = ["area_m2", "change", "confidence", "description"]
    starts = np.cumsum([0, *map(len, changes)])
    rows = [starts[place.pair] + place.change for event in events for place in event.sightings]
    of_event = np.repeat(np.arange(len(events)), [len(event.sightings) for event in events])
    # Runs of former versions have no change.
    told = [pd.DataFrame({name: frame.get(name) for name in names}, index=frame.index) for frame in changes]
    plain = [each.assign(shape=frame.geometry.area) for each, frame in zip(told, changes, strict=True)]
    return pd.concat(plain, ignore_index=True).iloc[rows].assign(event=of_event)


def _measure(events: Sequence[Event], sightings: pd.DataFrame) -> list[float]:
    """Give areas on the ellipsoid: those in the CRS, as much larger or smaller as those of the sightings are."""
    sums = sightings.groupby("event")[["area_m2", "shape"]].sum()
    grounds = shapely.area([event.ground for event in events])
    areas: list[float] = (grounds * (sums["area_m2"] / sums["shape"]).to_numpy(np.float64)).tolist()
    return areas


def _choose_told(events: Sequence[Event], sightings: pd.DataFrame, *, column: str) -> list[str | None]:
    """Give what the most confident sighting tells, of equal ones the earliest; None where none tells."""
    told = sightings[sightings[column].notna()].reset_index(drop=True)
    confidences = told["confidence"].to_numpy(np.float64, na_value=-1.0)
    ranked = told.iloc[np.argsort(-confidences, kind="stable")].drop_duplicates("event").set_index("event")
    words = ranked[column].to_dict()
    return [words.get(at) for at in range(len(events))]


def _find_reasons(
    grounds: npt.NDArray[np.object_], *, areas: Sequence[float], rules: TellingRules, crs: str
) -> list[str | None]:
    shares = _measure_excluded(grounds, excluded=rules.excluded, crs=crs)
    return [
        "it lies in exclude"
        if share >= MIN_EXCLUDED_FRACTION
        else "it is smaller than report.min_area_m2"
        if area < rules.min_area_m2
        else None
        for share, area in zip(shares, areas, strict=True)
    ]


def _measure_excluded(
    grounds: npt.NDArray[np.object_], *, excluded: gpd.GeoSeries | None, crs: str
) -> npt.NDArray[np.float64]:
    shares = np.zeros(len(grounds))
    if excluded is None or not len(grounds):
        return shares
    shapes = _place(excluded, grounds=grounds, crs=crs)
    ours, theirs = shapely.STRtree(shapes).query(grounds, predicate="intersects")
    for at in np.unique(ours):
        # Together: polygons that overlap exclude no ground twice.
        excluded_there = shapely.union_all(shapely.intersection(grounds[at], shapes[theirs[ours == at]]))
        shares[at] = excluded_there.area / grounds[at].area
    return shares


def _name_zones(grounds: npt.NDArray[np.object_], *, zones: Zones | None, crs: str) -> list[str | None]:
    if zones is None or not len(grounds):
        return [None] * len(grounds)
    shapes = _place(zones.geometry, grounds=grounds, crs=crs)
    ours, theirs = shapely.STRtree(shapes).query(grounds, predicate="intersects")
    has_area = shapely.area(shapely.intersection(grounds[ours], shapes[theirs])) > 0
    touched: list[list[int]] = [[] for _ in grounds]
    for at, zone in zip(ours[has_area], theirs[has_area], strict=True):
        touched[at].append(int(zone))
    return [";".join(zones.zone_ids[zone] for zone in sorted(found)) for found in touched]


def _place(shapes: gpd.GeoSeries, *, grounds: npt.NDArray[np.object_], crs: str) -> npt.NDArray[np.object_]:
    left, bottom, right, top = (float(value) for value in shapely.total_bounds(grounds))
    return place_polygons(shapes, grid=frame_ground((left, bottom, right, top), crs=crs))
