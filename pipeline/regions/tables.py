"""A region's tables: the changes of all its pairs, linked over time to events, and one row per pair."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.findings.coverage import Coverage
from pipeline.regions.block_seams import cut_at_border, group_pairs, join_pairs
from pipeline.regions.events.changelog import CHANGELOG_NAME, extend_changelog, list_known
from pipeline.regions.events.identity import identify_events
from pipeline.regions.events.looks import choose_seen, gather_looks
from pipeline.regions.events.reviewed import REJECTED, EventReviews, confirm
from pipeline.regions.events.status import judge_event
from pipeline.regions.events.table import EventTable, TellingRules, tabulate_events
from pipeline.regions.overview import sum_over_blocks
from pipeline.regions.pair_records import PairState, PairStatus, read_report_file
from pipeline.regions.schemas import (
    BLOCK_TIMELINE_SCHEMA,
    CHANGELOG_SCHEMA,
    REGION_CHANGES_SCHEMA,
    SEEN_SCHEMA,
    ZONE_SUMS_SCHEMA,
    choose_time_line_schema,
    make_events_schema,
    make_region_changes_schema,
    make_zone_sums_schema,
)
from pipeline.regions.timeline import Sighting, link_changes
from pipeline.regions.zone_sums import BlockLook, sum_last_looks
from pipeline.report.reviewed import ReviewSummary
from pipeline.reviews.settle import Settled
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.tables.geoparquet import encode_geoparquet, encode_table, make_frame, order_along_hilbert
from pipeline.tables.nested_shapes import read_frame
from pipeline.tables.schemas import CHANGE_KINDS, CHANGE_REVIEW_FIELDS

CHANGES_FOLDER = "report/changes"
SEEN_FOLDER = "report/seen"
EVENTS_NAME = "report/events.parquet"
TIME_LINE_NAME = "report/timeline.parquet"
ZONE_SUMS_NAME = "report/zones.parquet"


@dataclass(frozen=True, kw_only=True)
class RegionTables:
    """What a region's report is made of."""

    changes: Mapping[str, gpd.GeoDataFrame]
    """Changes per pair with a result, by the name of their file in the region's folder."""
    seen: Mapping[str, gpd.GeoDataFrame]
    """Tiles that each of these pairs has looked at, likewise; of some nobody knows."""
    time_line: pd.DataFrame
    """One row per pair; in a region of several blocks with ``block_id``."""
    overview: pd.DataFrame
    """The same, pairs of the same days as one; without blocks it is the time line."""
    events: gpd.GeoDataFrame
    """One row per event that is told."""
    changelog: gpd.GeoDataFrame
    """One row per event and pass that changed something about it."""
    zones: gpd.GeoDataFrame | None = None
    """What the last pairs of all blocks tell of the zones; None: no zones, or a region that is a single block."""
    zones_schema: pa.Schema = ZONE_SUMS_SCHEMA
    """Columns of these."""
    reviews: ReviewSummary | None = None
    """How far people have reviewed the events; None: not at all."""

    def join_changes(self) -> gpd.GeoDataFrame | None:
        """Give the changes of all pairs that are told as one table; None where no pair has a result."""
        return pd.concat(map(choose_told, self.changes.values()), ignore_index=True) if self.changes else None


def name_changes(state: PairState) -> str:
    """Name the file of a pair's changes; its folder tells the year, as partitioned data sets have it."""
    return _name_table(state, folder=CHANGES_FOLDER)


def name_seen(state: PairState) -> str:
    """Name the file of the tiles that a pair has looked at."""
    return _name_table(state, folder=SEEN_FOLDER)


def _name_table(state: PairState, *, folder: str) -> str:
    return f"{folder}/after_year={state.record.pair.after.start.year}/{state.pair_id}.parquet"


def choose_told(changes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Leave out the changes whose events are not told."""
    return changes[changes["is_told"].astype(bool)]


def make_tables(
    states: Sequence[PairState],
    *,
    folder: RunFolder,
    crs: str,
    log: gpd.GeoDataFrame,
    rules: TellingRules,
    now: dt.datetime,
    reviews: EventReviews | None = None,
) -> RegionTables:
    """Read what the pairs have told, link it, and tell what is other than an earlier pass told.

    Args:
        states: The pairs that count, in the order of time.
        folder: Folder of the region.
        crs: CRS of the tables.
        log: What earlier passes told of events, as `read_changelog` gives it.
        rules: Which events are told, and when.
        now: The present of the pass.
        reviews: What people have said of events; None: nothing.

    Raises:
        FileNotFoundError: the changes of a pair are gone.
    """
    told = [state for state in states if state.has_result]
    frames = [read_changes(state, folder=folder, crs=crs) for state in told]
    seen = [_read_seen(state, folder=folder, crs=crs) for state in told]
    joined = [join_pairs(told, frames, seen=seen, places=places) for places in group_pairs(told)]
    views = [pairs.view for pairs in joined]
    pairs_changes = [view.changes for view in views]
    linked = link_changes(pairs_changes)
    said: Sequence[Settled | None]
    said = [None] * len(linked.events) if reviews is None else reviews.match(linked.events, pairs=pairs_changes)
    by_pairs = [judge_event(looks) for looks in gather_looks(linked.events, views)]
    table = tabulate_events(
        linked.events,
        ids=identify_events(linked.events, known=list_known(log), crs=crs),
        verdicts=[confirm(verdict, settled) for verdict, settled in zip(by_pairs, said, strict=True)],
        changes=[pairs.frame for pairs in joined],
        rules=rules,
        crs=crs,
        reviews=None if reviews is None else said,
    )
    by_pair = {
        told[place].pair_id: add_sightings(
            frames[place], state=told[place], sightings=[sightings[row] for row in rows], events=table
        )
        for pairs, sightings in zip(joined, linked.sightings, strict=True)
        for place, rows in zip(pairs.places, pairs.rows, strict=True)
    }
    time_line = _make_time_line(states, changes=by_pair)
    return RegionTables(
        changes={name_changes(state): by_pair[state.pair_id] for state in told},
        seen={name_seen(state): tiles for state, tiles in zip(told, seen, strict=True) if tiles is not None},
        time_line=time_line,
        overview=sum_over_blocks(time_line, ground_m2={state.pair_id: _measure_ground(state) for state in told}),
        events=table.told,
        changelog=extend_changelog(
            log,
            table.told,
            pass_at=now,
            reasons=table.list_reasons(),
            waits_for_confirmation=rules.waits_for_confirmation,
        ),
        zones=_sum_zones(told, by_pair=by_pair, seen=seen, rules=rules, crs=crs),
        zones_schema=make_zone_sums_schema(None if rules.zones is None else rules.zones.attributes.schema),
        reviews=None if reviews is None else reviews.summarise(said, n_events=table.count_offered()),
    )


def _sum_zones(
    told: Sequence[PairState],
    *,
    by_pair: Mapping[str, gpd.GeoDataFrame],
    seen: Sequence[gpd.GeoDataFrame | None],
    rules: TellingRules,
    crs: str,
) -> gpd.GeoDataFrame | None:
    # In the order of time: of each block the last stays. Those of before there were blocks speak for none.
    last = {block_id: place for place, state in enumerate(told) if (block_id := state.record.block_id) is not None}
    if rules.zones is None or not last:
        return None
    looks = [
        BlockLook(
            before=told[place].record.pair.before.start,
            after=told[place].record.pair.after.start,
            changes=choose_told(by_pair[told[place].pair_id]),
            seen=seen[place],
        )
        for place in last.values()
    ]
    return sum_last_looks(rules.zones, looks=looks, crs=crs)


def _make_time_line(states: Sequence[PairState], *, changes: Mapping[str, gpd.GeoDataFrame]) -> pd.DataFrame:
    told = {pair_id: choose_told(frame) for pair_id, frame in changes.items()}
    rows = [make_row(state, changes=told.get(state.pair_id)) for state in states if _has_row(state)]
    has_blocks = any(state.record.block is not None for state in states)
    schema = choose_time_line_schema(has_blocks=has_blocks)
    columns = {name: [row[name] for row in rows] for name in schema.names}
    table = pa.table({name: pa.array(columns[name], type=schema.field(name).type) for name in columns}, schema=schema)
    line: pd.DataFrame = table.to_pandas()
    return line


def read_changes(state: PairState, *, folder: RunFolder, crs: str) -> gpd.GeoDataFrame:
    """Read the changes of a pair: from its run, or from the region's report once the run is let go of."""
    is_there = state.has_folder
    data = read_report_file(state, CHANGES_NAME, folder=folder) if is_there else folder.read(name_changes(state))
    frame = read_frame(data)
    # What the region keeps of a run that is let go of was cut before.
    frame = cut_at_border(frame, block=state.record.block) if is_there else frame
    return frame if frame.crs == crs else frame.to_crs(crs)


def _read_seen(state: PairState, *, folder: RunFolder, crs: str) -> gpd.GeoDataFrame | None:
    """Read which tiles a pair has looked at, likewise; None where its run went before regions kept that."""
    try:
        if state.has_folder:
            tiles = choose_seen(read_report_file(state, TILES_NAME, folder=folder))
            frame = cut_at_border(tiles, block=state.record.block)
        else:
            frame = read_frame(folder.read(name_seen(state)))
    except FileNotFoundError:
        return None
    return frame if frame.crs == crs else frame.to_crs(crs)


def add_sightings(
    frame: gpd.GeoDataFrame, *, state: PairState, sightings: Sequence[Sighting], events: EventTable
) -> gpd.GeoDataFrame:
    """Put what links them beside the changes of a pair; columns that their run did not know are null."""
    schema = REGION_CHANGES_SCHEMA
    columns: dict[str, Any] = {
        column.name: frame[column.name].tolist() if column.name in frame else [None] * len(frame)
        for column in schema
        if column.name != "geometry"
    }
    run = state.record.run_name if state.has_folder else None
    rows = [events.by_sighting[sighting.first_sighting] for sighting in sightings]
    columns |= {
        "pair_id": [state.pair_id] * len(frame),
        "run": [run] * len(frame),
        # What people have rejected is new to nobody.
        "is_new": [
            sighting.is_new and events.reasons[row] != REJECTED for sighting, row in zip(sightings, rows, strict=True)
        ],
        "new_area_m2": [
            area * sighting.new_fraction for area, sighting in zip(columns["area_m2"], sightings, strict=True)
        ],
        "first_seen": [sighting.first_seen for sighting in sightings],
        "last_seen": [sighting.last_seen for sighting in sightings],
        "times_seen": [sighting.times_seen for sighting in sightings],
        "first_sighting": [sighting.first_sighting for sighting in sightings],
        "event_id": events.frame["event_id"].iloc[rows].tolist(),
        "event_status": events.frame["status"].iloc[rows].tolist(),
        "is_told": [events.reasons[row] is None for row in rows],
    }
    cleaned = {name: [None if pd.isna(value) else value for value in values] for name, values in columns.items()}
    added = make_frame(cleaned, schema=schema, geometry=frame.geometry.to_numpy(), crs=str(frame.crs))
    names = [field.name for field in CHANGE_REVIEW_FIELDS if field.name in events.frame]
    said = events.frame[names].iloc[rows]
    return added.assign(**{name: said[name].to_numpy() for name in names})


def make_row(state: PairState, *, changes: gpd.GeoDataFrame | None) -> dict[str, Any]:
    """Give a pair's row of the time line."""
    pair = state.record.pair
    row: dict[str, Any] = dict.fromkeys(BLOCK_TIMELINE_SCHEMA.names)
    row |= {
        "pair_id": pair.pair_id,
        "block_id": state.record.block_id,
        "before_datetime": pair.before.start,
        "after_datetime": pair.after.start,
        "before_id": pair.before.scene_id,
        "after_id": pair.after.scene_id,
        "status": (state.status if state.has_result else PairStatus.FAILED).value,
        "reason": state.reason or (None if state.has_result else _tell_unfinished(state)),
        "run": state.record.run_name if state.has_folder else None,
    }
    if changes is None or state.figures is None:
        return row
    # Of tiles that are too coarse for the model, nobody knows that there is no change: no sum of 0 says so.
    least = None if state.figures.get("withheld_counts") else 0.0
    return row | {
        "analysed_fraction": measure_seen(state.figures.get("ground_m2", {})),
        "changed_tile_count": state.figures["changed_tile_count"],
        "n_changes": len(changes),
        "n_new_changes": int(changes["is_new"].sum()),
        **{f"{kind}_count": state.figures.get("thing_counts", {}).get(kind) or least for kind in CHANGE_KINDS},
        **{
            f"{kind}_area_m2": float(changes["area_m2"][changes["kind"] == kind].sum()) or least
            for kind in CHANGE_KINDS
        },
    }


def _measure_ground(state: PairState) -> float:
    return float(sum((state.figures or {}).get("ground_m2", {}).values()))


def measure_seen(ground_m2: Mapping[str, float]) -> float | None:
    """Give the part of the ground of which something is known, as the pair's run does; None where nobody measured."""
    coverage = Coverage(tile_counts={}, ground_m2=ground_m2)
    return coverage.seen_fraction if coverage.total_m2 else None


def encode_tables(tables: RegionTables) -> Iterator[tuple[str, bytes]]:
    """Give every file of the tables, by its name in the region's folder; equal tables give equal bytes."""
    is_reviewed = tables.reviews is not None
    schema = make_region_changes_schema(is_reviewed=is_reviewed)
    for name, frame in tables.changes.items():
        yield name, encode_geoparquet(frame, schema=schema, order=order_along_hilbert(frame, key="change_id"))
    for name, frame in tables.seen.items():
        yield name, encode_geoparquet(frame, schema=SEEN_SCHEMA, order=order_along_hilbert(frame, key="tile_id"))
    events, log = tables.events, tables.changelog
    order = order_along_hilbert(events, key="event_id")
    yield EVENTS_NAME, encode_geoparquet(events, schema=make_events_schema(is_reviewed=is_reviewed), order=order)
    # By pass, so that whoever has read some passes finds the others behind them.
    yield CHANGELOG_NAME, encode_geoparquet(log, schema=CHANGELOG_SCHEMA, order=np.arange(len(log)))
    if tables.zones is not None:
        order = order_along_hilbert(tables.zones, key="zone_id")
        yield ZONE_SUMS_NAME, encode_geoparquet(tables.zones, schema=tables.zones_schema, order=order)
    line = tables.time_line
    yield TIME_LINE_NAME, encode_table(line, schema=choose_time_line_schema(has_blocks="block_id" in line))


def _has_row(state: PairState) -> bool:
    # One that was interrupted has no outcome yet, unless nobody will try it again.
    return state.status is not PairStatus.PLANNED or state.record.attempts > 0


def _tell_unfinished(state: PairState) -> str:
    return f"was begun {state.record.attempts} times and has not ended"
