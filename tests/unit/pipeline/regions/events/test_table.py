"""Which events are told, and where they lie."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_events import CRS, make_pair

from pipeline.polygons.zones import Zones, read_excluded, read_zones
from pipeline.regions.events.status import EventStatus, Verdict
from pipeline.regions.events.table import EventTable, TellingRules, tabulate_events
from pipeline.regions.schemas import EVENTS_SCHEMA
from pipeline.regions.timeline import link_changes

HOUSE = shapely.box(621_000, 3_361_000, 621_030, 3_361_030)
HALL = shapely.box(621_100, 3_361_000, 621_160, 3_361_060)
EAST = shapely.box(621_090, 3_360_900, 621_400, 3_361_100)


def tabulate(shapes: list[shapely.Geometry], *, scale: float = 1.0, **rules: Any) -> EventTable:
    pair = make_pair(shapes, week=1)
    changes = gpd.GeoDataFrame(geometry=list(pair.geometry), crs=CRS)
    told = {"area_m2": shapely.area(pair.geometry) * scale, "confidence": 0.8, "description": "a house is built ."}
    events = link_changes([pair]).events
    verdict = Verdict(status=EventStatus.PROVISIONAL, confidence=None, confirmed_at=None, n_for=1, n_against=0)
    return tabulate_events(
        events,
        ids=[f"event-{number}" for number in range(len(events))],
        verdicts=[verdict] * len(events),
        changes=[changes.assign(**told)],
        rules=TellingRules(**rules),
        crs=CRS,
    )


def read_layer(path: Any, shapes: list[shapely.Geometry], *, crs: str) -> str:
    frame = gpd.GeoDataFrame({"id": [f"z{n}" for n in range(len(shapes))]}, geometry=shapes, crs=CRS)
    frame.to_crs(crs).to_file(path)
    return str(path)


def test_a_region_without_events_has_the_columns_all_the_same() -> None:
    assert tabulate([]).told.columns.tolist() == EVENTS_SCHEMA.names


def test_small_events_are_not_told_by_their_area_on_the_ground() -> None:
    # The CRS draws everything twice as large as it is.
    table = tabulate([HOUSE, HALL], scale=0.5, min_area_m2=451.0)

    assert table.frame["area_m2"].tolist() == pytest.approx([450.0, 1800.0])
    assert table.told["event_id"].tolist() == ["event-1"]
    assert table.list_reasons() == {"event-0": "it is smaller than report.min_area_m2"}


@pytest.mark.parametrize("crs", [CRS, "EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize(("part", "is_told"), [(0.49, True), (0.51, False)])
def test_half_of_its_ground_in_excluded_polygons_keeps_it_out(
    tmp_path: Any, crs: str, part: float, is_told: bool
) -> None:
    # Two polygons that overlap exclude what they share once.
    shapes = [
        shapely.box(620_000, 3_360_000, 621_000 + 30 * part, 3_362_000),
        shapely.box(620_000, 3_361_000, 621_010, 3_361_030),
    ]
    excluded = read_excluded(read_layer(tmp_path / "water.gpkg", shapes, crs=crs))

    table = tabulate([HOUSE, HALL], excluded=excluded)

    assert table.reasons == (None if is_told else "it lies in exclude", None)


def test_events_name_the_zones_that_they_share_ground_with(tmp_path: Any) -> None:
    touching = shapely.box(620_900, 3_361_000, 621_000, 3_361_030)
    zones: Zones = read_zones(read_layer(tmp_path / "zones.gpkg", [EAST, touching, EAST.buffer(200)], crs=CRS))

    table = tabulate([HOUSE, HALL], zones=zones)

    assert table.frame["zone_ids"].tolist() == ["z2", "z0;z2"]
    assert tabulate([HOUSE]).frame["zone_ids"].isna().all()


def test_an_event_has_the_words_of_its_most_confident_sighting() -> None:
    pairs = [make_pair([HOUSE], week=week) for week in range(3)]
    frames = [
        gpd.GeoDataFrame(
            {"area_m2": [900.0], "confidence": [confidence], "description": [words]}, geometry=[HOUSE], crs=CRS
        )
        for confidence, words in ((0.6, "first"), (0.9, "sure"), (np.nan, "unsure"))
    ]
    verdict = Verdict(status=EventStatus.CONFIRMED, confidence=0.9, confirmed_at=pairs[1].after, n_for=3, n_against=0)

    events = link_changes(pairs).events
    table = tabulate_events(events, ids=["a"], verdicts=[verdict], changes=frames, rules=TellingRules(), crs=CRS)

    assert table.frame.loc[0, ["description", "times_seen", "status"]].tolist() == ["sure", 3, "confirmed"]
    # Runs of former versions do not tell what became of the ground.
    assert table.frame["change"].isna().all()
    frames[0], frames[2] = frames[0].assign(change="removed"), frames[2].assign(change="built")
    table = tabulate_events(events, ids=["a"], verdicts=[verdict], changes=frames, rules=TellingRules(), crs=CRS)
    assert table.frame.loc[0, "change"] == "removed"
