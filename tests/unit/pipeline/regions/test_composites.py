"""Which scenes of a window go together, and which composites are compared: tables of days."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from shapely.geometry import box

from pipeline.config.region import DateChoiceConfig
from pipeline.config.region_sources import (
    DatesPairing,
    FolderSourceConfig,
    LastAnalysedPairing,
    PairingConfig,
    SeriesPairing,
    StacSourceConfig,
    YearEarlierPairing,
)
from pipeline.config.scene import CompositeConfig
from pipeline.regions.composites import Composer, ScenePairs
from pipeline.regions.dates import DatedScene, choose_scenes, group_scenes
from pipeline.regions.pairs import RegionPair, name_pair
from pipeline.regions.search import make_scene_config
from pipeline.scenes.days import LeftOut, ScenePiece

NOW = dt.datetime(2026, 6, 20, 2, 30, tzinfo=dt.UTC)
AREA = box(10.0, 50.0, 10.2, 50.1)
WEST, EAST = box(10.0, 50.0, 10.12, 50.1), box(10.1, 50.0, 10.2, 50.1)
JUNE = DatesPairing(kind="dates", before_dates="2025-06", after_dates="2026-06")
RULE = CompositeConfig(rule="median", cloud_buffer_m=50)


def piece(day: str, **values: Any) -> ScenePiece:
    start = dt.datetime.fromisoformat(f"{day}T10:00").replace(tzinfo=dt.UTC)
    return ScenePiece(**{"piece_id": day, "start": start, "footprint": AREA, "version": "1", **values})


def choose(
    pairing: PairingConfig, *pieces: ScenePiece, now: dt.datetime = NOW, analysed: Any = (), **values: Any
) -> tuple[ScenePairs, list[LeftOut]]:
    choice = DateChoiceConfig(**{"composite": "first_clear", **values})
    scenes, _ = group_scenes(pieces, area=AREA)
    usable, _ = choose_scenes(scenes, choice=choice)
    return Composer(pairing=pairing, choice=choice, now=now, analysed=analysed).pair(usable, pieces=pieces, area=AREA)


def list_days(scene: DatedScene) -> list[str]:
    return [f"{date.start:%m-%d}" for date in scene.dates]


def test_all_scenes_of_both_windows_take_part() -> None:
    days = ["2025-05-31", "2025-06-02", "2025-06-12", "2025-06-22", "2026-06-01", "2026-06-11"]
    ((before, after),), left_out = choose(JUNE, *map(piece, days))
    assert (list_days(before), list_days(after)) == (["06-02", "06-12", "06-22"], ["06-01", "06-11"])
    assert (f"{before.start:%m-%d}", f"{after.start:%m-%d}") == ("06-12", "06-01")
    assert before.scene_id == "first_clear of 3 dates, 2025-06-02 to 2025-06-22"
    assert [(each.name, each.reason) for each in left_out] == [
        ("2025-05-31", "in no window, or in one that is not over")
    ]


@pytest.mark.parametrize(("order", "expected"), [("newest", ["06-12", "06-22"]), ("least_cloudy", ["06-02", "06-12"])])
def test_of_too_many_scenes_the_first_in_their_order_are_taken(order: str, expected: list[str]) -> None:
    clouds = {"2025-06-02": 5.0, "2025-06-12": 20.0, "2025-06-22": 80.0, "2026-06-01": None}
    pieces = [piece(day, cloud_percent=percent) for day, percent in clouds.items()]
    pairing = JUNE.model_copy(update={"order": order})
    ((before, _),), left_out = choose(pairing, *pieces, max_scenes=2)
    assert list_days(before) == expected
    assert [each.reason for each in left_out] == ["one of too many of its window (dates.max_scenes)"]


def test_scenes_cover_the_area_together() -> None:
    pieces = [
        piece("2025-06-02", footprint=WEST),
        piece("2025-06-12", footprint=EAST),
        piece("2026-06-02", footprint=WEST),
        piece("2026-06-12", footprint=WEST),
    ]
    found, left_out = choose(JUNE, *pieces)
    assert found == []
    assert len(left_out) == 1
    assert "% of the area, less than 80 %" in left_out[0].reason
    ((before, after),), _ = choose(JUNE, *pieces, min_covered_fraction=0.5)
    assert (before.covered_fraction, after.covered_fraction) == (pytest.approx(1.0), pytest.approx(0.6))


def test_overlapping_windows_share_no_scene() -> None:
    pairing = DatesPairing(kind="dates", before_dates="2026-05-01/2026-06-19", after_dates="2026-06-10/2026-06-15")
    days = ["2026-05-05", "2026-06-11", "2026-06-14", "2026-06-18"]
    ((before, after),), left_out = choose(pairing, *map(piece, days))
    assert (list_days(before), list_days(after)) == (["05-05"], ["06-11", "06-14"])
    assert [each.reason for each in left_out] == ["not earlier than the later composite"]


def test_windows_of_a_series_are_counted_and_over() -> None:
    pairing = SeriesPairing(kind="series", since=dt.date(2026, 4, 1))
    days = ["2026-04-02", "2026-04-20", "2026-05-01", "2026-05-30", "2026-06-10"]
    ((before, after),), left_out = choose(pairing, *map(piece, days), composite_days=30)
    # From the 1st of April to the 30th, and to the 30th of May; that of June is not over.
    assert (list_days(before), list_days(after)) == (["04-02", "04-20"], ["05-01", "05-30"])
    assert [each.name for each in left_out] == ["2026-06-10"]
    assert (before.window, after.window) == (
        "2026-04-01T00:00:00Z/2026-04-30T23:59:59.999999Z",
        "2026-05-01T00:00:00Z/2026-05-30T23:59:59.999999Z",
    )


def test_the_newest_window_that_is_over_is_compared_with_the_last_analysed() -> None:
    pairing = LastAnalysedPairing(kind="last-analysed", since=dt.date(2026, 4, 1))
    pieces = [piece(f"2026-{month:02d}-{day:02d}") for month in (4, 5, 6) for day in (3, 17)]
    (first,), _ = choose(pairing, *pieces, composite_days=15, now=dt.datetime(2026, 5, 20, tzinfo=dt.UTC))
    assert list(map(list_days, first)) == [["04-03"], ["05-03"]]
    done: RegionPair = name_pair(*first, cell="cell", settings="settings")
    # A scene that comes later makes the window no other.
    late = piece("2026-05-08")
    (second,), _ = choose(pairing, *pieces, late, composite_days=15, analysed=[done])
    assert list(map(list_days, second)) == [["05-03", "05-08"], ["06-03"]]
    again = name_pair(first[0], second[0], cell="cell", settings="settings")
    assert (again.key, again.pair_id != done.pair_id) == (done.key, True)


def test_scenes_in_common_are_known() -> None:
    year = YearEarlierPairing(kind="year-earlier", window_days=30)
    days = ["2025-06-01", "2025-06-16", "2026-05-30", "2026-06-13"]
    ((_, first),), _ = choose(year, *map(piece, days))
    ((_, second),), _ = choose(year, *map(piece, days), piece("2026-06-25"), now=NOW + dt.timedelta(days=7))
    assert first.key != second.key
    assert first.keys & second.keys == {(None, ("2026-05-30",)), (None, ("2026-06-13",))}


def test_records_of_pairs_keep_composites_and_those_of_scenes_stay() -> None:
    ((before, after),), _ = choose(JUNE, *map(piece, ["2025-06-02", "2025-06-12", "2026-06-01"]))
    assert DatedScene.from_dict(before.to_dict()) == before
    assert set(after.dates[0].to_dict()) == {
        *("scene_id", "start", "piece_ids", "version", "collection", "cloud_percent", "covered_fraction"),
    }  # fmt: skip


def test_a_run_is_told_all_dates() -> None:
    ((before, _),), _ = choose(JUNE, *map(piece, ["2025-06-02", "2025-06-12", "2026-06-01"]))
    folder = FolderSourceConfig(kind="folder", folder="s3://bucket/scenes")
    scene = make_scene_config(before, source=folder, composite=RULE)
    assert scene.composite is not None
    assert scene.uri == ("s3://bucket/scenes/2025-06-02", "s3://bucket/scenes/2025-06-12")
    assert [moment.day for moment in scene.composite.datetimes] == [2, 12]

    stac = StacSourceConfig.model_validate({"search": {"href": "https://api.example"}})
    ((before, _),), _ = choose(JUNE, *(piece(d, collection="c") for d in ("2025-06-02", "2025-06-12", "2026-06-01")))
    scene = make_scene_config(before, source=stac, composite=RULE)
    assert scene.stac is not None
    assert (scene.stac.ids, scene.stac.collections) == (("2025-06-02", "2025-06-12"), ("c",))
    assert scene.stac.datetime == "2025-06-02T09:59:00Z/2025-06-13T10:00:00Z"
