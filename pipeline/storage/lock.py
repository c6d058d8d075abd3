"""One run at a time in one folder: who holds it, for how long, and what becomes of a holder that died.

In a local folder the operating system holds the lock (``flock``): it goes with the process, however that ends, so
nobody ever has to take one over. In a bucket it is an object that only one can create. Its holder shows every now and
then that it lives, by replacing the object under the condition that it still is what it was; so does whoever takes
over from a holder that is gone, and of several only one can. A holder that finds its object replaced has lost it. The
process that holds a lock makes sure of it before each of its writes (`RunFolder.guarded`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.storage.folder import RunFolder
from pipeline.storage.lock_holder import MAX_BYTES, Holder, refuse_foreign_lock, refuse_second_run, tell_loss
from pipeline.storage.names import LOCK_NAME
from pipeline.storage.object_lock import ObjectLock
from pipeline.storage.object_store import open_store

LOCK_TIMEOUT_S = 300.0
"""A holder in a bucket that showed no life for so long may be replaced."""
_SHORT_PATIENCE_S = 10.0
# ^ Longest time to repeat a sign of life, and to let go of the lock when the store is gone.


class RunLock(Protocol):
    """The right to write into a folder."""

    @property
    def owner(self) -> str:
        """Name of the run that has it, as the lock tells."""

    def check(self) -> None:
        """Make sure that the right still stands.

        Raises:
            FolderError: it does not.
        """


@contextmanager
def hold_lock(folder: RunFolder, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[RunLock]:
    """Hold the folder of a run while the context lasts.

    Args:
        folder: The folder, which is there.
        timeout_s: In a bucket, how long a holder may show no life.

    Raises:
        FolderError: another run holds it, or it cannot be written to.
    """
    if folder.is_remote:
        patience_s = min(folder.retry_timeout_s, _SHORT_PATIENCE_S)
        beats = ObjectLock(open_store(folder.uri, retry_timeout_s=patience_s), uri=folder.uri, timeout_s=timeout_s)
        beats.acquire(folder.store, patience_s=folder.retry_timeout_s)
        try:
            yield beats
        except BaseException:
            beats.release(patience_s=patience_s)
            raise
        # A run that has come to its end has time to let go of it.
        beats.release(patience_s=folder.retry_timeout_s)
    else:
        with _hold_file(folder) as lock:
            yield lock


@dataclass(frozen=True, kw_only=True)
class FileLock:
    """A lock of the operating system on the file ``run.lock``."""

    path: Path
    """The file."""
    descriptor: int
    """The file, open and locked."""
    owner: str
    """Name of the run that has locked it."""

    def check(self) -> None:
        """Make sure that the locked file is the one that others would try to lock."""
        if not self.is_in_place():
            raise tell_loss(self.path.parent, "its file is gone or another")

    def is_in_place(self) -> bool:
        """Tell whether the locked file still has its name."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.lstat())
        except FileNotFoundError:
            return False


@contextmanager
def _hold_file(folder: RunFolder) -> Iterator[FileLock]:
    path, me = Path(folder.join(LOCK_NAME)), Holder()
    with folder.clear_errors():
        lock = _lock_file(path, owner=me.owner)
    try:
        with folder.clear_errors():
            os.ftruncate(lock.descriptor, 0)
            os.write(lock.descriptor, me.to_json())
        yield lock
    finally:
        # Gone before it is let go of: whoever has opened it meanwhile finds out and opens the next one.
        if lock.is_in_place():
            with suppress(OSError):
                path.unlink()
        os.close(lock.descriptor)


def _lock_file(path: Path, *, owner: str) -> FileLock:
    while True:
        descriptor = _open_file(path)
        lock = FileLock(path=path, descriptor=descriptor, owner=owner)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = Holder.from_json(os.pread(descriptor, MAX_BYTES, 0))
            os.close(descriptor)
            raise refuse_second_run(path.parent, holder, remedy="wait until it has ended, or stop it") from None
        except OSError:
            os.close(descriptor)
            raise
        if lock.is_in_place():
            if os.fstat(descriptor).st_nlink == 1:
                return lock
            # A file that has another name as well is somebody's, and is not written to.
            path.unlink()
        os.close(descriptor)


def _open_file(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise refuse_foreign_lock(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refuse_foreign_lock(path)
    return descriptor
