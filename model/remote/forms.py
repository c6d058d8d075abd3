"""Replies in JSON, for servers that hold a model to a schema: what is asked for, and the sentence that it means.

Only counts and cells have one. A yes or no is left a word, as its token's probability is the confidence; and
descriptions are words anyway. What a model fills in becomes a sentence in the form of ChangeChat, as every other answer
has, so that whoever reads answers need not know how they came about.
"""

from __future__ import annotations

import json
import re
from typing import Any

from model.interface import CELL_NAMES, PromptKind

_COUNT = {"type": "integer"}
_CELLS = {"type": "array", "items": {"type": "string", "enum": list(CELL_NAMES)}}
_KINDS = ("roads", "buildings")
_MAX_COUNT = 10_000


def make_response_format(kind: PromptKind) -> dict[str, Any] | None:
    """Give the parameter ``response_format`` for answers to a kind of prompt; None: they stay plain text."""
    value = {PromptKind.COUNT: _COUNT, PromptKind.LOCATE: _CELLS}.get(kind)
    if value is None:
        return None
    schema = {
        "type": "object",
        "properties": dict.fromkeys(_KINDS, value),
        "required": list(_KINDS),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": f"{kind.value}_changes", "strict": True, "schema": schema}}


def to_sentence(kind: PromptKind, text: str) -> str:
    """Give the sentence that a reply in JSON means; any other reply as it is.

    Args:
        kind: Kind of the prompt.
        text: The model's words.
    """
    try:
        values = json.loads(re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip()), object_pairs_hook=_take_once)
    except (ValueError, RecursionError):
        return text
    if not isinstance(values, dict) or set(values) != set(_KINDS):
        return text
    roads, buildings = values["roads"], values["buildings"]
    if kind is PromptKind.COUNT and _is_count(roads) and _is_count(buildings):
        return f"{roads} roads have changed, and {buildings} buildings have changed."
    if kind is PromptKind.LOCATE and _is_cells(roads) and _is_cells(buildings):
        return f"roads: {_sort_cells(roads)}. buildings: {_sort_cells(buildings)}."
    return text


def _take_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; of a name that stands there twice nobody knows which value is meant."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name twice")
    return values


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _is_cells(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(cell, str) and cell in CELL_NAMES for cell in value)


def _sort_cells(cells: list[str]) -> list[str]:
    return [name for name in CELL_NAMES if name in cells]
