"""The store of reviews in the folder of a run or a region: parts that are added and never changed.

A part is named by the hash of its content, so that those of several people never meet, and one that is torn does not
fit its name. It is written whole, or not at all, by whoever reviews; nobody holds a lock for that, and a report that is
being made meanwhile takes what is there.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model.errors import InputError
from pipeline.dates import format_moment
from pipeline.reviews.parts import decode_reviews, encode_reviews, write_row
from pipeline.reviews.review import Review, check_review
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import describe_bytes

REVIEWS_FOLDER = "reviews"
MAX_PARTS = 100_000
"""Parts in one folder."""
MAX_PART_BYTES = 2**24
"""Bytes of one part."""

_PART = re.compile(rf"{REVIEWS_FOLDER}/([0-9a-f]{{64}})\.parquet")


@dataclass(frozen=True, kw_only=True)
class ReviewLog:
    """All that a folder holds of reviews."""

    reviews: tuple[Review, ...] = ()
    """Every review that could be read, also those that later ones have replaced, of any run."""
    faults: tuple[str, ...] = ()
    """What could not be read, and is left where it is."""

    def list_latest(self) -> list[Review]:
        """Give what holds: the latest review of each person of each thing."""
        latest: dict[tuple[str, str, str, str], Review] = {}
        for review in sorted(self.reviews, key=_rank):
            latest[review.key] = review
        return [latest[key] for key in sorted(latest)]


def _rank(review: Review) -> tuple[int, dt.datetime, str]:
    # The last decides between two that one person wrote at two places at once: any rule will do that stays the same.
    return review.version, review.reviewed_at, repr((review.verdict, review.is_changed, review.note))


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of reviews that were to be kept."""

    name: str | None
    """Name of the part; None: all was known already."""
    n_added: int
    """Reviews in it."""
    n_known: int
    """Those that say what the same person has said last."""
    notes: tuple[str, ...]
    """What there is to know."""


class ReviewKeeper:
    """Reads and adds to the reviews of a folder; what it has read once it does not read again, as no part changes.

    Not to be used by several threads at once.
    """

    def __init__(self, folder: RunFolder) -> None:
        """Begin with nothing read.

        Args:
            folder: Folder of the run or the region.
        """
        self.folder = folder
        self._sound: dict[str, list[Review]] = {}

    def read(self) -> ReviewLog:
        """Read all reviews of the folder; what is damaged is told and left where it is.

        Raises:
            FolderError: the folder cannot be read, or holds a link.
        """
        names, faults = _list_parts(self.folder)
        fresh = [name for name in names if name not in self._sound]
        # Of a damaged one: somebody may put it back.
        found: dict[str, list[Review]] = {}
        for name, data in zip(fresh, self.folder.read_many(fresh), strict=True):
            found[name], problems = _read_part(name, data)
            faults += problems
            if not problems:
                self._sound[name] = found[name]
        read = {**self._sound, **found}
        reviews = [review for name in names for review in read.get(name, [])]
        return ReviewLog(reviews=tuple(reviews), faults=tuple(faults))

    def add(self, reviews: Sequence[Review]) -> Added:
        """Keep reviews as a part of their own.

        Args:
            reviews: At least one, each with the time it is written at; their versions are set here.

        Raises:
            InputError: one holds more than it may, or there are too many parts.
            FolderError: the folder cannot be written to.
        """
        reviews = [check_review(review) for review in reviews]
        log = self.read()
        if len(self._sound) >= MAX_PARTS:
            raise InputError(
                f"{self.folder.uri} holds {MAX_PARTS:,} parts of reviews",
                expected="fewer",
                remedy="give many reviews at a time, in one file",
            )
        fresh = _number(reviews, log=log)
        if not fresh:
            return Added(name=None, n_added=0, n_known=len(reviews), notes=())
        data = encode_reviews(fresh)
        name = f"{REVIEWS_FOLDER}/{describe_bytes(data)['sha256']}.parquet"
        self.folder.put(name, data)
        notes = tuple(_find_late_clocks(fresh, log=log))
        return Added(name=name, n_added=len(fresh), n_known=len(reviews) - len(fresh), notes=notes)


def read_reviews(folder: RunFolder) -> ReviewLog:
    """Read all reviews of a folder once, as `ReviewKeeper.read`."""
    return ReviewKeeper(folder).read()


def add_reviews(folder: RunFolder, reviews: Sequence[Review]) -> Added:
    """Keep reviews as a part of their own, as `ReviewKeeper.add`."""
    return ReviewKeeper(folder).add(reviews)


def has_reviews(folder: RunFolder) -> bool:
    """Tell whether there are any reviews, without reading them."""
    return any(_PART.fullmatch(name) for name in folder.list_sizes(REVIEWS_FOLDER))


def _list_parts(folder: RunFolder) -> tuple[list[str], list[str]]:
    """Give the names of the parts, and what else looks like one."""
    sizes = {name: size for name, size in folder.list_sizes(REVIEWS_FOLDER).items() if name.endswith(".parquet")}
    named = sorted(name for name in sizes if _PART.fullmatch(name))
    faults = [f"{name}: no name of a part" for name in sorted(sizes.keys() - set(named))]
    faults += [f"{name}: larger than a part may be" for name in named if sizes[name] > MAX_PART_BYTES]
    parts = [name for name in named if sizes[name] <= MAX_PART_BYTES]
    if len(parts) > MAX_PARTS:
        faults.append(f"{len(parts) - MAX_PARTS:,} parts beyond the first {MAX_PARTS:,} are not read")
    return parts[:MAX_PARTS], faults


def _read_stem(name: str) -> str:
    match = _PART.fullmatch(name)
    return match[1] if match else ""


def _read_part(name: str, data: bytes | None) -> tuple[list[Review], list[str]]:
    """Give the reviews of a part, and what is wrong with it."""
    try:
        if data is None or describe_bytes(data)["sha256"] != _read_stem(name):
            raise InputError("it is not what was written there", expected="a whole part", remedy="restore it")
        found, problems = decode_reviews(data)
    except InputError as problem:
        return [], [f"{name}: {problem.found}"]
    return found, [f"{name}: {each}" for each in problems]


def _number(reviews: Sequence[Review], *, log: ReviewLog) -> list[Review]:
    """Give the reviews that say something new, each with its version."""
    keys = {review.key for review in reviews}
    related = ReviewLog(reviews=tuple(review for review in log.reviews if review.key in keys))
    versions: dict[tuple[str, str, str, str], int] = {}
    for review in related.reviews:
        versions[review.key] = max(review.version, versions.get(review.key, 0))
    said = {_leave_out_time(review) for review in related.list_latest()}
    fresh = [review for review in reviews if _leave_out_time(review) not in said]
    return [replace(review, version=versions.get(review.key, 0) + 1) for review in fresh]


def _leave_out_time(review: Review) -> tuple[Any, ...]:
    return tuple(value for name, value in write_row(review).items() if name not in ("reviewed_at", "version"))


def _find_late_clocks(reviews: Sequence[Review], *, log: ReviewLog) -> Iterator[str]:
    """Tell of persons who have spoken later than now, by the clocks."""
    for person in sorted({review.person for review in reviews}):
        now = max(review.reviewed_at for review in reviews if review.person == person)
        before = max((review.reviewed_at for review in log.reviews if review.person == person), default=now)
        if before > now:
            yield (
                f"a clock is wrong: {person} has reviewed at {format_moment(before)}, and now it is "
                f"{format_moment(now)}; the later word holds, as it was written later"
            )
