"""Free questions to a model of few questions: answered from what it says to those, never against it, or declined."""

from __future__ import annotations

import math

import pytest

from model.interface import Answer, Prompt, PromptKind
from model.questions.known import KnownQuestions
from model.questions.replies import is_declined, list_known_questions
from model.questions.understanding import understand_question

BUILT = {
    PromptKind.CLASSIFY: Answer(text="yes", confidence=0.97),
    PromptKind.COUNT: Answer(text="0 roads has changed, and 3 buildings has changed.", confidence=0.4),
    PromptKind.LOCATE: Answer(text="roads: []. buildings: ['top-left', 'top-center'].", confidence=0.5),
    PromptKind.DESCRIBE: Answer(text="several houses are built at the top .", confidence=0.6),
}
REMOVED = BUILT | {PromptKind.DESCRIBE: Answer(text="several houses are demolished .", confidence=0.6)}
VAGUE = BUILT | {PromptKind.DESCRIBE: Answer(text="the scene looks different .", confidence=0.6)}
NOTHING = {
    PromptKind.CLASSIFY: Answer(text="no", confidence=0.9),
    PromptKind.COUNT: Answer(text="There are no changes in roads or buildings between the two images.", confidence=0.9),
    PromptKind.LOCATE: Answer(text="roads: []. buildings: [].", confidence=0.9),
    PromptKind.DESCRIBE: Answer(text="the scene is the same as before .", confidence=0.9),
}
ODD = BUILT | {PromptKind.COUNT: Answer(text="banana", confidence=0.9)}


def ask(question: str, *pairs: dict[PromptKind, Answer]) -> list[Answer]:
    known = KnownQuestions(lambda prompt: [answers[prompt.kind] for answers in pairs], n_pairs=len(pairs))
    return known.answer(Prompt(name="question", kind=PromptKind.ASK, text=question))


@pytest.mark.parametrize(
    ("question", "of_built", "of_nothing"),
    [
        ("Has anything changed?", "Yes, something has changed.", "No, nothing has changed."),
        ("Are both images the same?", "No, something has changed.", "Yes, nothing has changed."),
        ("What happened here?", "several houses are built at the top.", "the scene is the same as before."),
        ("How many new houses are there?", "There are 3 new buildings.", "There are no new buildings."),
        ("Were any houses built?", "Yes, 3 buildings have been built.", "No, no buildings have been built."),
        ("Were any houses demolished?", "No, no buildings have been removed.", "No, no buildings have been removed."),
        (
            "Where are the new buildings?",
            "The new buildings are located at the top-left and top-center of the scene.",
            "There are no new buildings.",
        ),
        ("Did the top-left change?", "Yes, buildings have changed there.", "No, nothing has changed there."),
        ("Are there new roads?", "No, there are no new roads.", "No, there are no new roads."),
        ("What kinds of objects changed?", "Buildings have changed.", "No objects have changed."),
    ],
)
def test_answers_follow_from_those_to_the_known_questions(question: str, of_built: str, of_nothing: str) -> None:
    assert [answer.text for answer in ask(question, BUILT, NOTHING)] == [of_built, of_nothing]


def test_removed_buildings_are_not_called_new() -> None:
    assert ask("Were any houses demolished?", REMOVED)[0].text == "Yes, 3 buildings have been removed."
    assert ask("How many new houses are there?", REMOVED)[0].text == "There are no new buildings."


def test_what_the_description_leaves_open_is_declined() -> None:
    assert is_declined(ask("Were any houses demolished?", VAGUE)[0].text)
    assert is_declined(ask("What did the houses replace?", BUILT)[0].text)


def test_answers_that_cannot_be_read_are_declined() -> None:
    assert is_declined(ask("How many new houses are there?", ODD)[0].text)


def test_only_measured_confidences_are_told() -> None:
    assert ask("Has anything changed?", BUILT)[0].confidence == 0.97
    assert math.isnan(ask("How many new houses are there?", BUILT)[0].confidence)
    assert math.isnan(ask("What is the capital of France?", BUILT)[0].confidence)


@pytest.mark.parametrize(
    "question", ["Were any houses built?", "Are there new roads?", "What kinds of objects changed?"]
)
def test_that_something_changed_tells_nothing_of_how_sure_it_is_what(question: str) -> None:
    of_built, of_nothing = ask(question, BUILT, NOTHING)

    assert math.isnan(of_built.confidence)
    assert of_nothing.confidence == 0.9


def test_a_flag_that_the_count_contradicts_has_no_confidence() -> None:
    odd = NOTHING | {PromptKind.CLASSIFY: Answer(text="yes", confidence=0.8)}

    assert math.isnan(ask("Has anything changed?", odd)[0].confidence)


def test_each_known_question_is_put_once_and_none_for_what_is_declined() -> None:
    asked: list[PromptKind] = []

    def answer(prompt: Prompt) -> list[Answer]:
        asked.append(prompt.kind)
        return [BUILT[prompt.kind]]

    known = KnownQuestions(answer, n_pairs=1)
    for text in ("What is the capital of France?", "Has anything changed?", "Were any houses built?"):
        known.answer(Prompt(name="question", kind=PromptKind.ASK, text=text))

    assert sorted(asked) == sorted(BUILT)


def test_whatever_is_offered_is_understood() -> None:
    assert [text for text in list_known_questions() if understand_question(text, is_later=False) is None] == []
