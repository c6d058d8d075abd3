"""Marks: the small files that prove a shard of the tile store whole, and tell whether it still is.

A mark is named after a hash of what its shard holds. It tells how much of each tile both dates show, a checksum of each
tile, a small view of them all, and which objects of which sizes the shard is.

A name in the store says where a tile lies, not of which pair it is. A worker whose run was cut off may go on for a
while and put pixels of a former pair there, and a disk may forget. The checksum per tile says for ever what was
written: whoever reads a tile of the store compares, so that neither can become an answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from model.sealing import seal, unseal
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, UInt8Array
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import STORE_NAME
from pipeline.tiles.thumbnails import make_thumbnail

MARKS_FOLDER = "marks"
"""Where they are in the folder of a run."""
MARK_VERSION = 2
"""Part of every mark's name: raised when marks come to tell other things than before."""
_KEYS = {"before", "after", "both", "cloudy", "identical", "checksums", "thumbnail", "objects", "dates", "unread"}


def list_tiles_of_shard(grid: Grid, shard: tuple[int, int], *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the tiles in a shard, row-major."""
    rows, cols = (range(index * shard_size_tiles, (index + 1) * shard_size_tiles) for index in shard)
    return [(row, col) for row in rows for col in cols if row < grid.n_rows and col < grid.n_cols]


def name_mark(content_key: str, shard: tuple[int, int], *, shard_size_tiles: int) -> str:
    """Name the proof that a shard is whole, after what the shard holds."""
    content = f"{MARK_VERSION} {content_key} {shard[0]} {shard[1]} {shard_size_tiles}"
    return f"{MARKS_FOLDER}/{hashlib.sha256(content.encode()).hexdigest()}.json"


def encode_mark(mark: Mapping[str, Any]) -> bytes:
    """Give the content of a mark's file, with a checksum of its own."""
    return json.dumps(seal(mark), sort_keys=True, separators=(",", ":")).encode()


def read_marks(
    folder: RunFolder, shards: Sequence[tuple[int, int]], *, content_key: str, shard_size_tiles: int
) -> Iterator[tuple[tuple[int, int], dict[str, Any] | None]]:
    """Read the marks of shards one after the other, in their order; a region's would be too much at once.

    Yields:
        The shard and its mark; None where the shard is not whole, with all objects of the sizes that its mark speaks
        of.
    """
    marks, sizes = set(folder.list_names(MARKS_FOLDER)), folder.list_sizes(STORE_NAME)
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
    marks = set(folder.list_names(MARKS_FOLDER))
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
        mark = unseal(data or b"")
        if not mark.keys() <= _KEYS or len(mark["checksums"]) != len(mark["both"]):
            return None
        is_whole = sizes is None or all(sizes.get(name) == size for name, size in mark["objects"].items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return mark if is_whole else None


@dataclass(frozen=True, slots=True)
class WrittenTiles:
    """What the mark of a shard tells of each of its tiles to whoever reads them, by (row, column)."""

    checksums: Mapping[tuple[int, int], str]
    """What `checksum_tile` gave."""
    full: Collection[tuple[int, int]]
    """Tiles whose every pixel is valid on both dates."""


def read_written(
    folder: RunFolder, shard: tuple[int, int], *, grid: Grid, content_key: str, shard_size_tiles: int
) -> WrittenTiles | None:
    """Read what was written of a shard's tiles from its mark; None where the mark is gone or damaged."""
    name = name_mark(content_key, shard, shard_size_tiles=shard_size_tiles)
    try:
        mark = read_mark(folder.read(name))
    except FileNotFoundError:
        return None
    if mark is None:
        return None
    tiles = list_tiles_of_shard(grid, shard, shard_size_tiles=shard_size_tiles)
    return WrittenTiles(
        checksums=dict(zip(tiles, mark["checksums"], strict=True)),
        full={tile for tile, both in zip(tiles, mark["both"], strict=True) if both == grid.stride_px**2},
    )


_DIGEST_BYTES = 8


def checksum_tile(pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.generic]) -> str:
    """Hash one tile.

    Args:
        pixels: uint8 (date=2, band=3, y, x), as the store holds them.
        valid: bool or uint8 (date=2, y, x), as the store holds them.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(valid).view(np.uint8).data)
    return digest.hexdigest()


def checksum_tiles(pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.generic], *, tile_size_px: int) -> list[str]:
    """Hash every tile of a block, row-major.

    Args:
        pixels: uint8 (date=2, band=3, height, width), height and width whole multiples of the tile size.
        valid: bool or uint8 (date=2, height, width).
        tile_size_px: Side of a tile.
    """
    height, width = pixels.shape[-2:]
    sides = [slice(start, start + tile_size_px) for start in range(0, max(height, width), tile_size_px)]
    rows, cols = sides[: height // tile_size_px], sides[: width // tile_size_px]
    return [checksum_tile(pixels[..., ys, xs], valid[..., ys, xs]) for ys in rows for xs in cols]


@lru_cache(maxsize=8)
def _checksum_nothing(tile_size_px: int) -> str:
    shape = (tile_size_px, tile_size_px)
    return checksum_tile(np.zeros((2, 3, *shape), np.uint8), np.zeros((2, *shape), np.uint8))


def describe_shard(
    pixels: UInt8Array, is_valid: BoolArray, *, is_cloudy: BoolArray | None = None, tile_size_px: int
) -> dict[str, Any]:
    """Give what a mark keeps of the pixels of a shard: counts per tile, checksums, and a small view.

    Args:
        pixels: uint8 (date=2, band=3, height, width), height and width whole multiples of the tile size.
        is_valid: bool (date=2, height, width).
        is_cloudy: bool (height, width), on either date; None where nothing tells of clouds.
        tile_size_px: Side of a tile.
    """
    counts = count_valid(pixels, is_valid, is_cloudy=is_cloudy, tile_size_px=tile_size_px)
    return {
        **counts,
        "checksums": checksum_tiles(pixels, is_valid, tile_size_px=tile_size_px),
        "thumbnail": make_thumbnail(pixels, is_valid, tile_size_px=tile_size_px),
    }


def describe_empty_shard(n_tiles: int, *, has_classes: bool, tile_size_px: int) -> dict[str, Any]:
    """Give the same of a shard of which neither date shows anything, without its pixels.

    Args:
        n_tiles: Tiles of the shard.
        has_classes: Whether something would tell of clouds.
        tile_size_px: Side of a tile.
    """
    zeros = [0] * n_tiles
    return {
        "before": zeros,
        "after": zeros,
        "both": zeros,
        "cloudy": zeros if has_classes else None,
        "identical": [False] * n_tiles,
        "checksums": [_checksum_nothing(tile_size_px)] * n_tiles,
        "thumbnail": "",
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class TileFacts:
    """What the pixels of one tile tell before any model looks at them."""

    row: int
    """Row in the grid, from the top."""
    col: int
    """Column in the grid, from the left."""
    before_valid_fraction: float
    """Part of the tile that the earlier scene shows, 0 to 1."""
    after_valid_fraction: float
    """Part of the tile that the later scene shows, 0 to 1."""
    valid_fraction: float
    """Part of the tile that both scenes show, 0 to 1."""
    cloud_fraction: float | None = None
    """Part of the tile that is cloudy on either date, 0 to 1; None where no class band tells of clouds."""
    is_identical: bool
    """Whether both dates have equal pixels wherever both show something, and there is such a place."""


def count_valid(
    pixels: UInt8Array, is_valid: BoolArray, *, is_cloudy: BoolArray | None = None, tile_size_px: int
) -> dict[str, Any]:
    """Count per tile what both dates show.

    Args:
        pixels: uint8 (date=2, band=3, height, width), height and width whole multiples of the tile size.
        is_valid: bool (date=2, height, width).
        is_cloudy: bool (height, width), on either date; None where nothing tells of clouds.
        tile_size_px: Side of the ground that a tile owns.

    Returns:
        Lists over the tiles, row-major: pixels valid ``before``, ``after`` and on ``both`` dates, ``cloudy`` ones
        or None, and whether the dates are ``identical`` where both are valid.
    """
    is_both = is_valid[0] & is_valid[1]
    is_different = is_both & (pixels[0] != pixels[1]).any(axis=0)

    def count(mask: BoolArray) -> np.ndarray[Any, np.dtype[np.int64]]:
        height, width = mask.shape
        split = mask.reshape(height // tile_size_px, tile_size_px, width // tile_size_px, tile_size_px)
        return np.asarray(split.sum(axis=(1, 3), dtype=np.int64)).ravel()

    both = count(is_both)
    return {
        "before": count(is_valid[0]).tolist(),
        "after": count(is_valid[1]).tolist(),
        "both": both.tolist(),
        "cloudy": None if is_cloudy is None else count(is_cloudy).tolist(),
        "identical": ((count(is_different) == 0) & (both > 0)).tolist(),
    }
