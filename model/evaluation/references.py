"""Captions of parts of panels: a list of boxes, each with what people wrote of what it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import InputError
from model.evaluation.captions import tokenize_caption

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of a panel, half-open."""
PartKey = tuple[str, Box]
"""The panel's stem, and which part of it."""

_ENTRY = "panel, box_xyxy of four whole numbers, changeflag and a list of captions"


@dataclass(frozen=True, kw_only=True)
class PartCaptions:
    """What people wrote of one part of a panel."""

    captions: tuple[str, ...]
    """Those that hold a word."""
    is_changed: bool | None
    """The change flag; None where the file tells none."""
    n_empty: int = 0
    """Captions without words, which were left out."""


def holds_parts(file: Path) -> bool:
    """Tell whether a caption file is a list, and so of parts of panels; False too for what cannot be read."""
    try:
        return isinstance(json.loads(file.read_text(encoding="utf-8")), list)
    except (OSError, ValueError):
        return False


def read_part_captions(file: Path) -> Mapping[PartKey, PartCaptions]:
    """Read a list of ``panel``, ``box_xyxy``, ``changeflag`` and ``captions``.

    Raises:
        InputError: an entry has another form, or a part is given twice and differently; the message names it.
    """
    parts: dict[PartKey, PartCaptions] = {}
    for index, entry in enumerate(json.loads(file.read_text(encoding="utf-8"))):
        try:
            key, part = _read_entry(entry)
        except (KeyError, TypeError, ValueError) as problem:
            raise InputError(
                f"{file}, entry {index}: {type(problem).__name__} {problem}",
                expected=_ENTRY,
                remedy="correct the entry",
            ) from None
        if parts.setdefault(key, part) != part:
            raise InputError(
                f"{file}, entry {index}: {key[0]} {key[1]} is given twice, and not the same",
                expected="each part once",
                remedy="remove one of the two",
            )
    return parts


def _read_entry(entry: dict[str, Any]) -> tuple[PartKey, PartCaptions]:
    left, top, right, bottom = (int(value) for value in entry["box_xyxy"])
    texts, flag = entry["captions"], entry.get("changeflag")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"captions {texts!r}")
    captions = tuple(text.strip() for text in texts if tokenize_caption(text))
    return (Path(entry["panel"]).stem, (left, top, right, bottom)), PartCaptions(
        captions=captions,
        is_changed=None if flag is None else bool(flag),
        n_empty=len(texts) - len(captions),
    )
