"""The area of interest: polygons out of any vector file, read once and laid on the grid.

Stages hand on the `GridArea`; workers get neither, for they are told shards and tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import scipy
import shapely
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.grid.blocks import LatticeBlock
from pipeline.grid.date_line import wrap_shape
from pipeline.grid.grid import Grid
from pipeline.polygons.files import has_shape, read_polygons, unwrap_date_line
from pipeline.polygons.near import lie_near, place_polygons, share_ground

if TYPE_CHECKING:
    import geopandas as gpd

_EDGE_CUTS = 256
BOXES_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True)
class GridArea:
    """An area of interest as it lies on a grid."""

    geometry: BaseGeometry
    """All its polygons, in the CRS of the grid."""
    sha256: str
    """Hash of the geometry, whatever file it came in."""


@dataclass(frozen=True, kw_only=True)
class AreaOfInterest:
    """The polygons of a file."""

    path: str
    """Where they were read."""
    shapes: gpd.GeoSeries
    """The polygons, in the file's own CRS."""

    @classmethod
    def read(cls, path: str) -> Self:
        """Read polygons.

        Raises:
            InputError: the file cannot be read, has no CRS or no polygons.
        """
        shapes = read_polygons(path, key="aoi").geometry
        return cls(path=path, shapes=shapes[has_shape(shapes)])

    def to_degrees(self) -> BaseGeometry:
        """Bring them into WGS84 longitude and latitude, as one geometry, to search for scenes."""
        return wrap_shape(self.bring_to("EPSG:4326"))

    def bring_to(self, crs: str) -> BaseGeometry:
        """Bring them into another CRS, as one geometry."""
        return _reproject(unwrap_date_line(self.shapes.force_2d()), crs=crs)

    def lay_on(self, grid: Grid, *, block: LatticeBlock | None = None) -> GridArea:
        """Bring them into the CRS of a grid, as one geometry.

        Args:
            grid: The grid.
            block: What lies beyond this block is no part of the area; None: everything is.

        Raises:
            InputError: they lie off the grid.
        """
        shapes = unwrap_date_line(self.shapes.force_2d())
        if lie_near(shapes, grid=grid):
            area = _reproject(shapes, crs=grid.crs)
        else:
            area = shapely.union_all(place_polygons(shapes.make_valid(), grid=grid))
        if block is not None:
            area = share_ground(area, limits=block.limits)
        left, _, _, top = grid.tile_bounds(0, 0)
        _, bottom, right, _ = grid.tile_bounds(grid.n_rows - 1, grid.n_cols - 1)
        if not shapely.intersects(area, shapely.box(left, bottom, right, top)):
            west, south, east, north = self.shapes.total_bounds
            raise InputError(
                f"aoi {self.path} lies off the overlap of the scenes ({self.shapes.crs.to_string()[:40]}: "
                f"{west:.5f}, {south:.5f} to {east:.5f}, {north:.5f})",
                expected="polygons that touch what both scenes show",
                remedy="check the CRS and the place of the polygons",
            )
        return GridArea(geometry=area, sha256=hashlib.sha256(shapely.to_wkb(area)).hexdigest())


def read_grid_area(path: str | None, *, grid: Grid, block: LatticeBlock | None = None) -> GridArea | None:
    """Read an area of interest and lay it on a grid, as `AreaOfInterest.lay_on` does; None without.

    Raises:
        InputError: it cannot be read, or lies off the grid.
    """
    return None if path is None else AreaOfInterest.read(path).lay_on(grid, block=block)


def find_inside(grid: Grid, *, area: GridArea | None) -> npt.NDArray[np.bool_]:
    """Tell which tiles of a grid share area with an area of interest.

    Args:
        grid: The grid.
        area: The area of interest; None for everywhere.

    Returns:
        bool (row, col).
    """
    if area is None:
        return np.ones((grid.n_rows, grid.n_cols), dtype=np.bool_)
    return find_touched(grid, shape=area.geometry)


def find_touched(grid: Grid, *, shape: BaseGeometry) -> npt.NDArray[np.bool_]:
    """Tell which tiles of a grid share area with a shape, bool (row, col).

    Args:
        grid: The grid.
        shape: Polygons in its CRS.
    """
    return _compare_tiles(grid, shape=shape, relate=shapely.intersects)


def find_within(grid: Grid, *, shape: BaseGeometry) -> npt.NDArray[np.bool_]:
    """Tell which tiles of a grid lie in a shape altogether, bool (row, col).

    Args:
        grid: The grid.
        shape: Polygons in its CRS.
    """
    return _compare_tiles(grid, shape=shape, relate=shapely.covers)


def _compare_tiles(grid: Grid, *, shape: BaseGeometry, relate: Callable[..., Any]) -> npt.NDArray[np.bool_]:
    # A thousandth of a pixel inwards: tiles that only share an edge with the shape, give or take the last digits of
    # its way through another CRS, share nothing with it.
    edge = grid.resolution_m * 1e-3
    found = np.empty((grid.n_rows, grid.n_cols), dtype=np.bool_)
    shapely.prepare(shape)
    lefts, _, rights, _ = np.array([grid.tile_bounds(0, col) for col in range(grid.n_cols)]).T
    _, bottoms, _, tops = np.array([grid.tile_bounds(row, 0) for row in range(grid.n_rows)]).T
    step = max(1, BOXES_AT_ONCE // grid.n_cols)
    for rows in (slice(start, start + step) for start in range(0, grid.n_rows, step)):
        boxes = shapely.box(
            lefts[None, :] + edge, bottoms[rows, None] + edge, rights[None, :] - edge, tops[rows, None] - edge
        )
        found[rows] = relate(shape, boxes)
    return found


def find_shards_inside(is_inside: npt.NDArray[np.bool_], *, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the shards that hold any tile inside an area of interest, row-major.

    Args:
        is_inside: bool (row, col) per tile, as `find_inside` gives it.
        shard_size_tiles: Side of a shard in tiles.
    """
    by_rows = np.logical_or.reduceat(is_inside, np.arange(0, is_inside.shape[0], shard_size_tiles), axis=0)
    by_shards = np.logical_or.reduceat(by_rows, np.arange(0, is_inside.shape[1], shard_size_tiles), axis=1)
    return [(int(row), int(col)) for row, col in np.argwhere(by_shards)]


def find_shards_needed(grid: Grid, *, area: GridArea | None, shard_size_tiles: int) -> list[tuple[int, int]]:
    """List (row, column) of the shards that anything inside an area of interest is seen in, row-major.

    Where tiles overlap, a tile inside shows margins that its neighbours own, which may be in a shard beyond the area.
    """
    is_inside = find_inside(grid, area=area)
    if grid.overlap_px:
        is_inside = np.asarray(scipy.ndimage.binary_dilation(is_inside, structure=np.ones((3, 3))), dtype=np.bool_)
    return find_shards_inside(is_inside, shard_size_tiles=shard_size_tiles)


def _reproject(shapes: gpd.GeoSeries, *, crs: str) -> BaseGeometry:
    west, south, east, north = shapes.total_bounds
    # A long straight edge is a curve in another CRS.
    cut = max(east - west, north - south) / _EDGE_CUTS
    return shapes.make_valid().segmentize(cut).to_crs(crs).union_all()
