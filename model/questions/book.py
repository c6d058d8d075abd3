"""The wordings of open questions, those that cannot be answered among them, from two YAML files beside this module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any

import yaml

CELL_SLOT = "{cell}"
"""Stands for the name of a cell in the wordings of questions about one."""


@dataclass(frozen=True, kw_only=True)
class Wordings:
    """The ways to ask for one thing."""

    asked: tuple[str, ...] = ()
    """Learned from."""
    held_out: tuple[str, ...] = ()
    """Never learned from, so that questions can be tested in words that are new."""
    later: tuple[str, ...] = ()
    """What refers back to the turn before, learned in dialogues."""


@dataclass(frozen=True, kw_only=True)
class QuestionBook:
    """What may be asked about a pair."""

    intents: Mapping[str, Wordings]
    """By what is meant."""
    cell: Wordings
    """About one of the nine cells, which stands as `CELL_SLOT`."""
    unknowable: tuple[tuple[str, ...], ...]
    """The ways to ask for each thing that no two images tell."""
    held_out_unknowable: tuple[str, ...]
    """Such questions that are never learned from, of other kinds."""
    cannot_tell: str
    """The answer to those."""


def expand(wording: str) -> tuple[str, ...]:
    """Write out a wording: ``{a|b} c`` stands for ``a c`` and ``b c``; braces without a bar stay."""
    parts = re.split(r"\{([^{}]*\|[^{}]*)\}", wording)
    # Odd parts stood in braces.
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return tuple(dict.fromkeys("".join(chosen) for chosen in product(*choices)))


def expand_all(wordings: Sequence[str]) -> tuple[str, ...]:
    """Write out each of several wordings, one after the other."""
    return tuple(dict.fromkeys(text for wording in wordings for text in expand(wording)))


@cache
def load_question_book() -> QuestionBook:
    """Read ``questions.yaml`` and ``unknowable.yaml``."""
    known, unknowable = _read("questions.yaml"), _read("unknowable.yaml")
    return QuestionBook(
        intents={name: _read_wordings(entry) for name, entry in known["intents"].items()},
        cell=_read_wordings(known["cell"]),
        unknowable=tuple(expand(wording) for wording in unknowable["asked"]),
        held_out_unknowable=expand_all(unknowable["held_out"]),
        cannot_tell=unknowable["answer"],
    )


def _read_wordings(entry: Mapping[str, Sequence[str]]) -> Wordings:
    return Wordings(**{part: expand_all(wordings) for part, wordings in entry.items()})


def _read(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(resources.files("model.questions").joinpath(name).read_text(encoding="utf-8"))
    return tree
