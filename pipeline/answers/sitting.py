"""A model and the tiles of one batch that it is asked about, all at once or in two rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from model.interface import (
    Answer,
    ChangeMasks,
    ChangeModel,
    ChooseAsked,
    ContextModel,
    MaskModel,
    PairContext,
    Prompt,
    ScreeningModel,
)
from pipeline.answers.outlines import answer_with_outlines
from pipeline.answers.screening import fill_in, is_asked_on

Masked = tuple[ChangeMasks, npt.NDArray[np.bool_]]
"""Masks, and which kinds are open per tile."""
Answered = tuple[list[list[Answer]], Masked | None]
"""One list of answers per prompt, and masks where they are wanted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sitting:
    """What a model is shown of some tiles, and what is known of them."""

    model: ChangeModel
    pairs: npt.NDArray[np.uint8]
    """The tiles' pixels, as `TileStore.read_pairs` gives them."""
    contexts: Sequence[PairContext] | None
    """What else the model is told; None: nothing."""
    witnesses: tuple[Prompt, ...]
    """Prompts whose answers tell whether something changed."""
    known: Mapping[str, Sequence[str]]
    """Texts of the answers to those of them that were asked before, by the prompt's name."""
    kinds: tuple[str, ...]
    """Kinds of change that are outlined."""

    def ask(self, prompts: Sequence[Prompt], *, has_outlines: bool) -> Answered:
        """Ask all prompts about all tiles.

        Args:
            prompts: The questions.
            has_outlines: Whether masks are wanted of the tiles of which the answers leave a change open.
        """
        if self.contexts is not None:
            model = cast(ContextModel, self.model)
            return model.answer_in_context(self.pairs, prompts=prompts, contexts=self.contexts), None
        if not has_outlines:
            return self.model.answer_prompts(self.pairs, prompts=prompts), None
        answers, masks, is_open = self._ask_with_outlines(prompts=prompts)
        return answers, (masks, is_open)

    def ask_screened(
        self,
        prompts: Sequence[Prompt],
        *,
        has_outlines: bool,
        screen: Prompt,
        first: Sequence[Answer] | None,
        confidence: float,
    ) -> Answered:
        """Ask one prompt about all tiles, and the others only about those that may have changed.

        Args:
            prompts: The questions, that one among them where it was not asked before.
            has_outlines: As `ask`.
            screen: That prompt.
            first: What was answered to it before; None: nothing.
            confidence: As `is_asked_on`.
        """
        rest = [prompt for prompt in prompts if prompt != screen]
        if first is None and isinstance(self.model, ScreeningModel):
            answers, masked = self._ask_in_one_pass([screen, *rest], has_outlines=has_outlines, confidence=confidence)
        else:
            told = first or self.ask([screen], has_outlines=False)[0][0]
            known = {**self.known, screen.name: [answer.text for answer in told]}
            is_asked = is_asked_on(told, confidence=confidence)
            answers, masked = replace(self, known=known)._ask_some(is_asked, rest, has_outlines=has_outlines)
            answers = [list(told), *answers]
        by_name = dict(zip([screen.name, *(prompt.name for prompt in rest)], answers, strict=True))
        return [by_name[prompt.name] for prompt in prompts], masked

    def _ask_in_one_pass(self, prompts: Sequence[Prompt], *, has_outlines: bool, confidence: float) -> Answered:
        choose_asked = partial(is_asked_on, confidence=confidence)
        if has_outlines:
            answers, masks, is_open = self._ask_with_outlines(prompts=prompts, choose_asked=choose_asked)
            return answers, (masks, is_open)
        model = cast(ScreeningModel, self.model)
        given = model.answer_screened(self.pairs, prompts=prompts, choose_asked=choose_asked, choose_masked=None)
        return given.answers, None

    def _ask_some(self, is_asked: npt.NDArray[np.bool_], prompts: Sequence[Prompt], *, has_outlines: bool) -> Answered:
        """Ask about some tiles; of the others nothing is open."""
        is_open = np.zeros((len(self.pairs), len(self.kinds)), dtype=np.bool_)
        answers: list[list[Answer]] = [[] for _ in prompts]
        masks = ChangeMasks(labels=self.kinds, probabilities=np.empty((0, len(self.kinds), 1, 1), np.float32))
        if is_asked.any() and (prompts or has_outlines):
            answers, masked = self._take(np.flatnonzero(is_asked)).ask(prompts, has_outlines=has_outlines)
            if masked is not None:
                masks, is_open[is_asked] = masked
        filled = [fill_in(row, is_asked=is_asked) for row in answers]
        return filled, (masks, is_open) if has_outlines else None

    def _take(self, indexes: npt.NDArray[np.int64]) -> Sitting:
        numbers = indexes.tolist()
        return replace(
            self,
            pairs=self.pairs[indexes],
            contexts=self.contexts and [self.contexts[index] for index in numbers],
            known={name: [texts[index] for index in numbers] for name, texts in self.known.items()},
        )

    def _ask_with_outlines(
        self, *, prompts: Sequence[Prompt], choose_asked: ChooseAsked | None = None
    ) -> tuple[list[list[Answer]], ChangeMasks, npt.NDArray[np.bool_]]:
        return answer_with_outlines(
            cast(MaskModel, self.model),
            self.pairs,
            prompts=prompts,
            witnesses=self.witnesses,
            known=self.known,
            kinds=self.kinds,
            choose_asked=choose_asked,
        )
