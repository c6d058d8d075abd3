"""From a YAML file and what stands on the command line to settings, with one message for every mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from model.errors import InputError
from model.redaction import remember_secrets
from model.settings import Settings, check_settings, read_settings

COMMAND_LINE = "the command line"
"""Where settings come from that are in no file, for messages."""


def load_settings(
    model: type[Settings],
    path: str | Path | None,
    *,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    described_in: str,
    begin_with: str,
) -> Settings:
    """Build settings from a YAML file, then values, then ``key=value`` assignments, each over the former.

    Args:
        model: Class of the settings.
        path: YAML file with its keys; None: there is none.
        values: Keys to put on top; None values are left out, mappings merge.
        assignments: ``dotted.key=value`` with the value in YAML, such as ``grid.resolution_m=1``.
        described_in: File that lists and describes the keys, for the message.
        begin_with: File to start a config of one's own from, for the message.

    Raises:
        InputError: the file cannot be read, an assignment has no ``=``, or a key or value does not fit.
    """
    tree = read_tree(path, values=values, assignments=assignments, described_in=described_in, begin_with=begin_with)
    return check_settings(model, tree, source=path or COMMAND_LINE, described_in=described_in)


def read_tree(
    path: str | Path | None,
    *,
    values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    described_in: str,
    begin_with: str,
) -> dict[str, Any]:
    """Gather keys and values as `load_settings` does, before anybody has looked whether they fit.

    Raises:
        InputError: the file cannot be read, or an assignment has no ``=``.
    """
    tree = read_settings(Path(path), described_in=described_in, begin_with=begin_with) if path is not None else {}
    tree = _merge(tree, {key: value for key, value in (values or {}).items() if value is not None})
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise InputError(
                f"--set {assignment!r}", expected="key=value", remedy="write for example --set grid.resolution_m=1"
            )
        nested = _read_value(text, assignment=assignment)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        tree = _merge(tree, nested)
    remember_secrets(tree)
    return tree


def _read_value(text: str, *, assignment: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise InputError(
            f"--set {assignment!r} ({getattr(problem, 'problem', None) or problem})",
            expected="a value in YAML",
            remedy="put quotes around text with : ? { [ or # in it",
        ) from None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        former = merged.get(key)
        # A scene may be written as bare URIs, and a setting such as before.datetime may come on top of them.
        if key in {"before", "after"} and isinstance(former, str | list):
            former = {"uri": former}
        if key in {"before", "after"} and isinstance(value, str | list):
            value = {"uri": value}
        is_nested = isinstance(former, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(former, value) if is_nested else value  # type: ignore[arg-type]
    return merged


_UNITS = {"m": "m", "s": "s", "px": "pixels", "tiles": "tiles", "percent": "%"}
_CAPITALS = {"crs": "CRS", "uri": "URI", "aoi": "AOI", "stac": "STAC", "tls": "TLS", "ids": "IDs"}


def title_field(name: str, _: Any = None) -> str:
    """Give the title of a setting in a form: its words, with the unit in brackets.

    Examples:
        ``tile_size_px`` becomes ``Tile size (pixels)``.
    """
    words = name.split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    words = [_CAPITALS.get(word, word) for word in (words[:-1] if unit else words)]
    title = " ".join(words)
    return f"{title[:1].upper()}{title[1:]}{f' ({unit})' if unit else ''}"


def title_model(model: type[Any]) -> str:
    """Give the title of a group of settings in a form.

    Examples:
        ``BandFilesConfig`` becomes ``Band files``.
    """
    return title_field("_".join(re.findall(r"[A-Z][a-z0-9]*", model.__name__.removesuffix("Config"))).lower())


RECORDED = object()
"""Context to validate settings in that a run has written down: those that are gone by now are left out."""


class StrictConfig(BaseModel):
    """A group of settings; a key that is none of them is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", field_title_generator=title_field, model_title_generator=title_model
    )
    gone_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that were settings once, with what holds now."""

    @model_validator(mode="before")
    @classmethod
    def _meet_gone_keys(cls, values: Any, info: ValidationInfo) -> Any:
        # Addresses enter by settings, here or through Prefect; from now on no message tells their passwords.
        remember_secrets(values)
        gone = [key for key in cls.gone_keys if isinstance(values, Mapping) and key in values]
        if gone and info.context is not RECORDED:
            raise ValueError("; ".join(f"the key {key} is gone, {cls.gone_keys[key]}: leave it out" for key in gone))
        return {key: value for key, value in values.items() if key not in gone} if gone else values
