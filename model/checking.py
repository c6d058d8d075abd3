"""What a model of somebody else gives is looked at before anybody uses it: a package's, or one behind a server.

Whatever is not as `Answer` and `ChangeMasks` say is an error of its own, and never stored: a run asks about the tiles
of a batch one by one then, and those that bring it again are `failed` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.interface import (
    Answer,
    ChangeMasks,
    ChangeModel,
    ChooseMasked,
    ContextModel,
    MaskedAnswers,
    MaskModel,
    NotingModel,
    PairContext,
    Prompt,
)
from model.remote.replies import tidy_text

MAX_ANSWER_CHARACTERS = 10_000
"""Longest answer of any model; the longest that ours was taught has some hundred characters."""
_MAX_NOTES, _MAX_NOTE_CHARACTERS = 20, 200
_ROUNDING = 1e-6


class AnswerError(InputError):
    """A model gave something that is no answer."""

    def __init__(
        self,
        found: str,
        *,
        expected: str = "what model.interface says of answers",
        remedy: str = "correct the model, or take another",
    ) -> None:
        super().__init__(found, expected=expected, remedy=remedy)


class CheckedModel:
    """A change model whose answers are looked at; all else about it is the model's own."""

    def __init__(self, model: ChangeModel) -> None:
        self._model = model
        self.identity = model.identity

    def __getattr__(self, name: str) -> Any:
        # Not before there is a model, as while this is unpickled.
        if name == "_model":
            raise AttributeError(name)
        return getattr(self._model, name)

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Answer as the model does.

        Raises:
            AnswerError: it gives something that is no answer.
        """
        return check_answers(self._model.answer_prompts(pairs, prompts=prompts), prompts=prompts, n_pairs=len(pairs))

    answer_screened = None
    # ^ It would be the model's own, unchecked; who screens asks such a model twice.

    def answer_in_context(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], contexts: Sequence[PairContext]
    ) -> list[list[Answer]]:
        """Answer as the model does.

        Raises:
            AnswerError: it gives something that is no answer.
        """
        answers = cast(ContextModel, self._model).answer_in_context(pairs, prompts=prompts, contexts=contexts)
        return check_answers(answers, prompts=prompts, n_pairs=len(pairs))

    def answer_with_masks(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], choose_masked: ChooseMasked
    ) -> MaskedAnswers:
        """Answer and give masks as the model does.

        Raises:
            AnswerError: it gives something that is no answer or no mask.
        """

        def choose(numbers: range, answers: list[list[Answer]]) -> npt.NDArray[np.bool_]:
            return choose_masked(numbers, check_answers(answers, prompts=prompts, n_pairs=len(numbers)))

        model = cast(MaskModel, self._model)
        given = model.answer_with_masks(pairs, prompts=prompts, choose_masked=choose)
        _check_masked(given, pairs=pairs)
        return replace(given, answers=check_answers(given.answers, prompts=prompts, n_pairs=len(pairs)))

    def predict_masks(self, pairs: npt.NDArray[np.uint8], *, size_px: tuple[int, int] | None = None) -> ChangeMasks:
        """Give masks as the model does.

        Raises:
            AnswerError: it gives something that is no mask.
        """
        masks = cast(MaskModel, self._model).predict_masks(pairs, size_px=size_px)
        _check_masks(masks, n_pairs=len(pairs), size_px=size_px or (pairs.shape[-2], pairs.shape[-1]))
        return masks


def check_answers(answers: Any, *, prompts: Sequence[Prompt], n_pairs: int) -> list[list[Answer]]:
    """Give what a model answered, as plain values and without signs that steer a terminal.

    Args:
        answers: What `ChangeModel.answer_prompts` gave.
        prompts: What was asked.
        n_pairs: Of how many pairs.

    Raises:
        AnswerError: there is not one answer per prompt and pair, or one of them is none.
    """
    rows = list(answers) if isinstance(answers, Sequence) and not isinstance(answers, str) else None
    if rows is None or len(rows) != len(prompts):
        found = type(answers).__name__ if rows is None else f"{len(rows)} lists of answers"
        raise AnswerError(f"{found} to {len(prompts)} prompts", expected="one list of answers per prompt")
    for row, prompt in zip(rows, prompts, strict=True):
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != n_pairs:
            found = f"{len(row)} answers" if isinstance(row, Sequence) else type(row).__name__
            raise AnswerError(f"prompt {prompt.name!r} has {found} for {n_pairs} pairs", expected="one per pair")
    return [[_check_answer(answer, prompt=prompt) for answer in row] for row, prompt in zip(rows, prompts, strict=True)]


def _check_answer(answer: Any, *, prompt: Prompt) -> Answer:
    what = f"an answer to prompt {prompt.name!r}"
    if not isinstance(answer, Answer):
        raise AnswerError(f"{what} is {type(answer).__name__}", expected="an Answer")
    text, number = answer.text, answer.confidence
    if not isinstance(text, str):
        raise AnswerError(f"{what} has {type(text).__name__} in place of words", expected="a text")
    if (n_more := len(text) - MAX_ANSWER_CHARACTERS) > 0:
        raise AnswerError(
            f"{what} goes on for {n_more:,} characters beyond the limit",
            expected=f"at most {MAX_ANSWER_CHARACTERS:,} characters",
        )
    if not isinstance(number, Real) or isinstance(number, bool):
        raise AnswerError(f"{what} has {type(number).__name__} in place of a confidence", expected="a number")
    # NaN stands for none, and compares with nothing.
    if number < 0 or number > 1 + _ROUNDING:
        raise AnswerError(
            f"{what} has the confidence {float(number):g}", expected="0 to 1, or NaN where the model tells none"
        )
    familiarity = answer.familiarity
    is_number = isinstance(familiarity, Real) and not isinstance(familiarity, bool)
    if familiarity is not None and not (is_number and 0 <= familiarity <= 1):
        raise AnswerError(f"{what} has a familiarity that is none", expected="0 to 1, or None where none is told")
    return Answer(
        text=tidy_text(text),
        confidence=float(number) if number != number else min(1.0, float(number)),
        familiarity=None if familiarity is None else float(familiarity),
    )


def _check_masked(given: Any, *, pairs: npt.NDArray[np.uint8]) -> None:
    if not isinstance(given, MaskedAnswers):
        raise AnswerError(f"{type(given).__name__} in place of answers with masks", expected="MaskedAnswers")
    indexes = np.asarray(given.pair_indexes)
    if indexes.ndim != 1 or (indexes.size and indexes.dtype.kind not in "iu"):
        raise AnswerError(f"indexes of pairs of kind {indexes.dtype}", expected="whole numbers")
    _check_masks(given.masks, n_pairs=len(indexes), size_px=(pairs.shape[-2], pairs.shape[-1]))
    if indexes.size and not (np.all(np.diff(indexes) > 0) and indexes[0] >= 0 and indexes[-1] < len(pairs)):
        raise AnswerError(
            f"masks of other pairs than the {len(pairs)} there are", expected="ascending indexes of pairs"
        )


def _check_masks(given: Any, *, n_pairs: int, size_px: tuple[int, int]) -> None:
    if not isinstance(given, ChangeMasks):
        raise AnswerError(f"{type(given).__name__} in place of masks", expected="ChangeMasks")
    masks, shape = given.probabilities, (n_pairs, len(given.labels), *size_px)
    if not all(isinstance(label, str) for label in given.labels) or len(set(given.labels)) != len(given.labels):
        raise AnswerError("labels of masks that are no texts, or the same twice", expected="a name for each")
    if not isinstance(masks, np.ndarray) or masks.shape != shape:
        raise AnswerError(f"masks of shape {np.shape(masks)}", expected=f"{shape}: pair, label, y, x")
    layers = [masks, *_list_aspects(given.aspects, shape=(n_pairs, *size_px))]
    if not all(map(_is_probable, layers)):
        raise AnswerError("masks with probabilities that are none", expected="numbers from 0 to 1")


def _is_probable(layer: npt.NDArray[Any]) -> bool:
    if layer.dtype.kind not in "fiub":
        return False
    return not layer.size or bool(layer.min() >= 0 and layer.max() <= 1 + _ROUNDING)


def _list_aspects(aspects: Any, *, shape: tuple[int, ...]) -> list[npt.NDArray[np.float32]]:
    layers = list(aspects.values()) if isinstance(aspects, Mapping) else [aspects]
    if any(not isinstance(layer, np.ndarray) or layer.shape != shape for layer in layers):
        raise AnswerError("aspects of the masks of another shape", expected=f"by their names {shape}: pair, y, x")
    return layers


def read_notes(model: ChangeModel) -> dict[str, int]:
    """Give what a model has to say besides answers, cut to what there is room for.

    Raises:
        AnswerError: it is something else than words and how often they hold.
    """
    notes: Any = model.take_notes() if isinstance(model, NotingModel) else {}
    is_sound = isinstance(notes, Mapping) and all(
        isinstance(words, str) and isinstance(count, int) for words, count in notes.items()
    )
    if not is_sound:
        raise AnswerError(f"notes that are {type(notes).__name__}", expected="words, and how often they hold")
    return {tidy_text(words[:_MAX_NOTE_CHARACTERS]): int(count) for words, count in list(notes.items())[:_MAX_NOTES]}
