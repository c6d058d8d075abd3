"""Who holds the lock of a run, whether that process still lives, and the words for those who came second."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Self
from uuid import uuid4

from model.errors import FolderError
from pipeline.storage.names import LOCK_NAME

_ENDED_STATES = {"Z", "X"}
_N_FIELDS_TO_START = 19
_SPACES = ("/proc/self/ns/pid", "/proc/self/ns/time")
# ^ Older systems have no spaces of time.
MAX_BYTES = 1 << 16
"""Longest lock that is read."""
_MAX_PID = 1 << 31


def find_process_start(pid: int) -> float | None:
    """Give when a process began, in seconds since the machine did, which no setting of its clock changes.

    Returns:
        None: there is no such process, or it has ended and nobody has noticed; or this system does not tell.

    Raises:
        PermissionError: it is another user's, and this system hides those.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        # What /proc lacks with `hidepid` is there to be sent a signal, which is not allowed.
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
        return None
    # What comes before is the program's name, which may hold anything.
    state, *fields = text.rpartition(")")[2].split()
    return None if state in _ENDED_STATES else int(fields[_N_FIELDS_TO_START - 1]) / os.sysconf("SC_CLK_TCK")


@cache
def identify_machine() -> str:
    """Name where process ids and starts mean the same as here: a start of a machine, and a container of it.

    Returns:
        Nothing where /proc is that of other processes, as in a container that was given its machine's.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        spaces = [str(path.readlink()) for path in map(Path, _SPACES) if path.is_symlink()]
        return " ".join([boot, *spaces]) if str(Path("/proc/self").readlink()) == str(os.getpid()) else ""
    except OSError:
        return ""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock, as the lock itself tells."""

    owner: str = field(default_factory=lambda: uuid4().hex)
    """Name of this very run."""
    host: str = field(default_factory=platform.node)
    """Name of its machine, for people."""
    machine: str = field(default_factory=identify_machine)
    """Where its process id means something; empty where that cannot be told."""
    pid: int = field(default_factory=os.getpid)
    """Its process."""
    process_started: float = field(default_factory=lambda: find_process_start(os.getpid()) or 0.0)
    """When the process began, in seconds since its machine did: process ids are given again, and clocks are set."""
    since: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    """When the lock was taken, in ISO 8601."""
    beat: int = 0
    """How often the holder has shown that it lives; makes each of its objects another."""

    @classmethod
    def from_json(cls, data: bytes) -> Self | None:
        """Read what a lock tells; None if it tells nothing, such as one that is just being made."""
        try:
            values = json.loads(data)
            kinds = {name: type(value).__name__ for name, value in values.items()}
            is_known = kinds == {each.name: each.type for each in fields(cls)} and 0 < values["pid"] < _MAX_PID
            return cls(**values) if is_known else None
        except (ValueError, AttributeError, RecursionError):
            return None

    def to_json(self) -> bytes:
        """Give the lock's content."""
        return json.dumps(asdict(self)).encode()

    def is_running(self) -> bool:
        """Tell whether the process is there; asked on its own machine."""
        try:
            return find_process_start(self.pid) == self.process_started
        except PermissionError:
            return True

    def describe(self) -> str:
        """Say who it is."""
        return f"process {self.pid} on {self.host}, since {self.since}"


def may_take_over(holder: Holder | None, *, machine: str, age_s: float, timeout_s: float) -> bool:
    """Decide whether a lock in a bucket is left over from a holder that is gone.

    Args:
        holder: Who holds it; None if the lock does not tell.
        machine: Where the question is asked, as `identify_machine` names it.
        age_s: Time since the last sign of life, by the clock of the store.
        timeout_s: Longest time without one.
    """
    if holder is not None and machine and holder.machine == machine and not holder.is_running():
        return True
    return age_s > timeout_s


def refuse_second_run(place: object, holder: Holder | None, *, remedy: str) -> FolderError:
    """Make the error of a run that came second."""
    who = holder.describe() if holder is not None else "another run"
    return FolderError(
        f"output {place} is being written by {who}",
        expected="one run at a time in one folder",
        remedy=f"{remedy}; or choose another --output",
    )


def tell_loss(place: object, why: str) -> FolderError:
    """Make the error of a run that no longer has the right to write."""
    return FolderError(
        f"output {place}: this run has lost its lock ({why})",
        expected=f"a {LOCK_NAME} that is its own from beginning to end",
        remedy="see who else writes there; then run again: what is there is kept",
    )


def refuse_foreign_lock(path: Path) -> FolderError:
    """Make the error of a run that finds something else than a file under the lock's name."""
    return FolderError(
        f"{path} is a link, or something else than a plain file",
        expected="a file that a run has made, or none",
        remedy="see who put it there, and remove it; or choose another --output",
    )
