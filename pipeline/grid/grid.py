"""The common grid of a pair as pure arithmetic: no files, half-open ranges, row before column."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points
from shapely.affinity import translate
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.grid.blocks import LatticeBlock
from pipeline.grid.projections import check_fit, check_grid_crs, compute_area_scale, find_utm_code, note_scale
from pipeline.grid.window import Window

GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What comes out of rasterio; it has no public name for the errors that GDAL itself raises."""

_FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_Index = int | np.ndarray[Any, np.dtype[np.int64]]

GridAnchor = Literal["overlap", "lattice"]
"""Where a grid begins: at the overlap of its scenes, or at a whole multiple of its tiles, as all such grids do."""

_EDGE_SEGMENTS = 64
# ^ A straight edge of 100 km bends by 5 km pieces of less than 0.1 m after this many cuts.
_SNAP_TOLERANCE_PX = 1e-3
# ^ What went through lon/lat and back differs in the last digits; this must not cost a row of pixels.


@dataclass(frozen=True, kw_only=True)
class Grid:
    """CRS, resolution, origin and tile size that both dates are warped onto.

    Every pixel belongs to one tile, which owns it. A tile sees `overlap_px` / 2 pixels more on each side than it
    owns, which its neighbours own. The tile store holds the owned pixels of all tiles and nothing twice.
    """

    crs: str
    """Projected CRS in metres: an authority code such as EPSG:32614, or WKT."""
    resolution_m: float
    """Side of a pixel in metres of the CRS."""
    origin_x: float
    """Left edge of the grid, a whole multiple of `resolution_m`."""
    origin_y: float
    """Upper edge of the grid, a whole multiple of `resolution_m`."""
    tile_size_px: int
    """Side of a tile in pixels, as a model sees it."""
    n_rows: int
    """Tiles from top to bottom."""
    n_cols: int
    """Tiles from left to right."""
    width_px: int
    """Pixels that the overlap of both scenes spans; the last column of tiles is padded beyond them."""
    height_px: int
    """Pixels that the overlap of both scenes spans; the last row of tiles is padded beyond them."""
    top_px: int = 0
    """Row of pixels where the overlap of both scenes begins; above it the first row of tiles is padded."""
    left_px: int = 0
    """Column of pixels where the overlap of both scenes begins."""
    overlap_px: int = 0
    """Pixels that neighbouring tiles share; an even number."""

    @property
    def transform(self) -> Affine:
        """Map (column, row) in pixels, counted from the upper left corner, to coordinates of the CRS."""
        return Affine(self.resolution_m, 0.0, self.origin_x, 0.0, -self.resolution_m, self.origin_y)

    @property
    def stride_px(self) -> int:
        """Pixels from one tile to the next: side of the ground that a tile owns."""
        return self.tile_size_px - self.overlap_px

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows and columns of pixels that all tiles own, padding included."""
        return self.n_rows * self.stride_px, self.n_cols * self.stride_px

    @property
    def shared_window(self) -> Window:
        """What both scenes show, in pixels."""
        return Window(self.top_px, self.left_px, self.height_px, self.width_px)

    @property
    def shared_transform(self) -> Affine:
        """The same as `transform`, counted from the upper left corner of what both scenes show."""
        return self.move(self.top_px, self.left_px).transform

    @property
    def shared_bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of what both scenes show, in the CRS."""
        left, top = self.transform @ (self.left_px, self.top_px)
        right, bottom = self.transform @ (self.left_px + self.width_px, self.top_px + self.height_px)
        return float(left), float(bottom), float(right), float(top)

    @property
    def tile_area_m2(self) -> float:
        """Area on the ground, in square metres, that a tile in the middle of the grid owns."""
        return float((self.stride_px * self.resolution_m) ** 2 / compute_area_scale(self.crs, **self._middle)[0])

    @property
    def ground_resolution_m(self) -> float:
        """Side of a pixel on the ground in the middle of what both scenes show, in metres."""
        return float(self.resolution_m / np.sqrt(compute_area_scale(self.crs, **self._middle)[0]))

    @property
    def scale_note(self) -> str | None:
        """What a pixel measures on the ground, in words, where that is not `resolution_m`."""
        return note_scale(self.crs, **self._middle, resolution_m=self.resolution_m)

    @property
    def _middle(self) -> dict[str, _FloatArray]:
        col, row = self.left_px + self.width_px / 2, self.top_px + self.height_px / 2
        xs, ys = _apply(self.transform, np.array([col]), np.array([row]))
        return {"xs": xs, "ys": ys}

    def tile_id(self, row: int, col: int) -> str:
        """Name a tile, such as ``r0012_c0034``."""
        return name_tile(row, col)

    def tile_window(self, row: int, col: int) -> Window:
        """Give what a model sees of a tile, in pixels.

        It may reach beyond the pixels of the grid by half of `overlap_px`; nothing is seen out there.
        """
        margin_px = self.overlap_px // 2
        top, left = row * self.stride_px - margin_px, col * self.stride_px - margin_px
        return Window(top, left, self.tile_size_px, self.tile_size_px)

    def owned_window(self, row: int, col: int) -> Window:
        """Give the ground that a tile owns, in pixels."""
        return Window(row * self.stride_px, col * self.stride_px, self.stride_px, self.stride_px)

    def narrow_window(self, window: Window, *, bounds: tuple[float, float, float, float]) -> Window:
        """Give the part of a window that holds left, bottom, right and top of something, at least one pixel of it."""
        left, bottom, right, top = bounds
        first_col, first_row = ~self.transform @ (left, top)
        last_col, last_row = ~self.transform @ (right, bottom)
        rows = _clip_range(first_row, last_row, start=window.top, length=window.height)
        cols = _clip_range(first_col, last_col, start=window.left, length=window.width)
        return Window(rows.start, cols.start, len(rows), len(cols))

    def tile_bounds(self, row: int, col: int) -> tuple[float, float, float, float]:
        """Give left, bottom, right, top of the ground that a tile owns, in the CRS."""
        left, top = self.locate_corner(3 * row, 3 * col)
        right, bottom = self.locate_corner(3 * row + 3, 3 * col + 3)
        return left, bottom, right, top

    def tile_polygon(self, row: int, col: int) -> Polygon:
        """Give the ground that a tile owns, in the CRS."""
        return shapely.box(*self.tile_bounds(row, col))

    def locate_corner(self, third_row: _Index, third_col: _Index) -> tuple[Any, Any]:
        """Give x and y of the upper left corners of cells, counted over all tiles from the upper left one.

        Every edge, of cell or tile, comes from here: that is what makes shared edges equal to the last bit, and
        equal to what the affine transform gives.

        Args:
            third_row: Whole numbers: 3 times the tile's row, plus 0 to 2 for the cell's row in it.
            third_col: Likewise for columns.
        """
        xs = self.origin_x + self.count_thirds(third_col) / 3 * self.resolution_m
        ys = self.origin_y - self.count_thirds(third_row) / 3 * self.resolution_m
        return xs, ys

    def count_thirds(self, third: _Index) -> Any:
        """Give how many thirds of a pixel lie between the grid's edge and the edge of a cell that a tile owns."""
        tile, cell = third // 3, third % 3
        return 3 * tile * self.stride_px + cell * self.tile_size_px - (cell > 0) * 3 * (self.overlap_px // 2)

    def move(self, rows_px: float, cols_px: float) -> Grid:
        """Give the same grid so many pixels further down and to the right; its origin need be no whole pixel."""
        x, y = self.transform @ (cols_px, rows_px)
        return replace(self, origin_x=x, origin_y=y)

    def coarsen(self, factor: int) -> Grid:
        """Lay pixels so many times larger over the overlap of both scenes, beginning at its corner."""
        moved = self.move(self.top_px, self.left_px)
        height_px, width_px = -(-self.height_px // factor), -(-self.width_px // factor)
        return replace(
            moved,
            resolution_m=self.resolution_m * factor,
            n_rows=-(-height_px // self.tile_size_px),
            n_cols=-(-width_px // self.tile_size_px),
            width_px=width_px,
            height_px=height_px,
            top_px=0,
            left_px=0,
            overlap_px=0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Grid:
        """Take back what `to_dict` gave."""
        return cls(**values)


def _clip_range(first: float, last: float, *, start: int, length: int) -> range:
    low = min(max(math.floor(first), start), start + length - 1)
    return range(low, min(max(math.ceil(last), low + 1), start + length))


def name_tile(row: int, col: int) -> str:
    """Name a tile of any grid, such as ``r0012_c0034``."""
    return f"r{row:04d}_c{col:04d}"


def parse_tile_id(tile_id: str) -> tuple[int, int]:
    """Read row and column out of a tile's name.

    Raises:
        ValueError: this is no tile id.
    """
    match = re.fullmatch(r"r(\d{4,})_c(\d{4,})", tile_id)
    if match is None:
        raise ValueError(f"tile id {tile_id!r}; expected one like r0012_c0034")
    return int(match[1]), int(match[2])


def compute_footprint(*, crs: str, transform: Affine, width: int, height: int) -> Polygon:
    """Give the outline of a raster in WGS84 longitude and latitude, edges densified.

    Longitudes run on continuously, beyond 180 degrees where the raster crosses the antimeridian.

    Raises:
        InputError: the CRS does not lead to places on Earth.
    """
    xs, ys = _apply(transform, *list_edge_points(width=width, height=height))
    return make_outline(xs, ys, crs=crs)


def list_edge_points(*, width: int, height: int) -> tuple[_FloatArray, _FloatArray]:
    """Give columns and rows of points all along the edge of a raster, in pixels."""
    steps = np.linspace(0.0, 1.0, _EDGE_SEGMENTS, endpoint=False)
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = np.concatenate([steps, ones, 1 - steps, zeros]) * width
    rows = np.concatenate([zeros, steps, ones, 1 - steps]) * height
    return columns, rows


def make_outline(xs: _FloatArray, ys: _FloatArray, *, crs: str) -> Polygon:
    """Make an outline in WGS84 longitude and latitude of points along the edge of a raster.

    Raises:
        InputError: the CRS does not lead to places on Earth.
    """
    lons, lats = _transform(xs, ys, source=crs, target="EPSG:4326")
    # A geographic raster keeps its own longitudes: all the way round the Earth, they would unwrap to nothing.
    if not CRS.from_user_input(crs).is_geographic:
        lons = np.unwrap(lons, period=360.0)
    return Polygon(np.column_stack([lons, lats]))


def build_grid(
    before_footprint: BaseGeometry,
    after_footprint: BaseGeometry,
    *,
    crs: str,
    resolution_m: float,
    tile_size_px: int,
    overlap_px: int = 0,
    anchor: GridAnchor = "overlap",
    block: LatticeBlock | None = None,
) -> Grid:
    """Lay a grid over what two scenes share.

    Args:
        before_footprint: Outline in longitude and latitude, as `compute_footprint` gives it.
        after_footprint: The same of the other date.
        crs: A CRS in metres, or ``auto`` for the UTM zone of the overlap's centre.
        resolution_m: Side of a pixel in metres.
        tile_size_px: Side of a tile in pixels.
        overlap_px: Pixels that neighbouring tiles share, an even number.
        anchor: Where the grid begins.
        block: A square of whole tiles that the grid ends at; None: it goes as far as the overlap.

    Raises:
        InputError: the scenes do not overlap, not in the block, or the CRS does not fit.
    """
    overlap = _intersect(before_footprint, after_footprint)
    if overlap.is_empty or overlap.area == 0:
        raise InputError(
            f"before covers {_describe_bounds(before_footprint)}, after {_describe_bounds(after_footprint)}",
            expected="two scenes that overlap",
            remedy="check that both files show the same place and carry the right CRS",
        )
    centre = overlap.envelope.centroid
    code = find_utm_code(centre.x, centre.y) if crs == "auto" else check_grid_crs(crs)
    cuts = shapely.segmentize(overlap, max(overlap.length / (4 * _EDGE_SEGMENTS), 1e-9))
    lons, lats = shapely.get_coordinates(cuts).T
    xs, ys = _transform(lons, lats, source="EPSG:4326", target=code)
    check_fit(code, xs=xs, ys=ys, lons=lons, lats=lats)
    left, right = _snap_outwards(float(xs.min()), float(xs.max()), resolution_m)
    bottom, top = _snap_outwards(float(ys.min()), float(ys.max()), resolution_m)
    if block is not None:
        left, bottom, right, top = _clip_to_block((left, bottom, right, top), block=block)
    stride_px = tile_size_px - overlap_px
    left_px, top_px = (left % stride_px, -top % stride_px) if anchor == "lattice" else (0, 0)
    return Grid(
        crs=code,
        resolution_m=resolution_m,
        origin_x=(left - left_px) * resolution_m,
        origin_y=(top + top_px) * resolution_m,
        tile_size_px=tile_size_px,
        n_rows=-(-(top_px + top - bottom) // stride_px),
        n_cols=-(-(left_px + right - left) // stride_px),
        width_px=right - left,
        height_px=top - bottom,
        top_px=top_px,
        left_px=left_px,
        overlap_px=overlap_px,
    )


def _clip_to_block(edges_px: tuple[int, int, int, int], *, block: LatticeBlock) -> tuple[int, int, int, int]:
    left, bottom, right, top = edges_px
    first_col, first_row = block.east * block.side_px, block.north * block.side_px
    left, right = max(left, first_col), min(right, first_col + block.side_px)
    bottom, top = max(bottom, first_row), min(top, first_row + block.side_px)
    if left >= right or bottom >= top:
        raise InputError(
            f"the scenes share nothing in block {block.block_id}",
            expected="two scenes that overlap in the block",
            remedy="choose other scenes; if STAC describes them, correct what it says of their place",
        )
    return left, bottom, right, top


@lru_cache(maxsize=1024)
def compute_warp_scale(crs: str, *, transform: Affine, grid: Grid) -> tuple[float, float]:
    """Tell how many pixels of the grid go on one pixel of a raster, along the raster's columns and rows.

    The figures hold at the centre of the overlap. Below 1 the raster is finer than the grid.

    Args:
        crs: CRS of the raster.
        transform: Affine transform of the raster.
        grid: What it is warped onto.
    """
    col, row = grid.left_px + grid.width_px / 2, grid.top_px + grid.height_px / 2
    xs, ys = _apply(grid.transform, np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    source_xs, source_ys = _transform(xs, ys, source=grid.crs, target=crs)
    if CRS.from_user_input(crs).is_geographic:
        # The centre may lie on the antimeridian, one pixel at 180 degrees and the next at -180.
        source_xs = np.unwrap(source_xs, period=360.0)
    source_cols, source_rows = _apply(~transform, source_xs, source_ys)
    steps = [np.hypot(places[1] - places[0], places[2] - places[0]) for places in (source_cols, source_rows)]
    return float(1 / steps[0]), float(1 / steps[1])


def _apply(transform: Affine, columns: _FloatArray, rows: _FloatArray) -> tuple[_FloatArray, _FloatArray]:
    a, b, c, d, e, f = transform[:6]
    return a * columns + b * rows + c, d * columns + e * rows + f


def _transform(xs: _FloatArray, ys: _FloatArray, *, source: str, target: str) -> tuple[_FloatArray, _FloatArray]:
    # rasterio rather than pyproj: outlines must agree with what the warp of the pixels does.
    try:
        moved = np.array(transform_points(source, target, xs, ys), dtype=np.float64)
    except GDAL_ERRORS:
        raise _refuse_crs(source if target == "EPSG:4326" else target, "no way leads there on Earth") from None
    if not np.isfinite(moved).all():
        raise _refuse_crs(source if target == "EPSG:4326" else target, "it is not made for this place")
    return moved[0], moved[1]


def _refuse_crs(crs: str, problem: str) -> InputError:
    name = pyproj.CRS.from_user_input(crs).name
    return InputError(
        f"the CRS {name} cannot be related to longitude and latitude here ({problem})",
        expected="a CRS on Earth that covers the scenes",
        remedy="check the CRS of the scenes and grid.crs",
    )


def _intersect(before: BaseGeometry, after: BaseGeometry) -> BaseGeometry:
    # The same place may be at -179 degrees in one scene and at 181 in the other.
    shares = [before.intersection(translate(after, xoff=turn)) for turn in (0.0, -360.0, 360.0)]
    return max(shares, key=lambda share: float(share.area))


def _describe_bounds(footprint: BaseGeometry) -> str:
    west, south, east, north = footprint.bounds
    return f"lon {west:.5f} to {east:.5f}, lat {south:.5f} to {north:.5f}"


def _snap_outwards(low: float, high: float, resolution_m: float) -> tuple[int, int]:
    first = math.floor(low / resolution_m + _SNAP_TOLERANCE_PX)
    last = math.ceil(high / resolution_m - _SNAP_TOLERANCE_PX)
    return first, max(last, first + 1)
