"""Size and checksum of objects, as records tell them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pipeline.storage.folder import RunFolder

_PIECE_BYTES = 1 << 20

ObjectFacts = dict[str, int | str]
"""``size_bytes`` and ``sha256``, in hex."""


class Readable(Protocol):
    """An open file, here or in a bucket."""

    def read(self, size: int, /) -> bytes:
        """Give the next bytes, at most so many; none at the end."""


def describe_bytes(data: bytes) -> ObjectFacts:
    """Give size and sha256 of what an object holds."""
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def describe_file(path: Path) -> ObjectFacts:
    """Give size and sha256 of a local file, which is read a piece at a time."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"size_bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def describe_stream(source: Readable) -> ObjectFacts:
    """Give size and sha256 of an open file, read from its beginning a piece at a time."""
    digest, n_bytes = hashlib.sha256(), 0
    while piece := source.read(_PIECE_BYTES):
        digest.update(piece)
        n_bytes += len(piece)
    return {"size_bytes": n_bytes, "sha256": digest.hexdigest()}


def describe_objects(folder: RunFolder, *, names: Sequence[str]) -> dict[str, ObjectFacts]:
    """Read objects in the folder of a run whole, several at a time, and give size and sha256 of each, by name.

    Raises:
        FileNotFoundError: one is not there.
    """
    described = {}
    for name, data in zip(names, folder.read_many(names), strict=True):
        if data is None:
            raise FileNotFoundError(folder.join(name))
        described[name] = describe_bytes(data)
    return described
