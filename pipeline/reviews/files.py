"""Files of reviews that people fill in without a browser: CSV from any spreadsheet, read as data from strangers."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from model.errors import InputError
from model.safe_text import clean_line, clean_text
from pipeline.reviews.review import Review, Subject, Verdict, check_review
from pipeline.tables.schemas import CHANGE_KINDS

MAX_FILE_BYTES = 2**24
"""Bytes of a file with reviews."""
MAX_FILE_ROWS = 100_000
"""Rows of a file with reviews."""

_MAX_WKT_CHARACTERS = 100_000
_MAX_SHOWN = 60
_SEPARATORS = (",", ";", "\t")
_YES, _NO = frozenset({"yes", "y", "true", "1", "changed"}), frozenset({"no", "n", "false", "0", "unchanged"})
_UNSURE = frozenset({"unsure", "?"})
TILE_COLUMNS = ("is_changed", *(f"{kind}_{what}" for what in ("count", "area_m2") for kind in CHANGE_KINDS))
"""What is asked of a tile."""
NOTE_COLUMNS = ("note", "missed")


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """The report that a file of reviews speaks of."""

    run_id: str
    """Its run."""
    model_id: str
    """Model that answered."""
    verdicts: Mapping[str, bool | None]
    """What the model says of every tile: whether it changed."""
    sampled: Set[str]
    """Tiles of the sample, which are reviewed without the model's answer."""
    change_ids: Set[str]
    """Changes of the report, or events of a region."""
    change_subject: Subject = Subject.CHANGE
    """What those are."""


@dataclass(frozen=True, kw_only=True)
class ReviewFile:
    """What a file holds."""

    reviews: tuple[Review, ...]
    """The rows that say something."""
    refused: tuple[str, ...]
    """Rows that cannot be taken, and why."""
    n_empty: int
    """Rows that nobody has filled in."""


def read_review_file(
    path: str | Path, *, person: str, about: Reviewed, now: dt.datetime, settles: bool = False
) -> ReviewFile:
    """Read a file of reviews.

    Args:
        path: CSV with a header; ``tile_id`` or ``change_id`` says what a row is of.
        person: Who has filled it in.
        about: What it speaks of.
        now: The present, UTC.
        settles: Whether this person's word settles what others disagree about.

    Raises:
        InputError: it is no such file, or larger than one may be.
    """
    base: dict[str, Any] = {
        "person": person.strip(),
        "reviewed_at": now,
        "run_id": about.run_id,
        "model_id": about.model_id,
        "settles": settles,
    }
    # Before any row: a name that cannot be kept is one problem, not as many as there are rows.
    check_review(Review(**base, subject=Subject.TILE, subject_id="any", verdict=Verdict.UNSURE))
    reviews, refused, n_empty = [], [], 0
    for number, row in _read_rows(Path(path)):
        try:
            review = _read_row(row, base=base, about=about)
        except (ValueError, shapely.errors.GEOSException) as problem:
            found = problem.found if isinstance(problem, InputError) else str(problem).partition("\n")[0]
            refused.append(f"row {number}: {found}")
            continue
        if review is None:
            n_empty += 1
        else:
            reviews.append(review)
    return ReviewFile(reviews=tuple(reviews), refused=tuple(refused), n_empty=n_empty)


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows by their number, as a spreadsheet counts them."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
        text = data.decode("utf-8-sig")
        head = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=head.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        if not {"tile_id", "change_id"} & set(names) or len(names) != len(set(names)):
            raise ValueError(f"its columns are {_show(', '.join(names))}")
        for number, row in enumerate(reader, start=2):
            if number > MAX_FILE_ROWS + 1:
                raise ValueError(f"more than {MAX_FILE_ROWS:,} rows")
            values = [row[name] for name in reader.fieldnames or ()]
            yield number, {name: (value or "").strip() for name, value in zip(names, values, strict=True)}
    except (OSError, ValueError, csv.Error) as problem:
        raise InputError(
            f"{path} cannot be read as reviews ({problem})",
            expected="a CSV file in UTF-8 with a column tile_id or change_id, as `deltavlm assess RUN --n` writes it",
            remedy="correct the path, or save the spreadsheet as CSV",
        ) from None


def _show(text: str) -> str:
    line = clean_line(text)
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."


def _read_row(row: Mapping[str, str], *, base: Mapping[str, Any], about: Reviewed) -> Review | None:
    """Read a row; None where it says nothing yet.

    Raises:
        ValueError: it cannot be taken.
    """
    told = {name: value for name, value in row.items() if value and name in _ANSWERS}
    if not told:
        return None
    if (run_id := row.get("run_id", "") or about.run_id) != about.run_id:
        raise ValueError(f"it speaks of run {_show(run_id)}; this is {about.run_id}")
    notes: dict[str, Any] = {
        "note": clean_text(row.get("note", "")) or None,
        "missed": _read_shape(row.get("missed", "")),
    }
    if change_id := row.get("change_id", ""):
        if change_id not in about.change_ids:
            raise ValueError(f"there is no {about.change_subject} {_show(change_id)!r}")
        said = _read_change(row) | {"subject": about.change_subject, "subject_id": change_id}
    else:
        said = _read_tile(row, about=about)
    return check_review(Review(**base, **said, **notes))


_CHANGE_COLUMNS = ("verdict", "kind", "direction", "count")
_ANSWERS = frozenset({*TILE_COLUMNS, *NOTE_COLUMNS, *_CHANGE_COLUMNS})


def _read_change(row: Mapping[str, str]) -> dict[str, Any]:
    return {
        "verdict": _read_verdict(row.get("verdict", "")),
        "kind": row.get("kind", "").lower() or None,
        "direction": row.get("direction", "").lower() or None,
        "count": _read_number(row.get("count", ""), name="count"),
    }


def _read_verdict(word: str) -> Verdict:
    try:
        return Verdict(word.lower())
    except ValueError:
        raise ValueError(f"verdict {_show(word)!r} is none of {', '.join(Verdict)}") from None


def _read_tile(row: Mapping[str, str], *, about: Reviewed) -> dict[str, Any]:
    tile_id = row.get("tile_id", "")
    if tile_id not in about.verdicts:
        raise ValueError(f"there is no tile {_show(tile_id)!r}")
    is_changed, is_unsure = _read_answer(row.get("is_changed", ""))
    amounts = {
        field: {kind: _read_number(row.get(f"{kind}_{what}", ""), name=f"{kind}_{what}") for kind in CHANGE_KINDS}
        for field, what in (("counts", "count"), ("areas_m2", "area_m2"))
    }
    said: dict[str, Any] = {
        field: {kind: value for kind, value in told.items() if value is not None} for field, told in amounts.items()
    }
    # Whoever gives a verdict has seen what the model says.
    is_blind = tile_id in about.sampled and not row.get("verdict", "")
    if row.get("verdict", ""):
        verdict = _read_verdict(row["verdict"])
    elif is_unsure:
        verdict = Verdict.UNSURE
    elif is_changed is None:
        raise ValueError("it does not say whether the tile changed: yes, no or unsure in is_changed")
    else:
        verdict = Verdict.RIGHT if is_changed == about.verdicts[tile_id] else Verdict.WRONG
    said |= {"subject": Subject.TILE, "subject_id": tile_id, "verdict": verdict}
    return said | {"is_blind": is_blind, "is_changed": is_changed}


def _read_answer(word: str) -> tuple[bool | None, bool]:
    """Read whether a tile changed, and whether the person is unsure."""
    word = word.lower()
    if word in _UNSURE or not word:
        return None, bool(word)
    if word in _YES or word in _NO:
        return word in _YES, False
    raise ValueError(f"is_changed {_show(word)!r} is neither yes, no nor unsure")


def _read_number(text: str, *, name: str) -> float | None:
    if not text:
        return None
    # Half of Europe writes a comma; thousands are not set apart in a column of numbers.
    plain = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    try:
        value = float(plain)
    except ValueError:
        raise ValueError(f"{name} {_show(text)!r} is no number") from None
    if name.endswith("count") and not value.is_integer():
        raise ValueError(f"{name} {_show(text)!r} is no whole number")
    return value


def _read_shape(text: str) -> shapely.Geometry | None:
    if not text:
        return None
    # Nested collections would be read by recursion, as deep as somebody likes.
    if len(text) > _MAX_WKT_CHARACTERS or not text.upper().startswith(("POLYGON", "MULTIPOLYGON")):
        raise ValueError(f"missed {_show(text)!r} is no polygon in WKT of at most {_MAX_WKT_CHARACTERS:,} characters")
    return shapely.from_wkt(text)
