"""What a stranger's model gives: answers as they should be, and everything else refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.checking import MAX_ANSWER_CHARACTERS, AnswerError, CheckedModel, check_answers, read_notes
from model.interface import Answer, ChangeMasks, MaskedAnswers, ModelIdentity, NotingModel, Prompt, PromptKind

PROMPT = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?")
GOOD = Answer(text="yes", confidence=0.5)


class Model:
    identity = ModelIdentity(model_id="m@1", weight_hash="0" * 64, path="")
    mask_labels = ("building",)

    def __init__(self, answers: Any, *, masks: Any = None) -> None:
        self.answers, self.masks = answers, masks

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> Any:
        return self.answers

    def answer_with_masks(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], choose_masked: Any) -> Any:
        choose_masked(range(len(pairs)), self.answers)
        return self.masks


class NotingPlugin(Model):
    def take_notes(self) -> Any:
        return self.masks


def ask(answers: Any) -> list[list[Answer]]:
    return CheckedModel(Model(answers)).answer_prompts(np.zeros((2, 2, 3, 4, 4), np.uint8), prompts=[PROMPT])


@pytest.mark.parametrize("confidence", [0, 1, 0.5, np.float32(0.25), np.float64(1.0000001), math.nan])
def test_a_confidence_that_can_be_is_taken(confidence: Any) -> None:
    (row,) = ask([[GOOD, Answer(text="no", confidence=confidence)]])

    assert type(row[1].confidence) is float
    assert math.isnan(row[1].confidence) or row[1].confidence == pytest.approx(min(1.0, float(confidence)))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(text="yes", confidence=2.5), "has the confidence 2.5"),
        (Answer(text="yes", confidence=-0.1), "has the confidence -0.1"),
        (Answer(text="yes", confidence=math.inf), "has the confidence inf"),
        (Answer(text="yes", confidence=-math.inf), "has the confidence -inf"),
        (Answer(text="yes", confidence="high"), "has str in place of a confidence"),  # type: ignore[arg-type]
        (Answer(text="yes", confidence=None), "has NoneType in place of a confidence"),  # type: ignore[arg-type]
        (Answer(text="yes", confidence=True), "has bool in place of a confidence"),
        (Answer(text=None, confidence=0.5), "has NoneType in place of words"),  # type: ignore[arg-type]
        (Answer(text=b"yes", confidence=0.5), "has bytes in place of words"),  # type: ignore[arg-type]
        (Answer(text="y" * (MAX_ANSWER_CHARACTERS + 1234), confidence=0.5), "goes on for 1,234 characters beyond"),
        ("yes", "is str"),
        (None, "is NoneType"),
    ],
)
def test_what_is_no_answer_is_refused(answer: Any, words: str) -> None:
    with pytest.raises(AnswerError, match=words) as caught:
        ask([[GOOD, answer]])
    assert "prompt 'changed'" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "answers",
    [
        None,
        [],
        [[GOOD]],
        [[GOOD] * 3],
        [[GOOD] * 2] * 2,
        "yes",
        ["no"],
        [iter([GOOD] * 2)],
        iter([[GOOD] * 2]),
    ],
)
def test_other_lengths_than_were_asked_for_are_refused(answers: Any) -> None:
    with pytest.raises(AnswerError):
        ask(answers)


def test_what_steers_a_terminal_or_is_no_text_goes() -> None:
    (row,) = ask([[GOOD, Answer(text="a\x00\x1b[2Jb\ud800\n", confidence=0.5)]])

    assert row[1].text == "a[2Jb?"


def make_masked(**changes: Any) -> MaskedAnswers:
    values = {
        "answers": [[GOOD, GOOD]],
        "pair_indexes": np.array([1]),
        "probabilities": np.full((1, 1, 4, 4), 0.5, np.float32),
    } | changes
    aspects = values.pop("aspects", {"removed": np.full((1, 4, 4), 0.5, np.float32)})
    labels = values.pop("labels", ("building",))
    masks = ChangeMasks(labels=labels, probabilities=values.pop("probabilities"), aspects=aspects)
    return MaskedAnswers(masks=masks, **values)


@pytest.mark.parametrize(
    "changes",
    [
        {"answers": [[GOOD, Answer(text="yes", confidence=3.0)]]},
        {"probabilities": np.full((1, 1, 4, 4), np.nan, np.float32)},
        {"probabilities": np.full((1, 1, 4, 4), 7, np.float32)},
        {"probabilities": np.full((1, 2, 4, 4), 0.5, np.float32)},
        {"aspects": {"removed": np.full((1, 4, 4), 1.5, np.float32)}},
        {"aspects": {"removed": np.full((1, 1, 4, 4), 0.5, np.float32)}},
        {"aspects": None},
        {"probabilities": np.full((1, 1, 4, 4), "0.5")},
        {"pair_indexes": np.array([5])},
        {"pair_indexes": np.array([0.5])},
        {"pair_indexes": np.array([True])},
        {"pair_indexes": np.array([[1]])},
        {"labels": (1,)},
        {"labels": ("building", "building"), "probabilities": np.full((1, 2, 4, 4), 0.5, np.float32)},
        {"pair_indexes": np.array([0, 1])},
    ],
)
def test_masks_that_are_none_are_refused(changes: dict[str, Any]) -> None:
    pairs = np.zeros((2, 2, 3, 4, 4), np.uint8)

    def choose(numbers: range, answers: Any) -> Any:
        return np.array([False, True])

    good = CheckedModel(Model([[GOOD, GOOD]], masks=make_masked()))
    assert good.answer_with_masks(pairs, prompts=[PROMPT], choose_masked=choose).answers == [[GOOD, GOOD]]

    with pytest.raises(AnswerError):
        CheckedModel(Model([[GOOD, GOOD]], masks=make_masked(**changes))).answer_with_masks(
            pairs, prompts=[PROMPT], choose_masked=choose
        )


def test_a_model_keeps_what_else_it_has() -> None:
    plain, noting = CheckedModel(Model([])), CheckedModel(NotingPlugin([], masks={"odd": 2}))

    assert plain.mask_labels == ("building",)
    assert (isinstance(plain, NotingModel), isinstance(noting, NotingModel)) == (False, True)
    assert (read_notes(plain), read_notes(noting)) == ({}, {"odd": 2})


@pytest.mark.parametrize("notes", [None, ["odd"], {"odd": "often"}, {1: 1}])
def test_notes_are_words_and_counts(notes: Any) -> None:
    with pytest.raises(AnswerError, match="notes that are"):
        read_notes(CheckedModel(NotingPlugin([], masks=notes)))


def test_there_may_be_no_prompts() -> None:
    assert check_answers([], prompts=[], n_pairs=3) == []
