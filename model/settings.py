"""From a user's YAML file to checked settings, with one message for every mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from model.errors import InputError

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A key or a value that does not fit."""

    keys: tuple[str, ...]
    """Where it is, from the outermost key on; empty: settings that do not go together."""
    is_unknown_key: bool
    """Whether there is no such setting."""
    words: str
    """What is wrong."""


def read_settings(path: Path, *, described_in: str, begin_with: str) -> dict[str, Any]:
    """Read the keys of a YAML file.

    Args:
        path: The file.
        described_in: File that lists and describes the keys, for the message.
        begin_with: File to start a config of one's own from, for the message.

    Raises:
        InputError: the file cannot be read, or holds something else than keys.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise InputError(
            f"config {path} cannot be read ({problem})",
            expected=f"a YAML file with the keys of {described_in}",
            remedy="correct the path or the file",
        ) from None
    if not isinstance(tree, dict):
        raise InputError(
            f"config {path} holds {type(tree).__name__}",
            expected=f"a mapping with the keys of {described_in}",
            remedy=f"start from {begin_with}",
        )
    return tree


def check_settings(kind: type[Settings], tree: Mapping[str, Any], *, source: str | Path, described_in: str) -> Settings:
    """Make settings of what a file, or the command line, says.

    Args:
        kind: Class of the settings.
        tree: Keys and values.
        source: Where they come from, for the message.
        described_in: As `read_settings`.

    Raises:
        InputError: a key or a value does not fit.
    """
    settings, mistakes = try_settings(kind, tree)
    if settings is None:
        raise explain_mistakes(mistakes, source=source, described_in=described_in)
    return settings


def try_settings(kind: type[Settings], tree: Mapping[str, Any]) -> tuple[Settings | None, tuple[Mistake, ...]]:
    """Make settings, or list what is wrong: either there are settings, or there are mistakes."""
    try:
        return kind.model_validate(tree), ()
    except ValidationError as problem:
        return None, tuple(
            Mistake(
                keys=tuple(str(key) for key in error["loc"]),
                is_unknown_key=error["type"] == "extra_forbidden",
                words=_WORDS.get(error["type"], error["msg"].removeprefix("Value error, ")),
            )
            for error in problem.errors()
        )


_WORDS = {"extra_forbidden": "unknown key", "missing": "missing"}


def explain_mistakes(mistakes: Sequence[Mistake], *, source: str | Path, described_in: str) -> InputError:
    """Give the error that tells of mistakes.

    Args:
        mistakes: As `try_settings` lists them.
        source: As `check_settings`.
        described_in: As `read_settings`.
    """
    told = (f"{'.'.join(mistake.keys) or '(whole config)'}: {mistake.words}" for mistake in mistakes)
    return InputError(
        f"{source}: {'; '.join(told)}",
        expected=f"the keys and values described in {described_in}",
        remedy="correct the named keys",
    )
