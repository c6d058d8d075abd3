"""Parts of the store of reviews: one Parquet file with the reviews that one person gave at one time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from model.errors import InputError
from pipeline.reviews.review import Review, Subject, Verdict, check_review
from pipeline.tables.fields import describe_field
from pipeline.tables.nested_shapes import is_nested
from pipeline.tables.schemas import CHANGE_KINDS
from pipeline.tables.unpacked import read_table

MAX_PART_ROWS = 100_000
"""Reviews in one part."""
_MAX_DECODED_BYTES = 2**28
_ERRORS = (OSError, ValueError, TypeError, KeyError, OverflowError, pa.ArrowException, shapely.errors.GEOSException)

REVIEWS_SCHEMA = pa.schema(
    [
        describe_field("person", pa.string(), "Who says so.", is_nullable=False),
        describe_field(
            "reviewed_at",
            pa.timestamp("us", "UTC"),
            "When, by the clock of the machine that it was written on.",
            is_nullable=False,
        ),
        describe_field(
            "version",
            pa.int64(),
            "How many times this person has spoken of this thing: the highest holds, whatever the clocks say.",
            is_nullable=False,
        ),
        describe_field("run_id", pa.string(), "Run whose report the person looked at.", is_nullable=False),
        describe_field("model_id", pa.string(), "Model that had answered.", is_nullable=False),
        describe_field("subject", pa.string(), "What the review is of: tile, change or event.", is_nullable=False),
        describe_field(
            "subject_id",
            pa.string(),
            "Which: tile_id, change_id, or in a region the first_sighting of an event.",
            is_nullable=False,
        ),
        describe_field(
            "verdict", pa.string(), "Whether the model's answer is right: right, wrong or unsure.", is_nullable=False
        ),
        describe_field(
            "is_blind",
            pa.bool_(),
            "Whether the person was shown the thing without the model's answer, as tiles of a sample are.",
            is_nullable=False,
        ),
        describe_field(
            "settles", pa.bool_(), "Whether this person's word settles what others disagree about.", is_nullable=False
        ),
        describe_field("is_changed", pa.bool_(), "Whether the person saw a change; null: not told."),
        describe_field("kind", pa.string(), "What the change is of, as corrected; null: as the model says."),
        describe_field("direction", pa.string(), "built or removed; null: not told."),
        describe_field("count", pa.float64(), "How many things the change is of; null: not told."),
        *(
            describe_field(f"{kind}_count", pa.float64(), f"Changed {kind}s in the tile; null: not told.")
            for kind in CHANGE_KINDS
        ),
        *(
            describe_field(f"{kind}_area_m2", pa.float64(), f"Ground of changed {kind}s in the tile; null: not told.")
            for kind in CHANGE_KINDS
        ),
        describe_field("note", pa.string(), "A note, in the person's words."),
        describe_field("missed", pa.binary(), "WKB of what the model missed, in longitude and latitude; null: none."),
    ]
)
"""Columns of ``reviews/*.parquet``."""

_SAME_NAMES = tuple(
    name for name in REVIEWS_SCHEMA.names if name in Review.__dataclass_fields__ and name not in ("missed",)
)


def encode_reviews(reviews: Sequence[Review]) -> bytes:
    """Give the Parquet file of some reviews."""
    table = pa.Table.from_pylist([write_row(review) for review in reviews], schema=REVIEWS_SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def write_row(review: Review) -> dict[str, Any]:
    """Give the values of a review by the columns of `REVIEWS_SCHEMA`."""
    return {
        **{name: getattr(review, name) for name in _SAME_NAMES},
        **{f"{kind}_count": review.counts.get(kind) for kind in CHANGE_KINDS},
        **{f"{kind}_area_m2": review.areas_m2.get(kind) for kind in CHANGE_KINDS},
        "missed": None if review.missed is None else shapely.to_wkb(review.missed, byte_order=1),
    }


def decode_reviews(data: bytes) -> tuple[list[Review], list[str]]:
    """Read a part, and tell of each row in it that is no review.

    Raises:
        InputError: it is no part, or larger than one may be.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            if file.metadata.num_rows > MAX_PART_ROWS:
                raise ValueError(f"{file.metadata.num_rows:,} reviews in one part")
            rows = read_table(file, most=_MAX_DECODED_BYTES).cast(REVIEWS_SCHEMA).to_pylist()
    except _ERRORS as problem:
        raise InputError(
            f"it cannot be read ({str(problem).partition(chr(10))[0]})",
            expected="a whole part",
            remedy="put it back from a copy",
        ) from None
    read = list(_read_rows(rows))
    return [each for each in read if isinstance(each, Review)], [each for each in read if isinstance(each, str)]


def _read_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[Review | str]:
    for number, row in enumerate(rows, start=1):
        try:
            yield check_review(_read_row(row))
        except InputError as problem:
            yield f"row {number}: {problem.found}"
        except _ERRORS as problem:
            yield f"row {number}: no review ({str(problem).partition(chr(10))[0]})"


def _read_row(row: Mapping[str, Any]) -> Review:
    told = {what: {kind: row[f"{kind}_{what}"] for kind in CHANGE_KINDS} for what in ("count", "area_m2")}
    missed = row["missed"]
    if missed is not None and is_nested(missed):
        raise ValueError("its shape lies in too many others")
    same: dict[str, Any] = {name: row[name] for name in _SAME_NAMES}
    moment: dt.datetime = row["reviewed_at"]
    return Review(
        **same
        | {
            "reviewed_at": moment.astimezone(dt.UTC),
            "subject": Subject(row["subject"]),
            "verdict": Verdict(row["verdict"]),
            "counts": {kind: value for kind, value in told["count"].items() if value is not None},
            "areas_m2": {kind: value for kind, value in told["area_m2"].items() if value is not None},
            "missed": None if missed is None else shapely.from_wkb(missed),
        }
    )
