"""From a user's YAML file to checked settings, with one message for every mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from model.errors import InputError

Settings = TypeVar("Settings", bound=BaseModel)


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
    try:
        return kind.model_validate(tree)
    except ValidationError as problem:
        raise InputError(
            f"{source}: " + "; ".join(map(_word_mistake, problem.errors())),
            expected=f"the keys and values described in {described_in}",
            remedy="correct the named keys",
        ) from None


def _word_mistake(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "(whole config)"
    known = {"extra_forbidden": "unknown key", "missing": "missing"}
    return f"{key}: {known.get(error['type'], error['msg'].removeprefix('Value error, '))}"
