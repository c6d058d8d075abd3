"""write_tiles: the pixels of a pair become a tile store, shard by shard, on the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from uuid import uuid4

import distributed

from model.errors import FolderError, InputError
from model.redaction import redact_text
from pipeline.config.grid import TilesConfig
from pipeline.config.limits import DEFAULT_LIMITS, LimitsConfig
from pipeline.grid.grid import Grid
from pipeline.polygons.aoi import GridArea, find_shards_needed
from pipeline.scenes.pair import ScenePair
from pipeline.storage.folder import RunFolder
from pipeline.summary import SHARD_REPAIRED, ProgressCallback, StageSummary, ignore_progress
from pipeline.tiles.marks import list_damaged_shards, list_tiles_of_shard, read_marks
from pipeline.tiles.shards import (
    SlowSceneError,
    create_store,
    delete_store,
    describe_store,
    open_store,
    write_shard_in_time,
)
from pipeline.tiles.store import TileStore
from pipeline.workers.outcomes import TaskFailedError
from pipeline.workers.tasks import Call, run_bounded

WAITS_IN_VAIN = 3
"""So many shards in a row that fail only after a server was silent for as long as it may be, and no more are tried."""
OUTSIDE_REASON = "outside the area of interest"
"""Why tiles outside it are not asked about, and their shards not written."""


def write_tiles(
    pair: ScenePair,
    *,
    folder: RunFolder,
    config: TilesConfig,
    client: distributed.Client,
    max_in_flight: int | None,
    area: GridArea | None = None,
    limits: LimitsConfig = DEFAULT_LIMITS,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[TileStore, StageSummary]:
    """Write the pixels of both dates into the run's store, shard by shard; those that are whole are kept.

    One that was made without a scene that could not be read there is made anew.

    Shards without any tile inside the area of interest are neither read nor written. Where server after server is
    waited for in vain, the rest is not read either. Items of the summary are tiles.

    Raises:
        InputError: not one shard could be written because a scene cannot be read.
    """
    grid, size = pair.grid, config.shard_size_tiles
    shards = find_shards_needed(grid, area=area, shard_size_tiles=size)
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
        notes={SHARD_REPAIRED: n_damaged} if n_damaged else {},
    )
    on_progress(summary)
    problems: dict[tuple[int, int], BaseException] = {}
    gaps: dict[tuple[int, int], str] = {}
    for part in _write_shards(
        pair,
        [shard for shard in shards if shard not in whole],
        folder=folder,
        shard_size_tiles=size,
        client=client,
        max_in_flight=max_in_flight,
        limits=limits,
        problems=problems,
        gaps=gaps,
    ):
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
        gaps=dict(sorted(gaps.items())),
    )
    return store, summary


def _write_shards(
    pair: ScenePair,
    shards: Sequence[tuple[int, int]],
    *,
    folder: RunFolder,
    shard_size_tiles: int,
    client: distributed.Client,
    max_in_flight: int | None,
    limits: LimitsConfig,
    problems: dict[tuple[int, int], BaseException],
    gaps: dict[tuple[int, int], str],
) -> Iterator[StageSummary]:
    """Write shards, and give what has become of their tiles as they come.

    Why a shard failed is put into problems, and which scenes it is made without into gaps.
    """
    # Not named by the content: runs into two folders may share a scheduler, not a task.
    missing = {f"write-shard-{uuid4().hex}": shard for shard in shards}
    calls = (Call(key, (folder, pair, shard_size_tiles, *shard, limits)) for key, shard in tuple(missing.items()))
    waits: list[BaseException] = []

    def count_failed(failed: Sequence[tuple[int, int]], reason: str) -> StageSummary:
        return _count_failed(pair.grid, failed, shard_size_tiles=shard_size_tiles, reason=reason)

    with closing(
        run_bounded(client, write_shard_in_time, lambda: next(calls, None), max_in_flight=max_in_flight)
    ) as outcomes:
        for key, outcome in outcomes:
            shard = missing.pop(key)
            if isinstance(outcome, FolderError):
                raise outcome
            if not isinstance(outcome, BaseException):
                waits.clear()
                if outcome.notes:
                    gaps[shard] = "; ".join(sorted(outcome.notes))
                yield outcome
                continue
            problems[shard] = outcome
            yield count_failed([shard], _describe_problem(outcome))
            if isinstance(outcome, SlowSceneError):
                waits.append(outcome)
            if len(waits) == WAITS_IN_VAIN:
                # Those that workers have at hand would only wait as well.
                break
    if missing:
        problems |= dict.fromkeys(missing.values(), waits[-1])
        yield count_failed(list(missing.values()), f"not read: {_describe_problem(waits[-1])}")


def _count_failed(grid: Grid, shards: Sequence[tuple[int, int]], *, shard_size_tiles: int, reason: str) -> StageSummary:
    n_tiles = sum(len(list_tiles_of_shard(grid, shard, shard_size_tiles=shard_size_tiles)) for shard in shards)
    return StageSummary(stage="write_tiles", failed=n_tiles, reasons={reason: n_tiles})


def _prepare_store(
    folder: RunFolder, pair: ScenePair, *, shards: Sequence[tuple[int, int]], shard_size_tiles: int
) -> tuple[set[tuple[int, int]], int]:
    """Give the shards that are whole and without gaps, and how many are there but damaged."""
    try:
        with folder.clear_errors():
            group = open_store(folder)
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
    describe_store(folder, pair, shard_size_tiles=shard_size_tiles)
    whole: set[tuple[int, int]] = set()
    with_gaps: set[tuple[int, int]] = set()
    for shard, mark in read_marks(folder, shards, content_key=pair.content_key, shard_size_tiles=shard_size_tiles):
        if mark is not None:
            (with_gaps if mark.get("unread") else whole).add(shard)
    damaged = list_damaged_shards(
        folder, shards, whole=whole | with_gaps, content_key=pair.content_key, shard_size_tiles=shard_size_tiles
    )
    return whole, len(damaged)


def _describe_problem(problem: BaseException) -> str:
    if isinstance(problem, InputError):
        return problem.found
    if isinstance(problem, TaskFailedError):
        return redact_text(str(problem))
    return f"{type(problem).__name__}: {redact_text(str(problem))}"


def _give_up(folder: RunFolder, problems: Iterable[BaseException]) -> None:
    refusal = next((problem for problem in problems if isinstance(problem, InputError)), None)
    if refusal is not None:
        delete_store(folder)
        raise refusal
