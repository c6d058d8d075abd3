"""A review: what one person said of one tile, change or event, and what such a thing may hold at most."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import shapely

from model.errors import InputError
from model.safe_text import clean_line
from pipeline.tables.schemas import CHANGE_KINDS

MAX_NOTE_CHARACTERS = 2_000
"""Characters of a note."""
MAX_NAME_CHARACTERS = 100
"""Characters of a person's name."""
MAX_VERTICES = 1_000
"""Corners of a shape that a person has drawn."""
DIRECTIONS = ("built", "removed")
"""Which way a thing changed."""

_MAX_AMOUNT = 1e9
_MAX_ID_CHARACTERS = 300
_MAX_VERSION = 1_000_000
# ^ Nobody speaks of a thing more often, and there is room for one more.


class Verdict(StrEnum):
    """What a person says of the model's answer."""

    RIGHT = "right"
    WRONG = "wrong"
    UNSURE = "unsure"


class Subject(StrEnum):
    """What a review speaks of."""

    TILE = "tile"
    CHANGE = "change"
    EVENT = "event"


@dataclass(frozen=True, kw_only=True)
class Review:
    """What one person said of one thing."""

    person: str
    """Who."""
    reviewed_at: dt.datetime
    """When, UTC, by the clock of whoever wrote it down."""
    version: int = 1
    """How many times the person has spoken of the thing by then: the highest holds, whatever the clocks said."""
    run_id: str
    """Run, or region, whose report the person looked at."""
    model_id: str
    """Model that had answered."""
    subject: Subject
    """What kind of thing it speaks of."""
    subject_id: str
    """Which: a tile_id, a change_id, or in a region the first_sighting of an event."""
    verdict: Verdict
    """Whether the model's answer is right."""
    is_blind: bool = False
    """Whether the person was shown the thing without the model's answer, as tiles of a sample are."""
    settles: bool = False
    """Whether the person's word settles what others disagree about."""
    is_changed: bool | None = None
    """Whether the person saw a change; None: not told."""
    kind: str | None = None
    """What a change is of, where the model said otherwise."""
    direction: str | None = None
    """One of `DIRECTIONS`."""
    count: float | None = None
    """How many things a change is of."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """How many things of a kind changed in a tile."""
    areas_m2: Mapping[str, float] = field(default_factory=dict)
    """How much ground of a kind changed in a tile, in square metres."""
    note: str | None = None
    """In the person's words."""
    missed: shapely.Geometry | None = None
    """Polygons around what the model has missed, in longitude and latitude."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Who speaks of what: of several reviews with one key the latest holds."""
        return self.person, self.run_id, self.subject.value, self.subject_id


def check_review(review: Review) -> Review:
    """Give a review back that holds nothing beyond its limits.

    Raises:
        InputError: it does.
    """
    for problem in _list_problems(review):
        raise InputError(
            f"review of {review.subject} {clean_line(review.subject_id[:_MAX_ID_CHARACTERS])}: {problem}",
            expected="a review within the limits of docs/review.md",
            remedy="correct it and give it again",
        )
    return review


def _list_problems(review: Review) -> Iterator[str]:
    names = {"person": review.person, "id": review.subject_id, "run": review.run_id, "model": review.model_id}
    for what, name in names.items():
        most = MAX_NAME_CHARACTERS if what == "person" else _MAX_ID_CHARACTERS
        if not name.strip() or len(name) > most or name != clean_line(name):
            yield f"its {what} has {len(name)} characters; 1 to {most} that can be shown are expected"
    if not 1 <= review.version <= _MAX_VERSION:
        yield f"its version is {review.version}"
    if review.note is not None and len(review.note) > MAX_NOTE_CHARACTERS:
        yield f"its note has {len(review.note):,} characters, more than {MAX_NOTE_CHARACTERS:,}"
    if review.kind is not None and review.kind not in CHANGE_KINDS:
        yield f"kind {clean_line(review.kind[:MAX_NAME_CHARACTERS])!r} is none of {', '.join(CHANGE_KINDS)}"
    if review.direction is not None and review.direction not in DIRECTIONS:
        yield f"direction {clean_line(review.direction[:MAX_NAME_CHARACTERS])!r} is none of {', '.join(DIRECTIONS)}"
    amounts = [*review.counts.values(), *review.areas_m2.values(), *([review.count] if review.count else [])]
    if not all(math.isfinite(amount) and 0 <= amount <= _MAX_AMOUNT for amount in amounts):
        yield f"a count or an area is not between 0 and {_MAX_AMOUNT:,.0f}"
    if review.is_changed is False and any(amounts):
        yield "it says that nothing changed, and counts what did"
    if review.missed is not None and (problem := _find_fault(review.missed)):
        yield problem


def _find_fault(shape: shapely.Geometry) -> str | None:
    if (n_vertices := shapely.get_num_coordinates(shape)) > MAX_VERTICES:
        return f"its shape has {n_vertices:,} corners, more than {MAX_VERTICES:,}"
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty or not shape.is_valid:
        return "its shape is no sound polygon"
    west, south, east, north = shape.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        return "its shape does not lie in longitude and latitude"
    return None
