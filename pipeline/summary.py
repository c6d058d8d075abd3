"""What a stage did, as numbers that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

STAGE_TITLES = {
    "find_pair": "Find pair",
    "write_tiles": "Write tiles",
    "select_tiles": "Select tiles",
    "collect_answers": "Collect answers",
    "extract_findings": "Extract findings",
    "write_report": "Write report",
}


PART_REPAIRED = "a damaged answer part is asked for again"
SHARD_REPAIRED = "a damaged shard or mark is written again"
REPAIRS = frozenset({PART_REPAIRED, SHARD_REPAIRED})
"""Notes on what leaves no trace in the result."""


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """Counts of one stage, or of a part of one; parts merge with ``+``."""

    stage: str
    """The verb that was at work, such as ``write_tiles``."""
    done: int = 0
    """Items finished by this execution."""
    skipped: int = 0
    """Items that needed no work: already there, or ruled out for one of the `reasons`."""
    failed: int = 0
    """Items that ended in an error for one of the `reasons`."""
    total: int = 0
    """Items the stage has to deal with; a part of a stage leaves it 0 and the stage's first part sets it."""
    seconds: float = 0.0
    """Wall time in seconds, summed over parts."""
    bytes_read: int = 0
    """Bytes of decoded pixels or tables taken in."""
    bytes_written: int = 0
    """Bytes of files put out."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many items were skipped or failed for which reason."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What else happened that people should know of, such as batches halved for want of memory, and how often."""

    def __add__(self, other: StageSummary) -> StageSummary:
        """Merge two parts of the same stage.

        Raises:
            ValueError: the two belong to different stages.
        """
        if self.stage != other.stage:
            raise ValueError(f"cannot add a summary of {other.stage!r} to one of {self.stage!r}; merge per stage")
        return StageSummary(
            stage=self.stage,
            done=self.done + other.done,
            skipped=self.skipped + other.skipped,
            failed=self.failed + other.failed,
            total=self.total + other.total,
            seconds=self.seconds + other.seconds,
            bytes_read=self.bytes_read + other.bytes_read,
            bytes_written=self.bytes_written + other.bytes_written,
            reasons=_add_counts(self.reasons, other.reasons),
            notes=_add_counts(self.notes, other.notes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON and artifacts."""
        return {
            "stage": self.stage,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "total": self.total,
            "seconds": round(self.seconds, 3),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "reasons": dict(self.reasons),
            "notes": dict(self.notes),
        }


def _add_counts(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(first) + Counter(second)).items()))


ProgressCallback = Callable[[StageSummary], None]
"""Called with the summary of each newly finished part; the first call of a stage carries its ``total``."""


def ignore_progress(part: StageSummary) -> None:
    """Be the progress callback of callers that show none."""
