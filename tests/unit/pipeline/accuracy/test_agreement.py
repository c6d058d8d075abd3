from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pipeline.accuracy.agreement import Settlement, compare_people, measure_agreement, settle_tile
from pipeline.reviews.review import Review, Subject, Verdict


def say(person: str, is_changed: bool | None, **values: Any) -> Review:
    plain: dict[str, Any] = {"run_id": "run", "model_id": "m@0", "subject": Subject.TILE, "subject_id": "r0_c0"}
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    verdict = Verdict.UNSURE if is_changed is None else Verdict.RIGHT
    return Review(person=person, reviewed_at=moment, verdict=verdict, is_changed=is_changed, **plain | values)


YES, NO, UNSURE = True, False, None


@pytest.mark.parametrize(
    ("answers", "settlement", "is_changed"),
    [
        ([YES], Settlement.ALONE, YES),
        ([UNSURE], Settlement.UNSURE, None),
        ([YES, UNSURE], Settlement.ALONE, YES),
        ([NO, NO], Settlement.AGREED, NO),
        ([YES, NO], Settlement.OPEN, None),
        ([YES, NO, NO], Settlement.MAJORITY, NO),
        ([YES, NO, UNSURE], Settlement.OPEN, None),
        ([YES, YES, NO, NO], Settlement.OPEN, None),
    ],
)
def test_who_is_heard(answers: list[bool | None], settlement: Settlement, is_changed: bool | None) -> None:
    truth = settle_tile([say(str(number), answer) for number, answer in enumerate(answers)])

    assert (truth.settlement, truth.is_changed) == (settlement, is_changed)


def test_a_referee_settles_what_others_disagree_about() -> None:
    truth = settle_tile([say("a", YES), say("b", NO), say("c", NO), say("d", YES, settles=True)])
    undecided = settle_tile([say("a", YES, settles=True), say("b", NO, settles=True)])

    assert (truth.settlement, truth.is_changed) == (Settlement.REFEREE, True)
    assert undecided.settlement is Settlement.OPEN


def test_amounts_are_those_of_the_people_who_are_heard() -> None:
    truth = settle_tile(
        [say("a", YES, counts={"building": 2.0}), say("b", YES, counts={"building": 4.0}), say("c", NO)]
    )

    assert truth.counts == {"building": 3.0, "road": 0.0}
    assert truth.areas_m2 == {"building": None, "road": 0.0}
    assert (truth.has("building"), truth.has("road")) == (True, False)


def test_nothing_changed_means_none_and_nothing_told_is_not_known() -> None:
    assert settle_tile([say("a", NO)]).counts == {"building": 0.0, "road": 0.0}
    assert settle_tile([say("a", YES)]).has("building") is None


def test_kappa_of_cohen() -> None:
    # The example that is everywhere: 20 and 15 alike, 5 and 10 otherwise.
    answers = [(YES, YES)] * 20 + [(YES, NO)] * 5 + [(NO, YES)] * 10 + [(NO, NO)] * 15

    found = measure_agreement(answers)

    assert (found.n_both, found.n_agreed) == (50, 35)
    assert found.kappa == pytest.approx(0.4)
    assert measure_agreement([(YES, YES)] * 5).kappa is None


def test_every_two_people_are_compared_on_what_both_saw() -> None:
    tiles = [[say("a", YES), say("b", YES)], [say("a", NO), say("b", YES), say("c", NO)], [say("a", NO)]]
    tiles.append([say("a", NO), say("referee", NO, settles=True)])

    found = compare_people(tiles)

    assert [(each.n_both, each.n_agreed) for each in found] == [(2, 1), (1, 1), (1, 0)]
