"""select_tiles: which tiles of the store are looked at, and why the others are not."""

from __future__ import annotations

import time

import numpy as np

from pipeline.polygons.aoi import GridArea, find_inside, find_shards_inside
from pipeline.summary import StageSummary
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.marks import TileFacts, list_tiles_of_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import TileTable, encode_status
from pipeline.tiles.write import OUTSIDE_REASON


def select_tiles(
    store: TileStore, *, area: GridArea | None, min_valid_fraction: float, max_cloud_fraction: float = 1.0
) -> tuple[TileTable, StageSummary]:
    """List every tile of the grid, row-major, and say which of them are worth asking about.

    Args:
        store: The tile store.
        area: The area of interest; tiles that share no area with them are outside, and nothing of them counts as seen.
        min_valid_fraction: Tiles of which less is valid on both dates are not asked about.
        max_cloud_fraction: Tiles of which more is cloudy on either date are not asked about.
    """
    start = time.perf_counter()
    grid, size = store.grid, store.shard_size_tiles
    is_inside = find_inside(grid, area=area)
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
