"""What people have said of one thing together: a referee's word, else what all say or most, else nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import shapely

from pipeline.reviews.review import Review, Subject, Verdict

Value = TypeVar("Value", str, float)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What holds of a thing by its reviews."""

    verdict: Verdict
    """Whether the model's answer is right; unsure where nobody is sure, or as many say so as not."""
    n_people: int = 1
    """People who have looked."""
    kind: str | None = None
    """What those whose verdict holds say that the change is of; None: nothing, or not the same."""
    direction: str | None = None
    """Likewise built or removed."""
    count: float | None = None
    """Likewise how many."""


def settle_reviews(reviews: Iterable[Review], *, subject: Subject) -> dict[str, Settled]:
    """Settle what was said, thing by thing.

    Args:
        reviews: The latest of each person, of any subject.
        subject: What is asked for.
    """
    by_id: dict[str, list[Review]] = {}
    for review in reviews:
        if review.subject is subject:
            by_id.setdefault(review.subject_id, []).append(review)
    return {subject_id: settle(by_id[subject_id]) for subject_id in sorted(by_id)}


def settle(reviews: Sequence[Review]) -> Settled:
    """Settle what was said of one thing.

    Args:
        reviews: The latest of each person, at least one.
    """
    sure = [review for review in reviews if review.verdict is not Verdict.UNSURE]
    referees = [review for review in sure if review.settles]
    verdict = _choose(referees) or _choose(sure) or Verdict.UNSURE
    heeded = [review for review in sure if review.verdict is verdict]
    return Settled(
        verdict=verdict,
        n_people=len(reviews),
        kind=_agree(review.kind for review in heeded),
        direction=_agree(review.direction for review in heeded),
        count=_agree(review.count for review in heeded),
    )


def _choose(reviews: Sequence[Review]) -> Verdict | None:
    n_right = sum(review.verdict is Verdict.RIGHT for review in reviews)
    if 2 * n_right == len(reviews):
        return None
    return Verdict.RIGHT if 2 * n_right > len(reviews) else Verdict.WRONG


def _agree(values: Iterable[Value | None]) -> Value | None:
    told = {value for value in values if value is not None}
    return told.pop() if len(told) == 1 else None


def count_missed(reviews: Iterable[Review]) -> int:
    """Count the places that people have drawn as missed."""
    return sum(len(shapely.get_parts(review.missed)) for review in reviews if review.missed is not None)


def count_people(reviews: Iterable[Review]) -> int:
    """Count the people who have looked."""
    return len({review.person for review in reviews})


def count_settled(settled: Mapping[str, Settled]) -> dict[str, int]:
    """Count things by what holds of them, all verdicts named."""
    return {verdict.value: sum(each.verdict is verdict for each in settled.values()) for verdict in Verdict}
