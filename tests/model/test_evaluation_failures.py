"""The album of the worst answers: what counts as bad, and that nothing else is kept."""

import numpy as np
import pytest

from model.evaluation.cases import AnsweredCase, AnsweredTile, Case, EvaluationTile
from model.evaluation.failures import FailureAlbum, describe_failure, draw_failures, judge_answer, judge_tile
from model.interface import Answer, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate

PIXELS = np.zeros((2, 3, 16, 16), np.uint8)
COUNT_OF_4 = ParsedCount(building_count=4, road_count=None)
TOP_LEFT = ParsedLocate(building_cells=("top-left",), road_cells=None)


def make_answer(kind: PromptKind, truth, text: str, *, confidence: float = 0.9) -> AnsweredCase:
    prompt = Prompt(name=kind.value, kind=kind, text="?")
    case = Case(id="t", prompt=prompt, truth=truth)
    return AnsweredCase(tile="t", scene="s", case=case, answer=Answer(text=text, confidence=confidence))


def make_tile(name: str, *answered: AnsweredCase) -> AnsweredTile:
    return AnsweredTile(name=name, scene="s", flag=None, facts=None, answered=answered)


def say_yes(*, is_right: bool, confidence: float = 0.9) -> AnsweredCase:
    return make_answer(PromptKind.CLASSIFY, ParsedClassify(is_changed=is_right), "Yes", confidence=confidence)


@pytest.mark.parametrize(
    ("answered", "severity"),
    [
        (say_yes(is_right=True), 0.0),
        (say_yes(is_right=False), 1.0),
        (make_answer(PromptKind.COUNT, COUNT_OF_4, "0 roads has changed, and 4 buildings has changed."), 0.0),
        (make_answer(PromptKind.COUNT, COUNT_OF_4, "0 roads has changed, and 9 buildings has changed."), 0.5),
        (make_answer(PromptKind.COUNT, COUNT_OF_4, "dunno"), 1.0),
        (make_answer(PromptKind.LOCATE, TOP_LEFT, "roads: []. buildings: ['top-left']."), 0.0),
        (make_answer(PromptKind.LOCATE, TOP_LEFT, "roads: []. buildings: ['top-left', 'top-right']."), 0.5),
        (make_answer(PromptKind.LOCATE, TOP_LEFT, "roads: []. buildings: []."), 1.0),
        (make_answer(PromptKind.DESCRIBE, None, "whatever"), 0.0),
    ],
)
def test_answers_are_as_wrong_as_they_are_off(answered, severity):
    assert judge_answer(answered) == pytest.approx(severity)


def test_the_surer_mistake_is_the_worse_one():
    tiles = [make_tile("t", say_yes(is_right=False, confidence=c)) for c in (0.6, 0.99, float("nan"))]
    unsure, sure, silent = map(judge_tile, tiles)
    assert sure > unsure > silent == 1.0


def test_the_worst_are_kept_and_right_ones_never():
    album = FailureAlbum(n_shown=2)
    answers = {"right": True, "bad": False, "worse": False, "worst": False}
    confidences = {"right": 0.9, "bad": 0.6, "worse": 0.7, "worst": 0.8}
    for name in album.watch(EvaluationTile(name=n, scene="s", pixels=PIXELS, cases=()) for n in answers):
        confidence = confidences[name.name]
        album.consider(make_tile(name.name, say_yes(is_right=answers[name.name], confidence=confidence)))
    assert [failure.tile.name for failure in album.failures] == ["worst", "worse"]
    assert album.pending == {}


def test_a_picture_tells_truth_and_answer():
    wrong = make_tile(
        "tile_7",
        say_yes(is_right=False),
        make_answer(PromptKind.COUNT, COUNT_OF_4, "0 roads has changed, and 4 buildings has changed."),
        make_answer(PromptKind.DESCRIBE, None, "a house is built " * 9),
    )
    name, classify, description = describe_failure(wrong)
    assert name == "tile_7"
    assert classify == "not changed; says changed"
    assert description.startswith('says "a house is built')
    assert description.endswith("…")
    album = FailureAlbum()
    for _ in album.watch([EvaluationTile(name="tile_7", scene="s", pixels=PIXELS, cases=())]):
        album.consider(wrong)
    picture = draw_failures(album.failures)
    assert picture is not None
    assert len(picture.axes) == 1
    assert "tile_7" in picture.axes[0].get_xlabel()
    assert draw_failures([]) is None
