"""A tile store of this machine as Zarr reads it: through no link, as all files of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import zarr.storage
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from pipeline.storage.plain_files import PlainFiles


class PlainStore(zarr.storage.LocalStore):
    """A local store, to be read only."""

    def __init__(self, files: PlainFiles, name: str) -> None:
        """Take a folder below the files for the root of the store.

        Args:
            files: Of the run.
            name: Of the folder.
        """
        super().__init__(f"{files.root}/{name}", read_only=True)
        self._files = files
        self._name = name

    def __reduce__(self) -> tuple[type[PlainStore], tuple[PlainFiles, str]]:
        return PlainStore, (self._files, self._name)

    def with_read_only(self, read_only: bool = False) -> PlainStore:
        """Give it once more, as it is.

        Raises:
            ValueError: it is to be written to.
        """
        if not read_only:
            raise ValueError("this store is for reading alone")
        return PlainStore(self._files, self._name)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object or a part of it; None where there is none."""
        name = f"{self._name}/{key}"
        try:
            match byte_range:
                case None:
                    data = self._files.read(name)
                case RangeByteRequest(start, end):
                    data = self._files.read(name, start=start, length=end - start)
                case OffsetByteRequest(offset):
                    data = self._files.read(name, start=offset)
                case SuffixByteRequest(suffix):
                    data = self._files.read(name, start=max(0, self._files.find_size(name) - suffix))
        except FileNotFoundError:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read as `get_sync` does."""
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of several objects."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
