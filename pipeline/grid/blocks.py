"""Blocks: the squares of a lattice that a region is worked off by, one lattice per UTM zone, as pure arithmetic.

The rule by which no ground is counted twice and none is missing:

1. Ground belongs to the UTM zone of its own longitude and latitude. Zones meet at meridians and at the equator, in a
   line and without a gap; the lattices of two zones are turned against each other and know nothing of one another.
2. Within a zone, ground belongs to the square of the zone's lattice that it lies in. Squares are whole tiles, so every
   tile belongs to one block.
3. A tile that the border of its zone runs through is looked at whole, in both zones; each tells of its own side alone.

A grid with a CRS of its own has one lattice and no zones: that is the way near a pole, where UTM has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

Bounds = tuple[float, float, float, float]
"""Left, bottom, right and top, or west, south, east and north."""

ZONE_DEGREES = 6.0
"""Width of a UTM zone."""
_UTM_LATITUDES = {"6": (0.0, 84.0), "7": (-80.0, 0.0)}
# ^ By the third digit of the EPSG code: 326 for the northern half of a zone, 327 for the southern.
_UTM_CODE = re.compile(r"EPSG:32([67])(\d\d)")
_CUT_DEGREES = 0.01
# ^ In pieces of this length a meridian or parallel bends by a few millimetres in the CRS of its zone.
_EDGE_CUTS = 16
_SLACK_DEGREES = 1e-9
# ^ The equator, brought from a CRS, lies so near to 0.
_PLAIN_CODE = re.compile(r"\w+:(\d+)")


@dataclass(frozen=True, kw_only=True)
class LatticeBlock:
    """One square of the lattice of one CRS, in whole tiles."""

    crs: str
    """CRS of the lattice, in metres."""
    east: int
    """Squares between it and the origin of the CRS, eastwards; below 0 to the west."""
    north: int
    """The same northwards."""
    side_px: int
    """Side of the square in pixels, a whole number of tiles."""
    resolution_m: float
    """Side of a pixel in metres."""
    is_in_zone: bool
    """Whether ground beyond the borders of the UTM zone belongs to other blocks."""

    @property
    def block_id(self) -> str:
        """Name the block, such as ``32632_0041_0532``: CRS, then squares to the east and to the north."""
        code = _PLAIN_CODE.fullmatch(self.crs)
        return f"{code[1] if code else 'local'}_{_number(self.east)}_{_number(self.north)}"

    @property
    def side_m(self) -> float:
        """Side of the square in metres."""
        return self.side_px * self.resolution_m

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right and top in the CRS."""
        edges = (self.east, self.north, self.east + 1, self.north + 1)
        left, bottom, right, top = (place * self.side_px * self.resolution_m for place in edges)
        return left, bottom, right, top

    @cached_property
    def limits(self) -> BaseGeometry:
        """Give the ground that may belong to the block, in the CRS: the square, as far as it lies in the zone."""
        square = shapely.box(*self.bounds)
        zone = find_zone_bounds(self.crs) if self.is_in_zone else None
        if zone is None:
            return square
        west, south, east, north = zone
        lons, lats = _walk_edge(self.crs, bounds=self.bounds, middle=(west + east) / 2)
        if _is_between(lons, west, east) and _is_between(lats, south, north):
            return square
        # So much of the zone as may touch the square, with edges that follow meridians.
        part = shapely.box(west, max(south, lats.min() - 1), east, min(north, lats.max() + 1))
        return shapely.intersection(project_shape(part, crs=self.crs), square)

    @property
    def is_at_border(self) -> bool:
        """Whether a border of the UTM zone runs through the square."""
        return self.is_in_zone and not self.limits.equals(shapely.box(*self.bounds))

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take back what `to_dict` gave.

        Raises:
            ValueError: these are no whole numbers and sizes, and so no name of a folder.
        """
        block = cls(**values)
        is_sound = all(isinstance(number, int) for number in (block.east, block.north, block.side_px))
        if not is_sound or block.side_px < 1 or not isinstance(block.resolution_m, int | float):
            raise ValueError(f"{dict(values)} is no block")
        return block


def _number(place: int) -> str:
    return f"{place:04d}" if place >= 0 else f"-{-place:04d}"


def find_zone_bounds(crs: str) -> Bounds | None:
    """Give west, south, east and north of half a UTM zone by its EPSG code; None for any other CRS."""
    code = _UTM_CODE.fullmatch(crs)
    if code is None:
        return None
    west = -180.0 + ZONE_DEGREES * (int(code[2]) - 1)
    south, north = _UTM_LATITUDES[code[1]]
    return west, south, west + ZONE_DEGREES, north


def list_zones(area: BaseGeometry) -> Iterator[tuple[str, Bounds]]:
    """List the halves of UTM zones that have a part of an area, from west to east, south first: EPSG code and bounds.

    Args:
        area: Polygons in WGS84 degrees, cut at the date line.
    """
    west, _, east, _ = area.bounds
    for zone in range(max(int((west + 180) // ZONE_DEGREES), 0), min(int((east + 180) // ZONE_DEGREES), 59) + 1):
        for digit in ("7", "6"):
            code = f"EPSG:32{digit}{zone + 1:02d}"
            bounds = find_zone_bounds(code)
            if bounds is not None and shapely.intersection(area, shapely.box(*bounds)).area > 0:
                yield code, bounds


def project_shape(shape: BaseGeometry, *, crs: str) -> BaseGeometry:
    """Bring polygons in WGS84 degrees into a CRS, with edges that keep their place on the ground."""
    transformer = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    cut = shapely.segmentize(shape, _CUT_DEGREES)
    moved = shapely.transform(cut, lambda places: np.column_stack(transformer.transform(*places.T)))
    return shapely.make_valid(moved, method="structure", keep_collapsed=False)


def _is_between(values: np.ndarray, low: float, high: float) -> bool:
    return bool(values.min() >= low - _SLACK_DEGREES and values.max() <= high + _SLACK_DEGREES)


def _walk_edge(crs: str, *, bounds: Bounds, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """Give longitudes and latitudes all along the edge of a rectangle in a UTM zone, running on over the date line."""
    edge = shapely.get_coordinates(shapely.segmentize(shapely.box(*bounds), (bounds[2] - bounds[0]) / _EDGE_CUTS))
    lons, lats = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*edge.T)
    return turn_near(lons, middle=middle), lats


def turn_near(lons: np.ndarray, *, middle: float) -> np.ndarray:
    """Move longitudes by whole turns to within half a turn of another one."""
    return np.asarray(middle + (lons - middle + 180) % 360 - 180)
