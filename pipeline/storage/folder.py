"""The folder of a run: whole objects under names relative to it, in a local folder or a bucket alike."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import zarr.abc.store
import zarr.storage
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import ObjectStore

from model.errors import FolderError
from pipeline.storage.lock_holder import Holder, tell_loss
from pipeline.storage.names import LOCK_NAME
from pipeline.storage.object_store import RETRY_TIMEOUT_S, explain_failure, open_store, repeat_request
from pipeline.storage.plain_files import PlainFiles
from pipeline.storage.zarr_files import PlainStore
from pipeline.uris import is_remote

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


_READERS = 16
_NAMES_AT_ONCE = 256


@dataclass(frozen=True)
class RunFolder:
    """A place that holds one run; pickles to plain values, so that workers open their own."""

    uri: str
    """Absolute local path of the folder, or ``s3://bucket/prefix``."""
    retry_timeout_s: float = RETRY_TIMEOUT_S
    """How long a request to a bucket is repeated while it fails."""
    is_made: bool = field(default=False, compare=False)
    """Whether the folder was made before, so that none is made in its place where it is gone."""
    guard: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    """Called before each write and removal: raises where somebody else has the right to them. Stays in its process."""
    owner: str = field(default="", compare=False, repr=False)
    """Name of the run that the lock belongs to, which its workers look at before each write; empty: nobody does."""

    def __reduce__(self) -> tuple[type[RunFolder], tuple[str, float, bool, None, str]]:
        # A worker that outlives its run must not bring back a folder that somebody has removed.
        return RunFolder, (self.uri, self.retry_timeout_s, True, None, self.owner)

    @property
    def is_remote(self) -> bool:
        """Whether the run is in a bucket."""
        return is_remote(self.uri)

    def guarded(self, guard: Callable[[], None], *, owner: str = "") -> RunFolder:
        """Give the folder with writes that are allowed only while a guard raises nothing.

        Args:
            guard: For this process.
            owner: For workers: they write only as long as the lock is not known to be another run's.
        """
        return replace(self, guard=guard, owner=owner)

    def check_right(self) -> None:
        """Make sure that the right to write and remove still stands, as far as this process can tell.

        Raises:
            FolderError: somebody else has it by now.
        """
        if self.guard is not None:
            self.guard()
        elif self.owner:
            holder = Holder.from_json(self._read_or_none(LOCK_NAME) or b"")
            # One that is gone, or that a file system does not show yet, is nobody's.
            if holder is not None and holder.owner != self.owner:
                raise tell_loss(self.uri, f"it went to {holder.describe()}")

    @cached_property
    def store(self) -> ObjectStore:
        """The objects of a run in a bucket, with names relative to its prefix."""
        return open_store(self.uri, retry_timeout_s=self.retry_timeout_s)

    @cached_property
    def files(self) -> PlainFiles:
        """The files of a run on this machine."""
        return PlainFiles(self.uri, is_made=self.is_made)

    @contextmanager
    def clear_errors(self) -> Iterator[None]:
        """Turn what the store says inside the context into an error for people; a missing object stays what it is.

        Raises:
            FolderError: the place is full, closed or out of reach.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except (ObstoreError, OSError) as failure:
            raise explain_failure(self.uri, failure) from None

    def join(self, name: str) -> str:
        """Give the whole path or URI of an object, for people and for programs outside."""
        return f"{self.uri.rstrip('/')}/{name}"

    def put(self, name: str, data: bytes) -> int:
        """Write a whole object; readers see the former content or the new one, never a part. Returns its bytes.

        Raises:
            FolderError: it cannot be written.
        """
        self._put(name, data)
        return len(data)

    def put_file(self, name: str, path: Path) -> int:
        """Write a whole object from a local file, a piece at a time. Returns its bytes.

        Raises:
            FolderError: it cannot be written.
        """
        self._put(name, path)
        return path.stat().st_size

    def _put(self, name: str, content: bytes | Path) -> None:
        self.check_right()
        try:
            with self.clear_errors():
                if self.is_remote:
                    obstore.put(self.store, name, content)
                else:
                    self.files.put(name, content)
        except FileNotFoundError as failure:
            raise FolderError(
                f"output {self.uri} is gone ({failure})",
                expected="the folder that the run has begun in",
                remedy="see who removed or renamed it, then run again",
            ) from None

    def read(self, name: str) -> bytes:
        """Read a whole object.

        Raises:
            FileNotFoundError: there is no object of this name.
            FolderError: it cannot be read.
        """
        with self.clear_errors():
            return bytes(obstore.get(self.store, name).bytes()) if self.is_remote else self.files.read(name)

    def read_part(self, name: str, *, start: int, length: int) -> bytes:
        """Read some bytes of an object.

        Raises:
            FileNotFoundError: there is no object of this name.
            FolderError: it cannot be read.
        """
        with self.clear_errors():
            if self.is_remote:
                return bytes(obstore.get_range(self.store, name, start=start, length=length))
            return self.files.read(name, start=start, length=length)

    def read_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Read whole objects, several at a time, in the order of their names; None for one that is not there.

        Raises:
            FolderError: one cannot be read.
        """
        waiting = iter(names)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as readers:
            while batch := list(islice(waiting, _NAMES_AT_ONCE)):
                yield from readers.map(self._read_or_none, batch)

    def _read_or_none(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def open_file(self, name: str) -> ObjectFile:
        """Open an object to read parts of it, as pyarrow does with a table.

        Raises:
            FileNotFoundError: there is no object of this name.
            FolderError: it cannot be read.
        """
        return ObjectFile(self, name, size=self._read_size(name))

    def has(self, name: str) -> bool:
        """Tell whether an object of this name is there.

        Raises:
            FolderError: the store does not tell.
        """
        return self.find_size(name) is not None

    def find_size(self, name: str) -> int | None:
        """Give the size of an object in bytes; None if it is not there.

        Raises:
            FolderError: the store does not tell.
        """
        try:
            return self._read_size(name)
        except FileNotFoundError:
            return None

    def _read_size(self, name: str) -> int:
        with self.clear_errors():
            return int(obstore.head(self.store, name)["size"]) if self.is_remote else self.files.find_size(name)

    def list_names(self, prefix: str = "") -> list[str]:
        """List the names under a folder, sorted, without reading the objects.

        Raises:
            FolderError: the store does not tell.
        """
        return sorted(self.list_sizes(prefix))

    def list_sizes(self, prefix: str = "") -> dict[str, int]:
        """Give the size in bytes of every object under a folder, by name, without reading the objects.

        Raises:
            FolderError: the store does not tell.
        """
        with self.clear_errors():
            if not self.is_remote:
                return self.files.list_sizes(prefix)
            batches = obstore.list(self.store, prefix=prefix or None)
            return {entry["path"]: entry["size"] for batch in batches for entry in batch}

    def list_top(self) -> set[str]:
        """Name what lies directly in the folder: objects and folders.

        Raises:
            FolderError: the store does not tell.
        """
        with self.clear_errors():
            if not self.is_remote:
                return {entry.name for entry in Path(self.uri).iterdir()}
            found = obstore.list_with_delimiter(self.store)
            return {*found["common_prefixes"], *(entry["path"] for entry in found["objects"])}

    def delete(self, names: list[str]) -> None:
        """Remove objects; one that is gone already is no matter.

        Raises:
            FolderError: one cannot be removed, or is no plain file.
        """
        if names:
            self.check_right()
        with self.clear_errors():
            for name in names if not self.is_remote else ():
                with suppress(FileNotFoundError):
                    self.files.delete(name)
            if names and self.is_remote:
                repeat_request(partial(obstore.delete, self.store, names), timeout_s=self.retry_timeout_s)

    def prune(self, prefix: str) -> None:
        """Remove folders that hold nothing, and what was never finished; in a bucket there is neither."""
        if not self.is_remote:
            self.files.prune(prefix)

    def check_plain(self, name: str) -> None:
        """Refuse a folder below this one that is a link, or lies behind one.

        Raises:
            FolderError: it is or does.
        """
        with self.clear_errors():
            if not self.is_remote:
                self.files.check_plain(name)

    def open_zarr_store(self, name: str) -> zarr.abc.store.Store:
        """Open the part under `name` as a store for zarr to read.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        if self.is_remote:
            store = open_store(self.join(name), retry_timeout_s=self.retry_timeout_s)
            return zarr.storage.ObjectStore(store, read_only=True)
        self.check_plain(name)
        if not Path(self.join(name)).is_dir():
            raise FileNotFoundError(self.join(name))
        return PlainStore(self.files, name)


class ObjectFile(io.RawIOBase):
    """An object as a file to be read: every read asks the store for just these bytes."""

    def __init__(self, folder: RunFolder, name: str, *, size: int) -> None:
        self._folder = folder
        self._name = name
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Give the position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position of the next read."""
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as many bytes as the buffer takes, or as there are."""
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._size - self._position))
        if length:
            data = self._folder.read_part(self._name, start=self._position, length=length)
            # A local file may be shorter by now.
            length = len(data)
            view[:length] = data
        self._position += length
        return length
