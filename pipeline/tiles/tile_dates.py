"""When the tiles of composites were acquired, as the marks of their shards tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pipeline.dates import parse_moment
from pipeline.polygons.aoi import GridArea, find_shards_needed
from pipeline.scenes.composite import CompositeScene
from pipeline.scenes.pair import DATES, ScenePair
from pipeline.tiles.made_of import NOTHING
from pipeline.tiles.marks import list_tiles_of_shard
from pipeline.tiles.store import TileStore

Moments = npt.NDArray[np.datetime64]


@dataclass(frozen=True, kw_only=True)
class TileDates:
    """What the tiles of a grid are made of, row-major; NaT and 0 where nothing is known of a tile."""

    columns: Mapping[str, Moments]
    """Moments, UTC: for ``before`` and ``after`` under ``<date>_datetime`` the middle one, under ``<date>_from`` and
    ``<date>_to`` the first and the last."""
    n_scenes: npt.NDArray[np.int32]
    """How many dates a tile is made of, those of both scenes together."""

    @classmethod
    def read(cls, store: TileStore, *, pair: ScenePair, area: GridArea | None) -> Self:
        """Read the marks of a store.

        Args:
            store: The tile store.
            pair: Its scenes, each made of several dates.
            area: The area of interest.

        Raises:
            FolderError: the store cannot be read.
        """
        grid, size = store.grid, store.shard_size_tiles
        n_tiles = grid.n_rows * grid.n_cols
        found = np.tile(np.array([NOTHING, NOTHING, NOTHING, 0]), (len(DATES), n_tiles, 1))
        shards = find_shards_needed(grid, area=area, shard_size_tiles=size)
        for shard, dates in zip(shards, store.read_dates(shards), strict=True):
            tiles = list_tiles_of_shard(grid, shard, shard_size_tiles=size)
            indexes = [row * grid.n_cols + col for row, col in tiles]
            for place, date in enumerate(DATES):
                if dates is not None:
                    found[place, indexes] = dates[date]
        columns = {}
        for place, date in enumerate(DATES):
            moments = _list_moments(getattr(pair, date))
            for column, name in enumerate(("from", "datetime", "to")):
                columns[f"{date}_{name}"] = moments[found[place, :, column]]
        return cls(columns=columns, n_scenes=found[:, :, 3].sum(axis=0).astype(np.int32))


def _list_moments(scene: CompositeScene) -> Moments:
    """List when each date was acquired, and last NaT, which `NOTHING` points to."""
    moments = [parse_moment(moment).replace(tzinfo=None) for moment in scene.moments]
    return np.array([*moments, "NaT"], dtype="datetime64[us]")
