"""What becomes of old pairs: first their pixels go, then their folders; what the region's report tells stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pipeline.config.region import KeepConfig, RetentionConfig
from pipeline.regions.pair_records import PairState, open_pair_folder, retire, write_record
from pipeline.runs.record import RECORD_NAME
from pipeline.runs.record_files import PENDING_NAME
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import is_run_file

PIXEL_FOLDERS = ("tiles.zarr", "marks")
"""What holds the pixels of a run, and what says that they are there."""


def find_too_old(states: Sequence[PairState], *, keep: KeepConfig, now: dt.datetime) -> list[PairState]:
    """Tell which pairs no longer keep something.

    A pair keeps it if any of the two rules says so; without rules all do. The newest pair always does, as the next one
    may be compared with its later scene.

    Args:
        states: Pairs with a result, in the order of time.
        keep: The rules.
        now: The present.
    """
    if keep.newest is None and keep.days is None:
        return []
    n_kept = max(1, keep.newest or 1)
    oldest = None if keep.days is None else now - dt.timedelta(days=keep.days)
    return [state for state in states[:-n_kept] if oldest is None or state.record.pair.after.start < oldest]


def apply_retention(
    states: Sequence[PairState], *, folder: RunFolder, config: RetentionConfig, now: dt.datetime
) -> bool:
    """Let go of what is too old; called once the region's report has it.

    Args:
        states: The pairs that count, in the order of time.
        folder: Folder of the region.
        config: What is kept for how long.
        now: The present.

    Returns:
        Whether something went that the report points to: folders or pixels of pairs.

    Raises:
        FolderError: something cannot be removed.
    """
    held = list_by_block([state for state in states if state.has_result and state.has_folder])
    retired = [state for own in held for state in find_too_old(own, keep=config.folders, now=now)]
    gone = {state.pair_id for state in retired}
    has_gone = bool(retired)
    for state in retired:
        # The record first: a pair whose folder is half gone is told by it alone.
        write_record(retire(state.record, state=state), folder=folder)
        _remove(state, region=folder, parts=("",))
    for state in (state for own in held for state in find_too_old(own, keep=config.pixels, now=now)):
        if state.pair_id not in gone:
            has_gone |= _remove(state, region=folder, parts=PIXEL_FOLDERS)
    return has_gone


def list_by_block(states: Sequence[PairState]) -> list[list[PairState]]:
    """Give the pairs of each block, whose newest stays; those of a region that is a single one are together."""
    by_block: dict[str | None, list[PairState]] = {}
    for state in states:
        by_block.setdefault(state.record.block_id, []).append(state)
    return list(by_block.values())


def _remove(state: PairState, *, region: RunFolder, parts: Sequence[str]) -> bool:
    """Remove parts of a run; tells whether there were any."""
    run = open_pair_folder(region, state.record)
    names = [name for part in parts for name in run.list_names(part) if is_run_file(name)]
    # run.json goes first, as it says that the rest is there.
    run.delete(sorted(names, key=lambda name: (name not in (RECORD_NAME, PENDING_NAME), name)))
    # On a disk the folders of what is gone are left; one in which somebody else has put something stays.
    for part in parts:
        run.prune(part)
    return bool(names)
