"""Marks: the small files that prove a shard of the tile store whole, and tell whether it still is.

A mark is named after a hash of what its shard holds. It tells how much of each tile both dates show, a checksum of each
tile, a small view of them all, and which objects of which sizes the shard is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from pipeline.grid import Grid
from pipeline.run_folder import RunFolder

STORE_NAME = "tiles.zarr"
"""Name of the store in the folder of its run."""

MARK_VERSION = 2
"""Part of every mark's name: raised when marks come to tell other things than before."""


def list_shards(grid: Grid, *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of all shards of a grid, row-major."""
    n_rows, n_cols = -(-grid.n_rows // shard_size_tiles), -(-grid.n_cols // shard_size_tiles)
    return [(row, col) for row in range(n_rows) for col in range(n_cols)]


def list_tiles_of_shard(grid: Grid, shard: tuple[int, int], *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the tiles in a shard, row-major."""
    rows, cols = (range(index * shard_size_tiles, (index + 1) * shard_size_tiles) for index in shard)
    return [(row, col) for row in rows for col in cols if row < grid.n_rows and col < grid.n_cols]


def name_mark(content_key: str, shard: tuple[int, int], *, shard_size_tiles: int) -> str:
    """Name the proof that a shard is whole, after what the shard holds."""
    content = f"{MARK_VERSION} {content_key} {shard[0]} {shard[1]} {shard_size_tiles}"
    return f"marks/{hashlib.sha256(content.encode()).hexdigest()}.json"


def read_marks(
    folder: RunFolder, shards: Sequence[tuple[int, int]], *, content_key: str, shard_size_tiles: int
) -> Iterator[tuple[tuple[int, int], dict[str, Any] | None]]:
    """Read the marks of shards one after the other, in their order; a region's would be too much at once.

    Yields:
        The shard and its mark; None where the shard is not whole, with all objects of the sizes that its mark speaks
        of.
    """
    marks, sizes = set(folder.list_names("marks")), folder.list_sizes(STORE_NAME)
    names = [name_mark(content_key, shard, shard_size_tiles=shard_size_tiles) for shard in shards]
    read = folder.read_many(name for name in names if name in marks)
    for shard, name in zip(shards, names, strict=True):
        yield shard, read_mark(next(read), sizes=sizes) if name in marks else None


def find_whole_shards(
    folder: RunFolder, shards: Sequence[tuple[int, int]], *, content_key: str, shard_size_tiles: int
) -> set[tuple[int, int]]:
    """Find those shards that are whole, with all objects of the sizes that their marks speak of."""
    marks = read_marks(folder, shards, content_key=content_key, shard_size_tiles=shard_size_tiles)
    return {shard for shard, mark in marks if mark is not None}


def list_damaged_shards(
    folder: RunFolder,
    shards: Sequence[tuple[int, int]],
    *,
    whole: Container[tuple[int, int]],
    content_key: str,
    shard_size_tiles: int,
) -> list[tuple[int, int]]:
    """List shards that have a mark, but are not whole."""
    marks = set(folder.list_names("marks"))
    return [
        shard
        for shard in shards
        if shard not in whole and name_mark(content_key, shard, shard_size_tiles=shard_size_tiles) in marks
    ]


def read_mark(data: bytes | None, *, sizes: Mapping[str, int] | None = None) -> dict[str, Any] | None:
    """Read a mark; None where it is gone or damaged, or speaks of other objects than there are.

    Args:
        data: What is in the file.
        sizes: Bytes of the store's objects by name; None: the objects are not looked at.
    """
    try:
        mark: dict[str, Any] = json.loads(data or b"")
        if len(mark["checksums"]) != len(mark["both"]):
            return None
        is_whole = sizes is None or all(sizes.get(name) == size for name, size in mark["objects"].items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return mark if is_whole else None


def read_checksums(
    folder: RunFolder, shard: tuple[int, int], *, grid: Grid, content_key: str, shard_size_tiles: int
) -> dict[tuple[int, int], str] | None:
    """Read the checksums of a shard's tiles by (row, column) from its mark; None where the mark is gone or damaged."""
    name = name_mark(content_key, shard, shard_size_tiles=shard_size_tiles)
    mark = read_mark(next(folder.read_many([name])))
    if mark is None:
        return None
    tiles = list_tiles_of_shard(grid, shard, shard_size_tiles=shard_size_tiles)
    return dict(zip(tiles, mark["checksums"], strict=True))
