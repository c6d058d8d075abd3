"""What the review page may send: forms and limits, before anything of it is kept."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.explore.requests import RequestError
from model.safe_text import clean_line, clean_text
from pipeline.reviews.review import DIRECTIONS, MAX_NAME_CHARACTERS, MAX_NOTE_CHARACTERS, MAX_VERTICES, Verdict
from pipeline.tables.schemas import CHANGE_KINDS

MAX_SHAPES = 50
"""Shapes that are drawn on one picture."""
MAX_ID_CHARACTERS = 300

_Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Corner = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]
_Ring = Annotated[list[_Corner], Field(min_length=3, max_length=MAX_VERTICES)]


class ReviewRequest(BaseModel):
    """What one person says of one thing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    person: str = Field(min_length=1, max_length=MAX_NAME_CHARACTERS, description="Who says so.")
    subject: str = Field(max_length=20, description="tile, change or event.")
    subject_id: str = Field(max_length=MAX_ID_CHARACTERS, description="Which.")
    verdict: Literal["right", "wrong", "unsure"] | None = Field(
        default=None, description="Whether the model is right; null: a tile of a sample, of which it is not told."
    )
    is_changed: bool | None = Field(default=None, description="Whether such a tile changed; null: unsure.")
    kind: str | None = Field(default=None, max_length=20, description="What changed, where the model said otherwise.")
    direction: str | None = Field(default=None, max_length=20, description="built or removed.")
    count: _Amount | None = Field(default=None, description="How many things changed.")
    counts: dict[str, _Amount] = Field(
        default={}, max_length=len(CHANGE_KINDS), description="Of a tile: how many, by kind."
    )
    note: str = Field(default="", max_length=MAX_NOTE_CHARACTERS, description="In the person's words.")
    missed: Annotated[list[_Ring], Field(max_length=MAX_SHAPES)] = Field(
        default=[], description="Polygons around what the model missed, as columns and rows on the picture."
    )

    @property
    def said_verdict(self) -> Verdict | None:
        """The verdict, where one was told."""
        return None if self.verdict is None else Verdict(self.verdict)

    @property
    def clean_person(self) -> str:
        """The name as one line that can be shown."""
        return clean_line(self.person).strip()

    @property
    def clean_note(self) -> str | None:
        """The note without what cannot be shown; None: there is none."""
        return clean_text(self.note).strip() or None


def parse_review(body: bytes) -> ReviewRequest:
    """Read the body of a review.

    Raises:
        RequestError: it is no JSON, of another form, or holds more than it may.
    """
    try:
        review = ReviewRequest.model_validate(json.loads(body))
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"]) or "the body"
        raise _refuse(f"{place}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise RequestError("a body that is no JSON", expected="JSON", remedy="correct the request") from None
    if unknown := set(review.counts) - set(CHANGE_KINDS):
        raise _refuse(f"counts of {clean_line(min(unknown)[:40])!r}")
    if sum(map(len, review.missed)) > MAX_VERTICES:
        raise _refuse(f"shapes of more than {MAX_VERTICES:,} corners")
    return review


def _refuse(found: str) -> RequestError:
    return RequestError(
        found,
        expected=f"person, subject, subject_id and a verdict, or of a tile of a sample is_changed; kinds "
        f"{', '.join(CHANGE_KINDS)}, directions {', '.join(DIRECTIONS)}, a note of at most {MAX_NOTE_CHARACTERS:,} "
        f"characters, {MAX_SHAPES} shapes of {MAX_VERTICES:,} corners in all",
        remedy="correct the request",
        status=422,
    )
