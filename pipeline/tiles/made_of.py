"""Which dates the tiles of composites are made of, counted beside the pixels for the mark of their shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.scenes.composite import CompositeScene
from pipeline.scenes.mosaic import BitArray, Block
from pipeline.scenes.pair import DATES, ScenePair

NOTHING = -1
"""In a mark, in place of a date: the tile shows nothing of the scene."""


UNREAD = "is made in places without a date that could not be read there"
"""What is told of composites of which a date failed while shards were written."""


def describe_unread(blocks: Sequence[Block]) -> dict[str, int]:
    """Give notes on the dates that composites do without; nothing where all could be read.

    Args:
        blocks: Both dates of a shard.
    """
    return {f"{date} {UNREAD}: {why}": 1 for date, block in zip(DATES, blocks, strict=True) for why in block.unread}


def describe_dates(blocks: Sequence[Block], *, pair: ScenePair, tile_size_px: int) -> dict[str, Any]:
    """Give what a mark keeps of the dates that the tiles of a shard are made of; nothing where scenes have one each.

    Args:
        blocks: Both dates of a shard.
        pair: The scenes.
        tile_size_px: Side of the ground that a tile owns.
    """
    told = {}
    for date, block in zip(DATES, blocks, strict=True):
        scene = getattr(pair, date)
        if isinstance(scene, CompositeScene) and block.made_of is not None:
            told[date] = count_dates(block.made_of, scene=scene, tile_size_px=tile_size_px)
    return {"dates": told} if told else {}


def count_dates(made_of: BitArray, *, scene: CompositeScene, tile_size_px: int) -> list[list[int]]:
    """Tell of each tile of a shard, row-major, which dates it is made of.

    Args:
        made_of: A bit for each date, (height, width), whole multiples of the tile size.
        scene: The dates.
        tile_size_px: Side of the ground that a tile owns.

    Returns:
        The places among the scene's dates of the first, the middle and the last in time, and how many there are. The
        middle one is that of its pixels: of each as many dates as it is made of.
    """
    height, width = made_of.shape
    split = made_of.reshape(height // tile_size_px, tile_size_px, width // tile_size_px, tile_size_px)
    by_time = sorted(range(len(scene.dates)), key=lambda place: scene.moments[place])
    counts = np.stack(
        [((split & made_of.dtype.type(1 << place)) > 0).sum(axis=(1, 3), dtype=np.int64).ravel() for place in by_time]
    )
    running = counts.cumsum(axis=0)
    rows = []
    for n_pixels, sums in zip(counts.T, running.T, strict=True):
        found = np.flatnonzero(n_pixels)
        if not len(found):
            rows.append([NOTHING, NOTHING, NOTHING, 0])
            continue
        middle = np.searchsorted(sums, (sums[-1] + 1) // 2)
        rows.append([*(by_time[place] for place in (found[0], middle, found[-1])), len(found)])
    return rows
