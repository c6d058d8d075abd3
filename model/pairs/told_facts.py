"""What stands beside the masks of a folder of pairs, in ``facts.jsonl``: what no mask can tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.errors import InputError

FACTS_NAME = "facts.jsonl"
"""One JSON object per line, each with the ``name`` of a pair."""


@dataclass(frozen=True, kw_only=True)
class ToldFacts:
    """What is told of one pair."""

    is_removal: bool = False
    """Whether the objects of its mask went rather than came."""
    has_road_truth: bool | None = None
    """Whether its mask holds 128 where a road changed, or tells nothing of roads; None: not told."""


def read_told_facts(folder: Path) -> Mapping[str, ToldFacts]:
    """Read what a folder of pairs tells beside its masks, by the pairs' names; nothing where there is no such file.

    Raises:
        InputError: the file has another form.
    """
    file = folder / FACTS_NAME
    if not file.is_file():
        return {}
    told = {}
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            flags = {key: values[key] for key in ToldFacts.__dataclass_fields__ if key in values}
            if not all(isinstance(flag, bool) for flag in flags.values()):
                raise ValueError(f"{flags} in the line of {values['name']}")
            told[str(values["name"])] = ToldFacts(**flags)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise InputError(
            f"{file} cannot be read ({type(problem).__name__}: {str(problem)[:200]})",
            expected='lines such as {"name": "north_12", "is_removal": false, "has_road_truth": true}',
            remedy="correct it, or take it away: then all objects came",
        ) from None
    return told
