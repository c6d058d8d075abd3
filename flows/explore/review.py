"""The review desk: shows people one change after another, and keeps what they say at once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, TypeVar

from flows.explore.review_requests import MAX_SHAPES, ReviewRequest
from model.errors import InputError
from model.safe_text import clean_values
from pipeline.reviews.review import DIRECTIONS, MAX_NAME_CHARACTERS, MAX_NOTE_CHARACTERS, MAX_VERTICES, Review, Subject
from pipeline.reviews.store import ReviewKeeper
from pipeline.runs.review_items import ReviewBook, ReviewItem
from pipeline.storage.folder import RunFolder
from pipeline.tables.schemas import CHANGE_KINDS

KEPT_PICTURES = 64
"""Pictures of both dates that are kept for whoever comes next."""

Result = TypeVar("Result")
OpenBook = Callable[[RunFolder], ReviewBook]


class ReviewDesk:
    """What there is to review of a run or a region, and what people have said of it.

    Pictures are read in one thread, reviews in another: nobody waits for a picture to have a word kept.
    """

    def __init__(self, folder: RunFolder, *, open_book: OpenBook) -> None:
        """Begin with nothing read.

        Args:
            folder: Folder of the run or the region.
            open_book: Lists what there is to review there.
        """
        self._folder = folder
        self._open_book = open_book
        self._book: ReviewBook | None = None
        self._keepers: dict[str, ReviewKeeper] = {}
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._keeping = ThreadPoolExecutor(1, thread_name_prefix="reviews")
        self._draw = lru_cache(KEPT_PICTURES)(_draw)

    def close(self) -> None:
        """Let go of the threads; what is being written is written first."""
        self._looking.shutdown(cancel_futures=True)
        self._keeping.shutdown()

    async def list_items(self) -> dict[str, Any]:
        """Give all that there is to review, read anew: the report may have been made anew.

        Raises:
            InputError: it cannot be read.
        """
        return await self._run(self._keeping, self._list_items)

    async def list_said(self, person: str) -> dict[str, Any]:
        """Give what a person has said, and how many others have looked at each thing."""
        return await self._run(self._keeping, partial(self._list_said, person))

    async def show(self, subject: str, subject_id: str) -> dict[str, Any]:
        """Give the pictures of a thing at both dates, and where it lies on them.

        Raises:
            InputError: there is no such thing, or its pixels are gone.
        """
        book = await self._run(self._keeping, self._get_book)
        return await self._run(self._looking, partial(self._draw, book.find(subject, subject_id)))

    async def keep(self, request: ReviewRequest) -> dict[str, Any]:
        """Keep what a person says.

        Raises:
            InputError: it is about nothing here, or more than may be kept.
            FolderError: it cannot be written.
        """
        return await self._run(self._keeping, partial(self._keep, request))

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def _get_book(self) -> ReviewBook:
        if self._book is None:
            self._book = self._open_book(self._folder)
        return self._book

    def _list_items(self) -> dict[str, Any]:
        self._book = self._open_book(self._folder)
        items = list(self._book.items.values())
        return {
            "title": self._book.title,
            "changes": [_list_item(item) for item in items if not item.is_blind],
            "sample": [_list_item(item) for item in items if item.is_blind],
            "n_left_out": self._book.n_left_out,
            "kinds": list(CHANGE_KINDS),
            "directions": list(DIRECTIONS),
            "limits": {
                "max_note_characters": MAX_NOTE_CHARACTERS,
                "max_name_characters": MAX_NAME_CHARACTERS,
                "max_corners": MAX_VERTICES,
                "max_shapes": MAX_SHAPES,
            },
        }

    def _list_said(self, person: str) -> dict[str, Any]:
        book = self._get_book()
        said: dict[str, Any] = {}
        others: dict[str, int] = {}
        for home in book.list_homes():
            latest = self._get_keeper(home.folder).read().list_latest()
            for review in book.choose_own(latest, home=home):
                key = f"{review.subject}/{review.subject_id}"
                if review.person == person:
                    said[key] = _describe_said(review, item=book.items[review.subject, review.subject_id])
                else:
                    others[key] = others.get(key, 0) + 1
        return {"said": said, "others": others}

    def _keep(self, request: ReviewRequest) -> dict[str, Any]:
        item = self._get_book().find(request.subject, request.subject_id)
        added = self._get_keeper(item.home.folder).add([make_review(request, item=item, now=dt.datetime.now(dt.UTC))])
        return {"n_added": added.n_added, "notes": list(added.notes)}

    def _get_keeper(self, folder: RunFolder) -> ReviewKeeper:
        return self._keepers.setdefault(folder.uri, ReviewKeeper(folder))


def _list_item(item: ReviewItem) -> dict[str, Any]:
    plain: dict[str, Any] = {"subject": item.subject.value, "id": item.subject_id}
    if not item.is_blind:
        plain = clean_values(plain | {name: item.told[name] for name in _LISTED})
    return plain


_LISTED = ("kind", "area_m2", "confidence", "first_seen")


def _draw(item: ReviewItem) -> dict[str, Any]:
    try:
        pictures = item.ground.read(item.window)
    except FileNotFoundError:
        raise InputError(
            f"the pixels of {item.subject} {item.subject_id} are gone",
            expected="the tile store that the run has left",
            remedy="run `deltavlm run` again with this --output: it writes what is missing",
        ) from None
    window = item.window
    shown: dict[str, Any] = clean_values(
        {
            "before": pictures.before_uri,
            "after": pictures.after_uri,
            "window": {"left": window.left, "top": window.top, "width": window.width, "height": window.height},
            "metres": window.width * item.ground.store.grid.ground_resolution_m,
            "path": item.draw(),
            "is_whole": item.is_whole,
            "description": item.told.get("description"),
        }
    )
    return shown


def _describe_said(review: Review, *, item: ReviewItem) -> dict[str, Any]:
    """Give what a person has said as they have said it: of a tile of a sample without what it tells of the answer."""
    missed = [] if review.missed is None else item.ground.place(review.missed, window=item.window)
    return {
        "verdict": None if item.is_blind else review.verdict.value,
        "is_changed": review.is_changed,
        "kind": review.kind,
        "direction": review.direction,
        "count": review.count,
        "counts": dict(review.counts),
        "note": review.note or "",
        "missed": [[[round(value, 2) for value in corner] for corner in ring[:-1]] for ring in missed],
    }


def make_review(request: ReviewRequest, *, item: ReviewItem, now: dt.datetime) -> Review:
    """Make a review of what a person has sent.

    Args:
        request: What was sent.
        item: What it is about.
        now: The present, UTC.

    Raises:
        InputError: it does not fit the thing.
    """
    return Review(
        person=request.clean_person,
        reviewed_at=now,
        run_id=item.home.run_id,
        model_id=item.home.model_id,
        subject=item.subject,
        subject_id=item.subject_id,
        verdict=item.judge(request.said_verdict, is_changed=request.is_changed),
        is_blind=item.is_blind,
        is_changed=request.is_changed,
        kind=request.kind,
        direction=request.direction,
        count=None if item.subject is Subject.TILE else request.count,
        counts=request.counts if item.subject is Subject.TILE else {},
        note=request.clean_note,
        missed=item.ground.locate([[(x, y) for x, y in ring] for ring in request.missed], window=item.window)
        if request.missed
        else None,
    )
