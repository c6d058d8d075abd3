"""Polygons of any size in the CRS of a grid: cut off where its projection may tear or fold the ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.grid.grid import Grid

if TYPE_CHECKING:
    import geopandas as gpd

_LARGEST_STEP_M = 1000.0
_LARGEST_STEP_DEGREES = 0.01
# ^ Straight edges are curves in another CRS; pieces of this length bend by about 2 cm.
_REACH_DEGREES = 20.0
# ^ No projection of a grid in metres tears or folds the ground so near to the grid.
_POLAR_DEGREES = 60.0
_TURNS = (-360.0, 0.0, 360.0)


def lie_near(geometry: gpd.GeoSeries, *, grid: Grid) -> bool:
    """Tell whether polygons lie within 20 degrees around a grid altogether."""
    left, bottom, right, top = _find_window(grid)
    west, south, east, north = geometry.to_crs("EPSG:4326").total_bounds
    is_within = any(left + turn <= west and east <= right + turn for turn in _TURNS)
    return bool(is_within and bottom <= south and north <= top)


def place_polygons(geometry: gpd.GeoSeries, *, grid: Grid) -> npt.NDArray[np.object_]:
    """Bring polygons into the CRS of a grid, as far as 20 degrees around it; empty beyond.

    Args:
        geometry: Valid polygons in any CRS, some perhaps empty; in degrees they may run on beyond 180.
        grid: The grid.
    """
    if geometry.crs == pyproj.CRS.from_user_input(grid.crs):
        return np.asarray(geometry.to_numpy(), dtype=np.object_)
    import geopandas as gpd

    near = keep_near(cut_edges(geometry).to_crs("EPSG:4326").to_numpy(), grid=grid)
    shapes = gpd.GeoSeries(near, crs="EPSG:4326").to_crs(grid.crs).to_numpy()
    is_broken = ~shapely.is_valid(shapes)
    shapes[is_broken] = shapely.make_valid(shapes[is_broken], method="structure", keep_collapsed=False)
    return np.asarray(shapes, dtype=np.object_)


def cut_edges(geometry: gpd.GeoSeries) -> gpd.GeoSeries:
    """Cut edges into pieces so short that they bend by no more than centimetres in another CRS."""
    crs = geometry.crs
    step = _LARGEST_STEP_DEGREES if crs.is_geographic else _LARGEST_STEP_M / crs.axis_info[0].unit_conversion_factor
    return geometry.segmentize(step)


def keep_near(shapes: npt.NDArray[np.object_], *, grid: Grid) -> npt.NDArray[np.object_]:
    """Cut polygons in degrees off 20 degrees around a grid."""
    window = _find_window(grid)
    west, south, east, north = shapely.bounds(shapes).T
    kept = np.full(len(shapes), shapely.Polygon(), dtype=np.object_)
    for turn in _TURNS:
        left, bottom, right, top = window[0] + turn, window[1], window[2] + turn, window[3]
        is_whole = (west >= left) & (east <= right) & (south >= bottom) & (north <= top)
        is_cut = ~is_whole & (west < right) & (east > left) & (south < top) & (north > bottom)
        kept[is_whole] = _turn_back(shapes[is_whole], turn=turn)
        parts = shapely.intersection(shapes[is_cut], shapely.box(left, bottom, right, top))
        kept[is_cut] = shapely.union(
            kept[is_cut], keep_polygons(shapely.transform(parts, lambda xy, t=turn: xy - [t, 0]))
        )
    return kept


def _turn_back(shapes: npt.NDArray[np.object_], *, turn: float) -> npt.NDArray[np.object_]:
    return np.asarray(shapely.transform(shapes, lambda corners: corners - [turn, 0.0]), dtype=np.object_)


def _find_window(grid: Grid) -> tuple[float, float, float, float]:
    lefts, tops = grid.locate_corner(np.array([0, 3 * grid.n_rows]), np.array([0, 3 * grid.n_cols]))
    transformer = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = transformer.transform(lefts.mean(), tops.mean())
    south, north = max(lat - _REACH_DEGREES, -90.0), min(lat + _REACH_DEGREES, 90.0)
    # Meridians meet at the poles: there all of them are near.
    reach = 180.0 if abs(lat) > _POLAR_DEGREES else _REACH_DEGREES
    return lon - reach, south, lon + reach, north


def share_ground(shape: BaseGeometry, *, limits: BaseGeometry) -> BaseGeometry:
    """Give the part of polygons that lies in others; those others as they are where all of them is covered."""
    if shapely.covers(shape, limits):
        return limits
    kept: BaseGeometry = keep_polygons(np.array([shapely.intersection(shape, limits)], dtype=np.object_))[0]
    return kept


def keep_polygons(shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Leave out the points and lines that an intersection has along edges that only touch."""
    kept = shapes.copy()
    for index in np.flatnonzero(~np.isin(shapely.get_type_id(shapes), (3, 6))):
        parts = shapely.get_parts(shapes[index])
        kept[index] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2]) if len(parts) else shapely.Polygon()
    return kept
