"""What each pass changed about the events: a log that is only added to, out of which their last state is read again.

The log is what a pass compares with: events that are as the log has them bring no row. So a pass that was killed and is
made again finds the same differences if the log was not yet written, and none if it was: every row comes once.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from model.errors import InputError
from pipeline.regions.events.identity import KnownEvent
from pipeline.regions.events.status import EventStatus
from pipeline.regions.schemas import CHANGELOG_SCHEMA, EVENTS_SCHEMA, LATER_COLUMNS
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import ObjectFacts, describe_bytes
from pipeline.tables.fields import SCHEMA_VERSIONS, VERSION_KEY
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.nested_shapes import read_frame

CHANGELOG_NAME = "report/changelog.parquet"
_GONE = "no pair tells of it any more"

Row = dict[str, Any]


def read_changelog(folder: RunFolder, *, crs: str, facts: ObjectFacts | None) -> gpd.GeoDataFrame:
    """Read the log of a region; without one, an empty one.

    Args:
        folder: Folder of the region.
        crs: CRS to give it in.
        facts: Size and hash that the region's record tells; None where it tells none.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        data = folder.read(CHANGELOG_NAME)
    except FileNotFoundError:
        return _make_log([], crs=crs)
    try:
        if facts is not None and describe_bytes(data) != facts:
            raise ValueError("its sha256 is not that in region.json")
        version = pq.read_metadata(io.BytesIO(data)).metadata[VERSION_KEY.encode()].decode()
        if version != str(SCHEMA_VERSIONS["changelog"]):
            raise ValueError(f"schema_version {version}")
        frame = read_frame(data)
        frame = frame.assign(**{name: None for name in LATER_COLUMNS if name not in frame})[CHANGELOG_SCHEMA.names]
    except (ValueError, KeyError, TypeError, pa.ArrowException) as problem:
        raise InputError(
            f"{folder.join(CHANGELOG_NAME)} cannot be read ({problem})",
            expected=f"the log of the region's events, of version {SCHEMA_VERSIONS['changelog']}",
            remedy="put a copy of it back, or delete it: the log then begins anew, and events get their ids from their "
            "first sightings",
        ) from None
    if frame.crs == crs:
        return frame
    frame = frame.to_crs(crs)
    return frame.set_geometry(frame.geometry.make_valid())


def list_known(log: gpd.GeoDataFrame) -> list[KnownEvent]:
    """Give the events that a log has ever told of, as it last did."""
    return [
        KnownEvent(
            event_id=row["event_id"],
            kind=row["kind"],
            earliest=row["happened_after"],
            latest=row["happened_by"],
            ground=row["geometry"],
            is_retired=row["action"] == "retired",
        )
        for row in _list_last(log).values()
    ]


def extend_changelog(
    log: gpd.GeoDataFrame,
    events: gpd.GeoDataFrame,
    *,
    pass_at: dt.datetime,
    reasons: Mapping[str, str],
    waits_for_confirmation: bool,
) -> gpd.GeoDataFrame:
    """Add a row for every event that is not as the log has it; a log that has all is given back as it is.

    Args:
        log: The log so far.
        events: The events that are told now, with the columns of `EVENTS_SCHEMA`, in any order.
        pass_at: The present of the pass.
        reasons: Why events are not told, by their ids.
        waits_for_confirmation: Whether an event is told as new once it is confirmed, rather than at its first sighting.
    """
    last, now = _list_last(log), {row["event_id"]: row for row in _list_rows(events)}
    was_told = set(log.loc[log["is_new"].astype(bool), "event_id"])
    number = int(log["pass_number"].max()) + 1 if len(log) else 1
    rows = []
    for event_id in sorted(last.keys() | now.keys()):
        change = _compare(last.get(event_id), now.get(event_id))
        if change is None:
            continue
        status = now[event_id]["status"] if event_id in now else None
        rows.append(
            change
            | {
                "pass_number": number,
                "pass_at": pass_at,
                "reason": reasons.get(event_id, _GONE) if change["action"] == "retired" else None,
                "is_new": event_id not in was_told and _is_told(status, waits_for_confirmation=waits_for_confirmation),
            }
        )
    if not rows:
        return log
    added = _make_log(rows, crs=str(log.crs))
    return pd.concat([log, added], ignore_index=True) if len(log) else added


def count_actions(log: gpd.GeoDataFrame, *, since: int) -> dict[str, int]:
    """Count what passes did about events, and how many they told as ``new``.

    Args:
        log: The log.
        since: Rows of the log that were there before.
    """
    rows = log.iloc[since:]
    counts = {action: int(rows["action"].eq(action).sum()) for action in ("added", "confirmed", "altered", "retired")}
    return counts | {"new": int(rows["is_new"].astype(bool).sum())}


def _is_told(status: str | None, *, waits_for_confirmation: bool) -> bool:
    if waits_for_confirmation:
        return status == EventStatus.CONFIRMED
    return status in (EventStatus.CONFIRMED, EventStatus.PROVISIONAL)


def _compare(former: Row | None, now: Row | None) -> Row | None:
    """Give a row that tells how an event differs from its last one; None where it does not."""
    is_there = former is not None and former["action"] != "retired"
    if now is None:
        return {**former, "action": "retired", "changed_columns": None} if is_there and former is not None else None
    if not is_there or former is None:
        return {**now, "action": "added", "changed_columns": None}
    changed = [name for name in EVENTS_SCHEMA.names if _make_plain(former[name]) != _make_plain(now[name])]
    if not changed:
        return None
    is_confirmed = "status" in changed and now["status"] == EventStatus.CONFIRMED
    return {**now, "action": "confirmed" if is_confirmed else "altered", "changed_columns": ";".join(changed)}


def _make_plain(value: Any) -> Any:
    # The way in which its rings run is the file's.
    return shapely.to_wkb(shapely.orient_polygons(value)) if isinstance(value, shapely.Geometry) else value


def _list_last(log: gpd.GeoDataFrame) -> dict[str, Row]:
    return {row["event_id"]: row for row in _list_rows(log)}


def _list_rows(frame: gpd.GeoDataFrame) -> list[Row]:
    """Give rows as plain values, None for what is null."""
    columns = {
        name: frame[name].to_list()
        if name == "geometry"
        else [None if pd.isna(value) else value for value in frame[name].to_list()]
        for name in frame.columns
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _make_log(rows: Sequence[Row], *, crs: str) -> gpd.GeoDataFrame:
    columns = {name: [row[name] for row in rows] for name in CHANGELOG_SCHEMA.names if name != "geometry"}
    geometry = np.array([row["geometry"] for row in rows], dtype=object)
    return make_frame(columns, schema=CHANGELOG_SCHEMA, geometry=geometry, crs=crs)
