"""A conversation about one pair: questions in turn, each read with what was said before.

History is written as DeltaVLM was trained on it, ``q: ... a: ...  q: ...``. The original then keeps the first 50 words,
and with them loses the question that is being asked. Here the oldest turns go, whole ones, and the question stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from model.certainty import COUNT_LEVEL, Certainty
from model.errors import InputError
from model.images import ImageSource, make_pair
from model.interface import ChangeMasks, ChangeModel, MaskModel, Prompt, PromptKind
from model.parsing import ParsedAnswer, ParsedCount, has_words, parse_answer
from model.prompts import find_known_prompt, infer_kind, needs_no_history
from model.registry import load_model


def describe_meaning(reply: Reply) -> str:
    """Tell in words what an answer means beyond its text; empty where the text is the meaning."""
    if reply.meaning is None:
        return "its meaning is in doubt" if has_words(reply.text) else "the model said nothing, which is no answer"
    values = asdict(reply.meaning)
    values.pop("text", None)
    shown = {name: " ".join(value) or "none" if isinstance(value, tuple) else value for name, value in values.items()}
    for name, (low, high) in reply.bounds.items():
        shown[name] = f"{values[name]} ({low} to {high} in {COUNT_LEVEL:.0%} of such tiles)"
    return ", ".join(
        f"{name.replace('_', ' ')}: {'not told' if value is None else value}" for name, value in shown.items()
    )


def describe_reply(reply: Reply) -> dict[str, Any]:
    """Give plain values for JSON."""
    return {
        "question": reply.question,
        "kind": reply.kind.value,
        "text": reply.text,
        "confidence": round(reply.confidence, 6) if math.isfinite(reply.confidence) else None,
        "meaning": asdict(reply.meaning) if reply.meaning is not None else None,
        "n_history_turns": reply.prompt.n_history_turns,
        **({"bounds": {name: list(ends) for name, ends in reply.bounds.items()}} if reply.bounds else {}),
    }


class QuestionError(InputError):
    """A question that cannot be put to the model: empty, too long, or of an unknown kind."""


@runtime_checkable
class TokenBudget(Protocol):
    """A model that tells how long a prompt may be; one without these is not limited."""

    @property
    def max_prompt_tokens(self) -> int:
        """Most tokens of a prompt."""
        ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a prompt."""
        ...


@dataclass(frozen=True, kw_only=True)
class PromptText:
    """What the model reads."""

    text: str
    """History and question, or the question alone."""
    n_history_turns: int
    """Turns of the history that found room, the latest ones."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One turn of a conversation."""

    question: str
    """The words that were asked, blanks tidied; those of a known question as it is known."""
    kind: PromptKind
    """What form the answer has, and so how it was parsed."""
    text: str
    """The model's words."""
    confidence: float
    """As `Answer.confidence`; NaN too where the model said nothing, and of a count that has bounds instead."""
    meaning: ParsedAnswer | None
    """What the words mean; None where that is in doubt."""
    prompt: PromptText
    """What the model read."""
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Lowest and highest number of an interval for counts, by their names in the meaning, where they were measured."""


def bound_counts_told(meaning: ParsedAnswer | None, *, certainty: Certainty | None) -> dict[str, tuple[int, int]]:
    """Give the intervals of counts above 0: they were measured where the model sees a change."""
    if certainty is None or not isinstance(meaning, ParsedCount):
        return {}
    bounds = {}
    for kind, count in (("building", meaning.building_count), ("road", meaning.road_count)):
        if count and (fit := certainty.find_counts(kind)) is not None:
            (low,), (high,) = fit.bound([count])
            bounds[f"{kind}_count"] = int(low), int(high)
    return bounds


def write_prompt(history: Sequence[tuple[str, str]], *, question: str) -> str:
    """Write turns and a question as the model was trained on them; a question without history stands bare.

    Args:
        history: Questions and answers, oldest first.
        question: The question to be answered.
    """
    if not history:
        return question
    return "  ".join([*(f"q: {asked} a: {answer}" for asked, answer in history), f"q: {question}"])


def fit_prompt(
    history: Sequence[tuple[str, str]],
    *,
    question: str,
    count_tokens: Callable[[str], int],
    max_tokens: int,
) -> PromptText:
    """Write a prompt with as many of the latest turns as there is room for.

    Args:
        history: Questions and answers, oldest first.
        question: The question to be answered; never cut.
        count_tokens: Counts the tokens of a text.
        max_tokens: Most tokens of the whole text.

    Raises:
        QuestionError: the question alone is too long.
    """
    for n_dropped in range(len(history) + 1):
        text = write_prompt(history[n_dropped:], question=question)
        if count_tokens(text) <= max_tokens:
            return PromptText(text=text, n_history_turns=len(history) - n_dropped)
    raise QuestionError(
        f"the question has {count_tokens(question)} tokens",
        expected=f"at most {max_tokens}, as many as the model reads",
        remedy="ask in fewer words, or one thing at a time",
    )


class Conversation:
    """Questions about one pair, and the answers so far."""

    def __init__(
        self, model: ChangeModel, pair: npt.NDArray[np.uint8], *, history: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Begin a conversation, or take one up.

        Args:
            model: Answers the questions.
            pair: uint8 RGB of shape (date=2, band=3, y, x); before first.
            history: Questions and answers of before, oldest first, where the conversation was kept elsewhere.

        Raises:
            ValueError: the pair is of another dtype or shape.
        """
        if pair.dtype != np.uint8 or pair.ndim != 4 or pair.shape[:2] != (2, 3):
            raise ValueError(
                f"pair of {pair.dtype} and shape {pair.shape}; expected uint8 and (date=2, band=3, y, x); "
                "make it with model.images.make_pair"
            )
        self.model = model
        self._pairs = pair[None]
        self._earlier = tuple(history)
        self._replies: list[Reply] = []

    @property
    def replies(self) -> tuple[Reply, ...]:
        """What was asked and answered here, oldest first."""
        return tuple(self._replies)

    def ask(self, text: str, *, kind: PromptKind | str | None = None) -> Reply:
        """Ask a question, with the turns so far as its history.

        The questions that a run asks of every tile (`PromptBook.prompts`) go without history: the model learned them
        so, and their answers are then those of the report.

        Args:
            text: The question.
            kind: What form the answer has; left out, it is found by the words, as `infer_kind` tells.

        Raises:
            QuestionError: the question is empty, too long for the model, or of an unknown kind.
        """
        # What came through a shell may hold halves of characters, which no tokenizer takes.
        question = " ".join(text.encode("utf-8", "replace").decode().split())
        # Without its full stop a known question is another one to the model, and gets a worse answer.
        question = known.text if (known := find_known_prompt(question)) is not None else question
        if not question:
            raise QuestionError(
                "the question is empty", expected="words", remedy="ask something, such as: What has changed?"
            )
        resolved = (
            infer_kind(question, is_first=not (self._earlier or self._replies)) if kind is None else _resolve_kind(kind)
        )
        prompt = self._make_prompt(question)
        asked = Prompt(name="question", kind=resolved, text=prompt.text)
        ((answer,),) = self.model.answer_prompts(self._pairs, prompts=[asked])
        meaning = parse_answer(resolved, answer.text)
        bounds = bound_counts_told(meaning, certainty=self.model.identity.certainty)
        reply = Reply(
            question=question,
            kind=resolved,
            text=answer.text,
            confidence=math.nan if bounds or not has_words(answer.text) else answer.confidence,
            meaning=meaning,
            prompt=prompt,
            bounds=bounds,
        )
        self._replies.append(reply)
        return reply

    def predict_masks(self) -> ChangeMasks:
        """Outline what changed; one tile, masks as large as the images.

        Raises:
            InputError: the model has no mask branch.
        """
        if not getattr(self.model, "mask_labels", ()):
            raise InputError(
                f"model {self.model.identity.model_id} has no mask branch",
                expected="one that has",
                remedy="name a model whose config has a mask_config, or do without masks",
            )
        return cast(MaskModel, self.model).predict_masks(self._pairs)

    def forget(self) -> None:
        """Begin anew, without any history."""
        self._earlier = ()
        self._replies.clear()

    def _make_prompt(self, question: str) -> PromptText:
        has_history = not needs_no_history(question)
        turns = [*self._earlier, *((reply.question, reply.text) for reply in self._replies)]
        history = turns if has_history else []
        if isinstance(self.model, TokenBudget):
            return fit_prompt(
                history,
                question=question,
                count_tokens=self.model.count_tokens,
                max_tokens=self.model.max_prompt_tokens,
            )
        return PromptText(text=write_prompt(history, question=question), n_history_turns=len(history))


def _resolve_kind(kind: PromptKind | str) -> PromptKind:
    try:
        return PromptKind(kind)
    except ValueError:
        raise QuestionError(
            f"kind {kind!r}", expected=", ".join(PromptKind), remedy="name one of them, or leave it out"
        ) from None


def open_conversation(
    before: ImageSource,
    after: ImageSource,
    *,
    model: str | ChangeModel = "deltavlm-tiny",
    device: str = "auto",
    dtype: str = "auto",
) -> Conversation:
    """Begin a conversation about two pictures of one place, with or without a georeference.

    Args:
        before: The earlier date: a PNG, JPEG or TIFF file, or uint8 RGB of shape (y, x, 3).
        after: The later date, of the same size.
        model: Name or folder of a model, as `load_model` takes it, or one that is loaded already.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; of no matter to a model that is loaded already.
        dtype: ``auto``, ``float32`` or ``bfloat16``; likewise.

    Raises:
        InputError: the model or a picture is not there, a picture cannot be read, holds something else than 8-bit RGB,
            or the sizes differ.
    """
    pair = make_pair(before, after)
    # ^ first: loading a model takes seconds, and a wrong path should not wait for it.
    return Conversation(load_model(model, device=device, dtype=dtype) if isinstance(model, str) else model, pair)
