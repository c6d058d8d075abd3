"""The columns of a region's tables, beside those of its runs."""

from __future__ import annotations

import pyarrow as pa

from pipeline.tables.fields import describe_field, insert_fields, make_table_schema
from pipeline.tables.schemas import (
    CHANGE_KINDS,
    CHANGE_REVIEW_FIELDS,
    CHANGES_SCHEMA,
    FINDINGS_SCHEMA,
    ZONES_SCHEMA,
)

REGION_CHANGES_SCHEMA = make_table_schema(
    insert_fields(
        CHANGES_SCHEMA,
        [
            describe_field("pair_id", pa.string(), "Pair of scenes that told of the change.", is_nullable=False),
            describe_field(
                "run",
                pa.string(),
                "Folder of the pair's run, relative to the region's folder; null once it is let go of.",
            ),
            describe_field(
                "is_new", pa.bool_(), "Whether no earlier pair of the region told of the change.", is_nullable=False
            ),
            describe_field(
                "new_area_m2",
                pa.float64(),
                "Part of area_m2 on ground where no earlier pair told of the like.",
                is_nullable=False,
            ),
            describe_field(
                "last_seen",
                pa.timestamp("us", "UTC"),
                "Acquisition time of the after scene of the last pair that told of the change.",
            ),
            describe_field("times_seen", pa.int32(), "Pairs that told of the change.", is_nullable=False),
            describe_field(
                "first_sighting",
                pa.string(),
                "pair_id and change_id, with a slash between, of the first of them; the same for all.",
                is_nullable=False,
            ),
            describe_field("event_id", pa.string(), "The event that the change is a sighting of.", is_nullable=False),
            describe_field(
                "event_status", pa.string(), "status of the event, as in events.parquet.", is_nullable=False
            ),
            describe_field(
                "is_told",
                pa.bool_(),
                "Whether events.parquet has the event; else report.min_area_m2, exclude or a review keeps it out, and "
                "page and time line pass over the change.",
                is_nullable=False,
            ),
        ],
        before="model_id",
    ),
    table="region_changes",
)
"""Columns of a region's ``changes/``; the covering ``bbox`` comes on top."""


def make_region_changes_schema(*, is_reviewed: bool) -> pa.Schema:
    """Give these columns, with those that speak of reviews once people have reviewed any event."""
    fields = CHANGE_REVIEW_FIELDS if is_reviewed else ()
    return insert_fields(REGION_CHANGES_SCHEMA, fields, before="model_id")


TIMELINE_SCHEMA = make_table_schema(
    [
        describe_field("pair_id", pa.string(), "Pair of scenes.", is_nullable=False),
        FINDINGS_SCHEMA.field("before_datetime"),
        FINDINGS_SCHEMA.field("after_datetime"),
        describe_field("before_id", pa.string(), "Id of the before scene.", is_nullable=False),
        describe_field("after_id", pa.string(), "Id of the after scene.", is_nullable=False),
        describe_field(
            "status",
            pa.string(),
            "done; partly_failed: some tiles failed, its report says which; failed: nothing was told, with the reason.",
            is_nullable=False,
        ),
        describe_field("reason", pa.string(), "Why the status is not done."),
        describe_field("run", pa.string(), "Folder of the pair's run, relative to the region's folder; null: none."),
        describe_field(
            "analysed_fraction",
            pa.float64(),
            "Part of the ground in the area of interest of which something is known: valid ground in tiles that are "
            "analysed or identical, 0 to 1. What the scenes do not reach is not known, as in the pair's own report; "
            "null: the pair failed, or nobody measured it.",
        ),
        describe_field("changed_tile_count", pa.int32(), "Tiles that changed; null: the pair failed."),
        describe_field("n_changes", pa.int32(), "Changes that the pair tells of; null: the pair failed."),
        describe_field("n_new_changes", pa.int32(), "Changes of which no earlier pair told; null: the pair failed."),
        describe_field("building_count", pa.float64(), "Changed buildings; null: not told."),
        describe_field("road_count", pa.float64(), "Changed roads; null: not told."),
        describe_field("building_area_m2", pa.float64(), "Area of changes of kind building; null: not told."),
        describe_field("road_area_m2", pa.float64(), "Area of changes of kind road; null: not told."),
    ],
    table="timeline",
)
"""Columns of a region's ``timeline.parquet``, one row per pair."""

BLOCK_TIMELINE_SCHEMA = insert_fields(
    TIMELINE_SCHEMA,
    [describe_field("block_id", pa.string(), "Block of the pair; null: it is one of the whole region.")],
    before="before_datetime",
)
"""Columns of the ``timeline.parquet`` of a region of several blocks."""


def choose_time_line_schema(*, has_blocks: bool) -> pa.Schema:
    """Give the columns of a region's ``timeline.parquet``."""
    return BLOCK_TIMELINE_SCHEMA if has_blocks else TIMELINE_SCHEMA


EVENTS_SCHEMA = make_table_schema(
    [
        describe_field(
            "event_id",
            pa.string(),
            "Id that stays: kind, day of the first after scene, and a hash of kind, days of the first pair and place.",
            is_nullable=False,
        ),
        describe_field("kind", pa.string(), "What changed: building or road.", is_nullable=False),
        describe_field(
            "change",
            pa.string(),
            "What became of it: built, removed or altered, by the sighting with the highest confidence of those that "
            "tell; null: none does.",
        ),
        describe_field(
            "status",
            pa.string(),
            "provisional: seen, and not yet decided; confirmed: at some time two or more independent pairs had seen "
            "it, and more than had looked and had not, which stays, or people have found it right; not_confirmed: most "
            "of those that looked did not.",
            is_nullable=False,
        ),
        describe_field(
            "event_confidence",
            pa.float32(),
            "Probability that the event happened, 0 to 1, by the confidences of all independent pairs that saw its "
            "ground; null: no pair that saw it has a confidence.",
        ),
        describe_field(
            "area_m2",
            pa.float64(),
            "Area of geometry on the ground in square metres, on the ellipsoid.",
            is_nullable=False,
        ),
        describe_field("description", pa.string(), "Description of the sighting with the highest confidence."),
        describe_field("happened_after", pa.timestamp("us", "UTC"), "Latest before scene of its sightings."),
        describe_field("happened_by", pa.timestamp("us", "UTC"), "Earliest after scene of its sightings."),
        describe_field("first_seen", pa.timestamp("us", "UTC"), "After scene of the first pair that saw it."),
        describe_field("last_seen", pa.timestamp("us", "UTC"), "After scene of the last pair that saw it."),
        describe_field("confirmed_at", pa.timestamp("us", "UTC"), "After scene of the pair that confirmed it."),
        describe_field("times_seen", pa.int32(), "Pairs that saw it.", is_nullable=False),
        describe_field("pairs_for", pa.int32(), "Independent pairs that saw it.", is_nullable=False),
        describe_field(
            "pairs_against",
            pa.int32(),
            "Independent pairs that looked at its ground, could have seen it and did not.",
            is_nullable=False,
        ),
        describe_field(
            "zone_ids",
            pa.string(),
            "Ids of the zones that it lies in, if in part, joined by semicolons; null: no zones.",
        ),
        describe_field(
            "geometry", pa.binary(), "All that its sightings cover, in the region's CRS.", is_nullable=False
        ),
    ],
    table="events",
)
"""Columns of a region's ``events.parquet``; the covering ``bbox`` comes on top."""


def make_events_schema(*, is_reviewed: bool) -> pa.Schema:
    """Give the columns of ``events.parquet``, with those that speak of reviews once people have reviewed any."""
    return insert_fields(EVENTS_SCHEMA, CHANGE_REVIEW_FIELDS, before="zone_ids") if is_reviewed else EVENTS_SCHEMA


CHANGELOG_SCHEMA = make_table_schema(
    [
        describe_field(
            "pass_number",
            pa.int32(),
            "Number of the pass, from 1, among those that changed anything about the events.",
            is_nullable=False,
        ),
        describe_field("pass_at", pa.timestamp("us", "UTC"), "The present of the pass.", is_nullable=False),
        describe_field(
            "action",
            pa.string(),
            "added: not told before, or no longer; confirmed: its status became confirmed; altered: other columns have "
            "new values; retired: told no longer, the columns are those that it had.",
            is_nullable=False,
        ),
        describe_field("reason", pa.string(), "Why it is retired."),
        describe_field(
            "changed_columns", pa.string(), "Columns with new values, joined by semicolons; null: added or retired."
        ),
        describe_field(
            "is_new",
            pa.bool_(),
            "Whether this pass tells the event as new, which happens once: at its first sighting or its confirmation, "
            "by report.tell_new.",
            is_nullable=False,
        ),
        *EVENTS_SCHEMA,
    ],
    table="changelog",
)
"""Columns of a region's ``changelog.parquet``; the covering ``bbox`` comes on top."""

LATER_COLUMNS = ("change",)
"""Columns that came on top: tables of former versions are read as if they were null there."""

SEEN_SCHEMA = make_table_schema(
    [
        FINDINGS_SCHEMA.field(name)
        for name in ("tile_id", "valid_fraction", "is_changed", "change_confidence", "geometry")
    ],
    table="seen",
)
"""Columns of a region's ``seen/``: tiles of a pair of which it is known whether they changed."""

ZONE_SUMS_SCHEMA = make_table_schema(
    [
        *(ZONES_SCHEMA.field(name) for name in ("zone_id", "name", "status", "reason", "area_m2")),
        describe_field(
            "seen_fraction",
            pa.float64(),
            "Part of the zone's area that the last pairs of its blocks have looked at, 0 to 1; a tile that is valid in "
            "part counts by that part wherever the zone lies in it.",
            is_nullable=False,
        ),
        ZONES_SCHEMA.field("seen_area_m2"),
        describe_field("before_datetime", pa.timestamp("us", "UTC"), "Earliest before scene of these pairs."),
        describe_field("after_datetime", pa.timestamp("us", "UTC"), "Latest after scene of these pairs."),
        *(
            describe_field(
                f"{kind}_area_m2",
                pa.float64(),
                f"Area of these pairs' changes of kind {kind} that are told, in square metres, by the part of each in "
                "the zone. Null: nothing was seen, or no tile told where.",
            )
            for kind in CHANGE_KINDS
        ),
        describe_field(
            "geometry",
            pa.binary(),
            "The zone in the region's CRS, as far as 20 degrees around its blocks; empty beyond.",
            is_nullable=False,
        ),
    ],
    table="zone_sums",
)
"""Columns of the ``zones.parquet`` of a region of several blocks but the zones' own attributes."""


LEFT_OUT_SCHEMA = make_table_schema(
    [
        describe_field("name", pa.string(), "Id of an item, name of a file, a scene or a pair.", is_nullable=False),
        describe_field(
            "block_id", pa.string(), "Block that it takes no part in; null: all of the region, or it has no blocks."
        ),
        describe_field("reason", pa.string(), "Why it takes no part.", is_nullable=False),
    ],
    table="left_out",
)
"""Columns of a region's ``left_out.parquet``, one row for each that takes no part in the last pass."""


def make_zone_sums_schema(attributes: pa.Schema | None) -> pa.Schema:
    """Give these columns, with the zones' own in front of the geometry, if they have any."""
    return insert_fields(ZONE_SUMS_SCHEMA, attributes or (), before="geometry")
