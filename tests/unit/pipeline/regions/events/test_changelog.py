"""The log tells every change about an event once, and its last rows are what is told now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_events import BEGIN, CRS, WEEK

from model.errors import InputError
from pipeline.regions.events.changelog import (
    CHANGELOG_NAME,
    count_actions,
    extend_changelog,
    list_known,
    read_changelog,
)
from pipeline.regions.schemas import CHANGELOG_SCHEMA, EVENTS_SCHEMA
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import describe_bytes
from pipeline.storage.opening import make_folder
from pipeline.tables.geoparquet import encode_geoparquet, make_frame

Rows = Mapping[str, Mapping[str, Any]]


def make_events(rows: Rows) -> gpd.GeoDataFrame:
    """Make events by their ids; each has what differs from an ordinary one."""
    plain: dict[str, Any] = {
        **dict.fromkeys(("happened_after", "happened_by", "first_seen", "last_seen"), BEGIN),
        **{"kind": "building", "status": "provisional", "area_m2": 900.0, "event_confidence": 0.8},
        **{"times_seen": 1, "pairs_for": 1, "pairs_against": 0, "geometry": shapely.box(0, 0, 30, 30)},
    }
    filled = [dict.fromkeys(EVENTS_SCHEMA.names) | plain | {"event_id": name} | row for name, row in rows.items()]
    columns = {name: [row[name] for row in filled] for name in EVENTS_SCHEMA.names}
    return make_frame(columns, schema=EVENTS_SCHEMA, geometry=np.array(columns.pop("geometry"), dtype=object), crs=CRS)


def put(log: gpd.GeoDataFrame, folder: RunFolder) -> gpd.GeoDataFrame:
    """Write a log and read it again."""
    folder.put(CHANGELOG_NAME, encode_geoparquet(log, schema=CHANGELOG_SCHEMA, order=np.arange(len(log))))
    return read_changelog(folder, crs=CRS, facts=describe_bytes(folder.read(CHANGELOG_NAME)))


@pytest.fixture
def folder(tmp_path: Any) -> RunFolder:
    return make_folder(str(tmp_path / "region"))


def extend(log: gpd.GeoDataFrame, rows: Rows, *, week: int, waits: bool = True, **reasons: str) -> gpd.GeoDataFrame:
    return extend_changelog(
        log, make_events(rows), pass_at=BEGIN + week * WEEK, reasons=reasons, waits_for_confirmation=waits
    )


def list_rows(log: gpd.GeoDataFrame, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in log[list(names)].astype(object).where(log[list(names)].notna(), None).to_numpy()]


SEEN_TWICE = {"status": "confirmed", "times_seen": 2, "pairs_for": 2}


def test_each_pass_tells_what_it_changed(folder: RunFolder) -> None:
    log = read_changelog(folder, crs=CRS, facts=None)
    passes: list[Rows] = [
        {"a": {}, "b": {}},
        {"a": SEEN_TWICE, "b": {"status": "not_confirmed", "pairs_against": 2}},
        {"a": SEEN_TWICE, "b": {"status": "not_confirmed", "pairs_against": 2}},
        {"a": SEEN_TWICE | {"geometry": shapely.box(0, 0, 31, 30)}, "c": SEEN_TWICE},
        {"c": SEEN_TWICE, "b": SEEN_TWICE},
    ]

    for week, rows in enumerate(passes):
        log = put(extend(log, rows, week=week, a="it lies in exclude"), folder)

    names = ("pass_number", "event_id", "action", "changed_columns", "reason", "is_new")
    assert list_rows(log, *names) == [
        (1, "a", "added", None, None, False),
        (1, "b", "added", None, None, False),
        (2, "a", "confirmed", "status;times_seen;pairs_for", None, True),
        (2, "b", "altered", "status;pairs_against", None, False),
        (3, "a", "altered", "geometry", None, False),
        (3, "b", "retired", None, "no pair tells of it any more", False),
        (3, "c", "added", None, None, True),
        (4, "a", "retired", None, "it lies in exclude", False),
        (4, "b", "added", None, None, True),
    ]
    assert log["pass_at"].drop_duplicates().tolist() == [BEGIN + week * WEEK for week in (0, 1, 3, 4)]
    assert {each.event_id: each.is_retired for each in list_known(log)} == {"a": True, "b": False, "c": False}
    assert count_actions(log, since=4) == {"added": 2, "confirmed": 0, "altered": 1, "retired": 2, "new": 2}


def test_a_log_without_a_column_that_came_later_is_read_and_nothing_is_altered_by_it(folder: RunFolder) -> None:
    log = extend(read_changelog(folder, crs=CRS, facts=None), {"a": {}}, week=1)
    schema = CHANGELOG_SCHEMA.remove(CHANGELOG_SCHEMA.get_field_index("change"))
    folder.put(CHANGELOG_NAME, encode_geoparquet(log.drop(columns="change"), schema=schema, order=np.arange(1)))

    former = read_changelog(folder, crs=CRS, facts=None)

    assert former["change"].isna().all()
    assert len(extend(former, {"a": {}}, week=2)) == 1
    assert list_rows(extend(former, {"a": {"change": "built"}}, week=2), "changed_columns")[-1] == ("change",)


def test_a_pass_made_again_adds_nothing_and_order_does_not_matter(folder: RunFolder) -> None:
    empty = read_changelog(folder, crs=CRS, facts=None)
    rows: Rows = {"a": {}, "b": {"event_confidence": None, "zone_ids": "west"}}
    log = extend(empty, rows, week=0)

    again = extend(empty, dict(reversed(rows.items())), week=0)
    data = [encode_geoparquet(each, schema=CHANGELOG_SCHEMA, order=np.arange(2)) for each in (log, again)]

    assert data[0] == data[1]
    assert extend(put(log, folder), rows, week=0).equals(put(log, folder))


def test_what_was_told_as_new_is_not_told_as_new_again(folder: RunFolder) -> None:
    log = read_changelog(folder, crs=CRS, facts=None)
    for week, rows in enumerate([{"a": {}}, {}, {"a": {}}, {"a": SEEN_TWICE}]):
        log = extend(log, rows, week=week, waits=False)

    assert list_rows(log, "action", "is_new") == [
        ("added", True),
        ("retired", False),
        ("added", False),
        ("confirmed", False),
    ]


def test_what_was_denied_at_once_is_not_new(folder: RunFolder) -> None:
    log = extend(read_changelog(folder, crs=CRS, facts=None), {"a": {"status": "not_confirmed"}}, week=0, waits=False)

    assert list_rows(log, "action", "is_new") == [("added", False)]


def test_consumers_that_follow_the_log_have_the_events(folder: RunFolder) -> None:
    """The last row of each event that is not retired is its row in events.parquet."""
    log = read_changelog(folder, crs=CRS, facts=None)
    last: Rows = {"a": SEEN_TWICE, "c": {"geometry": shapely.box(0, 0, 1, 1)}}
    for week, rows in enumerate([{"a": {}, "b": {}}, last]):
        log = put(extend(log, rows, week=week), folder)

    followed = log.drop_duplicates("event_id", keep="last").query("action != 'retired'")[EVENTS_SCHEMA.names]

    assert followed.sort_values("event_id").reset_index(drop=True).equals(make_events(last))


@pytest.mark.parametrize("damage", ["flipped", "cut", "other version"])
def test_a_damaged_log_is_told_and_the_way_out(folder: RunFolder, damage: str) -> None:
    put(extend(read_changelog(folder, crs=CRS, facts=None), {"a": {}}, week=0), folder)
    data = bytearray(folder.read(CHANGELOG_NAME))
    facts = describe_bytes(bytes(data))
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        facts, data = None, data[:-9]
    else:
        facts, data = None, data.replace(b"deltavlm:schema_version\x18\x011", b"deltavlm:schema_version\x18\x019")
    folder.put(CHANGELOG_NAME, bytes(data))

    with pytest.raises(InputError, match="cannot be read") as raised:
        read_changelog(folder, crs=CRS, facts=facts)

    assert "delete it" in raised.value.remedy


def test_the_present_of_a_pass_is_told_in_utc(folder: RunFolder) -> None:
    log = extend(read_changelog(folder, crs=CRS, facts=None), {"a": {}}, week=0)

    assert log["pass_at"].iloc[0] == BEGIN.astimezone(dt.timezone(dt.timedelta(hours=5)))
