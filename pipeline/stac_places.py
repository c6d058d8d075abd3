"""Places as STAC writes them: outlines in longitude and latitude, cut at the date line, and their bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import antimeridian
import shapely

from pipeline.grid import Grid, compute_footprint

_DIGITS = 7
# ^ About a centimetre.
_TOLERANCE_DEG = 1e-7

Bounds = tuple[float, float, float, float]
"""West, south, east and north in degrees; west is above east where they reach over the date line (RFC 7946)."""


def outline_grid(grid: Grid) -> tuple[dict[str, Any], Bounds]:
    """Give what both scenes of a grid show as GeoJSON, and its bounds.

    Args:
        grid: The grid.

    Returns:
        A Polygon, or a MultiPolygon with a part on each side of the date line, rings counterclockwise.
    """
    window = grid.move(grid.top_px, grid.left_px)
    footprint = compute_footprint(crs=grid.crs, transform=window.transform, width=grid.width_px, height=grid.height_px)
    # The edges were cut into many pieces; those that do not bend are put together again.
    outline = shapely.orient_polygons(footprint.simplify(_TOLERANCE_DEG))
    fixed = shapely.orient_polygons(shapely.geometry.shape(antimeridian.fix_polygon(outline)))
    rounded = shapely.transform(fixed, lambda places: places.round(_DIGITS))
    west, south, east, north = (round(float(bound), _DIGITS) for bound in antimeridian.bbox(rounded))
    return shapely.geometry.mapping(rounded), (west, south, east, north)


def unite_bounds(bounds: Iterable[Bounds]) -> Bounds:
    """Give the bounds of all, over the date line where they are narrower so.

    Args:
        bounds: Bounds of at least one place.
    """
    found = list(bounds)
    south, north = min(bound[1] for bound in found), max(bound[3] for bound in found)
    # Once with longitudes from -180 degrees on, and once from 0 on.
    spans = []
    for first in (-180.0, 0.0):
        wests = [(west - first) % 360 + first for west, _, _, _ in found]
        widths = [east - west if east >= west else east - west + 360 for west, _, east, _ in found]
        easts = [west + width for west, width in zip(wests, widths, strict=True)]
        spans.append((max(easts) - min(wests), min(wests), max(easts)))
    width, west, east = min(spans, key=lambda span: span[0])
    if width >= 360:
        return -180.0, south, 180.0, north
    return west, south, east - 360 if east > 180 else east, north
