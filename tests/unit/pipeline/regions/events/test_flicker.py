"""A made series with flicker: what is told as new, week by week, against what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_events import BEGIN, CRS, WEEK, make_pair, view_pair

from pipeline.regions.events.changelog import extend_changelog, list_known
from pipeline.regions.events.identity import identify_events
from pipeline.regions.events.looks import PairView, gather_looks
from pipeline.regions.events.status import judge_event
from pipeline.regions.events.table import TellingRules, tabulate_events
from pipeline.regions.schemas import CHANGELOG_SCHEMA
from pipeline.regions.timeline import link_changes
from pipeline.tables.geoparquet import make_frame

N_WEEKS, N_SIDE = 20, 16
GROUND = shapely.box(621_000, 3_361_000, 622_000, 3_362_000)
RECALL, FLICKER = 0.95, 0.01
"""Parts of what is there that a pair sees, and of the places where nothing is that it takes for changed."""


@dataclass
class Told:
    """What a way of telling told as new: weeks by place."""

    true: dict[int, int] = field(default_factory=dict)
    false: list[int] = field(default_factory=list)


def make_house(place: int) -> shapely.Geometry:
    x, y = 621_010 + 60 * (place % N_SIDE), 3_361_010 + 60 * (place // N_SIDE)
    return shapely.box(x, y, x + 30, y + 30)


def make_series(seed: int) -> tuple[dict[int, int], list[list[int]]]:
    """Make when each house was built, by place, and the places that each week's pair calls changed."""
    random = np.random.default_rng(seed)
    built = dict(
        zip(
            random.choice(N_SIDE**2, 40, replace=False).tolist(),
            random.integers(0, N_WEEKS - 4, 40).tolist(),
            strict=True,
        )
    )
    weeks = []
    for week in range(N_WEEKS):
        is_there = np.array([built.get(place, N_WEEKS) <= week for place in range(N_SIDE**2)])
        chance = random.random(N_SIDE**2)
        weeks.append(np.flatnonzero(np.where(is_there, chance < RECALL, chance < FLICKER)).tolist())
    return built, weeks


def view_week(places: list[int], *, week: int) -> PairView:
    shapes = [make_house(place) for place in places]
    return view_pair(make_pair(shapes, week=week), ground=GROUND, changed=shapes)


def describe(view: PairView) -> gpd.GeoDataFrame:
    shapes = view.changes.geometry
    frame = gpd.GeoDataFrame(geometry=shapes, crs=CRS)
    return frame.assign(area_m2=shapely.area(shapes), confidence=view.confidences, description=None)


def make_log() -> gpd.GeoDataFrame:
    columns: dict[str, list[object]] = {name: [] for name in CHANGELOG_SCHEMA.names if name != "geometry"}
    return make_frame(columns, schema=CHANGELOG_SCHEMA, geometry=np.empty(0, dtype=object), crs=CRS)


def watch(weeks: list[list[int]]) -> dict[bool, gpd.GeoDataFrame]:
    """Make one pass a week, as a region does; give the logs of telling at once and of waiting for confirmation."""
    logs = {False: make_log(), True: make_log()}
    views: list[PairView] = []
    for week, places in enumerate(weeks):
        views.append(view_week(places, week=week))
        events = link_changes([view.changes for view in views]).events
        ids = identify_events(events, known=list_known(logs[True]), crs=CRS)
        verdicts = [judge_event(looks) for looks in gather_looks(events, views)]
        changes = [describe(view) for view in views]
        told = tabulate_events(events, ids=ids, verdicts=verdicts, changes=changes, rules=TellingRules(), crs=CRS).told
        for waits, log in logs.items():
            now = BEGIN + week * WEEK
            logs[waits] = extend_changelog(log, told, pass_at=now, reasons={}, waits_for_confirmation=waits)
    return logs


def read_told(log: gpd.GeoDataFrame, *, built: dict[int, int]) -> Told:
    """Compare what a log tells as new with what happened."""
    told = Told()
    rows = log[log["is_new"].astype(bool)]
    for point, moment in zip(rows.geometry.centroid, rows["pass_at"], strict=True):
        week = (moment - BEGIN) // WEEK
        place = int((point.x - 621_010) // 60) + N_SIDE * int((point.y - 3_361_010) // 60)
        if built.get(place, N_WEEKS) <= week:
            told.true[place] = week
        else:
            told.false.append(week)
    return told


def test_flicker_is_told_half_as_often_and_houses_one_pass_later() -> None:
    built, weeks = make_series(2)

    logs = watch(weeks)

    at_once, confirmed = (read_told(logs[waits], built=built) for waits in (False, True))
    assert len(at_once.false) / N_WEEKS == pytest.approx(2.3)
    assert len(confirmed.false) <= len(at_once.false) / 2
    assert confirmed.true.keys() >= at_once.true.keys()
    later = [confirmed.true[place] - week for place, week in at_once.true.items()]
    seen_again = [place in weeks[week + 1] for place, week in at_once.true.items()]
    assert [delay for delay, was_seen in zip(later, seen_again, strict=True) if was_seen] == [1] * sum(seen_again)
    # What the next pair misses, as one of twenty does, is told by the one after it.
    assert max(later) <= 2
