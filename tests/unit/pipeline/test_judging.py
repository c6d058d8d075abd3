from __future__ import annotations

import pytest

from model.interface import Prompt, PromptKind
from pipeline.judging import Finding, GivenAnswer, judge_tile
from pipeline.tiles import Tile, TileStatus

DESCRIBE = Prompt(name="description", kind=PromptKind.DESCRIBE, text="Describe.")
CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Yes or no?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
LOCATE = Prompt(name="location", kind=PromptKind.LOCATE, text="Where?")
ASK = Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?")

NOTHING_COUNTED = "There are no changes in roads or buildings between the two images."
NOTHING_PLACED = "roads: []. buildings: []."


def make_tile(status: TileStatus | None = None, reason: str = "") -> Tile:
    return Tile(row=1, col=2, tile_id="r0001_c0002", valid_fraction=0.5, status=status, reason=reason)


def judge(*pairs: tuple[Prompt, str, float], failure: str | None = None) -> Finding:
    answers = {prompt.name: GivenAnswer(text=text, confidence=part) for prompt, text, part in pairs}
    return judge_tile(make_tile(), prompts=[pair[0] for pair in pairs], answers=answers, failure=failure)


def test_all_answers_of_a_tile_become_one_finding() -> None:
    expected = Finding(
        status=TileStatus.ANALYSED,
        is_changed=True,
        change_confidence=0.9,
        description="a house and a road have been built",
        building_count=3,
        road_count=1,
        building_cells="top-left;center-center",
        road_cells="",
        texts={"trees": "Yes, two."},
    )

    found = judge(
        (DESCRIBE, "a house and a road have been built", 0.5),
        (CLASSIFY, "Yes", 0.9),
        (COUNT, "1 road has changed, and 3 buildings has changed.", 0.6),
        (LOCATE, "roads: []. buildings: ['center-center', 'top-left'].", 0.7),
        (ASK, "Yes, two.", 0.4),
    )

    assert found == expected


@pytest.mark.parametrize(
    "status", [status for status in TileStatus if status not in {TileStatus.ANALYSED, TileStatus.UNREADABLE}]
)
def test_what_was_not_asked_is_never_called_unchanged(status: TileStatus) -> None:
    found = judge_tile(make_tile(status, "why"), prompts=[CLASSIFY], answers={}, failure=None)

    assert found == Finding(status=status, reason="why", is_changed=False if status is TileStatus.IDENTICAL else None)


def test_a_failed_tile_has_its_reason_and_no_verdict() -> None:
    found = judge((CLASSIFY, "No", 0.9), failure="RuntimeError: out of memory")

    assert found == Finding(status=TileStatus.FAILED, reason="RuntimeError: out of memory")


def test_a_missing_answer_fails_the_tile() -> None:
    answers = {"changed": GivenAnswer(text="No", confidence=0.9)}

    found = judge_tile(make_tile(), prompts=[CLASSIFY, COUNT], answers=answers, failure=None)

    assert found == Finding(status=TileStatus.FAILED, reason="no answer to count; run again")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            [(CLASSIFY, "perhaps", 0.9), (COUNT, "2 buildings", 0.8)],
            Finding(status=TileStatus.UNREADABLE, reason="changed: perhaps", building_count=2),
        ),
        (
            [(CLASSIFY, "Yes", 0.9), (COUNT, "<b>lots</b>", 0.8), (LOCATE, "everywhere", 0.7)],
            Finding(
                status=TileStatus.UNREADABLE,
                reason="count: <b>lots</b>; location: everywhere",
                is_changed=True,
                change_confidence=0.9,
            ),
        ),
        ([(DESCRIBE, " ", 0.9)], Finding(status=TileStatus.UNREADABLE, reason="description:  ")),
    ],
)
def test_an_unreadable_answer_keeps_its_text_and_the_others_their_meaning(
    answers: list[tuple[Prompt, str, float]], expected: Finding
) -> None:
    assert judge(*answers) == expected


@pytest.mark.parametrize(
    ("answers", "is_changed", "confidence"),
    [
        ([(CLASSIFY, "No", 0.9), (COUNT, "2 buildings", 0.8)], False, 0.9),
        ([(COUNT, "2 buildings", 0.8)], True, 0.8),
        ([(COUNT, NOTHING_COUNTED, 0.8)], False, 0.8),
        ([(COUNT, NOTHING_COUNTED, 0.8), (LOCATE, "roads: ['top-left']. buildings: [].", 0.6)], True, 0.6),
        ([(COUNT, NOTHING_COUNTED, 0.8), (LOCATE, NOTHING_PLACED, 0.6)], False, 0.8),
        ([(COUNT, "0 roads", 0.8)], None, None),
        ([(LOCATE, "buildings: []", 0.6)], None, None),
        ([(DESCRIBE, "nothing", 0.6)], None, None),
    ],
)
def test_who_decides_whether_a_tile_changed(
    answers: list[tuple[Prompt, str, float]], is_changed: bool | None, confidence: float | None
) -> None:
    found = judge(*answers)

    assert (found.is_changed, found.change_confidence) == (is_changed, confidence)


def test_answers_that_disagree_are_noted() -> None:
    found = judge((CLASSIFY, "No", 0.9), (LOCATE, "roads: []. buildings: ['top-left'].", 0.8))

    assert found.status is TileStatus.ANALYSED
    assert found.reason == "answers disagree: not changed, but cells given"
