"""What many pairs together say of one event, by pure rules; docs/monitoring.md has them in words.

A pair that saw the event speaks for it; one that looked at its ground, could have seen it and did not speaks against
it. Pairs that share a scene share its flaws, so only the first of them is heard. The confidences are put together as
odds: with an even chance beforehand, and errors that do not depend on each other, the odds of all that were heard
multiply.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

MIN_PAIRS_TO_CONFIRM = 2
"""So many independent pairs have to have seen an event, and more than looked and did not, for it to be confirmed."""
_MOST = 0.99
# ^ No pair is surer than this, nor less sure than the rest of 1: one that is certain would silence all others.


class EventStatus(StrEnum):
    """How far an event is known."""

    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"
    NOT_CONFIRMED = "not_confirmed"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one pair says of one event."""

    after: dt.datetime
    """Its later date."""
    scenes: frozenset[object]
    """Its scenes."""
    has_seen: bool
    """Whether it tells of the event; else it has looked at the ground and could have seen it."""
    confidence: float | None
    """How sure it is of what it says, calibrated, 0 to 1; None where its model measured nothing."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all pairs say together."""

    status: EventStatus
    """How far the event is known."""
    confidence: float | None
    """Probability that it happened; None where no pair that saw it has a confidence."""
    confirmed_at: dt.datetime | None
    """Later date of the pair that confirmed it."""
    n_for: int
    """Independent pairs that saw it."""
    n_against: int
    """Independent pairs that looked and did not."""


def judge_event(looks: Sequence[Look]) -> Verdict:
    """Put together what pairs say of an event.

    Args:
        looks: In the order of time, from the first pair that saw it on.
    """
    heard = list(_choose_independent(looks))
    n_for = sum(look.has_seen for look in heard)
    confirmed_at = _find_confirmation(heard)
    if confirmed_at is not None:
        status = EventStatus.CONFIRMED
    else:
        status = EventStatus.NOT_CONFIRMED if 2 * n_for < len(heard) else EventStatus.PROVISIONAL
    return Verdict(
        status=status,
        confidence=combine_confidences(heard),
        confirmed_at=confirmed_at,
        n_for=n_for,
        n_against=len(heard) - n_for,
    )


def _find_confirmation(looks: Sequence[Look]) -> dt.datetime | None:
    n_for = 0
    for n_heard, look in enumerate(looks, start=1):
        n_for += look.has_seen
        if n_for >= MIN_PAIRS_TO_CONFIRM and 2 * n_for > n_heard:
            return look.after
    return None


def combine_confidences(looks: Sequence[Look]) -> float | None:
    """Give the probability of an event from what independent pairs say; None where none that saw it has a confidence.

    The odds ``p / (1 - p)`` of each pair that saw it are multiplied, and divided by those of each pair that is sure
    that nothing happened. Pairs without a confidence are left out.
    """
    told = [(look.has_seen, look.confidence) for look in looks if look.confidence is not None]
    if not any(has_seen for has_seen, _ in told):
        return None
    log_odds = sum(_log_odds(confidence) * (1 if has_seen else -1) for has_seen, confidence in told)
    return 1 / (1 + math.exp(-log_odds))


def _log_odds(confidence: float) -> float:
    kept = min(max(confidence, 1 - _MOST), _MOST)
    return math.log(kept / (1 - kept))


def _choose_independent(looks: Sequence[Look]) -> Iterator[Look]:
    known: set[object] = set()
    for look in looks:
        if known.isdisjoint(look.scenes):
            known |= look.scenes
            yield look
