"""The tile store of a pair, and the tiles in it that are worth a look."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import distributed
import numpy as np
import zarr

from pipeline.aoi import find_inside, find_shards_inside, find_shards_needed
from pipeline.blocks import Window
from pipeline.config import TilesConfig
from pipeline.errors import FolderError, InputError
from pipeline.grid import Grid
from pipeline.marks import (
    STORE_NAME,
    find_whole_shards,
    list_damaged_shards,
    list_tiles_of_shard,
    name_mark,
    read_checksums,
    read_marks,
)
from pipeline.object_stores import repeat_request
from pipeline.redaction import redact_text
from pipeline.run_folder import RunFolder
from pipeline.scenes import ScenePair
from pipeline.shards import (
    check_arrays,
    create_store,
    describe_store,
    open_store,
    parse_mark,
    read_window,
    write_shard,
)
from pipeline.sources import BoolArray, UInt8Array
from pipeline.summary import ProgressCallback, StageSummary, ignore_progress
from pipeline.thumbnails import read_thumbnail
from pipeline.tile_checksums import checksum_tile
from pipeline.tile_facts import TileFacts
from pipeline.tile_table import Tile as Tile
from pipeline.tile_table import TileStatus as TileStatus
from pipeline.tile_table import TileTable, encode_status
from pipeline.workers import run_bounded

OUTSIDE_REASON = "outside the area of interest"
"""Why tiles outside it are not asked about, and their shards not written."""


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

    def open(self) -> zarr.Group:
        """Open the arrays ``pixels`` (date, band, y, x) and ``valid`` (date, y, x), both uint8, to be read.

        Raises:
            FileNotFoundError: there is no store.
        """
        return open_store(self.folder)

    def read_pairs(self, tiles: Sequence[Tile]) -> UInt8Array:
        """Read pixels, uint8 (tile, date=2, band=3, y, x); what is not valid on both dates is 0 on both.

        Tiles of one shard are read in one go, so memory is that of the tiles plus one shard and its margin.

        Raises:
            FileNotFoundError: there is no store.
            FolderError: it cannot be read, or a tile is not what its shard's mark says.
        """
        size_px = self.grid.tile_size_px
        pairs = np.empty((len(tiles), 2, 3, size_px, size_px), dtype=np.uint8)
        with self.folder.clear_errors():
            group = self.open()
        by_shard: dict[tuple[int, int], list[int]] = {}
        for index, tile in enumerate(tiles):
            shard = tile.row // self.shard_size_tiles, tile.col // self.shard_size_tiles
            by_shard.setdefault(shard, []).append(index)
        for indexes in by_shard.values():
            windows = [self.grid.tile_window(tiles[i].row, tiles[i].col) for i in indexes]
            shown, top, left = self._read_shown(group, windows)
            for i, (y, x, _, _) in zip(indexes, windows, strict=True):
                pairs[i] = shown[:, :, y - top : y - top + size_px, x - left : x - left + size_px]
        return pairs

    def _read_shown(self, group: zarr.Group, windows: Sequence[Window]) -> tuple[UInt8Array, int, int]:
        """Read what both dates show in the rectangle around some windows; beyond the grid nothing is seen.

        Returns:
            uint8 (date=2, band=3, y, x), and the first row and column of the grid's pixels that it has.
        """
        stride_px = self.grid.stride_px
        owners = sorted({owner for window in windows for owner in self._list_owners(window)})
        rows, cols = zip(*owners, strict=True)
        top, left = min(rows) * stride_px, min(cols) * stride_px
        bottom, right = (max(rows) + 1) * stride_px, (max(cols) + 1) * stride_px
        pixels, is_valid = self._read_window(
            group, (top, left, bottom - top, right - left), shard=self._find_shard(*owners[0])
        )
        self._check_owned(pixels, is_valid, owners=owners, corner=(top, left))
        pixels *= is_valid.all(axis=0)
        beyond = (
            (max(0, top - min(w[0] for w in windows)), max(0, max(w[0] + w[2] for w in windows) - bottom)),
            (max(0, left - min(w[1] for w in windows)), max(0, max(w[1] + w[3] for w in windows) - right)),
        )
        return np.pad(pixels, ((0, 0), (0, 0), *beyond)), top - beyond[0][0], left - beyond[1][0]

    def _check_owned(
        self,
        pixels: UInt8Array,
        is_valid: BoolArray,
        *,
        owners: Sequence[tuple[int, int]],
        corner: tuple[int, int],
    ) -> None:
        """Compare the ground of each owning tile with the checksum in its shard's mark."""
        size_px = self.grid.stride_px
        checksums = {shard: self._read_checksums(shard) for shard in {self._find_shard(*owner) for owner in owners}}
        for row, col in owners:
            y, x = row * size_px - corner[0], col * size_px - corner[1]
            ys, xs = slice(y, y + size_px), slice(x, x + size_px)
            shard = self._find_shard(row, col)
            if checksum_tile(pixels[:, :, ys, xs], is_valid[:, ys, xs]) != checksums[shard][row, col]:
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
        touched = (self._find_shard(*owner) for owner in self._list_owners(self.grid.tile_window(row, col)))
        return next((self.failed_shards[shard] for shard in touched if shard in self.failed_shards), None)

    def _read_checksums(self, shard: tuple[int, int]) -> dict[tuple[int, int], str]:
        checksums = read_checksums(
            self.folder, shard, grid=self.grid, content_key=self.content_key, shard_size_tiles=self.shard_size_tiles
        )
        if checksums is None:
            raise self._refuse_damaged(f"shard {shard}", shard=shard)
        return checksums

    def _read_window(
        self, group: zarr.Group, window: Window, *, shard: tuple[int, int]
    ) -> tuple[UInt8Array, BoolArray]:
        try:
            with self.folder.clear_errors():
                return read_window(group, window)
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

    def list_missing_shards(self, *, aoi: str | None) -> list[tuple[int, int]]:
        """List (row, column) of shards that should be whole and are not.

        Raises:
            InputError: the area of interest cannot be used.
        """
        size = self.shard_size_tiles
        needed = find_shards_needed(self.grid, aoi=aoi, shard_size_tiles=size)
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

    def read_thumbnails(self, shards: Sequence[tuple[int, int]]) -> Iterator[UInt8Array | None]:
        """Read a small view of each shard, uint8 (date=2, y, x, band=3); None for one that is not whole."""
        size, grid = self.shard_size_tiles, self.grid
        for shard, mark in read_marks(self.folder, shards, content_key=self.content_key, shard_size_tiles=size):
            n_rows, n_cols = (
                min(size, n_tiles - index * size)
                for index, n_tiles in zip(shard, (grid.n_rows, grid.n_cols), strict=True)
            )
            yield read_thumbnail(mark["thumbnail"], n_rows=n_rows, n_cols=n_cols) if mark is not None else None


def write_tiles(
    pair: ScenePair,
    *,
    folder: RunFolder,
    config: TilesConfig,
    client: distributed.Client,
    max_in_flight: int | None,
    aoi: str | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[TileStore, StageSummary]:
    """Write the pixels of both dates into the run's store, shard by shard; those that are whole are kept.

    Shards without any tile inside the area of interest are neither read nor written. Items of the summary are tiles.

    Raises:
        InputError: the area of interest cannot be used, or not one shard could be written because a scene cannot be
            read.
    """
    grid, size = pair.grid, config.shard_size_tiles
    shards = find_shards_needed(grid, aoi=aoi, shard_size_tiles=size)
    whole, n_damaged = _prepare_store(folder, pair, shards=shards, shard_size_tiles=size)
    n_tiles = grid.n_rows * grid.n_cols
    n_inside, n_kept = (
        sum(len(list_tiles_of_shard(grid, shard, shard_size_tiles=size)) for shard in part) for part in (shards, whole)
    )
    skipped = {"already there": n_kept, OUTSIDE_REASON: n_tiles - n_inside}
    summary = StageSummary(
        stage="write_tiles",
        total=n_tiles,
        skipped=sum(skipped.values()),
        reasons={reason: count for reason, count in skipped.items() if count},
        notes={"a damaged shard or mark is written again": n_damaged} if n_damaged else {},
    )
    on_progress(summary)
    missing = {f"write-shard-{uuid4().hex}": shard for shard in shards if shard not in whole}
    # ^ not named by the content: runs into two folders may share a scheduler, not a task.
    arguments = ((key, (folder, pair, size, *shard)) for key, shard in missing.items())
    problems: dict[tuple[int, int], BaseException] = {}
    for key, outcome in run_bounded(client, write_shard, arguments, max_in_flight=max_in_flight):
        if isinstance(outcome, FolderError):
            raise outcome
        if isinstance(outcome, BaseException):
            problems[missing[key]] = outcome
            n_tiles = len(list_tiles_of_shard(grid, missing[key], shard_size_tiles=size))
            part = StageSummary(stage="write_tiles", failed=n_tiles, reasons={_describe_problem(outcome): n_tiles})
        else:
            part = outcome
        summary += part
        on_progress(part)
    if len(problems) == len(shards):
        _give_up(folder, problems.values())
    store = TileStore(
        folder=folder,
        grid=grid,
        content_key=pair.content_key,
        shard_size_tiles=size,
        failed_shards={shard: _describe_problem(problem) for shard, problem in sorted(problems.items())},
    )
    return store, summary


def select_tiles(
    store: TileStore, *, aoi: str | None, min_valid_fraction: float, max_cloud_fraction: float = 1.0
) -> tuple[TileTable, StageSummary]:
    """List every tile of the grid, row-major, and say which of them are worth asking about.

    Args:
        store: The tile store.
        aoi: Polygons; tiles that share no area with them are outside, and nothing of them counts as seen.
        min_valid_fraction: Tiles of which less is valid on both dates are not asked about.
        max_cloud_fraction: Tiles of which more is cloudy on either date are not asked about.

    Raises:
        InputError: the area of interest cannot be used.
    """
    start = time.perf_counter()
    grid, size = store.grid, store.shard_size_tiles
    is_inside = find_inside(grid, aoi=aoi)
    tiles = TileTable.make(grid)
    tiles.status_codes[:], tiles.reasons[:] = encode_status(TileStatus.OUTSIDE), OUTSIDE_REASON
    shards = find_shards_inside(is_inside, shard_size_tiles=size)
    places = (place for shard in shards for place in list_tiles_of_shard(grid, shard, shard_size_tiles=size))
    for (row, col), known in zip(places, store.read_facts(shards), strict=True):
        problem = store.find_failed_shard(row, col) if store.failed_shards else None
        facts = known if problem is None else None
        status, reason = decide_tile(
            facts,
            is_inside=bool(is_inside[row, col]),
            min_valid_fraction=min_valid_fraction,
            max_cloud_fraction=max_cloud_fraction,
            problem=problem or "its shard was not written",
        )
        index = row * grid.n_cols + col
        tiles.status_codes[index], tiles.reasons[index] = encode_status(status), reason
        # What a shard happens to hold beyond the area does not count: how much that is depends on the shards' size.
        if facts and is_inside[row, col]:
            tiles.valid_fractions[index] = facts.valid_fraction
            tiles.cloud_fractions[index] = np.nan if facts.cloud_fraction is None else facts.cloud_fraction
    return tiles, _summarise(tiles, seconds=time.perf_counter() - start)


def _summarise(tiles: TileTable, *, seconds: float) -> StageSummary:
    counts = tiles.count_statuses()
    n_selected, n_failed = counts.get(None, 0), counts.get(TileStatus.FAILED, 0)
    return StageSummary(
        stage="select_tiles",
        done=n_selected,
        skipped=len(tiles) - n_selected - n_failed,
        failed=n_failed,
        total=len(tiles),
        seconds=seconds,
        reasons={status.value: count for status, count in sorted(counts.items(), key=str) if status},
    )


def decide_tile(
    facts: TileFacts | None,
    *,
    is_inside: bool,
    min_valid_fraction: float,
    max_cloud_fraction: float = 1.0,
    problem: str,
) -> tuple[TileStatus | None, str]:
    """Decide whether a tile is worth asking about: None and no words, or a status and why.

    Args:
        facts: What its pixels tell; None if they could not be had.
        is_inside: Whether it shares area with the area of interest.
        min_valid_fraction: Least part that has to be valid on both dates.
        max_cloud_fraction: Largest part that may be cloudy on either date.
        problem: Why there are no facts.
    """
    if not is_inside:
        return TileStatus.OUTSIDE, OUTSIDE_REASON
    if facts is None:
        return TileStatus.FAILED, problem
    if facts.cloud_fraction is not None and facts.cloud_fraction > max_cloud_fraction:
        return TileStatus.CLOUDY, f"{facts.cloud_fraction:.1%} is cloudy on one of the dates"
    if facts.valid_fraction == 0 or facts.valid_fraction < min_valid_fraction:
        parts = {"before": facts.before_valid_fraction, "after": facts.after_valid_fraction}
        lacking = [name for name, part in parts.items() if part == 0 or part < min_valid_fraction]
        shares = ", ".join(f"{name} {part:.1%}" for name, part in parts.items())
        return (
            TileStatus.NO_DATA,
            f"too little valid {' and '.join(lacking or parts)} ({shares}, both {facts.valid_fraction:.1%})",
        )
    if facts.is_identical:
        return TileStatus.IDENTICAL, f"equal pixels on both dates (in the {facts.valid_fraction:.1%} that both show)"
    return None, ""


def _prepare_store(
    folder: RunFolder, pair: ScenePair, *, shards: Sequence[tuple[int, int]], shard_size_tiles: int
) -> tuple[set[tuple[int, int]], int]:
    """Give the shards that are whole, and how many are there but damaged."""
    try:
        with folder.clear_errors():
            group = open_store(folder, is_read_only=False)
            check_arrays(group)
        found = group.attrs.get("content_key"), group.attrs.get("shard_size_tiles")
    # A store that does not answer is not a store that is damaged.
    except FolderError:
        raise
    # Cut off while it was made, or written by something else: whatever is wrong with it, it is made anew.
    except Exception:
        found = None, None
    if found != (pair.content_key, shard_size_tiles):
        create_store(folder, pair, shard_size_tiles=shard_size_tiles)
        return set(), 0
    with folder.clear_errors():
        repeat_request(partial(describe_store, group, pair), timeout_s=folder.retry_timeout_s)
    whole = find_whole_shards(folder, shards, content_key=pair.content_key, shard_size_tiles=shard_size_tiles)
    damaged = list_damaged_shards(
        folder, shards, whole=whole, content_key=pair.content_key, shard_size_tiles=shard_size_tiles
    )
    return whole, len(damaged)


def _describe_problem(problem: BaseException) -> str:
    if isinstance(problem, InputError):
        return problem.found
    return f"{type(problem).__name__}: {redact_text(str(problem))}"


def _give_up(folder: RunFolder, problems: Iterable[BaseException]) -> None:
    refusal = next((problem for problem in problems if isinstance(problem, InputError)), None)
    if refusal is not None:
        folder.delete(folder.list_names(STORE_NAME))
        raise refusal
