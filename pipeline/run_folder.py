"""The folder of a run: whole objects, put there atomically under names relative to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import obstore
import zarr.storage
from obstore.store import LocalStore, ObjectStore

from pipeline.errors import InputError


@dataclass(frozen=True)
class RunFolder:
    """A place that holds one run; pickles to its URI, so that workers open their own."""

    uri: str
    """Local path of the folder."""

    @cached_property
    def _store(self) -> ObjectStore:
        return LocalStore(prefix=self.uri, mkdir=True)

    def __reduce__(self) -> tuple[type[RunFolder], tuple[str]]:
        return RunFolder, (self.uri,)

    def put(self, name: str, data: bytes) -> int:
        """Write a whole object; readers see the former content or the new one, never a part. Returns its bytes."""
        obstore.put(self._store, name, data)
        return len(data)

    def read(self, name: str) -> bytes:
        """Read a whole object.

        Raises:
            FileNotFoundError: there is no object of this name.
        """
        return bytes(obstore.get(self._store, name).bytes())

    def has(self, name: str) -> bool:
        """Tell whether an object of this name is there."""
        try:
            obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    def list_names(self, prefix: str = "") -> list[str]:
        """List the names under a folder, sorted, without reading the objects."""
        batches = obstore.list(self._store, prefix=prefix or None)
        return sorted(entry["path"] for batch in batches for entry in batch)

    def delete(self, names: list[str]) -> None:
        """Remove objects."""
        if names:
            obstore.delete(self._store, names)

    def open_zarr_store(self, name: str) -> zarr.storage.ObjectStore[LocalStore]:
        """Open the part under `name` as a store for zarr."""
        folder = Path(self.uri) / name
        return zarr.storage.ObjectStore(LocalStore(prefix=folder, mkdir=True))


def open_run_folder(uri: str) -> RunFolder:
    """Make the folder of a run, or take up the one that is there.

    Raises:
        InputError: the place cannot be written to, or holds files that belong to no run.
    """
    path = Path(uri).absolute()
    probe = path / ".write-probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as problem:
        raise InputError(
            f"output {uri} cannot be written to ({problem.strerror})",
            expected="a folder that can be made or written to",
            remedy="choose another --output or change its permissions",
        ) from None
    names = {entry.name for entry in path.iterdir()}
    if names and not names & {"run.json", "tiles.zarr", "marks"}:
        raise InputError(
            f"output {uri} holds {len(names)} other files, such as {min(names)}",
            expected="an empty folder or the folder of an earlier run",
            remedy="choose another --output",
        )
    return RunFolder(str(path))
