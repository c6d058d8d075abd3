"""The tiles that an assessment speaks of: those that the model has called changed or unchanged."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from pipeline.findings.changes import count_owned
from pipeline.findings.zone_cover import measure_tiles
from pipeline.findings.zone_sums import share_changes
from pipeline.grid.grid import Grid
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """Tiles that were asked about and whose answers could be read.

    Tiles with the same pixels on both dates are none: there is nothing to see. Of tiles that nobody looked at no sample
    says anything.
    """

    tiles: pd.DataFrame
    """By tile_id, row-major: row, col, is_changed, confidence (0 where none is told), ground_m2, and per kind
    <kind>_count as the model tells it."""

    @property
    def ground_m2(self) -> float:
        """Ground that the tiles own, as far as both dates show it."""
        return float(self.tiles["ground_m2"].sum())


def describe_population(findings: gpd.GeoDataFrame, *, grid: Grid) -> Population:
    """Take from the findings of a run what a sample is drawn by."""
    is_told = findings["status"].eq(TileStatus.ANALYSED.value) & findings["is_changed"].notna()
    told = findings[is_told].sort_values(["row", "col"])
    rows, cols = (told[name].to_numpy(dtype=np.int64) for name in ("row", "col"))
    tiles = pd.DataFrame(
        {
            "tile_id": told["tile_id"].to_numpy(dtype=object),
            "row": rows,
            "col": cols,
            "is_changed": told["is_changed"].to_numpy(dtype=np.bool_),
            "confidence": told["change_confidence"].astype("Float64").fillna(0.0).to_numpy(dtype=np.float64),
            "ground_m2": measure_tiles(grid)[rows, cols] * told["valid_fraction"].to_numpy(dtype=np.float64),
        }
    )
    for kind in CHANGE_KINDS:
        counts = count_owned(told, kind=kind, grid=grid)
        # A tile that is called unchanged brings no changes, whatever else its answers say.
        tiles[f"{kind}_count"] = np.where(tiles["is_changed"], np.nan_to_num(counts), 0.0)
    return Population(tiles=tiles.set_index("tile_id"))


def measure_told_areas(tiles: pd.DataFrame, *, changes: gpd.GeoDataFrame, grid: Grid) -> pd.DataFrame:
    """Give the area of changes of each kind (columns) in some tiles (rows), in square metres.

    Args:
        tiles: Rows of `Population.tiles`.
        changes: The run's changes.
        grid: The grid.
    """
    boxes = np.array([grid.tile_polygon(row, col) for row, col in zip(tiles["row"], tiles["col"], strict=True)])
    shapes = np.asarray(shapely.make_valid(changes.geometry.to_numpy()), dtype=object)
    areas_m2 = changes["area_m2"].to_numpy(dtype=np.float64)
    kinds = changes["kind"].to_numpy(dtype=object)
    sums = {kind: np.zeros(len(tiles)) for kind in CHANGE_KINDS}
    for tile_of, change_of, shares in share_changes(boxes, changes=shapes):
        for kind, values in sums.items():
            is_kind = kinds[change_of] == kind
            np.add.at(values, tile_of[is_kind], areas_m2[change_of[is_kind]] * shares[is_kind])
    return pd.DataFrame(sums, index=tiles.index)
