"""What a region tells beside what is known of a made one: what was found, missed, unseen, made up and told twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

_HALF = 0.5
_TWICE_M2 = 1.0
# ^ Outlines of neighbours may share an edge that rounding makes a sliver.


@dataclass(frozen=True, kw_only=True)
class TruthComparison:
    """Things of one kind that came or went, and the events that tell of them."""

    n_changed: int
    """Things that came or went."""
    n_found: int
    """Those of which an event tells at least half of the ground."""
    n_touched: int
    """Those of which events tell less than half."""
    n_unseen: int
    """Those of which no event tells, and less than half of the ground was looked at."""
    n_missed: int
    """Those of which no event tells, though they were looked at."""
    n_events: int
    """Events."""
    n_made_up: int
    """Events that touch nothing that changed."""
    n_twice: int
    """Pairs of events that tell of the same ground."""
    changed_m2: float
    """Ground that changed."""
    told_m2: float
    """Ground of the events, as their rows say."""
    common_m2: float
    """Ground that changed and that events tell of."""


def compare_with_truth(
    events: gpd.GeoDataFrame, *, truth: gpd.GeoDataFrame, seen: gpd.GeoDataFrame, area: gpd.GeoSeries, kind: str
) -> TruthComparison:
    """Hold a region's events of one kind against the truth.

    Args:
        events: The region's ``events.parquet``.
        truth: The made archive's ``truth.parquet``.
        seen: Tiles that were looked at, of all passes.
        area: The region's area of interest; of things beyond it nothing is told.
        kind: ``building`` or ``road``.
    """
    crs = events.crs
    told = events[events["kind"] == kind]
    shapes = np.asarray(shapely.make_valid(told.geometry.to_numpy()), dtype=object)
    changed = truth[(truth["kind"] == kind) & (truth["is_in_before"] != truth["is_in_after"])].to_crs(crs)
    things = shapely.intersection(changed.geometry.to_numpy(), area.to_crs(crs).union_all())
    things = things[shapely.area(things) > 0]
    all_told = shapely.union_all(shapes)
    shares = _share(things, all_told)
    is_seen = _share(things, seen.to_crs(crs).union_all()) >= _HALF
    all_changed = shapely.union_all(things)
    return TruthComparison(
        n_changed=len(things),
        n_found=int((shares >= _HALF).sum()),
        n_touched=int(((shares > 0) & (shares < _HALF)).sum()),
        n_unseen=int(((shares == 0) & ~is_seen).sum()),
        n_missed=int(((shares == 0) & is_seen).sum()),
        n_events=len(told),
        n_made_up=int((~shapely.intersects(shapes, all_changed)).sum()),
        n_twice=_count_overlapping(shapes),
        changed_m2=float(all_changed.area),
        told_m2=float(told["area_m2"].sum()),
        common_m2=float(shapely.intersection(all_changed, all_told).area),
    )


def _share(things: npt.NDArray[Any], ground: Any) -> npt.NDArray[np.float64]:
    return np.asarray(shapely.area(shapely.intersection(things, ground)) / shapely.area(things), dtype=np.float64)


def _count_overlapping(shapes: npt.NDArray[Any]) -> int:
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    first, second = first[first < second], second[first < second]
    return int((shapely.area(shapely.intersection(shapes[first], shapes[second])) > _TWICE_M2).sum())
