"""Pixels and text in, text out: DeltaVLM with torch and transformers; no geography, no Dask, no Prefect.

A name is loaded when it is first asked for, and torch with the first model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.conversation import open_conversation
    from model.interface import Answer, Prompt, PromptKind
    from model.registry import load_model

__all__ = ["Answer", "Prompt", "PromptKind", "load_model", "open_conversation"]

_HOMES = {
    "Answer": "model.interface",
    "Prompt": "model.interface",
    "PromptKind": "model.interface",
    "load_model": "model.registry",
    "open_conversation": "model.conversation",
}

if not TYPE_CHECKING:
    # ^ With it in sight, a type checker would take any name for one of ours.

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
