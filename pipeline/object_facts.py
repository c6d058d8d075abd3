"""What the record of a run tells of its objects: size and sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.run_folder import RunFolder

ObjectFacts = dict[str, int | str]
"""``size_bytes`` and ``sha256``, in hex."""


_PIECE_BYTES = 1 << 22


def describe_bytes(data: bytes) -> ObjectFacts:
    """Give size and sha256 of what an object holds."""
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


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


def describe_large_object(folder: RunFolder, *, name: str) -> ObjectFacts:
    """Read an object in the folder of a run a piece at a time, and give its size and sha256.

    Raises:
        FileNotFoundError: it is not there.
    """
    digest, size = hashlib.sha256(), 0
    with folder.open_file(name) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return {"size_bytes": size, "sha256": digest.hexdigest()}
