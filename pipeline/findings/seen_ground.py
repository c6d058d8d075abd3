"""How much ground of a run is known, and what became of the rest: measured tile by tile."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from model.home import ModelFit
from pipeline.findings.coverage import COARSE, OFF, SEEN, Coverage
from pipeline.findings.zone_cover import measure_tiles, measure_zones
from pipeline.grid.cells import BoolArray
from pipeline.grid.grid import Grid
from pipeline.polygons.aoi import GridArea
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.table import TileTable

_SEEN_NAMES = [status.value for status in SEEN]
_LOOKED_AT = (*SEEN, TileStatus.UNREADABLE)
_EDGE = 1e-4
# ^ By such a part an area drawn along the edge of the scenes strays over it.


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
