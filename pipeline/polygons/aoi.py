"""The area of interest: polygons out of any vector file, in the CRS of the grid."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from scipy.ndimage import binary_dilation
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.grid.grid import Grid
from pipeline.polygons.files import has_shape, read_polygons, unwrap_date_line, wrap_date_line

_EDGE_CUTS = 256
BOXES_AT_ONCE = 65_536


def find_inside(grid: Grid, *, aoi: str | None) -> npt.NDArray[np.bool_]:
    """Tell which tiles of a grid share area with an area of interest.

    Args:
        grid: The grid.
        aoi: Polygons; None for everywhere.

    Returns:
        bool (row, col).

    Raises:
        InputError: the area of interest cannot be used.
    """
    is_inside = np.ones((grid.n_rows, grid.n_cols), dtype=np.bool_)
    if aoi is None:
        return is_inside
    area = read_aoi(aoi, grid=grid)
    shapely.prepare(area)
    # A thousandth of a pixel inwards: tiles that only share an edge with the area, give or take the last
    # digits of its way through another CRS, are outside.
    edge = grid.resolution_m * 1e-3
    lefts, _, rights, _ = np.array([grid.tile_bounds(0, col) for col in range(grid.n_cols)]).T
    _, bottoms, _, tops = np.array([grid.tile_bounds(row, 0) for row in range(grid.n_rows)]).T
    step = max(1, BOXES_AT_ONCE // grid.n_cols)
    for rows in (slice(start, start + step) for start in range(0, grid.n_rows, step)):
        boxes = shapely.box(
            lefts[None, :] + edge, bottoms[rows, None] + edge, rights[None, :] - edge, tops[rows, None] - edge
        )
        is_inside[rows] = shapely.intersects(area, boxes)
    return is_inside


def find_shards_inside(is_inside: npt.NDArray[np.bool_], *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the shards that hold any tile inside an area of interest, row-major.

    Args:
        is_inside: bool (row, col) per tile, as `find_inside` gives it.
        shard_size_tiles: Side of a shard in tiles.
    """
    by_rows = np.logical_or.reduceat(is_inside, np.arange(0, is_inside.shape[0], shard_size_tiles), axis=0)
    by_shards = np.logical_or.reduceat(by_rows, np.arange(0, is_inside.shape[1], shard_size_tiles), axis=1)
    return [(int(row), int(col)) for row, col in np.argwhere(by_shards)]


def find_shards_needed(grid: Grid, *, aoi: str | None, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the shards that anything inside an area of interest is seen in, row-major.

    Where tiles overlap, a tile inside shows margins that its neighbours own, which may be in a shard beyond the area.

    Raises:
        InputError: the area of interest cannot be used.
    """
    is_inside = find_inside(grid, aoi=aoi)
    if grid.overlap_px:
        is_inside = np.asarray(binary_dilation(is_inside, structure=np.ones((3, 3))), dtype=np.bool_)
    return find_shards_inside(is_inside, shard_size_tiles=shard_size_tiles)


def read_aoi(path: str, *, grid: Grid) -> BaseGeometry:
    """Read polygons and bring them into the CRS of a grid, as one geometry.

    Raises:
        InputError: the file cannot be read, has no CRS or no polygons, or lies off the grid.
    """
    shapes = _read_polygons(path)
    west, south, east, north = shapes.total_bounds
    area = _reproject(shapes, crs=grid.crs)
    left, _, _, top = grid.tile_bounds(0, 0)
    _, bottom, right, _ = grid.tile_bounds(grid.n_rows - 1, grid.n_cols - 1)
    if not shapely.intersects(area, shapely.box(left, bottom, right, top)):
        raise InputError(
            f"aoi {path} lies off the overlap of the scenes ({shapes.crs.to_string()[:40]}: "
            f"{west:.5f}, {south:.5f} to {east:.5f}, {north:.5f})",
            expected="polygons that touch what both scenes show",
            remedy="check the CRS and the place of the polygons",
        )
    return area


def read_aoi_degrees(path: str) -> BaseGeometry:
    """Read polygons and bring them into WGS84 longitude and latitude, as one geometry, to search for scenes.

    Raises:
        InputError: the file cannot be read, has no CRS or no polygons.
    """
    return wrap_date_line(_reproject(_read_polygons(path), crs="EPSG:4326"))


def _reproject(shapes: gpd.GeoSeries, *, crs: str) -> BaseGeometry:
    shapes = unwrap_date_line(shapes.force_2d())
    west, south, east, north = shapes.total_bounds
    # A long straight edge is a curve in another CRS.
    cut = max(east - west, north - south) / _EDGE_CUTS
    return shapes.make_valid().segmentize(cut).to_crs(crs).union_all()


def _read_polygons(path: str) -> gpd.GeoSeries:
    shapes = read_polygons(path, key="aoi").geometry
    return shapes[has_shape(shapes)]
