"""What the findings of all tiles add up to: changes over the borders of tiles, sums over zones, and what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
from shapely.geometry.base import BaseGeometry

from pipeline.findings.changes import dissolve_changes
from pipeline.findings.coverage import Coverage, measure_coverage
from pipeline.findings.zone_sums import ZONE_STATUSES, sum_over_zones
from pipeline.polygons.aoi import GridArea
from pipeline.polygons.zones import Zones
from pipeline.tables.schemas import CHANGE_KINDS, ZONES_SCHEMA
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import TileTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Totals:
    """What the findings of a run add up to."""

    changes: gpd.GeoDataFrame
    """The columns of `CHANGES_SCHEMA`."""
    coverage: Coverage
    """What became of the ground."""
    zones: gpd.GeoDataFrame | None = None
    """Sums per zone; None without zones."""
    zones_schema: pa.Schema = ZONES_SCHEMA
    """Their columns, the zones' own among them."""

    def count(self) -> dict[str, Any]:
        """Give the fields of a report that count: changes per kind, zones per status, and the coverage."""
        zones = {} if self.zones is None else _count_values(self.zones["status"], names=ZONE_STATUSES)
        changes = _count_values(self.changes["kind"], names=CHANGE_KINDS)
        return {"change_counts": changes, "zone_counts": zones, "coverage": self.coverage}


def sum_up(
    findings: gpd.GeoDataFrame,
    *,
    store: TileStore,
    tiles: TileTable | None = None,
    outlines: Iterable[pa.Table] = (),
    zones: Zones | None = None,
    area: GridArea | None = None,
    extent: BaseGeometry | None = None,
) -> Totals:
    """Sum up the findings of a run.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        store: The tile store.
        tiles: The same tiles, as `select_tiles` gave them; None: each is ground throughout.
        outlines: Outlines of what changed in the tiles, with the columns of `OUTLINES_SCHEMA`.
        zones: Polygons to sum over; None without.
        area: The area of interest; None without.
        extent: What both scenes reach, as `find_extent` gives it; None for all that the grid was laid over.

    Raises:
        FolderError: the store cannot be read.
    """
    changes = dissolve_changes(findings, grid=store.grid, outlines=outlines)
    coverage = measure_coverage(findings, tiles=tiles, grid=store.grid, area=area, extent=extent)
    if zones is None:
        return Totals(changes=changes, coverage=coverage)
    sums = sum_over_zones(zones, findings=findings, changes=changes, store=store)
    return Totals(changes=changes, coverage=coverage, zones=sums, zones_schema=zones.schema)


def _count_values(values: pd.Series[Any], *, names: Iterable[str]) -> dict[str, int]:
    counts = values.value_counts()
    return {name: int(counts.get(name, 0)) for name in names}
