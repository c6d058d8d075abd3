"""What takes no part in a pass, told in few words: so many for this reason, so many for that, and some examples.

All of it is a table beside ``region.json``, as a thousand blocks leave out tens of thousands of scenes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import pandas as pd

from pipeline.regions.schemas import LEFT_OUT_SCHEMA
from pipeline.scenes.days import LeftOut
from pipeline.tables.geoparquet import encode_table

LEFT_OUT_NAME = "left_out.parquet"
MAX_EXAMPLES = 10
"""So many are told by name."""
MAX_REASONS = 20
"""So many reasons are told, the most common of them."""

OTHER_REASONS = "other reasons"
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class LeftOutSummary:
    """What takes no part, in few words."""

    count: int
    """How many."""
    reasons: Mapping[str, int]
    """How many for which reason, the most common first; numbers in which equal reasons differ are dots."""
    examples: Sequence[Mapping[str, str]]
    """Some of them by name, of each reason one before any has two."""

    @classmethod
    def of(cls, left_out: Sequence[LeftOut]) -> Self:
        """Sum up what takes no part, in its order."""
        alike: dict[tuple[str, ...], list[LeftOut]] = {}
        for each in left_out:
            alike.setdefault(tuple(_NUMBER.split(each.reason)[::2]), []).append(each)
        groups = sorted(alike.values(), key=len, reverse=True)
        reasons: dict[str, int] = {_word_common(own): len(own) for own in groups[:MAX_REASONS]}
        if n_others := sum(map(len, groups[MAX_REASONS:])):
            reasons[OTHER_REASONS] = n_others
        firsts = [own[0] for own in groups]
        chosen = (firsts + [each for own in groups for each in own[1:MAX_EXAMPLES]])[:MAX_EXAMPLES]
        examples = tuple({"name": _name(each), "reason": each.reason} for each in chosen)
        return cls(count=len(left_out), reasons=reasons, examples=examples)


def _word_common(alike: Sequence[LeftOut]) -> str:
    """Give a reason with dots for the numbers in which those of its kind differ."""
    words = [_NUMBER.split(each.reason) for each in alike]
    return "".join(part[0] if len(set(part)) == 1 else "…" for part in zip(*words, strict=True))


def _name(each: LeftOut) -> str:
    return each.name if each.block_id is None else f"{each.block_id}: {each.name}"


def encode_left_out(left_out: Sequence[LeftOut]) -> bytes:
    """Give the table of all that takes no part."""
    columns = {
        "name": [each.name.encode("utf-8", "backslashreplace").decode() for each in left_out],
        "block_id": [each.block_id for each in left_out],
        "reason": [each.reason.encode("utf-8", "backslashreplace").decode() for each in left_out],
    }
    return encode_table(pd.DataFrame(columns, dtype=object), schema=LEFT_OUT_SCHEMA)
