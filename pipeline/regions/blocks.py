"""The blocks of a region: which squares of the lattices its area touches, and which part of the area is whose.

`pipeline.grid.blocks` has the rule by which all ground of an area belongs to exactly one block.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.config.region import LatticeGridConfig, RegionConfig
from pipeline.config.run import BlockConfig
from pipeline.grid.blocks import Bounds, LatticeBlock, find_zone_bounds, list_zones, project_shape, turn_near
from pipeline.grid.date_line import wrap_shape
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.polygons.near import share_ground
from pipeline.regions.pairs import find_bounds

MAX_BLOCKS = 20_000
"""Blocks of a region at most."""
MAX_WIDTH_DEGREES = 60.0
"""Longitudes that a region with a lattice per zone spans at most."""

_EDGE_PX = 1e-3
# ^ A square of which the area has less than such an edge has none of its tiles.
_CUTS = 16
# ^ Pieces of a side of a square: one of 100 km bends by less than 10 m between two of them in degrees.
_GROUND_M = 0.01
_KEY_LENGTH = 12
_LATITUDES = (-80.0, 84.0)


@dataclass(frozen=True, kw_only=True)
class RegionBlock:
    """A block, and the part of the region's area that is its own."""

    block: LatticeBlock
    """The square."""
    ground: BaseGeometry
    """Its part of the area, in its CRS."""
    area: BaseGeometry
    """The same in WGS84 degrees, cut at the date line."""
    cell: str
    """Key of the place: the square, the grid, and this part of the area, whatever else the area has."""

    @property
    def block_id(self) -> str:
        """Name of the block."""
        return self.block.block_id


def find_blocks(config: RegionConfig, *, area: AreaOfInterest, crs: str) -> tuple[RegionBlock, ...]:
    """List the blocks of a region, from south to north in each zone; none where it is a single one.

    A region that is no wider and no higher than a block is one, wherever the lattice has its lines.

    Args:
        config: What was asked for.
        area: Its area of interest.
        crs: CRS of a region that is a single one.

    Raises:
        InputError: the area reaches beyond the UTM zones, is too wide for one, or has too many blocks.
    """
    if config.blocks is None:
        return ()
    side_px, resolution_m = count_side_px(config), config.grid.resolution_m
    side_m = side_px * resolution_m
    has_zones = config.grid.crs == "auto"
    degrees = area.to_degrees()
    if has_zones:
        _check_extent(degrees)
    left, bottom, right, top = area.bring_to(crs).bounds
    if max(right - left, top - bottom) <= side_m:
        return ()
    lattices = _cut_by_zones(degrees) if has_zones else {crs: area.bring_to(crs)}
    _check_number(lattices, side_m=side_m)
    return tuple(
        _make_block(crs, place, ground=ground, config=config, side_px=side_px)
        for crs, part in lattices.items()
        for place, ground in cut_into_squares(part, side_m=side_m, edge_m=resolution_m * _EDGE_PX)
    )


def count_side_px(config: RegionConfig) -> int:
    """Give the side of a block in pixels: the whole number of tiles that comes nearest to ``blocks.size_km``."""
    stride_px = config.grid.tile_size_px - config.tiles.overlap_px
    size_km = config.blocks.size_km if config.blocks is not None else 0.0
    return stride_px * max(1, round(size_km * 1000 / (stride_px * config.grid.resolution_m)))


def describe_block(block: LatticeBlock, *, config: RegionConfig) -> BlockConfig:
    """Tell a run of the region which block it keeps to."""
    stride_px = config.grid.tile_size_px - config.tiles.overlap_px
    return BlockConfig(
        east=block.east,
        north=block.north,
        size_tiles=block.side_px // stride_px,
        is_in_zone=block.is_in_zone,
    )


def _make_block(
    crs: str, place: tuple[int, int], *, ground: BaseGeometry, config: RegionConfig, side_px: int
) -> RegionBlock:
    block = LatticeBlock(
        crs=crs,
        east=place[0],
        north=place[1],
        side_px=side_px,
        resolution_m=config.grid.resolution_m,
        is_in_zone=config.grid.crs == "auto",
    )
    return RegionBlock(
        block=block,
        ground=ground,
        area=bring_to_degrees(ground, block=block),
        cell=_hash_cell(ground, block=block, grid=config.grid),
    )


def _hash_cell(ground: BaseGeometry, *, block: LatticeBlock, grid: LatticeGridConfig) -> str:
    shape = shapely.to_wkb(shapely.set_precision(ground, _GROUND_M).normalize(), byte_order=1)
    settings = grid.model_dump(mode="json", exclude={"max_tiles"})
    content = [block.to_dict(), settings, hashlib.sha256(shape).hexdigest()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


def _check_extent(area: BaseGeometry) -> None:
    """Refuse an area that UTM zones do not cover, or that no zone's CRS holds in one table."""
    west, south, east, north = find_bounds(area)
    if east - west > MAX_WIDTH_DEGREES:
        raise InputError(
            f"the area is {east - west:.0f} degrees wide",
            expected=f"no more than {MAX_WIDTH_DEGREES:g}, as far as the CRS of one zone reaches for the tables",
            remedy="divide the area into regions, or set grid.crs to a CRS in metres for all of it",
        )
    if south < _LATITUDES[0] or north > _LATITUDES[1]:
        raise InputError(
            f"the area reaches from latitude {south:.2f} to {north:.2f}, beyond the UTM zones",
            expected=f"an area from latitude {_LATITUDES[0]:g} to {_LATITUDES[1]:g}",
            remedy="set grid.crs to a CRS in metres for this place, such as EPSG:3413 or EPSG:3031: it has one lattice",
        )


def _cut_by_zones(area: BaseGeometry) -> dict[str, BaseGeometry]:
    parts = {
        code: project_shape(share_ground(area, limits=shapely.box(*bounds)), crs=code)
        for code, bounds in list_zones(area)
    }
    # What reaches over a border by the last digit alone comes to nothing in metres.
    return {code: part for code, part in parts.items() if part.area > 0}


def cut_into_squares(
    shape: BaseGeometry, *, side_m: float, edge_m: float = 0.0
) -> Iterator[tuple[tuple[int, int], BaseGeometry]]:
    """Give the squares of a lattice that have a part of a shape: places east and north of the origin, and the parts.

    Args:
        shape: Polygons in the CRS of the lattice.
        side_m: Side of a square.
        edge_m: A square that the shape reaches by no more than this has no part of it.
    """
    for north in _count_squares(shape.bounds[1], shape.bounds[3], side_m=side_m, edge_m=edge_m):
        # By rows first: each square then cuts a strip, rather than the whole coast of a country.
        left, _, right, _ = shape.bounds
        row = shapely.box(left - side_m, north * side_m, right + side_m, (north + 1) * side_m)
        strip = share_ground(shape, limits=row)
        if strip.is_empty:
            continue
        easts = np.array(_count_squares(strip.bounds[0], strip.bounds[2], side_m=side_m, edge_m=edge_m))
        squares = shapely.box(easts * side_m, north * side_m, (easts + 1) * side_m, (north + 1) * side_m)
        shapely.prepare(strip)
        is_touched = shapely.intersects(strip, shapely.buffer(squares, -edge_m, join_style="mitre"))
        for east, square in zip(easts[is_touched].tolist(), squares[is_touched], strict=True):
            yield (east, north), share_ground(strip, limits=square)


def _count_squares(low: float, high: float, *, side_m: float, edge_m: float) -> range:
    return range(math.floor((low + edge_m) / side_m), math.ceil((high - edge_m) / side_m))


def _check_number(lattices: Mapping[str, BaseGeometry], *, side_m: float) -> None:
    n_blocks = sum(part.area for part in lattices.values()) / side_m**2
    n_rows = sum((part.bounds[3] - part.bounds[1]) / side_m for part in lattices.values())
    if max(n_blocks, n_rows) > MAX_BLOCKS:
        raise InputError(
            f"the area has about {max(n_blocks, n_rows):,.0f} blocks of {side_m / 1000:g} km",
            expected=f"no more than {MAX_BLOCKS:,}",
            remedy="raise blocks.size_km, or divide the area into regions",
        )


def bring_to_degrees(ground: BaseGeometry, *, block: LatticeBlock) -> BaseGeometry:
    """Bring a block's part of the area into WGS84 degrees, cut at the date line; it may hold a pole.

    Args:
        ground: Polygons in the CRS of the block.
        block: The block.
    """
    zone = find_zone_bounds(block.crs) if block.is_in_zone else None
    parts = shapely.get_parts(ground)
    return shapely.union_all([_bring_part(part, crs=block.crs, zone=zone) for part in parts])


def _bring_part(part: BaseGeometry, *, crs: str, zone: Bounds | None) -> BaseGeometry:
    left, bottom, right, top = part.bounds
    transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    middle = transformer.transform((left + right) / 2, (bottom + top) / 2)[0] if zone is None else sum(zone[::2]) / 2

    def place(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        lons, lats = transformer.transform(*corners.T)
        lons = turn_near(lons, middle=middle)
        # Rounding moves a few over the border of their zone, which may be the date line.
        return np.column_stack([lons if zone is None else np.clip(lons, zone[0], zone[2]), lats])

    cut = shapely.segmentize(part, max(right - left, top - bottom) / _CUTS)
    if zone is None and (pole := _find_pole(part, crs=crs)):
        return _encircle_pole(place(shapely.get_coordinates(cut.exterior)), pole=pole)
    return wrap_shape(shapely.make_valid(shapely.transform(cut, place), method="structure", keep_collapsed=False))


def _find_pole(ground: BaseGeometry, *, crs: str) -> float | None:
    """Give the latitude of a pole that lies in some ground of a CRS; None: none does."""
    transformer = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    for pole in (-90.0, 90.0):
        x, y = transformer.transform(0.0, pole)
        if math.isfinite(x) and math.isfinite(y) and shapely.intersects_xy(ground, x, y):
            return pole
    return None


def _encircle_pole(ring: npt.NDArray[np.float64], *, pole: float) -> BaseGeometry:
    """Make a shape of a ring around a pole: in degrees, all that lies between it and the pole."""
    lons = np.unwrap(ring[:, 0], period=360.0)
    closed = [*zip(lons, ring[:, 1], strict=True), (lons[-1], pole), (lons[0], pole)]
    return wrap_shape(shapely.make_valid(shapely.Polygon(closed)))
