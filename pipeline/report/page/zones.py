"""Zones on a page: the user's polygons as a table and as lines on the map, whatever columns they come with."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import pandas as pd
import shapely

from pipeline.polygons.near import lie_near, place_polygons
from pipeline.report.page.map import MapFrame

MAX_LISTED_ZONES = 200
MAX_DRAWN_ZONES = 500


def describe_zones(zones: gpd.GeoDataFrame | None) -> dict[str, Any] | None:
    """Give the table of the zones, at most `MAX_LISTED_ZONES` of them; None without zones.

    Args:
        zones: One row per zone; all columns but the geometry are shown.
    """
    if zones is None or zones.empty:
        return None
    shown = pd.DataFrame(zones.drop(columns=[zones.geometry.name])).head(MAX_LISTED_ZONES)
    columns = [
        {
            "name": str(name),
            "label": str(name).removesuffix("_m2").removesuffix("_fraction").replace("_", " "),
            "is_number": pd.api.types.is_numeric_dtype(shown[name]) and not pd.api.types.is_bool_dtype(shown[name]),
        }
        for name in shown.columns
    ]
    rows = [
        [_write_value(value, name=str(column["name"])) for value, column in zip(row, columns, strict=True)]
        for row in shown.itertuples(index=False)
    ]
    return {"columns": columns, "rows": rows, "n_more": len(zones) - len(shown)}


def _write_value(value: Any, *, name: str) -> str:
    if pd.isna(value):
        return "not known"
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("_fraction"):
            return f"{100 * value:.1f} %"
        if name.endswith("_m2"):
            return f"{value:,.0f} m²"
        return f"{value:,.0f}" if abs(value - round(value)) < 0.005 else f"{value:,.2f}"
    return str(value).replace("_", " ") if name == "status" else str(value)


def draw_zones(zones: gpd.GeoDataFrame | None, *, frame: MapFrame) -> list[list[int]]:
    """Give the outlines of the zones as rings of x and y in turn, in whole pixels of the map.

    Args:
        zones: One row per zone, in any CRS.
        frame: The map.
    """
    if zones is None or zones.empty:
        return []
    drawn, grid = zones.geometry.head(MAX_DRAWN_ZONES), frame.grid
    is_near = lie_near(drawn, grid=grid)
    placed = drawn.to_crs(grid.crs).to_numpy() if is_near else place_polygons(drawn, grid=grid)
    simple = shapely.simplify(placed, frame.detail_m)
    rings = shapely.get_rings(shapely.get_parts(simple))
    lines = []
    for ring in rings:
        columns, rows = frame.to_pixel(*shapely.get_coordinates(ring).T)
        lines.append([round(float(value)) for corner in zip(columns, rows, strict=True) for value in corner])
    return lines
