"""The columns of a run's tables, each with what it means: one place for the writers, the files and the docs.

The descriptions make the tables of ``docs/report.md``; a region's own tables are in `pipeline.regions.schemas`.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from pipeline.tables.fields import describe_field, insert_fields, make_table_schema


class TileStatus(StrEnum):
    """What became of a tile."""

    ANALYSED = "analysed"
    UNREADABLE = "unreadable"
    NO_DATA = "no_data"
    CLOUDY = "cloudy"
    OUTSIDE = "outside"
    IDENTICAL = "identical"
    FAILED = "failed"


CHANGE_KINDS = ("building", "road")
"""Kinds of change; each has the columns ``<kind>_cells`` and ``<kind>_count`` in the findings."""


def _describe_bounds(kind: str) -> tuple[pa.Field, pa.Field]:
    name = f"{kind}_count"
    return (
        describe_field(
            f"{name}_low",
            pa.int32(),
            f"Lower end of an interval that holds the true {name} in about 80 % of the tiles called changed, as "
            "measured on pairs that the model did not learn from. Null: not measured for this kind and model, or the "
            "tile is not called changed, and change_confidence tells how sure that is.",
        ),
        describe_field(f"{name}_high", pa.int32(), "Upper end of that interval; null: likewise."),
    )


FINDINGS_SCHEMA = make_table_schema(
    [
        describe_field("tile_id", pa.string(), "Tile of the grid, by row and column.", is_nullable=False),
        describe_field("row", pa.int32(), "Row of the tile, 0 in the north.", is_nullable=False),
        describe_field("col", pa.int32(), "Column of the tile, 0 in the west.", is_nullable=False),
        describe_field("before_datetime", pa.timestamp("us", "UTC"), "Acquisition time of the before scene."),
        describe_field("after_datetime", pa.timestamp("us", "UTC"), "Acquisition time of the after scene."),
        describe_field(
            "status",
            pa.string(),
            "analysed; unreadable: an answer could not be parsed, its text is in reason; no_data: too little "
            "of the tile's ground is valid on both dates; cloudy; outside: touches no area of interest; identical: "
            "same pixels on both dates, not asked; failed: with the reason.",
            is_nullable=False,
        ),
        describe_field("reason", pa.string(), "Why the status is not analysed, or what to know about the row."),
        describe_field(
            "valid_fraction",
            pa.float64(),
            "Part of the ground in geometry that is valid on both dates, 0 to 1.",
            is_nullable=False,
        ),
        describe_field(
            "cloud_fraction",
            pa.float64(),
            "Part of the tile that is cloudy on either date, 0 to 1; null where no class band tells of clouds.",
        ),
        describe_field(
            "model_fit",
            pa.string(),
            "How the tile lies beside what the model was made for. inside; coarse: larger tiles or pixels, so that it "
            "may not see what changed; fine: smaller ones; unlike: of such a size, but of a familiarity below 0.05; "
            "null: the model does not tell what it was made for.",
        ),
        describe_field(
            "familiarity",
            pa.float32(),
            "How much the pair looks like those that the model was calibrated on, 0 to 1: of these, half have 0.5 and "
            "more, and 3 % less than 0.05. Null: not asked, or the model does not tell.",
        ),
        describe_field(
            "is_changed",
            pa.bool_(),
            "Whether the tile changed; null where nobody looked, the answer could not be read, or the model says no of "
            "a tile that is too coarse for it. Such a tile tells no count, cell or text either, and a changed one of "
            "that size no count of 0 and no lack of cells.",
        ),
        describe_field(
            "change_confidence",
            pa.float32(),
            "Confidence of the answer that is_changed comes from, 0 to 1; of a yes beside which nothing is counted and "
            "no place is named, how often such a yes is right, where that was measured.",
        ),
        describe_field("description", pa.string(), "The model's description of the changes, in its own words."),
        describe_field(
            "building_count",
            pa.int32(),
            "Changed buildings by the model's count in all it saw of the tile; null: not told. Tiles that overlap "
            "(tiles.overlap_px) both count what lies in the margin they share: for sums take thing_counts of run.json.",
        ),
        *_describe_bounds("building"),
        describe_field("road_count", pa.int32(), "Likewise of changed roads; null: not told."),
        *_describe_bounds("road"),
        describe_field(
            "building_cells",
            pa.string(),
            "Cells of 3 x 3 with changed buildings, as top-left;center-center; empty: none; null: not told. The "
            "cells are those of all that the model saw of the tile.",
        ),
        describe_field(
            "road_cells",
            pa.string(),
            "Cells of 3 x 3 with changed roads, as top-left;center-center; empty: none; null: not told.",
        ),
        describe_field("model_id", pa.string(), "Model that was asked, with its weights' hash.", is_nullable=False),
        describe_field("run_id", pa.string(), "Run, by the content it depends on.", is_nullable=False),
        describe_field(
            "geometry",
            pa.binary(),
            "Ground that the tile owns, in the grid's CRS; the model saw half of tiles.overlap_px more on each side.",
            is_nullable=False,
        ),
    ],
    table="tiles",
)
"""Columns of ``tiles.parquet`` for prompts without any of kind `ask`; the covering ``bbox`` comes on top."""

COMPOSITE_FIELDS = (
    describe_field(
        "before_from",
        pa.timestamp("us", "UTC"),
        "Earliest of the dates that the tile's before picture is made of, and before_datetime the one of its middle "
        "pixel; null, as that: it shows nothing.",
    ),
    describe_field("before_to", pa.timestamp("us", "UTC"), "Latest of them."),
    describe_field("after_from", pa.timestamp("us", "UTC"), "Likewise the earliest of the after picture."),
    describe_field("after_to", pa.timestamp("us", "UTC"), "Latest of them."),
    describe_field(
        "n_scenes", pa.int32(), "Dates that the tile is made of, before and after together.", is_nullable=False
    ),
)
"""Columns of ``tiles.parquet`` where scenes are made of several dates; behind ``after_datetime``."""

CHANGES_SCHEMA = make_table_schema(
    [
        describe_field(
            "change_id",
            pa.string(),
            "Kind, and tile and cell of the change's first cell, row-major; of an outline tile, row and column of its "
            "first pixel, counted from the upper left of the ground that the tile owns.",
            is_nullable=False,
        ),
        describe_field("kind", pa.string(), "What changed: building or road.", is_nullable=False),
        describe_field(
            "change",
            pa.string(),
            "What became of it: built, removed, or altered (both, or one in the place of another). Null: the model "
            "does not tell, or the geometry is that of cells.",
        ),
        describe_field(
            "area_m2",
            pa.float64(),
            "Area of geometry on the ground in square metres (on the ellipsoid). Where geometry_source is cells it is "
            "that of whole cells, so more than changed in them.",
            is_nullable=False,
        ),
        describe_field("cell_count", pa.int32(), "Cells that the polygon is made of; null: it is an outline."),
        describe_field("tile_count", pa.int32(), "Tiles that the change is part of.", is_nullable=False),
        describe_field(
            "confidence",
            pa.float32(),
            "Probability that such an outline meets a real change of its kind, 0 to 1: by the highest probability that "
            "the mask gives it, by its area as part of a tile's, and by the tiles' change_confidence, as measured on "
            "pairs that the model did not learn from. Null: not measured, as for cells, and for kinds and models "
            "without such a measurement. Changes below report.min_confidence are left out.",
        ),
        describe_field(
            "mask_probability",
            pa.float32(),
            "Mean probability that the mask gives the pixels of an outline, 0.5 to 1, as the model computes it; null: "
            "the geometry is that of cells.",
        ),
        describe_field(
            "geometry_source",
            pa.string(),
            "outline: drawn from the model's masks, one building each where the model tells apart those that touch; "
            "cells: from the cells of 3 x 3 per tile that it names, where it has no mask.",
            is_nullable=False,
        ),
        describe_field("description", pa.string(), "Description of the most confident of the tiles."),
        describe_field("tile_ids", pa.string(), "The tiles, joined by semicolons, row-major.", is_nullable=False),
        FINDINGS_SCHEMA.field("before_datetime"),
        FINDINGS_SCHEMA.field("after_datetime"),
        describe_field(
            "first_seen",
            pa.timestamp("us", "UTC"),
            "Acquisition time of the first scene that shows the change: in a run after_datetime, in a region that of "
            "the first pair that told of it.",
        ),
        FINDINGS_SCHEMA.field("model_id"),
        FINDINGS_SCHEMA.field("run_id"),
        describe_field(
            "geometry", pa.binary(), "The outline, or the cells as one polygon, in the grid's CRS.", is_nullable=False
        ),
    ],
    table="changes",
)
"""Columns of ``changes.parquet``; the covering ``bbox`` comes on top."""

DISSOLVED_SCHEMA = insert_fields(
    CHANGES_SCHEMA,
    [
        describe_field(
            "count",
            pa.float64(),
            "Things of this kind: each tile's count, shared out over its cells or outlines of this kind by their area, "
            "as far as the tile owns their ground. Sums over changes count no tile twice. Null: no tile told a count.",
        )
    ],
    before="confidence",
)
"""The same with what zones are summed up by and no table shows: which of its things are where, a model cannot know."""

ZONES_SCHEMA = make_table_schema(
    [
        describe_field("zone_id", pa.string(), "Id of the zone, unique in the file.", is_nullable=False),
        describe_field("name", pa.string(), "Name of the zone; null: it has none."),
        describe_field(
            "status",
            pa.string(),
            "seen: all of the zone was looked at; partly_seen: the sums hold for the part in seen_fraction; not_seen: "
            "none of it was, and nothing is known about change.",
            is_nullable=False,
        ),
        describe_field("reason", pa.string(), "Why the status is not seen, or what to know about the zone."),
        describe_field(
            "area_m2", pa.float64(), "Area of the whole zone on the ellipsoid, in square metres.", is_nullable=False
        ),
        describe_field(
            "seen_fraction",
            pa.float64(),
            "Part of the zone's area that is valid on both dates, in tiles that were analysed or identical, 0 to 1.",
            is_nullable=False,
        ),
        describe_field("seen_area_m2", pa.float64(), "That part in square metres.", is_nullable=False),
        *(
            describe_field(
                f"{kind}_count",
                pa.float64(),
                f"Changed {kind}s: each tile's {kind}_count, shared out over its cells or outlines of this kind by "
                "their area, by the part of each in the zone; those below report.min_confidence among them. Null: "
                "nothing was seen, or no tile told a count.",
            )
            for kind in CHANGE_KINDS
        ),
        *(
            describe_field(
                f"{kind}_area_m2",
                pa.float64(),
                f"Area of changes of kind {kind} in the zone, in square metres: area_m2 of each change, by the part of "
                "it in the zone. Null: nothing was seen, or no tile told where.",
            )
            for kind in CHANGE_KINDS
        ),
        describe_field(
            "tile_count",
            pa.int32(),
            "Tiles that share more than a thousandth of their area, or of the zone's, with the zone. A tile on a "
            "border counts for the zones on both sides.",
            is_nullable=False,
        ),
        describe_field("changed_tile_count", pa.int32(), "Those with is_changed true.", is_nullable=False),
        *(
            describe_field(f"{status}_tile_count", pa.int32(), f"Those with status {status}.", is_nullable=False)
            for status in TileStatus
        ),
        FINDINGS_SCHEMA.field("before_datetime"),
        FINDINGS_SCHEMA.field("after_datetime"),
        FINDINGS_SCHEMA.field("model_id"),
        FINDINGS_SCHEMA.field("run_id"),
        describe_field(
            "geometry",
            pa.binary(),
            "The zone in the grid's CRS, as far as 20 degrees around the grid; empty beyond, or where no area is left.",
            is_nullable=False,
        ),
    ],
    table="zones",
)
"""Columns of ``zones.parquet`` but the zones' own attributes; the covering ``bbox`` comes on top."""

_REVIEW = "What people have said of it: right, wrong, or unsure where they do not agree; null: nobody has reviewed it."

TILE_REVIEW_FIELDS = (describe_field("review", pa.string(), f"{_REVIEW} The row itself stays as the model told it."),)
"""Columns that ``tiles.parquet`` has on top once something of the run was reviewed."""

CHANGE_REVIEW_FIELDS = (
    describe_field("review", pa.string(), f"{_REVIEW} The row itself stays as the model told it."),
    describe_field("review_kind", pa.string(), "What changed, as corrected by them; null: as in kind, or not told."),
    describe_field("review_direction", pa.string(), "built or removed, as they say; null: not told."),
    describe_field("review_count", pa.float64(), "How many things, as they say; null: not told."),
)
"""Columns that ``changes.parquet`` has on top then."""

ZONE_REVIEW_FIELDS = (
    describe_field(
        "reviewed_change_count",
        pa.int32(),
        "Changes that share ground with the zone and were reviewed.",
        is_nullable=False,
    ),
    describe_field(
        "rejected_change_count",
        pa.int32(),
        "Those of them that are wrong; counts and areas of the zone have them all the same.",
        is_nullable=False,
    ),
)
"""Columns that ``zones.parquet`` has on top then."""

TRUTH_SCHEMA = make_table_schema(
    [
        describe_field("object_id", pa.int32(), "Number of the object, from 0.", is_nullable=False),
        describe_field("kind", pa.string(), "What it is: building or road.", is_nullable=False),
        describe_field("is_in_before", pa.bool_(), "Whether the before scene shows it.", is_nullable=False),
        describe_field("is_in_after", pa.bool_(), "Whether the after scene shows it.", is_nullable=False),
        describe_field("area_m2", pa.float64(), "Area in the scenes' CRS, in square metres.", is_nullable=False),
        describe_field("geometry", pa.binary(), "Outline, cut at the scenes' border.", is_nullable=False),
    ],
    table="truth",
)
"""Columns of a made scene's ``truth.parquet``; the covering ``bbox`` comes on top."""
