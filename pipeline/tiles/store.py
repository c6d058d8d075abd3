"""The tile store of a pair as those see it who read: pixels and facts of tiles, checked against the marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import zarr

from model.errors import FolderError
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, UInt8Array, Window
from pipeline.polygons.aoi import GridArea, find_shards_needed
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import STORE_NAME
from pipeline.tiles.marks import (
    TileFacts,
    WrittenTiles,
    checksum_tile,
    find_whole_shards,
    list_tiles_of_shard,
    name_mark,
    read_marks,
    read_written,
)
from pipeline.tiles.shards import StoreReader, open_store, parse_mark
from pipeline.tiles.table import Tile
from pipeline.tiles.thumbnails import read_thumbnail

Read = TypeVar("Read")

_COST_ALONE = 2.5
"""What reading one tile alone costs, in tiles that are decoded on the way to others."""


@dataclass(frozen=True, kw_only=True)
class TileStore:
    """The Zarr of one pair; pickles to a few plain values."""

    folder: RunFolder
    """The run that the store belongs to."""
    grid: Grid
    """Grid of the tiles."""
    content_key: str
    """Content key of the pair."""
    shard_size_tiles: int
    """Side of a shard in tiles."""
    failed_shards: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Shards (row, column) that could not be written, with the reason."""
    gaps: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Shards (row, column) that are made without a scene that could not be read there, with which and why."""

    def open(self) -> zarr.Group:
        """Open the arrays ``pixels`` (date, band, y, x) and ``valid`` (date, y, x), both uint8, to be read.

        Raises:
            FileNotFoundError: there is no store.
        """
        return open_store(self.folder)

    def read_pairs(self, tiles: Sequence[Tile]) -> UInt8Array:
        """Read pixels, uint8 (tile, date=2, band=3, y, x); what is not valid on both dates is 0 on both.

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read, or a tile is not what its shard's mark says.
        """
        return self.read_windows([self.grid.tile_window(tile.row, tile.col) for tile in tiles])

    def read_windows(self, windows: Sequence[Window]) -> UInt8Array:
        """Read windows of a tile's size likewise, wherever they lie on ground of tiles that were written.

        Windows of one shard are read together, so memory is that of the windows plus one shard and its margin.

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read, or a tile is not what its shard's mark says.
        """
        size_px, stride_px = self.grid.tile_size_px, self.grid.stride_px
        pairs = np.empty((len(windows), 2, 3, size_px, size_px), dtype=np.uint8)
        with self.folder.clear_errors():
            reader = StoreReader(self.open())
        by_shard: dict[tuple[int, int], list[int]] = {}
        places = [
            ((top + height // 2) // stride_px, (left + width // 2) // stride_px) for top, left, height, width in windows
        ]
        for index, place in enumerate(places):
            by_shard.setdefault(self._find_shard(*place), []).append(index)
        for shard, indexes in by_shard.items():
            facts = {shard: self._read_written(shard)}
            for numbers in group_near([places[i] for i in indexes]):
                together = [indexes[number] for number in numbers]
                shown, top, left = self._read_shown(reader, [windows[i] for i in together], written=facts)
                for i in together:
                    y, x = windows[i].top - top, windows[i].left - left
                    pairs[i] = shown[:, :, y : y + size_px, x : x + size_px]
        return pairs

    def _read_shown(
        self,
        reader: StoreReader,
        windows: Sequence[Window],
        *,
        written: dict[tuple[int, int], WrittenTiles],
    ) -> tuple[UInt8Array, int, int]:
        """Read what both dates show in the rectangle around some windows; beyond the grid nothing is seen.

        Args:
            reader: The open store.
            windows: What models see of tiles.
            written: What the marks of some shards tell; those that are missing are read and added.

        Returns:
            uint8 (date=2, band=3, y, x), and the first row and column of the grid's pixels that it has.
        """
        stride_px = self.grid.stride_px
        owners = sorted({owner for window in windows for owner in self._list_owners(window)})
        rows, cols = zip(*owners, strict=True)
        top, left = min(rows) * stride_px, min(cols) * stride_px
        bottom, right = (max(rows) + 1) * stride_px, (max(cols) + 1) * stride_px
        shown = Window(top, left, bottom - top, right - left)
        for shard in {self._find_shard(*owner) for owner in owners} - written.keys():
            written[shard] = self._read_written(shard)
        told = {owner: written[self._find_shard(*owner)] for owner in owners}
        shard = self._find_shard(*owners[0])
        pixels = self._read_window(lambda: reader.read_pixels(shown), shard=shard)
        if all(owner in tiles.full for owner, tiles in told.items()):
            # The checksum holds the mark to its word.
            is_valid = np.ones((2, *pixels.shape[2:]), dtype=np.bool_)
        else:
            is_valid = self._read_window(lambda: reader.read_valid(shown), shard=shard)
        self._check_owned(pixels, is_valid, told=told, corner=(top, left))
        pixels *= is_valid.all(axis=0)
        beyond = (
            (max(0, top - min(w.top for w in windows)), max(0, max(w.top + w.height for w in windows) - bottom)),
            (max(0, left - min(w.left for w in windows)), max(0, max(w.left + w.width for w in windows) - right)),
        )
        if np.any(beyond):
            pixels = np.pad(pixels, ((0, 0), (0, 0), *beyond))
        return pixels, top - beyond[0][0], left - beyond[1][0]

    def _check_owned(
        self,
        pixels: UInt8Array,
        is_valid: BoolArray,
        *,
        told: Mapping[tuple[int, int], WrittenTiles],
        corner: tuple[int, int],
    ) -> None:
        """Compare the ground of each owning tile with the checksum in its shard's mark."""
        size_px = self.grid.stride_px
        for (row, col), written in told.items():
            y, x = row * size_px - corner[0], col * size_px - corner[1]
            ys, xs = slice(y, y + size_px), slice(x, x + size_px)
            if checksum_tile(pixels[:, :, ys, xs], is_valid[:, ys, xs]) != written.checksums[row, col]:
                shard = self._find_shard(row, col)
                raise self._refuse_damaged(f"tile {self.grid.tile_id(row, col)}", shard=shard)

    def _list_owners(self, window: Window) -> list[tuple[int, int]]:
        """List (row, column) of the tiles that own the ground in a window; more than one where tiles overlap."""
        top, left, height, width = window
        rows, cols = (
            range(max(start, 0) // self.grid.stride_px, (min(start + length, end) - 1) // self.grid.stride_px + 1)
            for start, length, end in ((top, height, self.grid.shape_px[0]), (left, width, self.grid.shape_px[1]))
        )
        return [(row, col) for row in rows for col in cols]

    def _find_shard(self, row: int, col: int) -> tuple[int, int]:
        return row // self.shard_size_tiles, col // self.shard_size_tiles

    def find_failed_shard(self, row: int, col: int) -> str | None:
        """Say why a part of what a model would see of a tile could not be written; None if all of it was.

        With tiles that overlap this may be a neighbour's shard. An answer that is kept must not rest on a margin
        that was missing once.
        """
        if not self.grid.overlap_px:
            return self.failed_shards.get(self._find_shard(row, col))
        touched = (self._find_shard(*owner) for owner in self._list_owners(self.grid.tile_window(row, col)))
        return next((self.failed_shards[shard] for shard in touched if shard in self.failed_shards), None)

    def list_gaps(self, places: Iterable[tuple[int, int]]) -> list[str]:
        """Say without which scenes the shards of some tiles and of their margins are made; nothing where with all.

        Args:
            places: Row and column of each tile.
        """
        if not self.gaps:
            return []
        owners = {owner for place in places for owner in self._list_owners(self.grid.tile_window(*place))}
        touched = {self._find_shard(*owner) for owner in owners}
        return [f"{shard}: {self.gaps[shard]}" for shard in sorted(touched & self.gaps.keys())]

    def _read_written(self, shard: tuple[int, int]) -> WrittenTiles:
        written = read_written(
            self.folder, shard, grid=self.grid, content_key=self.content_key, shard_size_tiles=self.shard_size_tiles
        )
        if written is None:
            raise self._refuse_damaged(f"shard {shard}", shard=shard)
        return written

    def read_valid(self, row: int, col: int) -> BoolArray:
        """Read which pixels of the ground that a tile owns are valid, bool (date=2, y, x).

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read.
        """
        return self.read_valid_in(self.grid.owned_window(row, col))

    def read_valid_in(self, window: Window) -> BoolArray:
        """Read which pixels of a rectangle in the grid are valid, bool (date=2, y, x); of what was not written, none.

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read.
        """
        with self.folder.clear_errors():
            reader = StoreReader(self.open())
        shard = self._find_shard(window.top // self.grid.stride_px, window.left // self.grid.stride_px)
        return self._read_window(lambda: reader.read_valid(window), shard=shard)

    def read_shard(self, shard: tuple[int, int]) -> tuple[Window, UInt8Array, BoolArray]:
        """Read what both dates show in a shard, each as far as it is valid itself.

        Args:
            shard: Row and column of the shard.

        Returns:
            The shard's pixels of the grid; what they hold, uint8 (date=2, band=3, y, x); and which of them are valid,
            bool (date=2, y, x).

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read.
        """
        with self.folder.clear_errors():
            reader = StoreReader(self.open())
        side_px, (height, width) = self.shard_size_tiles * self.grid.stride_px, self.grid.shape_px
        top, left = shard[0] * side_px, shard[1] * side_px
        window = Window(top, left, min(side_px, height - top), min(side_px, width - left))
        pixels, is_valid = self._read_window(
            lambda: (reader.read_pixels(window), reader.read_valid(window)), shard=shard
        )
        return window, pixels, is_valid

    def _read_window(self, read: Callable[[], Read], *, shard: tuple[int, int]) -> Read:
        try:
            with self.folder.clear_errors():
                return read()
        except FolderError:
            raise
        # Every codec has errors of its own for bytes that it did not write.
        except Exception as problem:
            raise self._refuse_damaged(f"shard {shard} ({type(problem).__name__})", shard=shard) from None

    def _refuse_damaged(self, what: str, *, shard: tuple[int, int]) -> FolderError:
        # Without its mark the shard is written again by the next run. Whoever may only read leaves it.
        with suppress(FolderError):
            self.folder.delete([name_mark(self.content_key, shard, shard_size_tiles=self.shard_size_tiles)])
        return FolderError(
            f"{what} in {self.folder.join(STORE_NAME)} is not what was written there",
            expected="the pixels that the mark of its shard speaks of",
            remedy="run again: that shard is written anew",
        )

    def list_missing_shards(self, *, area: GridArea | None) -> list[tuple[int, int]]:
        """List (row, column) of shards that should be whole and are not."""
        size = self.shard_size_tiles
        needed = find_shards_needed(self.grid, area=area, shard_size_tiles=size)
        shards = [shard for shard in needed if shard not in self.failed_shards]
        whole = find_whole_shards(self.folder, shards, content_key=self.content_key, shard_size_tiles=size)
        return [shard for shard in shards if shard not in whole]

    def read_facts(self, shards: Sequence[tuple[int, int]]) -> Iterator[TileFacts | None]:
        """Read the facts of some shards' tiles, shard by shard, row-major in each; None for one of no whole shard."""
        size = self.shard_size_tiles
        for shard, mark in read_marks(self.folder, shards, content_key=self.content_key, shard_size_tiles=size):
            if mark is None:
                yield from [None] * len(list_tiles_of_shard(self.grid, shard, shard_size_tiles=size))
            else:
                yield from parse_mark(mark, shard, grid=self.grid, shard_size_tiles=size)

    def read_dates(self, shards: Sequence[tuple[int, int]]) -> Iterator[Mapping[str, list[list[int]]] | None]:
        """Read what `describe_dates` gave of some shards; None for one that is not whole or tells nothing."""
        size = self.shard_size_tiles
        for _, mark in read_marks(self.folder, shards, content_key=self.content_key, shard_size_tiles=size):
            yield None if mark is None else mark.get("dates")

    def read_thumbnails(self, shards: Sequence[tuple[int, int]]) -> Iterator[UInt8Array | None]:
        """Read a small view of each shard, uint8 (date=2, y, x, band=3); None for one that is not whole."""
        size, grid = self.shard_size_tiles, self.grid
        for shard, mark in read_marks(self.folder, shards, content_key=self.content_key, shard_size_tiles=size):
            n_rows, n_cols = (
                min(size, n_tiles - index * size)
                for index, n_tiles in zip(shard, (grid.n_rows, grid.n_cols), strict=True)
            )
            yield read_thumbnail(mark["thumbnail"], n_rows=n_rows, n_cols=n_cols) if mark is not None else None


def group_near(places: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Say which tiles of a shard are read in one go: all, or each alone where that is less to decode.

    Args:
        places: Row and column of each.

    Returns:
        Groups of indexes.
    """
    rows, cols = {row for row, _ in places}, {col for _, col in places}
    n_between = (max(rows) - min(rows) + 1) * (max(cols) - min(cols) + 1)
    numbers = list(range(len(places)))
    return [numbers] if len(places) * _COST_ALONE > n_between else [[number] for number in numbers]
