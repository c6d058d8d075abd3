"""What people say of an event holds for all pairs: found right it is confirmed, rejected it is told no more."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely
from made_events import BEGIN, CRS, make_pair

from pipeline.regions.events.changelog import count_actions, extend_changelog, list_known, read_changelog
from pipeline.regions.events.identity import identify_events
from pipeline.regions.events.reviewed import REJECTED, EventReviews, confirm, read_event_reviews
from pipeline.regions.events.status import EventStatus, Verdict
from pipeline.regions.events.table import EventTable, TellingRules, tabulate_events
from pipeline.regions.schemas import EVENTS_SCHEMA, make_events_schema
from pipeline.regions.timeline import PairChanges, link_changes
from pipeline.reviews import review as reviews
from pipeline.reviews.settle import Settled
from pipeline.reviews.store import add_reviews
from pipeline.storage.folder import RunFolder

HOUSE = shapely.box(621_000, 3_361_000, 621_030, 3_361_030)
HALL = shapely.box(621_100, 3_361_000, 621_160, 3_361_060)
FIRST, SECOND = make_pair([HOUSE, HALL], week=1), make_pair([HOUSE], week=2)
RIGHT, WRONG = Settled(verdict=reviews.Verdict.RIGHT), Settled(verdict=reviews.Verdict.WRONG)
BY_PAIRS = Verdict(status=EventStatus.NOT_CONFIRMED, confidence=None, confirmed_at=None, n_for=1, n_against=2)


def name(pair: PairChanges, change: int) -> str:
    return f"{pair.pair_id}/{pair.change_ids[change]}"


def tell(
    pairs: list[PairChanges], log: gpd.GeoDataFrame, *, said: EventReviews | None
) -> tuple[EventTable, gpd.GeoDataFrame]:
    """Make a pass: gives the events, and the log with what the pass adds."""
    events = link_changes(pairs).events
    settled = [None] * len(events) if said is None else said.match(events, pairs=pairs)
    told = {"area_m2": 900.0, "confidence": 0.8, "description": "a house is built ."}
    table = tabulate_events(
        events,
        ids=identify_events(events, known=list_known(log), crs=CRS),
        verdicts=[confirm(BY_PAIRS, each) for each in settled],
        changes=[gpd.GeoDataFrame(geometry=list(pair.geometry), crs=CRS).assign(**told) for pair in pairs],
        rules=TellingRules(),
        crs=CRS,
        reviews=None if said is None else settled,
    )
    longer = extend_changelog(log, table.told, pass_at=BEGIN, reasons=table.list_reasons(), waits_for_confirmation=True)
    return table, longer


def begin(tmp_path: Path) -> gpd.GeoDataFrame:
    return read_changelog(RunFolder(str(tmp_path)), crs=CRS, facts=None)


def test_without_reviews_nothing_differs(tmp_path: Path) -> None:
    table, _ = tell([FIRST], begin(tmp_path), said=None)

    assert table.frame.columns.tolist() == EVENTS_SCHEMA.names == make_events_schema(is_reviewed=False).names
    assert read_event_reviews(RunFolder(str(tmp_path)), name="mine") is None


def test_an_event_that_people_found_right_is_confirmed_and_new_to_people_once(tmp_path: Path) -> None:
    _, log = tell([FIRST], begin(tmp_path), said=None)
    said = EventReviews(settled={name(FIRST, 0): RIGHT})

    table, longer = tell([FIRST], log, said=said)
    _, again = tell([FIRST], longer, said=said)

    assert sorted(table.frame["status"]) == ["confirmed", "not_confirmed"]
    assert count_actions(longer, since=len(log)) == {"added": 0, "confirmed": 1, "altered": 0, "retired": 0, "new": 1}
    assert len(again) == len(longer)


def test_a_rejected_event_is_retired_and_stays_so_whoever_sees_it_next(tmp_path: Path) -> None:
    _, log = tell([FIRST], begin(tmp_path), said=None)
    said = EventReviews(settled={name(FIRST, 0): WRONG})

    table, longer = tell([FIRST], log, said=said)
    later, again = tell([FIRST, SECOND], longer, said=said)

    assert REJECTED in table.list_reasons().values()
    assert len(table.told) == len(later.told) == 1
    assert longer.iloc[len(log) :][["action", "reason"]].to_numpy().tolist() == [["retired", REJECTED]]
    assert count_actions(again, since=len(longer))["new"] == 0
    assert table.count_offered() == 2


def test_a_verdict_is_found_again_when_an_earlier_pair_comes_in(tmp_path: Path) -> None:
    said = EventReviews(settled={name(SECOND, 0): WRONG, "20200101_20210101_x/gone": RIGHT})
    events = link_changes([FIRST, SECOND]).events

    matched = said.match(events, pairs=[FIRST, SECOND])

    assert [each for each in matched if each is not None] == [WRONG]
    summary = said.summarise(matched, n_events=2)
    assert (summary.n_changes, summary.n_wrong) == (2, 1)
    assert summary.notes == ("reviews of events that no pair tells of: 1; they are kept, and not counted",)


def test_reviews_of_another_region_are_told(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    said: dict[str, Any] = {
        "person": "ann",
        "reviewed_at": dt.datetime(2026, 5, 1, tzinfo=dt.UTC),
        "model_id": "m@0",
        "subject": reviews.Subject.EVENT,
        "verdict": reviews.Verdict.RIGHT,
    }
    add_reviews(folder, [reviews.Review(**said, run_id=run, subject_id="p/c") for run in ("mine", "other")])

    read = read_event_reviews(folder, name="mine")

    assert read is not None
    assert list(read.settled) == ["p/c"]
    assert read.notes == ("reviews of other runs that were here: 1; they are kept, and not counted",)
