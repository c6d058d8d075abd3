"""The second and third verb: the pixels of a pair become tiles, and those worth a look are selected."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from uuid import uuid4

import distributed
import numpy as np

from pipeline.aoi import find_inside, find_shards_inside, find_shards_needed
from pipeline.config import TilesConfig
from pipeline.errors import FolderError, InputError
from pipeline.marks import (
    STORE_NAME,
    find_whole_shards,
    list_damaged_shards,
    list_tiles_of_shard,
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
    write_shard,
)
from pipeline.summary import ProgressCallback, StageSummary, ignore_progress
from pipeline.tile_facts import TileFacts
from pipeline.tile_store import TileStore
from pipeline.tile_table import TileStatus, TileTable, encode_status
from pipeline.workers import run_bounded

OUTSIDE_REASON = "outside the area of interest"
"""Why tiles outside it are not asked about, and their shards not written."""


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
