"""Which scenes of a region are compared: tables of what was found, what is done and what comes out."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from shapely.geometry import box

from model.errors import InputError
from pipeline.config.region import DateChoiceConfig
from pipeline.config.region_sources import DatesPairing, LastAnalysedPairing, SeriesPairing, YearEarlierPairing
from pipeline.findings.coverage import Coverage
from pipeline.regions.dates import DatedScene, choose_scenes, group_scenes
from pipeline.regions.pair_records import PairRecord, PairState, PairStatus
from pipeline.regions.pairs import (
    RegionPair,
    choose_pairs,
    find_season_gap,
    find_windows,
    name_pair,
    subtract_year,
)
from pipeline.regions.plan import decide_pass
from pipeline.regions.tables import measure_seen
from pipeline.scenes.days import ScenePiece

NOW = dt.datetime(2026, 6, 20, 2, 30, tzinfo=dt.UTC)
AREA = box(10.0, 50.0, 10.2, 50.1)
SERIES = SeriesPairing(kind="series", since=dt.date(2024, 1, 1))
YEAR = YearEarlierPairing(kind="year-earlier", window_days=30)
LAST = LastAnalysedPairing(kind="last-analysed", since=dt.date(2024, 1, 1))


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def scene(day: str, **values: Any) -> DatedScene:
    return DatedScene(**{"scene_id": day, "start": at(day), "piece_ids": (day,), "version": "1", **values})


def piece(name: str, moment: str, **values: Any) -> ScenePiece:
    return ScenePiece(**{"piece_id": name, "start": at(moment), "footprint": AREA, **values})


def pair(before: DatedScene, after: DatedScene) -> RegionPair:
    return name_pair(before, after, cell="cell", settings="settings")


def state(found: RegionPair, status: PairStatus = PairStatus.DONE, **values: Any) -> PairState:
    record = PairRecord(**{"pair": found, "cell": "cell", "settings": "settings", "planned_at": "2026", **values})
    has_result = status in (PairStatus.DONE, PairStatus.PARTLY_FAILED)
    return PairState(
        record=record,
        status=status,
        reason=record.reason,
        figures={"status_counts": {}, "changed_tile_count": 0} if has_result else None,
        has_folder=has_result,
    )


def days(pairs: list[tuple[DatedScene, DatedScene]]) -> list[tuple[str, str]]:
    return [(before.scene_id, after.scene_id) for before, after in pairs]


@pytest.mark.parametrize(
    ("pairing", "found", "expected", "reasons"),
    [
        (SERIES, [], [], []),
        (SERIES, ["2024-06-01"], [], ["the only scene: there is nothing to compare it with"]),
        (SERIES, ["2025-06-01", "2024-06-01"], [("2024-06-01", "2025-06-01")], []),
        (
            SERIES,
            ["2024-06-01", "2025-06-01", "2026-06-01"],
            [("2024-06-01", "2025-06-01"), ("2025-06-01", "2026-06-01")],
            [],
        ),
        (SERIES, ["2023-06-01", "2024-06-01", "2025-06-01", "2027-01-01"], [("2024-06-01", "2025-06-01")],
         ["not within the series"]),
        (
            SeriesPairing(kind="series", since=dt.date(2024, 1, 1), min_days_apart=30),
            ["2024-06-01", "2024-06-30", "2024-07-01"],
            [("2024-06-01", "2024-07-01")],
            ["less than 30 days after 2024-06-01 (pairing.min_days_apart)"],
        ),
        (YEAR, [], [], ["no scene that is good enough"] * 2),
        (YEAR, ["2026-06-01"], [], ["no scene that is good enough"]),
        (YEAR, ["2025-06-10", "2025-05-30", "2026-06-18", "2026-06-01", "2025-12-01"], [("2025-06-10", "2026-06-18")],
         ["a newer scene of the window is taken"] * 2),
        (LAST, ["2026-06-01"], [], ["the only scene: there is nothing to compare it with"]),
        (LAST, ["2026-05-01", "2026-06-01", "2026-04-01"], [("2026-04-01", "2026-06-01")], ["a newer scene is taken"]),
        (
            DatesPairing(kind="dates", before_dates="2024-05/2024-06", after_dates="2026-06"),
            ["2024-05-02", "2024-06-30", "2024-07-01", "2026-06-02"],
            [("2024-06-30", "2026-06-02")],
            ["a newer scene of the window is taken"],
        ),
    ],
)  # fmt: skip
def test_pairs_of_scenes(pairing: Any, found: list[str], expected: list[tuple[str, str]], reasons: list[str]) -> None:
    pairs, left_out = choose_pairs([scene(day) for day in found], pairing=pairing, now=NOW)

    assert days(pairs) == expected
    assert [each.reason for each in left_out] == reasons


def test_fewest_clouds_go_over_the_newest_where_that_is_asked_for() -> None:
    pairing = YearEarlierPairing(kind="year-earlier", order="least_cloudy")
    found = [
        scene("2025-06-01", cloud_percent=3.0),
        scene("2025-06-10", cloud_percent=9.0),
        scene("2026-06-01", cloud_percent=1.0),
        scene("2026-06-10"),
    ]

    pairs, _ = choose_pairs(found, pairing=pairing, now=NOW)

    assert days(pairs) == [("2025-06-01", "2026-06-01")]


def test_window_takes_what_shows_most_of_the_area_first() -> None:
    found = [
        scene("2025-06-01", covered_fraction=0.9),
        scene("2025-06-10", covered_fraction=0.81),
        # The same whole per cent.
        scene("2026-06-01", covered_fraction=0.993),
        scene("2026-06-10", covered_fraction=0.99),
    ]

    pairs, left_out = choose_pairs(found, pairing=YEAR, now=NOW)

    assert days(pairs) == [("2025-06-01", "2026-06-10")]
    assert [each.reason for each in left_out] == [
        "a scene of the window that shows more of the area is taken",
        "a newer scene of the window is taken",
    ]


def test_time_line_counts_what_the_scenes_do_not_reach_as_a_run_does() -> None:
    told = {"analysed": 50.0, "identical": 10.0, "no_data": 20.0, "off": 20.0}
    own = Coverage(tile_counts={}, ground_m2=told)

    assert measure_seen(told) == own.seen_fraction == 0.6
    assert measure_seen({"off": 5.0}) == 0.0
    assert measure_seen({}) is None


def test_newest_is_compared_with_the_one_analysed_last() -> None:
    scenes = [scene(day) for day in ("2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01")]
    analysed = [pair(scenes[0], scenes[1])]

    pairs, left_out = choose_pairs(scenes, pairing=LAST, now=NOW, analysed=analysed)

    assert days(pairs) == [("2026-04-01", "2026-06-01")]
    assert [each.name for each in left_out] == ["2026-05-01"]


def test_nothing_newer_than_the_last_gives_the_pair_that_is_done() -> None:
    scenes = [scene("2026-03-01"), scene("2026-04-01")]
    done = pair(*scenes)

    pairs, _ = choose_pairs(scenes, pairing=LAST, now=NOW, analysed=[done])

    assert pair(*pairs[0]).pair_id == done.pair_id


def test_scene_that_was_processed_anew_is_another_pair_of_the_same_scenes() -> None:
    before, after = scene("2026-03-01"), scene("2026-04-01")
    former, anew = pair(before, after), pair(before, replace(after, version="2"))

    assert former.pair_id != anew.pair_id
    assert former.pair_id[:17] == anew.pair_id[:17] == "20260301_20260401"
    assert former.key == anew.key


def test_last_analysed_scene_that_has_vanished_is_not_compared_with() -> None:
    analysed = [pair(scene("2026-03-01"), scene("2026-04-01"))]

    pairs, _ = choose_pairs([scene("2026-03-01"), scene("2026-06-01")], pairing=LAST, now=NOW, analysed=analysed)

    assert days(pairs) == [("2026-03-01", "2026-06-01")]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-06-20T02:30:00+00:00", "2025-06-20T02:30:00+00:00"),
        ("2028-02-29T02:30:00+00:00", "2027-02-28T02:30:00+00:00"),
        ("2029-02-28T02:30:00+00:00", "2028-02-28T02:30:00+00:00"),
        # Half past midnight in Berlin is still the day before in UTC.
        ("2026-06-20T00:30:00+02:00", "2025-06-19T22:30:00+00:00"),
    ],
)
def test_year_earlier(moment: str, expected: str) -> None:
    assert subtract_year(dt.datetime.fromisoformat(moment)).isoformat() == expected


@pytest.mark.parametrize("day", [28, 29, 30])
def test_windows_are_as_long_across_a_clock_change(day: int) -> None:
    now = dt.datetime(2026, 3, day, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    windows = find_windows(YearEarlierPairing(kind="year-earlier", window_days=7), now=now)

    assert [window.end - window.start for window in windows] == [dt.timedelta(days=7)] * 2
    assert windows[1].end == now.astimezone(dt.UTC)
    assert all(window.end.tzinfo is dt.UTC for window in windows)


def test_window_of_the_last_analysed_begins_with_its_pair() -> None:
    done = pair(scene("2026-03-01"), scene("2026-04-01"))

    (window,) = find_windows(LAST, now=NOW, analysed=[done])

    assert window.start == at("2026-02-28")
    assert window.end == NOW


def test_pieces_of_one_day_make_one_scene() -> None:
    west, east = box(10.0, 50.0, 10.1, 50.1), box(10.1, 50.0, 10.15, 50.1)
    pieces = [
        piece("east", "2026-06-01T10:00", footprint=east, cloud_percent=10.0),
        piece("west", "2026-06-01T10:00", footprint=west, cloud_percent=30.0),
        piece("next", "2026-06-02T10:00", footprint=west),
    ]

    scenes, left_out = group_scenes(pieces, area=AREA)

    assert [(found.scene_id, found.piece_ids) for found in scenes] == [
        ("east and 1 more", ("east", "west")),
        ("next", ("next",)),
    ]
    assert scenes[0].covered_fraction == pytest.approx(0.75)
    assert scenes[0].cloud_percent == 20.0
    assert left_out == []


def test_version_of_a_scene_is_that_of_its_pieces() -> None:
    old, new = (group_scenes([piece("a", "2026-06-01", version=tag)], area=AREA)[0][0] for tag in ("etag-1", "etag-2"))

    assert old.version != new.version
    assert old.key == new.key


def test_dates_that_are_not_good_enough_are_left_out_with_the_reason() -> None:
    choice = DateChoiceConfig(min_covered_fraction=0.8, max_cloud_percent=20)
    scenes = [
        scene("2026-06-01", covered_fraction=0.5),
        scene("2026-06-02", cloud_percent=55.0),
        scene("2026-06-03"),
        scene("2026-06-04", covered_fraction=0.8, cloud_percent=20.0),
    ]

    usable, left_out = choose_scenes(scenes, choice=choice)

    assert [found.scene_id for found in usable] == ["2026-06-03", "2026-06-04"]
    assert [each.reason for each in left_out] == [
        "shows 50 % of the area, less than 80 % (dates.min_covered_fraction)",
        "55 % clouds, more than 20 % (dates.max_cloud_percent)",
    ]


def decide(pairs: list[RegionPair], states: list[PairState], **values: Any) -> Any:
    settings = {
        "cell": "cell",
        "settings": "settings",
        "planned_at": NOW,
        "max_attempts": 3,
        "max_pairs": 10,
        "n_scenes": 3,
    }
    return decide_pass(pairs, states=states, **{**settings, **values})


A, B = pair(scene("2024-06-01"), scene("2025-06-01")), pair(scene("2025-06-01"), scene("2026-06-01"))


@pytest.mark.parametrize(
    ("states", "to_do", "n_done"),
    [
        ([], [A, B], 0),
        ([state(A)], [B], 1),
        ([state(A), state(B)], [], 2),
        ([state(A), state(B, PairStatus.FAILED, attempts=1, reason="gone")], [B], 1),
        ([state(A), state(B, PairStatus.PLANNED, attempts=1)], [B], 1),
        ([state(A), state(B, PairStatus.FAILED, attempts=3, reason="gone")], [], 1),
        ([state(A), state(B, PairStatus.PARTLY_FAILED, attempts=1, reason="2 tiles failed")], [B], 2),
        ([state(A), state(B, PairStatus.PARTLY_FAILED, attempts=3, reason="2 tiles failed")], [], 2),
    ],
)
def test_pass_does_what_is_new_or_unfinished(states: list[PairState], to_do: list[RegionPair], n_done: int) -> None:
    plan = decide([A, B], states)

    assert [record.pair for record in plan.to_do] == to_do
    assert plan.n_done == n_done


def test_failed_pair_that_is_no_longer_planned_is_tried_again() -> None:
    failed = state(A, PairStatus.FAILED, attempts=1, reason="gone")

    assert [record.pair for record in decide([B], [failed]).to_do] == [A, B]
    # With other settings or another place it is another pair, which nobody has asked for.
    assert [record.pair for record in decide([B], [failed], settings="others").to_do] == [B]


def test_pass_takes_the_oldest_pairs_and_leaves_the_rest() -> None:
    plan = decide([B, A], [], max_pairs=1)

    assert [record.pair for record in plan.to_do] == [A]
    assert [(each.name, each.reason) for each in plan.left_out] == [(B.pair_id, "left to the next pass")]


@pytest.mark.parametrize(
    ("before", "after", "apart"),
    [
        ("2025-06-01", "2026-06-22", None),
        ("2025-06-01", "2026-06-23", 22),
        ("2025-06-23", "2026-06-01", 22),
        # Over the turn of the year, and of years with a leap day.
        ("2025-01-05", "2025-12-20", None),
        ("2025-01-05", "2025-12-10", 26),
        ("2024-03-01", "2025-03-22", None),
        ("2024-02-29", "2025-03-22", 22),
    ],
)
def test_seasons_that_lie_apart_are_told(before: str, after: str, apart: int | None) -> None:
    found = pair(scene(before), scene(after))

    told = find_season_gap(found, pairing=YEAR)

    assert told is None if apart is None else told and f"{apart} days apart in the year, more than 21" in told
    assert find_season_gap(found, pairing=SERIES) is None


@pytest.mark.parametrize("pair_id", ["../../other/run", "/data/run", "", "..", "a/b", "a\0b", "x" * 300, 5, None])
def test_an_id_out_of_a_strange_record_is_no_way_to_another_folder(pair_id: Any) -> None:
    # In a bucket nothing would stop what follows: the pixels of old pairs are removed.
    record = state(pair(scene("2026-01-01"), scene("2026-02-01"))).record
    values = json.loads(record.to_json())
    values["pair"]["pair_id"] = pair_id
    values.pop("sha256")

    assert PairRecord.from_json(record.to_json(), source="plan") == record
    with pytest.raises(InputError, match="pair_id"):
        PairRecord.from_json(json.dumps(values).encode(), source="plan")
