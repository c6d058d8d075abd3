"""select_tiles: which tiles of the store are looked at, and why the others are not."""

from __future__ import annotations

import time

import numpy as np
from shapely.geometry.base import BaseGeometry

from pipeline.polygons.aoi import GridArea, find_shards_inside
from pipeline.summary import StageSummary
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.ground import Ground, GroundShares
from pipeline.tiles.marks import TileFacts, list_tiles_of_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import TileTable, encode_status
from pipeline.tiles.write import OUTSIDE_REASON

SELECTION_VERSION = 2
"""Part of every run's name: raised when other tiles come to be asked about than before."""


def select_tiles(
    store: TileStore,
    *,
    area: GridArea | None,
    min_valid_fraction: float,
    max_cloud_fraction: float = 1.0,
    extent: BaseGeometry | None = None,
) -> tuple[TileTable, StageSummary]:
    """List every tile of the grid, row-major, and say which of them are worth asking about.

    Args:
        store: The tile store.
        area: The area of interest; tiles that share no area with them are outside, and nothing of them counts as seen.
        min_valid_fraction: Tiles of whose ground less is valid on both dates are not asked about.
        max_cloud_fraction: Tiles of whose ground more is cloudy on either date are not asked about.
        extent: What both scenes reach, as `find_extent` gives it; None for all that the grid was laid over.

    Raises:
        FolderError: the store cannot be read.
    """
    start = time.perf_counter()
    grid, size = store.grid, store.shard_size_tiles
    ground = Ground.lay_out(store, area=area, extent=extent)
    is_inside = ground.is_inside
    tiles = TileTable.make(grid)
    tiles.status_codes[:], tiles.reasons[:] = encode_status(TileStatus.OUTSIDE), OUTSIDE_REASON
    shards = find_shards_inside(is_inside, shard_size_tiles=size)
    places = (place for shard in shards for place in list_tiles_of_shard(grid, shard, shard_size_tiles=size))
    is_whole = (is_inside & ~ground.is_cut & (ground.n_pixels == grid.stride_px**2)).ravel().tolist()
    plain: list[int] = []
    for (row, col), known in zip(places, store.read_facts(shards), strict=True):
        problem = store.find_failed_shard(row, col) if store.failed_shards else None
        facts = known if problem is None else None
        index = row * grid.n_cols + col
        if facts and is_whole[index] and _is_plain(facts):
            plain.append(index)
            tiles.cloud_fractions[index] = np.nan if facts.cloud_fraction is None else 0.0
            continue
        shares = ground.share(facts) if facts and is_inside[row, col] else None
        status, reason = decide_tile(
            facts,
            shares=shares,
            is_inside=bool(is_inside[row, col]),
            min_valid_fraction=min_valid_fraction,
            max_cloud_fraction=max_cloud_fraction,
            problem=problem or "its shard was not written",
        )
        tiles.status_codes[index], tiles.reasons[index] = encode_status(status), reason
        # What a shard happens to hold beyond the area does not count: how much that is depends on the shards' size.
        if facts and shares:
            tiles.ground_fractions[index] = shares.fraction
            tiles.shown_fractions[index] = shares.fraction * shares.both
            tiles.valid_fractions[index] = facts.valid_fraction
            tiles.cloud_fractions[index] = np.nan if facts.cloud_fraction is None else facts.cloud_fraction
        elif is_inside[row, col]:
            tiles.ground_fractions[index] = ground.n_pixels[row, col] / grid.stride_px**2
    _select_plain(tiles, plain)
    return tiles, _summarise(tiles, seconds=time.perf_counter() - start)


def _is_plain(facts: TileFacts) -> bool:
    """Tell whether both dates show all of a tile without a cloud, and not the same: most tiles of a region are such."""
    return facts.valid_fraction == 1.0 and not facts.cloud_fraction and not facts.is_identical


def _select_plain(tiles: TileTable, plain: list[int]) -> None:
    tiles.status_codes[plain], tiles.reasons[plain] = encode_status(None), ""
    for shares in (tiles.ground_fractions, tiles.shown_fractions, tiles.valid_fractions):
        shares[plain] = 1.0


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
    shares: GroundShares | None,
    is_inside: bool,
    min_valid_fraction: float,
    max_cloud_fraction: float = 1.0,
    problem: str,
) -> tuple[TileStatus | None, str]:
    """Decide whether a tile is worth asking about: None and no words, or a status and why.

    Args:
        facts: What its pixels tell; None if they could not be had.
        shares: How much of its ground is valid; None without facts.
        is_inside: Whether it shares area with the area of interest.
        min_valid_fraction: Least part of its ground that has to be valid on both dates.
        max_cloud_fraction: Largest part that may be cloudy on either date.
        problem: Why there are no facts.
    """
    if not is_inside:
        return TileStatus.OUTSIDE, OUTSIDE_REASON
    if facts is None or shares is None:
        return TileStatus.FAILED, problem
    if shares.cloudy is not None and shares.cloudy > max_cloud_fraction:
        return TileStatus.CLOUDY, f"{shares.cloudy:.1%} is cloudy on one of the dates"
    if shares.both == 0 or shares.both < min_valid_fraction:
        parts = {"before": shares.before, "after": shares.after}
        lacking = [name for name, part in parts.items() if part == 0 or part < min_valid_fraction]
        words = ", ".join(f"{name} {part:.1%}" for name, part in parts.items())
        return (
            TileStatus.NO_DATA,
            f"too little valid {' and '.join(lacking or parts)} ({words}, both {shares.both:.1%})",
        )
    if facts.is_identical:
        return TileStatus.IDENTICAL, f"equal pixels on both dates (in the {facts.valid_fraction:.1%} that both show)"
    return None, ""
