"""The tile store of a pair, and the tiles in it that are worth a look."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

import distributed
import numpy as np
import shapely
import zarr

from pipeline.aoi import read_aoi
from pipeline.config import TilesConfig
from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.run_folder import RunFolder
from pipeline.scenes import ScenePair
from pipeline.shards import (
    STORE_NAME,
    TileFacts,
    create_store,
    describe_store,
    find_whole_shards,
    list_shards,
    list_tiles_of_shard,
    open_store,
    parse_mark,
    read_window,
    write_shard,
)
from pipeline.sources import BoolArray, UInt8Array
from pipeline.summary import ProgressCallback, StageSummary, ignore_progress
from pipeline.workers import run_bounded


class TileStatus(StrEnum):
    """What became of a tile."""

    ANALYSED = "analysed"
    UNREADABLE = "unreadable"
    NO_DATA = "no_data"
    CLOUDY = "cloudy"
    OUTSIDE = "outside"
    IDENTICAL = "identical"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One cell of the grid for one pair."""

    row: int
    """Row in the grid, from the top."""
    col: int
    """Column in the grid, from the left."""
    tile_id: str
    """Name such as ``r0012_c0034``."""
    valid_fraction: float
    """Part of the tile's pixels that are valid on both dates, 0 to 1."""
    status: TileStatus | None
    """None: selected, to be asked; else why it is not."""
    reason: str
    """Why it is not asked, in words; empty for selected tiles."""


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

        Tiles of one shard are read in one go, so memory is that of the tiles plus one shard.

        Raises:
            FileNotFoundError: there is no store.
        """
        size_px = self.grid.tile_size_px
        pairs = np.empty((len(tiles), 2, 3, size_px, size_px), dtype=np.uint8)
        group = self.open()
        by_shard: dict[tuple[int, int], list[int]] = {}
        for index, tile in enumerate(tiles):
            shard = tile.row // self.shard_size_tiles, tile.col // self.shard_size_tiles
            by_shard.setdefault(shard, []).append(index)
        for indexes in by_shard.values():
            top, left = (min(getattr(tiles[i], name) for i in indexes) for name in ("row", "col"))
            bottom, right = (max(getattr(tiles[i], name) for i in indexes) + 1 for name in ("row", "col"))
            window = top * size_px, left * size_px, (bottom - top) * size_px, (right - left) * size_px
            pixels, is_valid = read_window(group, window)
            pixels *= is_valid.all(axis=0)
            for i in indexes:
                y, x = (tiles[i].row - top) * size_px, (tiles[i].col - left) * size_px
                pairs[i] = pixels[:, :, y : y + size_px, x : x + size_px]
        return pairs

    def list_missing_shards(self) -> list[tuple[int, int]]:
        """List (row, column) of shards that should be whole and are not."""
        size = self.shard_size_tiles
        shards = [s for s in list_shards(self.grid, shard_size_tiles=size) if s not in self.failed_shards]
        whole = find_whole_shards(self.folder, shards, content_key=self.content_key, shard_size_tiles=size)
        return [shard for shard in shards if shard not in whole]

    def read_facts(self) -> dict[tuple[int, int], TileFacts]:
        """Read per (row, col) the facts of every tile whose shard is whole."""
        size = self.shard_size_tiles
        shards = list_shards(self.grid, shard_size_tiles=size)
        whole = find_whole_shards(self.folder, shards, content_key=self.content_key, shard_size_tiles=size)
        return {
            (facts.row, facts.col): facts
            for shard, mark in whole.items()
            for facts in parse_mark(mark, shard, grid=self.grid, shard_size_tiles=size)
        }


def write_tiles(
    pair: ScenePair,
    *,
    folder: RunFolder,
    config: TilesConfig,
    client: distributed.Client,
    max_in_flight: int | None,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[TileStore, StageSummary]:
    """Write the pixels of both dates into the run's store, shard by shard; those that are whole are kept.

    Items of the summary are tiles.

    Raises:
        InputError: not one shard could be written because a scene cannot be read.
    """
    grid, size = pair.grid, config.shard_size_tiles
    shards = list_shards(grid, shard_size_tiles=size)
    whole = _prepare_store(folder, pair, shards=shards, shard_size_tiles=size)
    n_kept = sum(len(list_tiles_of_shard(grid, shard, shard_size_tiles=size)) for shard in whole)
    summary = StageSummary(
        stage="write_tiles",
        total=grid.n_rows * grid.n_cols,
        skipped=n_kept,
        reasons={"already there": n_kept} if n_kept else {},
    )
    on_progress(summary)
    missing = {f"write-shard-{uuid4().hex}": shard for shard in shards if shard not in whole}
    # ^ not named by the content: runs into two folders may share a scheduler, not a task.
    arguments = ((key, (folder, pair, size, *shard)) for key, shard in missing.items())
    problems: dict[tuple[int, int], BaseException] = {}
    for key, outcome in run_bounded(client, write_shard, arguments, max_in_flight=max_in_flight):
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


def select_tiles(store: TileStore, *, aoi: str | None, min_valid_fraction: float) -> tuple[list[Tile], StageSummary]:
    """List every tile of the grid, row-major, and say which of them are worth asking about.

    Args:
        store: The tile store.
        aoi: Polygons; tiles that share no area with them are outside.
        min_valid_fraction: Tiles of which less is valid on both dates are not asked about.

    Raises:
        InputError: the area of interest cannot be used.
    """
    start = time.perf_counter()
    grid, facts = store.grid, store.read_facts()
    is_inside = _find_inside(grid, aoi=aoi)
    tiles = []
    for row in range(grid.n_rows):
        for col in range(grid.n_cols):
            shard = row // store.shard_size_tiles, col // store.shard_size_tiles
            known = facts.get((row, col))
            status, reason = decide_tile(
                known,
                is_inside=bool(is_inside[row, col]),
                min_valid_fraction=min_valid_fraction,
                problem=store.failed_shards.get(shard, "its shard was not written"),
            )
            tiles.append(
                Tile(
                    row=row,
                    col=col,
                    tile_id=grid.tile_id(row, col),
                    valid_fraction=known.valid_fraction if known else 0.0,
                    status=status,
                    reason=reason,
                )
            )
    counts = Counter(tile.status for tile in tiles)
    n_failed = counts[TileStatus.FAILED]
    return tiles, StageSummary(
        stage="select_tiles",
        done=counts[None],
        skipped=len(tiles) - counts[None] - n_failed,
        failed=n_failed,
        total=len(tiles),
        seconds=time.perf_counter() - start,
        reasons={status.value: count for status, count in sorted(counts.items(), key=str) if status},
    )


def decide_tile(
    facts: TileFacts | None, *, is_inside: bool, min_valid_fraction: float, problem: str
) -> tuple[TileStatus | None, str]:
    """Decide whether a tile is worth asking about: None and no words, or a status and why.

    Args:
        facts: What its pixels tell; None if they could not be had.
        is_inside: Whether it shares area with the area of interest.
        min_valid_fraction: Least part that has to be valid on both dates.
        problem: Why there are no facts.
    """
    if not is_inside:
        return TileStatus.OUTSIDE, "outside the area of interest"
    if facts is None:
        return TileStatus.FAILED, problem
    if facts.valid_fraction == 0 or facts.valid_fraction < min_valid_fraction:
        parts = {"before": facts.before_valid_fraction, "after": facts.after_valid_fraction}
        lacking = [name for name, part in parts.items() if part == 0 or part < min_valid_fraction]
        shares = ", ".join(f"{name} {part:.1%}" for name, part in parts.items())
        return (
            TileStatus.NO_DATA,
            f"too little valid {' and '.join(lacking or parts)} ({shares}, both {facts.valid_fraction:.1%})",
        )
    if facts.is_identical:
        return TileStatus.IDENTICAL, f"equal pixels on both dates, in the {facts.valid_fraction:.1%} that both show"
    return None, ""


def _find_inside(grid: Grid, *, aoi: str | None) -> BoolArray:
    shape = grid.n_rows, grid.n_cols
    if aoi is None:
        return np.ones(shape, dtype=np.bool_)
    area = read_aoi(aoi, grid=grid)
    shapely.prepare(area)
    # A thousandth of a pixel inwards: tiles that only share an edge with the area, give or take the last
    # digits of its way through another CRS, are outside.
    edge = grid.resolution_m * 1e-3
    lefts, _, rights, _ = np.array([grid.tile_bounds(0, col) for col in range(grid.n_cols)]).T
    _, bottoms, _, tops = np.array([grid.tile_bounds(row, 0) for row in range(grid.n_rows)]).T
    boxes = shapely.box(lefts[None, :] + edge, bottoms[:, None] + edge, rights[None, :] - edge, tops[:, None] - edge)
    return np.asarray(shapely.intersects(area, boxes), dtype=np.bool_).reshape(shape)


def _prepare_store(
    folder: RunFolder, pair: ScenePair, *, shards: Sequence[tuple[int, int]], shard_size_tiles: int
) -> set[tuple[int, int]]:
    try:
        group = open_store(folder, is_read_only=False)
        found = group.attrs.get("content_key"), group.attrs.get("shard_size_tiles")
    # Cut off while it was made, or written by something else: whatever is wrong with it, it is made anew.
    except Exception:
        found = None, None
    if found != (pair.content_key, shard_size_tiles):
        create_store(folder, pair, shard_size_tiles=shard_size_tiles)
        return set()
    describe_store(group, pair)
    whole = find_whole_shards(folder, shards, content_key=pair.content_key, shard_size_tiles=shard_size_tiles)
    return set(whole)


def _describe_problem(problem: BaseException) -> str:
    words = problem.found if isinstance(problem, InputError) else str(problem)
    return words if isinstance(problem, InputError) else f"{type(problem).__name__}: {words}"


def _give_up(folder: RunFolder, problems: Iterable[BaseException]) -> None:
    refusal = next((problem for problem in problems if isinstance(problem, InputError)), None)
    if refusal is not None:
        folder.delete(folder.list_names(STORE_NAME))
        raise refusal
