"""What people have said of a report, put beside what the model told: columns of its tables, and a sentence about it.

Without reviews there are no such columns, and a report is the same to the last byte as if nobody could review it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from pipeline.findings.totals import Totals
from pipeline.reviews.review import Verdict
from pipeline.reviews.settle import Settled, count_settled
from pipeline.tables.fields import insert_fields
from pipeline.tables.schemas import CHANGE_REVIEW_FIELDS, ZONE_REVIEW_FIELDS

FIRST_COLUMN_AFTER_REVIEWS = "model_id"


@dataclass(frozen=True, kw_only=True)
class ReviewMarks:
    """What people have said of what a report tells."""

    tiles: Mapping[str, Settled]
    """By tile_id."""
    changes: Mapping[str, Settled]
    """By change_id."""
    n_missed: int = 0
    """Places that they have drawn as missed."""
    n_people: int = 1
    """People who have looked."""
    notes: tuple[str, ...] = ()
    """What there is to know, such as reviews of what the report does not tell of."""


@dataclass(frozen=True, kw_only=True)
class ReviewSummary:
    """How far a report was reviewed."""

    n_changes: int
    """Changes that it tells of."""
    n_right: int
    """Those that people found right."""
    n_wrong: int
    """Those that they rejected."""
    n_unsure: int
    """Those about which they are not sure, or do not agree."""
    n_tiles: int
    """Tiles that were reviewed by themselves."""
    n_missed: int
    """Places that the model has missed, as drawn."""
    n_people: int
    """People who have looked."""
    notes: tuple[str, ...] = ()
    """What there is to know."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values; `from_dict` takes them back."""
        return asdict(self) | {"notes": list(self.notes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReviewSummary:
        """Take back what `to_dict` gave."""
        return cls(**{**values, "notes": tuple(values["notes"])})


def summarise_reviews(marks: ReviewMarks, *, n_changes: int) -> ReviewSummary:
    """Count what was reviewed.

    Args:
        marks: What people have said.
        n_changes: Changes that the report tells of.
    """
    counts: dict[str, Any] = {f"n_{verdict}": count for verdict, count in count_settled(marks.changes).items()}
    return ReviewSummary(
        **counts,
        n_changes=n_changes,
        n_tiles=len(marks.tiles),
        n_missed=marks.n_missed,
        n_people=marks.n_people,
        notes=marks.notes,
    )


def describe_reviews(summary: ReviewSummary, *, noun: str = "change") -> str:
    """Give the sentence that page, Word and Prefect tell, such as "31 of 120 changes reviewed, 4 rejected"."""
    return ", ".join(_list_parts(summary, noun=noun))


def word_reviews(summary: ReviewSummary, *, noun: str = "change") -> dict[str, Any]:
    """Give the sentence and the notes, for a page."""
    return {"sentence": describe_reviews(summary, noun=noun), "notes": summary.notes}


def _list_parts(summary: ReviewSummary, *, noun: str) -> Iterator[str]:
    n_reviewed = summary.n_right + summary.n_wrong + summary.n_unsure
    yield f"{n_reviewed:,} of {summary.n_changes:,} {noun if summary.n_changes == 1 else f'{noun}s'} reviewed"
    yield f"{summary.n_wrong:,} rejected"
    if summary.n_unsure:
        yield f"{summary.n_unsure:,} not sure"
    if summary.n_tiles:
        yield f"{summary.n_tiles:,} {'tile' if summary.n_tiles == 1 else 'tiles'} reviewed as a whole"
    if summary.n_missed:
        yield f"{summary.n_missed:,} missed {'place' if summary.n_missed == 1 else 'places'} drawn"


def add_review_fields(schema: pa.Schema, fields: Iterable[pa.Field], *, is_reviewed: bool) -> pa.Schema:
    """Give the columns of a table of a run with those that speak of reviews, if there are any."""
    return insert_fields(schema, fields, before=FIRST_COLUMN_AFTER_REVIEWS) if is_reviewed else schema


def mark_totals(totals: Totals, marks: ReviewMarks) -> Totals:
    """Put what people said beside changes and zones."""
    changes = mark_changes(totals.changes, marks.changes)
    if totals.zones is None:
        return replace(totals, changes=changes)
    return replace(
        totals,
        changes=changes,
        zones=mark_zones(totals.zones, changes=changes),
        zones_schema=add_review_fields(totals.zones_schema, ZONE_REVIEW_FIELDS, is_reviewed=True),
    )


def mark_changes(
    changes: gpd.GeoDataFrame, settled: Mapping[str, Settled], *, key: str = "change_id"
) -> gpd.GeoDataFrame:
    """Give changes with the columns `CHANGE_REVIEW_FIELDS`.

    Args:
        changes: The changes.
        settled: What was said of some of them.
        key: Column that ``settled`` goes by.
    """
    found = [settled.get(name) for name in changes[key]]
    columns = {
        field.name: pa.array([_read(each, field.name) for each in found], field.type).to_pandas()
        for field in CHANGE_REVIEW_FIELDS
    }
    return changes.assign(**{name: values.to_numpy() for name, values in columns.items()})


def _read(settled: Settled | None, column: str) -> Any:
    if settled is None:
        return None
    return settled.verdict.value if column == "review" else getattr(settled, column.removeprefix("review_"))


def mark_tiles(tiles: gpd.GeoDataFrame, settled: Mapping[str, Settled]) -> gpd.GeoDataFrame:
    """Give tiles with the columns `TILE_REVIEW_FIELDS`."""
    verdicts = {tile_id: each.verdict.value for tile_id, each in settled.items()}
    return tiles.assign(review=tiles["tile_id"].map(verdicts).astype(object))


def mark_zones(zones: gpd.GeoDataFrame, *, changes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Give zones with the columns `ZONE_REVIEW_FIELDS`.

    Args:
        zones: The zones.
        changes: The changes with their reviews, in the same CRS.
    """
    reviewed = changes[changes["review"].notna()]
    shapes = np.asarray(shapely.make_valid(reviewed.geometry.to_numpy()), dtype=object)
    zone_of, change_of = shapely.STRtree(shapes).query(zones.geometry.to_numpy(), predicate="intersects")
    is_rejected = reviewed["review"].eq(Verdict.WRONG.value).to_numpy()[change_of]
    counts = {
        "reviewed_change_count": np.bincount(zone_of, minlength=len(zones)),
        "rejected_change_count": np.bincount(zone_of[is_rejected], minlength=len(zones)),
    }
    return zones.assign(**{name: pd.array(values, dtype="Int32") for name, values in counts.items()})
