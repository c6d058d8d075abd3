"""How much of a grid zones cover: their areas, and their part of each tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from pipeline.grid.cells import FloatArray, IntArray
from pipeline.grid.grid import Grid
from pipeline.grid.projections import compute_area_scale
from pipeline.polygons.near import cut_edges, keep_polygons

_SMALLEST_SHARE = 1e-3
_TILES_AT_ONCE = 64
_SCALE_POINTS = 33


@dataclass(frozen=True, kw_only=True, eq=False)
class Cover:
    """The tiles that a zone shares area with."""

    whole: tuple[tuple[slice, slice], ...]
    """Rectangles of tiles, as rows and columns, that lie in the zone altogether."""
    rows: IntArray
    """Rows of the tiles that the zone's border runs through."""
    cols: IntArray
    """Their columns."""
    fractions: FloatArray
    """Part of each such tile that lies in the zone, above 0 and up to 1."""

    def add_up(self, values: npt.NDArray[np.float64]) -> float:
        """Add up values per tile, (row, col), each by the part of the tile in the zone."""
        return self.add_up_whole(values) + float((values[self.rows, self.cols] * self.fractions).sum())

    def add_up_whole(self, values: npt.NDArray[np.float64]) -> float:
        """Add up values per tile, (row, col), over the tiles of `whole` alone."""
        return sum(float(values[rows, cols].sum()) for rows, cols in self.whole)

    def count(self, codes: npt.NDArray[np.uint8], *, n_codes: int) -> IntArray:
        """Count the tiles with each code, from codes per tile, (row, col).

        Tiles that share no more than a thousandth, of the tile or of the zone, whichever is less, are left out: a
        border drawn along tiles in another CRS strays over them by centimetres.
        """
        n_tiles = self.fractions.sum() if not self.whole else 1.0
        is_shared = self.fractions > _SMALLEST_SHARE * min(n_tiles, 1.0)
        counts = np.bincount(codes[self.rows[is_shared], self.cols[is_shared]], minlength=n_codes)
        for rows, cols in self.whole:
            counts += np.bincount(codes[rows, cols].ravel(), minlength=n_codes)
        return counts


def measure_zones(geometry: gpd.GeoSeries, *, grid: Grid) -> FloatArray:
    """Give the areas of polygons on the ellipsoid of a grid's CRS in square metres, their edges straight in their own.

    The area is that of the geodesic polygon (Karney, Algorithms for geodesics, 2013) through points at most a
    kilometre apart.
    """
    parsed = pyproj.CRS.from_user_input(grid.crs)
    degrees = cut_edges(geometry).to_crs(parsed.geodetic_crs)
    geod = parsed.get_geod() or pyproj.Geod(ellps="WGS84")
    shapes = shapely.orient_polygons(degrees.to_numpy())
    return np.array([abs(geod.geometry_area_perimeter(shape)[0]) for shape in shapes], dtype=np.float64)


def cover_zone(zone: shapely.Geometry, *, grid: Grid) -> Cover:
    """Tell how much of each tile a zone covers; areas are exact in the grid's CRS, give or take rounding.

    A zone is halved again and again along the edges of tiles. What a half covers altogether needs no look at its
    tiles, and what is cut off is not looked at again: the work goes with the length of the border, not with the area.

    Args:
        zone: A valid polygon in the CRS of the grid, or an empty one.
        grid: The grid.
    """
    _, tops = grid.locate_corner(3 * np.arange(grid.n_rows + 1), 0)
    lefts, _ = grid.locate_corner(0, 3 * np.arange(grid.n_cols + 1))
    whole: list[tuple[slice, slice]] = []
    parts: list[tuple[IntArray, IntArray, FloatArray]] = []
    waiting = [(zone, slice(0, grid.n_rows), slice(0, grid.n_cols))]
    while waiting:
        shape, rows, cols = waiting.pop()
        rows, cols = _narrow(shape, rows=rows, cols=cols, tops=tops, lefts=lefts)
        n_rows, n_cols = rows.stop - rows.start, cols.stop - cols.start
        if n_rows <= 0 or n_cols <= 0:
            continue
        if n_rows * n_cols <= _TILES_AT_ONCE:
            parts.append(_measure_parts(shape, rows=rows, cols=cols, tops=tops, lefts=lefts))
        elif shape.covers(_box(rows, cols, tops=tops, lefts=lefts)):
            whole.append((rows, cols))
        else:
            for half in _halve(rows, cols):
                cut = shapely.intersection(shape, _box(*half, tops=tops, lefts=lefts))
                waiting.append((keep_polygons(np.array([cut]))[0], *half))
    rows_of, cols_of, fractions = (np.concatenate(arrays) for arrays in zip(_NOTHING, *parts, strict=True))
    return Cover(whole=tuple(whole), rows=rows_of, cols=cols_of, fractions=fractions)


_NOTHING = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)


def _narrow(
    shape: shapely.Geometry, *, rows: slice, cols: slice, tops: FloatArray, lefts: FloatArray
) -> tuple[slice, slice]:
    """Leave out rows and columns of tiles that a shape does not reach."""
    if shape.is_empty:
        return slice(0, 0), slice(0, 0)
    west, south, east, north = shape.bounds
    # Tops fall from row to row.
    first_row = int(np.searchsorted(-tops, -north, side="right")) - 1
    last_row = int(np.searchsorted(-tops, -south, side="left"))
    first_col = int(np.searchsorted(lefts, west, side="right")) - 1
    last_col = int(np.searchsorted(lefts, east, side="left"))
    return (
        slice(max(rows.start, first_row), min(rows.stop, last_row)),
        slice(max(cols.start, first_col), min(cols.stop, last_col)),
    )


def _box(rows: slice, cols: slice, *, tops: FloatArray, lefts: FloatArray) -> shapely.Polygon:
    return shapely.box(lefts[cols.start], tops[rows.stop], lefts[cols.stop], tops[rows.start])


def _halve(rows: slice, cols: slice) -> Iterator[tuple[slice, slice]]:
    if rows.stop - rows.start >= cols.stop - cols.start:
        middle = (rows.start + rows.stop) // 2
        yield slice(rows.start, middle), cols
        yield slice(middle, rows.stop), cols
    else:
        middle = (cols.start + cols.stop) // 2
        yield rows, slice(cols.start, middle)
        yield rows, slice(middle, cols.stop)


def _measure_parts(
    shape: shapely.Geometry, *, rows: slice, cols: slice, tops: FloatArray, lefts: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    row_of, col_of = (index.ravel() for index in np.mgrid[rows, cols])
    boxes = shapely.box(lefts[col_of], tops[row_of + 1], lefts[col_of + 1], tops[row_of])
    shapely.prepare(shape)
    fractions = shapely.covers(shape, boxes).astype(np.float64)
    is_cut = (fractions == 0) & shapely.intersects(shape, boxes)
    fractions[is_cut] = shapely.area(shapely.intersection(shape, boxes[is_cut])) / shapely.area(boxes[is_cut])
    is_shared = fractions > 0
    return row_of[is_shared], col_of[is_shared], fractions[is_shared]


def measure_tiles(grid: Grid) -> FloatArray:
    """Give the area on the ellipsoid that each tile owns, padding included, in square metres; (row, col)."""
    rows = _choose_places(grid.n_rows)
    cols = _choose_places(grid.n_cols)
    side_m = grid.stride_px * grid.resolution_m
    xs, ys = np.meshgrid(grid.origin_x + (cols + 0.5) * side_m, grid.origin_y - (rows + 0.5) * side_m)
    scales = compute_area_scale(grid.crs, xs=xs, ys=ys)
    # The scale bends so little that straight lines between a few places tell it to the ninth digit.
    by_rows = np.array([np.interp(np.arange(grid.n_cols), cols, line) for line in scales])
    by_cols = np.array([np.interp(np.arange(grid.n_rows), rows, line) for line in by_rows.T]).T
    return np.asarray(side_m**2 / by_cols, dtype=np.float64)


def _choose_places(n_tiles: int) -> FloatArray:
    return np.unique(np.linspace(0, n_tiles - 1, min(n_tiles, _SCALE_POINTS)))
