"""``region.json``: what a region is, what its pairs came to and what its last pass did. Written last."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from model.sealing import seal, unseal
from pipeline.config.region import RegionConfig
from pipeline.config.run import describe_settings
from pipeline.dates import format_moment
from pipeline.regions.block_status import settle_blocks
from pipeline.regions.events.changelog import count_actions
from pipeline.regions.events.status import EventStatus
from pipeline.regions.left_out import LeftOutSummary
from pipeline.regions.pair_records import PairState
from pipeline.regions.plan import PassPlan
from pipeline.regions.tables import RegionTables
from pipeline.storage.folder import RunFolder
from pipeline.storage.object_facts import ObjectFacts, describe_bytes

REGION_NAME = "region.json"
FORMAT_VERSION = 1
"""Raised when a field of the record changes its meaning or goes away."""

_LISTED = 200
# ^ Of warnings so many are listed.


@dataclass(frozen=True, kw_only=True)
class PassSummary:
    """What one pass over a region did."""

    at: str
    """The present of the pass, ISO 8601, UTC."""
    n_scenes: int
    """Dates that were found."""
    n_skipped: int
    """Pairs that were done already."""
    done: tuple[str, ...]
    """Pairs that it has done."""
    failed: Mapping[str, str]
    """Pairs that failed, or failed in part, with the reason."""
    n_new_changes: int
    """Changes in its pairs that no earlier pair has seen."""
    events: Mapping[str, int]
    """Events that it has ``added``, ``confirmed``, ``altered`` or ``retired``, and those that it tells as ``new``."""
    n_provisional: int
    """Events that are neither confirmed nor denied yet."""
    n_left_out: int
    """Items, scenes and pairs that take no part; ``left_out.parquet`` has them all."""
    left_out_reasons: Mapping[str, int]
    """How many of them for which reason."""
    left_out: Sequence[Mapping[str, str]]
    """Some of them by name, with the reason."""
    n_left_out_not_listed: int
    """The others."""
    warnings: Sequence[str] = ()
    """What people should know of its pairs."""
    blocks: Sequence[Mapping[str, Any]] = ()
    """What became of each block, and why; empty in a region that is a single one."""

    @classmethod
    def of(
        cls,
        plan: PassPlan,
        *,
        states: Sequence[PairState],
        tables: RegionTables,
        now: dt.datetime,
        n_logged: int,
    ) -> Self:
        """Sum up a pass that is over.

        Args:
            plan: What it had to do.
            states: What the pairs came to.
            tables: What they told.
            now: The present of the pass.
            n_logged: Rows that the log of events had before it.
        """
        left_out = LeftOutSummary.of(plan.left_out)
        asked = {record.pair.pair_id for record in plan.to_do}
        own = [state for state in states if state.pair_id in asked]
        line = tables.time_line
        counts = line.loc[line["pair_id"].isin(asked), "n_new_changes"]
        return cls(
            at=format_moment(now),
            n_scenes=plan.n_scenes,
            n_skipped=plan.n_done,
            done=tuple(state.pair_id for state in own if state.has_result and state.reason is None),
            failed={state.pair_id: state.reason or "it has not ended" for state in own if state.reason is not None},
            n_new_changes=int(counts.fillna(0).sum()),
            events=count_actions(tables.changelog, since=n_logged),
            n_provisional=int(tables.events["status"].eq(EventStatus.PROVISIONAL).sum()),
            n_left_out=left_out.count,
            left_out_reasons=left_out.reasons,
            left_out=left_out.examples,
            n_left_out_not_listed=left_out.count - len(left_out.examples),
            warnings=plan.warnings[:_LISTED],
            blocks=tuple(block.to_dict() for block in settle_blocks(plan.blocks, failed=_find_failures(own))),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; of a region that is a single block, nothing of blocks."""
        return {name: value for name, value in asdict(self).items() if name != "blocks" or value}


def _find_failures(states: Iterable[PairState]) -> dict[str, str]:
    """Give by block why its pairs failed."""
    failed = {}
    for state in states:
        if state.record.block_id is not None and (state.reason is not None or not state.has_result):
            failed[state.record.block_id] = f"{state.pair_id}: {state.reason or 'it has not ended'}"
    return failed


def make_region_record(
    config: RegionConfig,
    *,
    cell: str,
    settings: str,
    crs: str,
    states: Sequence[PairState],
    files: Mapping[str, bytes],
    last: PassSummary,
) -> dict[str, Any]:
    """Gather what ``region.json`` tells, without any credentials."""
    return {
        "format_version": FORMAT_VERSION,
        "name": config.name,
        "config": describe_settings(config),
        "cell": cell,
        "settings": settings,
        "crs": crs,
        "pairs": [
            {
                "pair_id": state.pair_id,
                "status": state.status.value,
                "reason": state.reason,
                "attempts": state.record.attempts,
                "planned_at": state.record.planned_at,
            }
            for state in states
        ],
        "files": {name: describe_bytes(data) for name, data in sorted(files.items())},
        "last_pass": last.to_dict(),
    }


def read_file_facts(folder: RunFolder) -> Mapping[str, ObjectFacts]:
    """Give size and hash of the report's files by name, as ``region.json`` tells; nothing where it is not whole."""
    try:
        return dict(unseal(folder.read(REGION_NAME))["files"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def withdraw_region_record(folder: RunFolder) -> None:
    """Take ``region.json`` away before the report that it speaks of changes; the next pass finds all it told again."""
    folder.delete([REGION_NAME])


def write_region_record(record: Mapping[str, Any], *, folder: RunFolder) -> None:
    """Put ``region.json``."""
    folder.put(REGION_NAME, json.dumps(seal(record), indent=2, ensure_ascii=False).encode() + b"\n")
