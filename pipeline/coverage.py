"""What was seen and what was not, counted by status and by kind of reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

MAX_REASONS_PER_STATUS = 20
OTHER_REASONS = "other reasons"

_DETAIL = re.compile(r" *\([^()]*\)")


def classify_reason(reason: str) -> str:
    """Give the kind of a reason: its words without what stands in brackets, which tells of one tile."""
    return _DETAIL.sub("", reason).strip()


def count_reasons(outcomes: Iterable[tuple[str, str | None]]) -> dict[str, dict[str, int]]:
    """Count tiles per status and kind of reason.

    Args:
        outcomes: Status and reason of each tile.

    Returns:
        Per status, the kinds of reason, the most frequent first; of more than `MAX_REASONS_PER_STATUS` the rest stand
        together as `OTHER_REASONS`. Tiles without a reason are left out.
    """
    counts: dict[str, Counter[str]] = {}
    for status, reason in outcomes:
        if reason:
            counts.setdefault(status, Counter())[classify_reason(reason)] += 1
    return {status: _keep_most_frequent(counts[status]) for status in sorted(counts)}


def _keep_most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= MAX_REASONS_PER_STATUS:
        return dict(ranked)
    kept, rest = ranked[: MAX_REASONS_PER_STATUS - 1], ranked[MAX_REASONS_PER_STATUS - 1 :]
    return {**dict(kept), OTHER_REASONS: sum(count for _, count in rest)}
