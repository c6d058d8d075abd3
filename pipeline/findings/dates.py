"""When what the findings tell of was acquired: one time for all tiles, or where scenes are composites one for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa

from pipeline.tables.schemas import COMPOSITE_FIELDS, FINDINGS_SCHEMA


def is_composed(findings: gpd.GeoDataFrame) -> bool:
    """Tell whether the scenes of some findings are made of several dates."""
    return COMPOSITE_FIELDS[0].name in findings.columns


def find_date(findings: gpd.GeoDataFrame, name: str) -> Any:
    """Give the time of all tiles, or of composites that of the middle one of those that show something.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, at least one.
        name: ``before_datetime`` or ``after_datetime``.
    """
    if not is_composed(findings):
        return findings[name].iloc[0]
    return _take_middle(findings[name])


def find_dates(findings: gpd.GeoDataFrame, name: str, *, tile_ids: pa.ChunkedArray) -> pa.Array:
    """Give the time of each change: that of all tiles, or of composites that of the middle one of its tiles.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, at least one.
        name: ``before_datetime`` or ``after_datetime``.
        tile_ids: The tiles of each change, joined by semicolons.
    """
    kind = FINDINGS_SCHEMA.field(name).type
    if not is_composed(findings):
        return pa.repeat(pa.scalar(findings[name].iloc[0], kind, from_pandas=True), len(tile_ids))
    known = dict(zip(findings["tile_id"], findings[name], strict=True))
    middles = [_take_middle([known[tile] for tile in joined.split(";")]) for joined in tile_ids.to_pylist()]
    return pa.array(middles, kind, from_pandas=True)


def _take_middle(moments: Iterable[Any]) -> Any:
    known = sorted(moment for moment in moments if not pd.isna(moment))
    return known[(len(known) - 1) // 2] if known else None
