"""The hashes of large files, kept in the user's cache folder for as long as a file is what it was.

Hashing the weights of the paper's size takes half a minute of a core, and every command begins with it. A hash is kept
by the file's path, device, inode, size and both times of change; no program but the system's own sets the second of
them, so a file that is written anew, moved or put back is hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "DELTAVLM_CACHE"
"""Environment variable with the folder for what can be worked out again; empty: nothing is kept."""
MIN_KEPT_BYTES = 64 << 20
"""Smaller files are hashed in less time than a person notices."""
SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was hashed may change again within one tick of its times."""
_MAX_ENTRY_BYTES = 1 << 14
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def find_cache_folder() -> Path | None:
    """Give the user's folder for what can be worked out again, which need not be there; None: there is to be none."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has it that a relative path is to be ignored.
    with suppress(RuntimeError):
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "deltavlm"
    return None


def hash_file(path: Path) -> bytes:
    """Give the SHA-256 of a file's content: the one that was kept, or anew."""
    with path.open("rb") as stream:
        before = os.fstat(stream.fileno())
        entry = None if before.st_size < MIN_KEPT_BYTES else _find_entry(path)
        if entry is None or not _is_settled(before):
            return hashlib.file_digest(stream, "sha256").digest()
        facts = _describe(path, before)
        if (kept := _read_kept(entry, facts=facts)) is not None:
            return kept
        digest = hashlib.file_digest(stream, "sha256").digest()
        if _describe(path, os.fstat(stream.fileno())) == facts:
            _keep(entry, facts | {"sha256": digest.hex()})
        return digest


def _is_settled(status: os.stat_result) -> bool:
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS


def _describe(path: Path, status: os.stat_result) -> dict[str, Any]:
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return {"path": os.path.realpath(path)} | {name: getattr(status, name) for name in names}


def _find_entry(path: Path) -> Path | None:
    folder = find_cache_folder()
    return folder and folder / "hashes" / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}.json"


def _read_kept(entry: Path, *, facts: dict[str, Any]) -> bytes | None:
    """Give the hash that was kept of a file with these facts; what is damaged or was written by others is none."""
    try:
        if not _is_private(os.lstat(entry.parent), kind=stat.S_ISDIR):
            return None
        with os.fdopen(os.open(entry, _READ_FLAGS), "rb") as stream:
            if not _is_private(os.fstat(stream.fileno()), kind=stat.S_ISREG):
                return None
            content = json.loads(stream.read(_MAX_ENTRY_BYTES))
        sha256 = content.pop("sha256")
        return bytes.fromhex(sha256) if content == facts and re.fullmatch("[0-9a-f]{64}", sha256) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_private(status: os.stat_result, *, kind: Callable[[int], bool]) -> bool:
    """Tell whether something is of a kind, belongs to this user and can be written by nobody else."""
    return kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _keep(entry: Path, content: dict[str, Any]) -> None:
    # Nothing depends on it: a full disk or a home that cannot be written to costs the next command its time.
    with suppress(OSError):
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(os.lstat(entry.parent), kind=stat.S_ISDIR):
            return
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False) as draft:
            draft.write(json.dumps(content))
        Path(draft.name).replace(entry)
