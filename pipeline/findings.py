"""The fifth verb: what the answers mean, one row for every tile of the grid.

A tile that nobody looked at says so in its status and leaves `is_changed` empty: not seen is never not
changed. An answer that cannot be read is a row as well, and its words are kept in `reason`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely

from model.interface import ModelIdentity, Prompt, PromptKind
from pipeline.answer_parts import AnswerParts
from pipeline.errors import InputError
from pipeline.geoparquet import describe_field, make_frame
from pipeline.judging import Finding, GivenAnswer, judge_tile
from pipeline.summary import StageSummary
from pipeline.tiles import Tile, TileStatus, TileStore

STAGE = "extract_findings"


FINDINGS_SCHEMA = pa.schema(
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
            "of the tile is valid on both dates; cloudy; outside: touches no area of interest; identical: same "
            "pixels on both dates, not asked; failed: with the reason.",
            is_nullable=False,
        ),
        describe_field("reason", pa.string(), "Why the status is not analysed, or what to know about the row."),
        describe_field(
            "valid_fraction",
            pa.float64(),
            "Part of the tile that is valid on both dates, 0 to 1.",
            is_nullable=False,
        ),
        describe_field(
            "is_changed",
            pa.bool_(),
            "Whether the tile changed; null where nobody looked or the answer could not be read.",
        ),
        describe_field(
            "change_confidence", pa.float32(), "Confidence of the answer that is_changed comes from, 0 to 1."
        ),
        describe_field("description", pa.string(), "The model's description of the changes, in its own words."),
        describe_field("building_count", pa.int32(), "Changed buildings by the model's count; null: not told."),
        describe_field("road_count", pa.int32(), "Changed roads by the model's count; null: not told."),
        describe_field(
            "building_cells",
            pa.string(),
            "Cells of 3 x 3 with changed buildings, as top-left;center-center; empty: none; null: not told.",
        ),
        describe_field(
            "road_cells",
            pa.string(),
            "Cells of 3 x 3 with changed roads, as top-left;center-center; empty: none; null: not told.",
        ),
        describe_field("model_id", pa.string(), "Model that was asked, with its weights' hash.", is_nullable=False),
        describe_field("run_id", pa.string(), "Run, by the content it depends on.", is_nullable=False),
        describe_field("geometry", pa.binary(), "Footprint of the tile in the grid's CRS.", is_nullable=False),
    ]
)
"""Columns of ``tiles.parquet`` for prompts without any of kind `ask`; the covering ``bbox`` comes on top."""

_FIRST_COLUMN_AFTER_PROMPTS = FINDINGS_SCHEMA.get_field_index("model_id")


def make_findings_schema(prompts: Sequence[Prompt]) -> pa.Schema:
    """Give the columns of ``tiles.parquet`` for some prompts: each of kind `ask` has its own.

    Raises:
        InputError: a prompt has the name of another column.
    """
    schema, position = FINDINGS_SCHEMA, _FIRST_COLUMN_AFTER_PROMPTS
    for prompt in prompts:
        if prompt.kind is not PromptKind.ASK:
            continue
        if prompt.name in {*schema.names, "bbox"}:
            raise InputError(
                f"prompts: {prompt.name!r} of kind ask is the name of another column of tiles.parquet",
                expected="a name of its own",
                remedy=f"rename it, for example to {prompt.name}_answer",
            )
        schema = schema.insert(position, describe_field(prompt.name, pa.string(), f"Answer to: {prompt.text.strip()}"))
        position += 1
    return schema


def extract_findings(
    answers: AnswerParts,
    *,
    tiles: Sequence[Tile],
    store: TileStore,
    prompts: Sequence[Prompt],
    identity: ModelIdentity,
    run_id: str,
    before_datetime: str | None,
    after_datetime: str | None,
) -> tuple[gpd.GeoDataFrame, StageSummary]:
    """Turn the answers into one row per tile of the grid.

    Args:
        answers: This run's answers.
        tiles: Every tile of the grid, as selected.
        store: The tile store, for its grid.
        prompts: The questions of the run.
        identity: Which weights answered.
        run_id: Identifier of the run, derived from content.
        before_datetime: ISO 8601 time of the before scene, UTC if it names no zone.
        after_datetime: Likewise of the after scene.

    Returns:
        The columns of `make_findings_schema`, in the order of `tiles`, with pandas' nullable types.

    Raises:
        InputError: a prompt has the name of another column, or an answer part is damaged.
    """
    start = time.perf_counter()
    schema = make_findings_schema(prompts)
    table = answers.read()
    given = _group_answers(table)
    findings = [
        judge_tile(
            tile,
            prompts=prompts,
            answers=given.get(tile.tile_id, {}),
            failure=answers.failures.get(tile.tile_id),
        )
        for tile in tiles
    ]
    columns = _collect_columns(tiles, findings=findings, schema=schema)
    constants = {
        "before_datetime": parse_datetime(before_datetime),
        "after_datetime": parse_datetime(after_datetime),
        "model_id": identity.model_id,
        "run_id": run_id,
    }
    columns |= {name: [value] * len(tiles) for name, value in constants.items()}
    bounds = np.array([store.grid.tile_bounds(tile.row, tile.col) for tile in tiles], dtype=np.float64).reshape(-1, 4)
    frame = make_frame(columns, schema=schema, geometry=shapely.box(*bounds.T), crs=store.grid.crs)
    return frame, _summarise(findings, seconds=time.perf_counter() - start, bytes_read=table.nbytes)


def _group_answers(table: pa.Table) -> dict[str, dict[str, GivenAnswer]]:
    """Group answers by tile and prompt name."""
    given: dict[str, dict[str, GivenAnswer]] = {}
    columns = [table.column(name).to_pylist() for name in ("tile_id", "prompt_name", "text", "confidence")]
    for tile_id, prompt_name, text, confidence in zip(*columns, strict=True):
        given.setdefault(tile_id, {})[prompt_name] = GivenAnswer(text=text, confidence=confidence)
    return given


_FINDING_COLUMNS = tuple(name for name in Finding.__slots__ if name != "texts")


def _collect_columns(tiles: Sequence[Tile], *, findings: Sequence[Finding], schema: pa.Schema) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [getattr(tile, name) for tile in tiles] for name in ("tile_id", "row", "col", "valid_fraction")
    }
    columns |= {name: [getattr(finding, name) for finding in findings] for name in _FINDING_COLUMNS}
    columns["status"] = [finding.status.value for finding in findings]
    asked = set(schema.names) - set(FINDINGS_SCHEMA.names)
    return columns | {name: [finding.texts.get(name) for finding in findings] for name in asked}


def parse_datetime(text: str | None) -> dt.datetime | None:
    """Read ISO 8601; UTC if the text names no zone."""
    if text is None:
        return None
    moment = dt.datetime.fromisoformat(text)
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _summarise(findings: Sequence[Finding], *, seconds: float, bytes_read: int) -> StageSummary:
    statuses = Counter(finding.status for finding in findings)
    n_failed = statuses[TileStatus.FAILED] + statuses[TileStatus.UNREADABLE]
    return StageSummary(
        stage=STAGE,
        done=statuses[TileStatus.ANALYSED],
        skipped=len(findings) - statuses[TileStatus.ANALYSED] - n_failed,
        failed=n_failed,
        total=len(findings),
        seconds=seconds,
        bytes_read=bytes_read,
        reasons={s.value: statuses[s] for s in sorted(statuses) if s is not TileStatus.ANALYSED},
    )
