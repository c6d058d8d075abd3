"""Which tiles are asked more than whether they changed: with screening, those that may have.

Most tiles of a region have not changed, and most of what a run costs is asked about them. So the yes or no comes first,
and a tile that is called unchanged with enough confidence is asked nothing else. What was not asked stands in the
answers as `NOT_ASKED`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.interface import NOT_ASKED, Answer, Prompt, PromptKind
from model.parsing import ParsedClassify, parse_answer
from pipeline.config.model import ModelConfig


def find_screen(prompts: Sequence[Prompt], *, model: ModelConfig) -> Prompt | None:
    """Give the prompt that decides which tiles get the others; None: all tiles get all prompts."""
    screens = [prompt for prompt in prompts if prompt.kind is PromptKind.CLASSIFY]
    return screens[0] if screens and len(prompts) > 1 and model.is_screening else None


def is_asked_on(answers: Sequence[Answer], *, confidence: float) -> npt.NDArray[np.bool_]:
    """Tell which tiles are asked more: all but those that are called unchanged with at least this confidence.

    A no without a confidence, as of servers that tell no probabilities, spares no tile anything.
    """
    return np.array([not (_is_denial(answer.text) and answer.confidence >= confidence) for answer in answers], np.bool_)


def _is_denial(text: str) -> bool:
    parsed = parse_answer(PromptKind.CLASSIFY, text)
    return isinstance(parsed, ParsedClassify) and not parsed.is_changed


def fill_in(answers: Sequence[Answer], *, is_asked: npt.NDArray[np.bool_]) -> list[Answer]:
    """Give an answer per tile, given those of the tiles that were asked."""
    given = iter(answers)
    return [next(given) if asked else NOT_ASKED for asked in is_asked.tolist()]
