"""Whole files below a folder of this machine, reached through no link.

What lies in a folder may have come out of somebody's archive, or be put there by whoever else may write to it. So every
step from the folder down to a file is opened from the one before (``openat``) and has to be a folder itself; a file has
to be a plain one, so that nothing waits for a pipe; and a new one is written beside its name, under one that nobody can
know before, and then takes that name's place.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from model.errors import FolderError
from model.whole_files import write_whole

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_PLAIN_FILE = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
_UNFINISHED = re.compile(r"#[0-9a-f]+$")
"""End of the name of a file that is being written, or was when its process died."""


@dataclass(frozen=True)
class PlainFiles:
    """The files below one folder, by names relative to it."""

    root: str
    """Path of the folder, which may be a link itself: its user has named it."""
    is_made: bool = True
    """Whether it was made before: where it is gone, it then stays gone."""

    def put(self, name: str, content: bytes | Path) -> None:
        """Write a whole file, and the folders on the way to it; it has its name once it is whole.

        Raises:
            FileNotFoundError: the folder of all is gone.
            FolderError: there is a link on the way.
            OSError: it cannot be written.
        """
        with self._open_parent(name, is_made=True) as (parent, base):
            write_whole(base, content, folder=parent)

    def read(self, name: str, *, start: int = 0, length: int = -1) -> bytes:
        """Read a file, or a part of it; without a length, to its end.

        Raises:
            FileNotFoundError: there is no such file.
            FolderError: there is a link on the way, or something else than a plain file.
        """
        with self._open_parent(name) as (parent, base):
            try:
                descriptor = os.open(base, _READ_FLAGS, dir_fd=parent)
            except OSError as problem:
                raise self._explain(problem, name) from None
            try:
                self._check_kind(os.fstat(descriptor).st_mode, name)
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    file.seek(start)
                    return file.read(length)
            finally:
                os.close(descriptor)

    def find_size(self, name: str) -> int:
        """Give the size of a file in bytes.

        Raises:
            FileNotFoundError: there is no such file.
            FolderError: as `read`.
        """
        with self._open_parent(name) as (parent, base):
            found = os.stat(base, dir_fd=parent, follow_symlinks=False)
        self._check_kind(found.st_mode, name)
        return found.st_size

    def list_sizes(self, prefix: str = "") -> dict[str, int]:
        """Give the size of every file below a folder, by name; of one that is not there, none.

        Raises:
            FolderError: there is something else than plain files and folders.
        """
        sizes = {}
        with suppress(FileNotFoundError), self._open_parent(f"{prefix}/." if prefix else ".") as (folder, _):
            for name, found in self._walk(folder, prefix=prefix):
                if not stat.S_ISDIR(found.st_mode) and not _UNFINISHED.search(name):
                    sizes[name] = found.st_size
        return sizes

    def delete(self, name: str) -> None:
        """Remove a file.

        Raises:
            FileNotFoundError: there is none.
            FolderError: as `read`: what is no plain file is not ours.
        """
        with self._open_parent(name) as (parent, base):
            self._check_kind(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode, name)
            os.unlink(base, dir_fd=parent)

    def prune(self, prefix: str) -> None:
        """Remove what writers that died have left below a folder, and then folders that hold nothing.

        Raises:
            FolderError: there is something else than plain files and folders.
        """
        with suppress(FileNotFoundError):
            with self._open_parent(f"{prefix}/." if prefix else ".") as (folder, _):
                found = list(self._walk(folder, prefix=prefix))
            for name, facts in reversed(found):
                with suppress(OSError), self._open_parent(name) as (parent, base):
                    if stat.S_ISDIR(facts.st_mode):
                        os.rmdir(base, dir_fd=parent)
                    elif _UNFINISHED.search(name):
                        os.unlink(base, dir_fd=parent)
            with suppress(OSError):
                Path(self.root, prefix).rmdir()

    def check_plain(self, name: str) -> None:
        """Refuse links on the way to a folder, and in its place; one that is not there is none.

        Raises:
            FolderError: there is a link.
        """
        with suppress(FileNotFoundError), self._open_parent(f"{name}/."):
            pass

    def _walk(self, folder: int, *, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Give all names below an open folder with what they are, folders before what they hold."""
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
        for base, facts in found:
            name = f"{prefix}/{base}".lstrip("/")
            if stat.S_ISDIR(facts.st_mode):
                yield name, facts
                with suppress(FileNotFoundError), _open_folder(folder, base) as below:
                    yield from self._walk(below, prefix=name)
            else:
                self._check_kind(facts.st_mode, name)
                yield name, facts

    @contextmanager
    def _open_parent(self, name: str, *, is_made: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that a file lies in; gives its descriptor and the file's name there."""
        *steps, base = name.split("/")
        if {"", ".", ".."} & {*steps} or base in {"", ".."}:
            raise self._refuse(name)
        if is_made and not self.is_made:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for step in steps:
                try:
                    below = self._enter(folder, step, is_made=is_made)
                except OSError as problem:
                    raise self._explain(problem, name) from None
                os.close(folder)
                folder = below
            yield folder, base
        finally:
            os.close(folder)

    @staticmethod
    def _enter(folder: int, step: str, *, is_made: bool) -> int:
        try:
            return os.open(step, _FOLDER_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            if not is_made:
                raise
        with suppress(FileExistsError):
            os.mkdir(step, dir_fd=folder)
        return os.open(step, _FOLDER_FLAGS, dir_fd=folder)

    def _check_kind(self, mode: int, name: str) -> None:
        if stat.S_ISDIR(mode):
            raise FileNotFoundError(errno.ENOENT, "a folder, and no file", f"{self.root}/{name}")
        if not stat.S_ISREG(mode):
            raise self._refuse(name)

    def _explain(self, problem: OSError, name: str) -> OSError | FolderError:
        return self._refuse(name) if problem.errno in _NO_PLAIN_FILE else problem

    def _refuse(self, name: str) -> FolderError:
        return FolderError(
            f"output {self.root} holds a link, or something else than plain files and folders, at {name}",
            expected="what a run has written there",
            remedy="see who put it there, and remove it; or choose another --output",
        )


@contextmanager
def _open_folder(parent: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
