"""What many pairs together say of one event."""

from __future__ import annotations

import datetime as dt

import pytest

from pipeline.regions.events.status import EventStatus, Look, judge_event

PROVISIONAL, CONFIRMED, NOT_CONFIRMED = EventStatus


def make_looks(said: str, *, confidences: list[float | None] | None = None, scenes: str = "") -> list[Look]:
    """Make looks, a week apart: ``+`` saw it, ``-`` looked and did not; scenes by letters, else all of their own."""
    return [
        Look(
            after=dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=7 * week),
            scenes=frozenset({scenes[week] if scenes else week}),
            has_seen=sign == "+",
            confidence=0.8 if confidences is None else confidences[week],
        )
        for week, sign in enumerate(said)
    ]


@pytest.mark.parametrize(
    ("said", "status", "confirmed_by"),
    [
        ("+", PROVISIONAL, None),
        ("++", CONFIRMED, 1),
        ("+-", PROVISIONAL, None),
        ("+--", NOT_CONFIRMED, None),
        ("+-+", CONFIRMED, 2),
        ("+--+", PROVISIONAL, None),
        ("+--++", CONFIRMED, 4),
        # Once confirmed, it stays.
        ("++------", CONFIRMED, 1),
        # Two chance sightings in a year of looks confirm nothing.
        ("+----------+", NOT_CONFIRMED, None),
    ],
)
def test_two_who_are_the_most_confirm_and_most_against_deny(
    said: str, status: EventStatus, confirmed_by: int | None
) -> None:
    looks = make_looks(said)

    verdict = judge_event(looks)

    assert (verdict.status, verdict.n_for, verdict.n_against) == (status, said.count("+"), said.count("-"))
    assert verdict.confirmed_at == (None if confirmed_by is None else looks[confirmed_by].after)


def test_pairs_that_share_a_scene_are_heard_once() -> None:
    assert judge_event(make_looks("+++", scenes="aaa")).status is PROVISIONAL
    assert judge_event(make_looks("+--", scenes="aaa")).n_against == 0
    assert judge_event(make_looks("+++", scenes="aab")).status is CONFIRMED


@pytest.mark.parametrize(
    ("said", "confidences", "expected"),
    [
        ("+", [0.8], 0.8),
        # Odds of 4 and 4 are 16; of 4 and 1/4 they are even.
        ("++", [0.8, 0.8], 16 / 17),
        ("+-", [0.8, 0.8], 0.5),
        ("+--", [0.8, 0.8, 0.8], 0.2),
        # An even chance says nothing, nor does a pair that measured nothing.
        ("++", [0.8, 0.5], 0.8),
        ("++", [0.8, None], 0.8),
        ("+-", [0.8, None], 0.8),
        ("++", [None, 0.9], 0.9),
        # Where nobody who saw it measured anything, nothing is known.
        ("+", [None], None),
        ("+-", [None, 0.9], None),
        # A pair that is certain silences no other: odds of 99 and 1/4.
        ("+-", [1.0, 0.8], 99 / 103),
        ("++", [0.0, 0.8], 4 / 103),
    ],
)
def test_odds_of_independent_pairs_multiply(said: str, confidences: list[float | None], expected: float | None) -> None:
    assert judge_event(make_looks(said, confidences=confidences)).confidence == pytest.approx(expected)


def test_a_pair_that_is_not_heard_makes_nothing_surer() -> None:
    assert judge_event(make_looks("++", scenes="aa")).confidence == pytest.approx(0.8)
