"""Coverage: of how much ground something is known, and what became of the rest.

Ground counts by its area, tile by tile as far as it is there: what both scenes reach, inside the area of interest. What
either date does not show is not seen, in whatever tile it lies; what of the area of interest lies off the scenes is
told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from model.home import ModelFit
from pipeline.findings.zone_cover import measure_tiles, measure_zones
from pipeline.grid.cells import BoolArray
from pipeline.grid.grid import Grid
from pipeline.polygons.aoi import GridArea
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.table import TileTable

OFF = "off"
"""Stands among the statuses for what of the area of interest lies off what both scenes reach."""
COARSE = "coarse"
"""Stands among them for what the model looked at and saw no change in, where it was not made to see any."""
SEEN = (TileStatus.ANALYSED, TileStatus.IDENTICAL)
"""Statuses of tiles of which is known whether they changed."""

_SEEN_NAMES = [status.value for status in SEEN]
_LOOKED_AT = (*SEEN, TileStatus.UNREADABLE)
_EDGE = 1e-4
# ^ By such a part an area drawn along the edge of the scenes strays over it.


@dataclass(frozen=True, kw_only=True)
class Share:
    """What became of one part of the ground."""

    status: str
    """A tile's status, `COARSE` or `OFF`."""
    n_tiles: int
    """Tiles with it."""
    area_m2: float
    """Ground with it, in square metres."""
    fraction: float
    """Part of all ground, 0 to 1."""

    @property
    def is_there(self) -> bool:
        """Whether there is any tile or any ground of it."""
        return bool(self.n_tiles or self.area_m2)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of the ground of a run, and of its tiles."""

    tile_counts: Mapping[str, int]
    """Tiles per status, all statuses named."""
    ground_m2: Mapping[str, float] = field(default_factory=dict)
    """Square metres of ground per status, and under `COARSE` and `OFF`; empty where nobody measured it."""
    withheld_counts: Mapping[str, int] = field(default_factory=dict)
    """Tiles per status whose ground counts as `COARSE`."""

    @property
    def total_m2(self) -> float:
        """All ground: the area of interest, or without one what both scenes reach."""
        return sum(self.ground_m2.values())

    @property
    def seen_m2(self) -> float:
        """Ground of which is known whether it changed."""
        return sum(self.ground_m2.get(status, 0.0) for status in SEEN)

    @property
    def seen_fraction(self) -> float:
        """Part of the ground of which is known whether it changed, 0 to 1."""
        return self.seen_m2 / self.total_m2 if self.total_m2 else 0.0

    @property
    def n_tiles_inside(self) -> int:
        """Tiles that share area with the area of interest; without one all of them."""
        return sum(self.tile_counts.values()) - self.tile_counts.get(TileStatus.OUTSIDE, 0)

    def list_shares(self) -> Iterator[Share]:
        """Give every status, then what is too coarse, and last what lies off the scenes."""
        tile_counts = {status: n - self.withheld_counts.get(status, 0) for status, n in self.tile_counts.items()}
        tile_counts[COARSE] = sum(self.withheld_counts.values())
        for status in (*TileStatus, COARSE, OFF):
            n_tiles, area_m2 = tile_counts.get(status, 0), self.ground_m2.get(status, 0.0)
            fraction = area_m2 / self.total_m2 if self.total_m2 else 0.0
            yield Share(status=str(status), n_tiles=n_tiles, area_m2=area_m2, fraction=fraction)


def find_withheld(findings: pd.DataFrame) -> BoolArray:
    """Tell which tiles may have changed although the model sees nothing, or nobody asked it, as they are too coarse."""
    is_coarse = findings["model_fit"].eq(ModelFit.COARSE.value).fillna(value=False).to_numpy(dtype=np.bool_)
    is_answered = findings["status"].isin(_SEEN_NAMES).to_numpy(dtype=np.bool_)
    return np.asarray(is_coarse & is_answered & findings["is_changed"].isna().to_numpy(dtype=np.bool_))


def measure_coverage(
    findings: gpd.GeoDataFrame,
    *,
    tiles: TileTable | None,
    grid: Grid,
    area: GridArea | None = None,
    extent: BaseGeometry | None = None,
) -> Coverage:
    """Measure what became of the ground.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        tiles: The same tiles, as they were selected; None: each is ground throughout.
        grid: The grid.
        area: The area of interest; None without one.
        extent: What both scenes reach, in the CRS of the grid; None for all that the grid was laid over.
    """
    areas_m2 = measure_tiles(grid)
    rows, cols = (findings[name].to_numpy(dtype=np.int64) for name in ("row", "col"))
    there_m2, shown_m2 = areas_m2.copy(), areas_m2.copy()
    if tiles is None:
        shown_m2[rows, cols] *= findings["valid_fraction"].to_numpy(dtype=np.float64)
    else:
        there_m2[tiles.rows, tiles.cols] *= tiles.ground_fractions
        shown_m2[tiles.rows, tiles.cols] *= tiles.shown_fractions
    codes = pd.Categorical(findings["status"], categories=list(TileStatus)).codes
    is_withheld, ground_m2, n_tiles, withheld = find_withheld(findings), {}, {}, {}
    for code, status in enumerate(TileStatus):
        members = (codes == code) & ~is_withheld
        n_tiles[status.value] = int((codes == code).sum())
        if n_withheld := n_tiles[status.value] - int(members.sum()):
            withheld[status.value] = n_withheld
        counted = shown_m2 if status in _LOOKED_AT else there_m2
        ground_m2[status.value] = float(counted[rows[members], cols[members]].sum())
    if withheld:
        ground_m2[COARSE] = float(shown_m2[rows[is_withheld], cols[is_withheld]].sum())
    # What is blank on either date in tiles that were looked at was not seen either.
    ground_m2[TileStatus.NO_DATA.value] += max(float(there_m2.sum()) - sum(ground_m2.values()), 0.0)
    ground_m2[OFF] = _measure_off(area, grid=grid, extent=extent)
    ground_m2 = {name: round(value, 1) for name, value in ground_m2.items()}
    return Coverage(tile_counts=n_tiles, ground_m2=ground_m2, withheld_counts=withheld)


def _measure_off(area: GridArea | None, *, grid: Grid, extent: BaseGeometry | None) -> float:
    """Measure what of an area of interest lies off the scenes, in square metres."""
    if area is None:
        return 0.0
    reach = shapely.box(*grid.shared_bounds)
    if extent is not None:
        reach = shapely.intersection(reach, extent)
    off = shapely.difference(area.geometry, reach)
    if off.area <= _EDGE * area.geometry.area:
        return 0.0
    return float(measure_zones(gpd.GeoSeries([off], crs=grid.crs), grid=grid)[0])
