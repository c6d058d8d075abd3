"""What several people have said of one thing becomes one word, and nobody's is taken for what it is not."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pipeline.reviews.review import Review, Subject, Verdict
from pipeline.reviews.settle import count_settled, settle, settle_reviews


def say(verdict: str, **values: Any) -> Review:
    plain: dict[str, Any] = {
        "person": "ann",
        "reviewed_at": dt.datetime(2026, 5, 1, tzinfo=dt.UTC),
        "run_id": "run1",
        "model_id": "m@0",
        "subject": Subject.CHANGE,
        "subject_id": "building_r0_c0",
    }
    return Review(**plain | values, verdict=Verdict(verdict))


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (["right"], "right"),
        (["unsure"], "unsure"),
        (["wrong", "unsure"], "wrong"),
        (["right", "wrong"], "unsure"),
        (["right", "wrong", "wrong"], "wrong"),
    ],
)
def test_most_of_those_who_are_sure_decide(said: list[str], verdict: str) -> None:
    settled = settle([say(word, person=f"p{number}") for number, word in enumerate(said)])

    assert (settled.verdict, settled.n_people) == (verdict, len(said))


def test_a_referee_decides_against_many() -> None:
    said = [say("right", person="a"), say("right", person="b"), say("wrong", person="c", settles=True)]

    assert settle(said).verdict is Verdict.WRONG
    # Two referees who do not agree leave it to all.
    assert settle([*said, say("right", person="d", settles=True)]).verdict is Verdict.RIGHT


def test_corrections_are_those_of_whoever_is_heeded_and_only_where_they_agree() -> None:
    said = [
        say("right", person="a", kind="road", direction="built", count=2.0),
        say("right", person="b", direction="built", count=3.0),
        say("wrong", person="c", kind="building"),
    ]

    settled = settle(said)

    assert (settled.kind, settled.direction, settled.count) == ("road", "built", None)


def test_each_thing_is_settled_by_itself() -> None:
    said = [say("right", subject_id="a"), say("wrong", subject_id="b"), say("right", subject=Subject.TILE)]

    settled = settle_reviews(said, subject=Subject.CHANGE)

    assert {name: each.verdict for name, each in settled.items()} == {"a": "right", "b": "wrong"}
    assert count_settled(settled) == {"right": 1, "wrong": 1, "unsure": 0}
