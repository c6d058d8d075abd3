"""The questions that DeltaVLM was trained on, from ``configs/prompts.yaml``, and the kind of any question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from model.interface import Prompt, PromptKind


@dataclass(frozen=True, kw_only=True)
class PromptBook:
    """ChangeChat-105k's six kinds of question, in its words."""

    prompts: tuple[Prompt, ...]
    """One each to describe, classify, count and locate; each stands alone, without any history."""
    dialogue: tuple[Prompt, ...]
    """The turns of the dialogue, in their order; all but the first refer to the turns before them."""
    questions: tuple[Prompt, ...]
    """Examples of open questions."""

    def list_all(self) -> tuple[Prompt, ...]:
        """List every question once, those that stand alone first."""
        by_text: dict[str, Prompt] = {}
        for prompt in (*self.prompts, *self.dialogue, *self.questions):
            by_text.setdefault(prompt.text, prompt)
        return tuple(by_text.values())


@cache
def load_prompt_book() -> PromptBook:
    """Read ``configs/prompts.yaml``."""
    tree = yaml.safe_load(resources.files("configs").joinpath("prompts.yaml").read_text(encoding="utf-8"))
    sections = {
        name: tuple(
            Prompt(name=entry["name"], kind=PromptKind(entry["kind"]), text=entry["text"]) for entry in tree[name]
        )
        for name in ("prompts", "dialogue", "questions")
    }
    return PromptBook(**sections)


def find_known_prompt(text: str) -> Prompt | None:
    """Find the question of ``configs/prompts.yaml`` with these words, whatever their case and punctuation."""
    words = _strip_to_words(text)
    return next((prompt for prompt in load_prompt_book().list_all() if _strip_to_words(prompt.text) == words), None)


def infer_kind(text: str, *, is_first: bool) -> PromptKind:
    """Tell what form the answer to a question will have.

    Args:
        text: The question.
        is_first: Whether nothing was asked before it, so that it cannot refer to anything.

    Returns:
        The kind of the known question with these words; else `ask` for a first question, `dialogue` for a later one.
    """
    known = find_known_prompt(text)
    if known is not None and known.kind is not PromptKind.ASK:
        return known.kind
    return PromptKind.ASK if is_first else PromptKind.DIALOGUE


def needs_no_history(text: str) -> bool:
    """Tell whether a question is one of those that the model learned, and a run asks, without any history."""
    known = find_known_prompt(text)
    return known is not None and known in load_prompt_book().prompts


def _strip_to_words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
