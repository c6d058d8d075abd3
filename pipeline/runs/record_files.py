"""Where a run's record lies: put last, withdrawn first, and what a folder's former record still tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from model.errors import InputError
from pipeline.runs.record import RECORD_NAME, RunRecord
from pipeline.storage.folder import RunFolder

PENDING_NAME = "run.pending.json"
"""The record of a run while its report is made anew; beside a `RECORD_NAME` it counts for nothing."""


def write_record(record: RunRecord, *, folder: RunFolder) -> None:
    """Put ``run.json``, or put the former one back if it tells the same result: it has the times of the real work."""
    text = record.to_json()
    with suppress(InputError):
        former, name = _recall_text(folder)
        # A record of many tiles is long: it is encoded once, and read back to be compared as what it will be.
        if _decode(former, folder=folder, name=name).is_same_result(_decode(text, folder=folder, name=RECORD_NAME)):
            text = former
    folder.put(RECORD_NAME, text)
    folder.delete([PENDING_NAME])


def withdraw_record(folder: RunFolder) -> None:
    """Take ``run.json`` away before the first file that it speaks of changes, without losing what it tells."""
    with suppress(FileNotFoundError):
        folder.put(PENDING_NAME, folder.read(RECORD_NAME))
    folder.delete([RECORD_NAME])


def read_record(folder: RunFolder) -> RunRecord:
    """Read ``run.json``.

    Raises:
        InputError: the run has not ended, its report is being made anew, or the file is damaged.
    """
    try:
        return _decode(folder.read(RECORD_NAME), folder=folder, name=RECORD_NAME)
    except FileNotFoundError:
        raise _describe_lack(folder) from None


def _describe_lack(folder: RunFolder) -> InputError:
    if folder.has(PENDING_NAME):
        return InputError(
            f"the report of {folder.uri} is being made anew, or that was stopped half-way",
            expected=f"a run whose report is whole, with its {RECORD_NAME}",
            remedy=f"let it end, or make the report again with `deltavlm report {folder.uri}`",
        )
    return InputError(
        f"{folder.uri} has no {RECORD_NAME}",
        expected="the folder of a run that has ended",
        remedy="run `deltavlm run` with this --output to its end first",
    )


def recall_record(folder: RunFolder) -> RunRecord:
    """Read ``run.json``, or what it told before its report began to be made anew: for those who end that work.

    Raises:
        InputError: the run has not ended, or the file is damaged.
    """
    text, name = _recall_text(folder)
    return _decode(text, folder=folder, name=name)


def _recall_text(folder: RunFolder) -> tuple[bytes, str]:
    """Read the file of the two that is there, and give its name with it."""
    for name in (RECORD_NAME, PENDING_NAME):
        with suppress(FileNotFoundError):
            return folder.read(name), name
    raise _describe_lack(folder)


def _decode(text: bytes, *, folder: RunFolder, name: str) -> RunRecord:
    return RunRecord.from_json(text, source=folder.join(name))


def discard_record(folder: RunFolder, *, run_id: str, shard_size_tiles: int) -> None:
    """Remove a record whose files are about to change: of another run, of one with failures, or a damaged one."""
    try:
        former = recall_record(folder)
        # Equal runs may lay out their stores differently, and the store is made anew then.
        is_kept = (former.run_id, former.config["tiles"]["shard_size_tiles"]) == (run_id, shard_size_tiles)
        is_kept = is_kept and not (former.failures or former.failed_shards or former.gaps)
    except (InputError, KeyError, TypeError):
        is_kept = False
    if not is_kept:
        folder.delete([PENDING_NAME, RECORD_NAME])


def recall_dtype(folder: RunFolder, *, name_run: Callable[[str], str]) -> str:
    """Give the precision of the finished run that a folder holds, if with it that run is the one in question.

    Args:
        folder: Folder of the run.
        name_run: Gives the id that the run in question would have with a precision.

    Returns:
        A precision, or ``auto``: nothing there tells.
    """
    try:
        former = recall_record(folder)
        dtype = str(former.config["model"]["dtype"])
    except (InputError, KeyError, TypeError):
        return "auto"
    return dtype if name_run(dtype) == former.run_id else "auto"


def recall_notes(folder: RunFolder, *, run_id: str) -> Sequence[str]:
    """Give the notes that a folder's record has of a run; none where it holds another run, or none that has ended."""
    with suppress(InputError):
        former = recall_record(folder)
        return former.notes if former.run_id == run_id else ()
    return ()
