"""What the findings of all tiles add up to: changes over the borders of tiles, sums over zones, and what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from shapely.geometry.base import BaseGeometry

from model.certainty import Certainty
from pipeline.findings.changes import count_owned, dissolve_changes, is_sure_enough
from pipeline.findings.coverage import Coverage
from pipeline.findings.seen_ground import measure_coverage
from pipeline.findings.zone_sums import ZONE_STATUSES, sum_over_zones
from pipeline.grid.cells import FloatArray
from pipeline.polygons.aoi import GridArea
from pipeline.polygons.zones import Zones
from pipeline.tables.schemas import CHANGE_KINDS, ZONES_SCHEMA
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import TileTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Totals:
    """What the findings of a run add up to."""

    changes: gpd.GeoDataFrame
    """The columns of `DISSOLVED_SCHEMA`, of changes that are sure enough."""
    left_out_counts: Mapping[str, int] = field(default_factory=dict)
    """Changes per kind that are not."""
    thing_counts: Mapping[str, float | None] = field(default_factory=dict)
    """What the tiles count per kind, nothing of it twice; None where no tile told a count."""
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
        return {
            "change_counts": changes,
            "left_out_counts": self.left_out_counts,
            "thing_counts": self.thing_counts,
            "zone_counts": zones,
            "coverage": self.coverage,
        }


def sum_up(
    findings: gpd.GeoDataFrame,
    *,
    store: TileStore,
    tiles: TileTable | None = None,
    outlines: Iterable[pa.Table] = (),
    zones: Zones | None = None,
    area: GridArea | None = None,
    extent: BaseGeometry | None = None,
    certainty: Certainty | None = None,
    min_confidence: float = 0.0,
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
        certainty: How far the model's findings can be relied on; None where nobody has measured it.
        min_confidence: Changes of a lower confidence are left out; zones still have their part of the tiles' counts.

    Raises:
        FolderError: the store cannot be read.
    """
    found = dissolve_changes(findings, grid=store.grid, outlines=outlines, certainty=certainty)
    is_kept = is_sure_enough(found, min_confidence=min_confidence)
    totals = Totals(
        changes=found[is_kept].reset_index(drop=True),
        left_out_counts=_count_values(found["kind"][~is_kept], names=CHANGE_KINDS),
        thing_counts={kind: _add_up(count_owned(findings, kind=kind, grid=store.grid)) for kind in CHANGE_KINDS},
        coverage=measure_coverage(findings, tiles=tiles, grid=store.grid, area=area, extent=extent),
    )
    if zones is None:
        return totals
    sums = sum_over_zones(zones, findings=findings, changes=found, store=store, min_confidence=min_confidence)
    return replace(totals, zones=sums, zones_schema=zones.schema)


def _add_up(counts: FloatArray) -> float | None:
    told = counts[~np.isnan(counts)]
    return float(told.sum()) if len(told) else None


def _count_values(values: pd.Series[Any], *, names: Iterable[str]) -> dict[str, int]:
    counts = values.value_counts()
    return {name: int(counts.get(name, 0)) for name in names}
