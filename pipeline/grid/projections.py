"""Map projections: which CRS a grid may have, and how true it is to the ground."""

from __future__ import annotations

import math
import mmap
import re
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj

from model.errors import InputError

_FloatArray = np.ndarray[Any, np.dtype[np.float64]]

_SCALE_TOLERANCE = 0.01
# ^ A UTM zone is 0.04 % off in its middle and about 0.5 % in the middle of the next zone at the equator.
_STEP_M = 5.0
_NAMED_FILE = re.compile(
    r"""(?:\b(?:nadgrids|geoidgrids|grids|init|file|model)\s*=\s*          # words of PROJ
    |\bPROJ4_GRIDS"\s*,\s*"|\bPARAMETERFILE\s*[\[(]\s*"[^"]*"\s*,\s*"    # WKT, its first and its second form
    |"value"\s*:\s*")                                                    # PROJJSON
    (?P<name>[^\s"]*[/\\~][^\s"]*)""",
    re.IGNORECASE | re.VERBOSE,
)
# ^ Grids of shifts between datums. One by its bare name is looked for among PROJ's own.
_NAMED_IN_BYTES = re.compile(
    rb"""(?:\b(?:nadgrids|geoidgrids)\s*=\s*|\bPROJ4_GRIDS\\?"\s*,\s*\\?"|\bPARAMETERFILE\s*[\[(][^,\])]*,\s*\\?")
    (?P<name>[^\s"]*[/\\~][^\s"]*)""",
    re.IGNORECASE | re.VERBOSE,
)


def refuse_named_files(text: str, *, named_by: str) -> None:
    """Refuse a CRS that has PROJ open a file or an address of its choice, for example a pipe that never ends.

    Args:
        text: The CRS in words of PROJ, WKT or PROJJSON.
        named_by: What has it.

    Raises:
        InputError: it does.
    """
    if found := _NAMED_FILE.search(text):
        raise _refuse_named(found["name"], named_by=named_by)


def refuse_named_in_bytes(data: bytes | mmap.mmap, *, named_by: str) -> None:
    """Refuse the same in the bytes of a file before it is read: PROJ opens what words name to make a CRS of them.

    Raises:
        InputError: it names a file.
    """
    if found := _NAMED_IN_BYTES.search(data):
        raise _refuse_named(found["name"].decode(errors="replace"), named_by=named_by)


def _refuse_named(name: str, *, named_by: str) -> InputError:
    return InputError(
        f"{named_by} has a CRS that reads the file {name[:200]}",
        expected="a CRS by its code, or in words that name no file",
        remedy="give it its code, for example with gdal_edit.py -a_srs or ogr2ogr -a_srs",
    )


def find_utm_code(lon: float, lat: float) -> str:
    """Name the UTM zone of a place.

    Raises:
        InputError: it is too near to a pole.
    """
    if not -80 <= lat <= 84:
        raise InputError(
            f"the scenes overlap at latitude {lat:.2f}, where no UTM zone is",
            expected="a latitude from -80 to 84",
            remedy="set grid.crs to a CRS in metres for this place, such as EPSG:3413 or EPSG:3031",
        )
    zone = math.floor(((lon + 180) % 360) / 6) + 1
    return f"EPSG:{32600 + zone if lat >= 0 else 32700 + zone}"


def check_grid_crs(crs: str) -> str:
    """Give the name under which a CRS goes into a grid: an authority code or WKT.

    Raises:
        InputError: it is not understood, does not count in metres, or not towards the east and the north.
    """
    # A form may have given it, or a STAC item.
    refuse_named_files(crs, named_by="grid.crs")
    try:
        parsed = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as problem:
        raise InputError(
            f"grid.crs {crs!r} is not understood ({problem})",
            expected="a CRS in metres such as EPSG:32614",
            remedy="correct it or leave it at auto",
        ) from None
    units = {axis.unit_name for axis in parsed.axis_info[:2]}
    if not parsed.is_projected or units != {"metre"}:
        raise InputError(
            f"grid.crs {crs!r} counts in {' and '.join(sorted(units)) or 'no known unit'}",
            expected="a projected CRS in metres such as EPSG:32614",
            remedy="choose one or leave it at auto",
        )
    directions = {axis.direction for axis in parsed.axis_info[:2]}
    # Near a pole both axes lead to it or away from it, and no row is the northern one.
    if directions != {"east", "north"} and directions not in ({"north"}, {"south"}):
        raise InputError(
            f"grid.crs {crs!r} counts towards the {' and the '.join(sorted(directions))}: its tiles would be turned",
            expected="a CRS whose coordinates rise towards the east and the north",
            remedy="leave grid.crs at auto for the UTM zone, or choose another CRS made for this place",
        )
    authority = parsed.to_authority()
    return ":".join(authority) if authority else str(parsed.to_wkt())


def compute_area_scale(crs: str, *, xs: _FloatArray, ys: _FloatArray) -> _FloatArray:
    """Tell by what to divide a small area in a projected CRS to get its area on the ellipsoid.

    1 where the CRS shows areas as they are, 4 in Web Mercator at 60 degrees. The derivatives of longitude and
    latitude are taken from places a few metres to each side, and turned into metres by the ellipsoid's radii of
    curvature (Snyder, Map Projections: A Working Manual, 1987, equations 4-18 to 4-20). PROJ's own factors hold
    for the sphere where a projection, as Web Mercator, is one of the sphere.

    Args:
        crs: A projected CRS.
        xs: Eastings of places in it.
        ys: Their northings.
    """
    transformer, geod = _open_projection(crs)
    step = _STEP_M * np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    lons, lats = transformer.transform(xs[..., np.newaxis] + step[0], ys[..., np.newaxis] + step[1])
    lons, lats = np.deg2rad(lons), np.deg2rad(lats)
    middle = lats.mean(axis=-1)
    bend = 1 - geod.es * np.sin(middle) ** 2
    per_lon = geod.a * np.cos(middle) / np.sqrt(bend)
    per_lat = geod.a * (1 - geod.es) / bend**1.5
    # Across the antimeridian a step of a few metres may look like a turn around the Earth.
    east_lon, north_lon = (np.remainder(lons[..., i] - lons[..., i + 1] + np.pi, 2 * np.pi) - np.pi for i in (0, 2))
    east_lat, north_lat = (lats[..., i] - lats[..., i + 1] for i in (0, 2))
    ground_m2 = np.abs(east_lon * north_lat - north_lon * east_lat) * per_lon * per_lat
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((2 * _STEP_M) ** 2 / ground_m2, dtype=np.float64)


@lru_cache(maxsize=8)
def _open_projection(crs: str) -> tuple[pyproj.Transformer, pyproj.Geod]:
    parsed = pyproj.CRS.from_user_input(crs)
    # Within one datum, so that no shift between datums takes part.
    transformer = pyproj.Transformer.from_crs(parsed, parsed.geodetic_crs, always_xy=True)
    return transformer, parsed.get_geod() or pyproj.Geod(ellps="WGS84")


def check_fit(crs: str, *, xs: _FloatArray, ys: _FloatArray, lons: _FloatArray, lats: _FloatArray) -> None:
    """Refuse a grid far from where its CRS belongs: outside its area of use, and with lengths more than 1 % off.

    The zone next to the right one is close enough, and so is Web Mercator anywhere within its area.

    Args:
        crs: CRS of the grid.
        xs: Eastings along the outline of what both scenes show.
        ys: Northings of the same places.
        lons: Their longitudes, WGS84.
        lats: Their latitudes.

    Raises:
        InputError: the CRS is for another place.
    """
    parsed = pyproj.CRS.from_user_input(crs)
    area = parsed.area_of_use
    if area is None or _touches(area.bounds, lons=lons, lats=lats):
        return
    scales = np.sqrt(compute_area_scale(crs, xs=xs, ys=ys))
    error = float(np.nan_to_num(np.abs(scales - 1), nan=np.inf, posinf=np.inf).max())
    if error > _SCALE_TOLERANCE:
        raise InputError(
            f"grid.crs {parsed.name} is made for lon {area.west:g} to {area.east:g}, lat {area.south:g} to "
            f"{area.north:g}; the scenes lie at lon {lons.mean():.2f}, lat {lats.mean():.2f}, where its lengths are "
            f"{error:.0%} off",
            expected="a CRS for the place of the scenes",
            remedy="leave grid.crs at auto for the UTM zone, or choose a CRS made for this place",
        )


def _touches(bounds: tuple[float, float, float, float], *, lons: _FloatArray, lats: _FloatArray) -> bool:
    west, south, east, north = bounds
    # Areas of use run from west eastwards, over the antimeridian as well.
    width = (east - west) % 360 or 360.0
    is_inside = ((lons - west) % 360 <= width) & (lats >= south) & (lats <= north)
    return bool(is_inside.any())


def note_scale(crs: str, *, xs: _FloatArray, ys: _FloatArray, resolution_m: float) -> str | None:
    """Say in words what a pixel measures on the ground where that is more than 1 % off; None where it is not."""
    scale = float(np.sqrt(compute_area_scale(crs, xs=xs, ys=ys)).mean())
    if abs(scale - 1) <= _SCALE_TOLERANCE:
        return None
    name = pyproj.CRS.from_user_input(crs).name
    return (
        f"a pixel of {resolution_m:g} m in {name} is {resolution_m / scale:.3g} m wide on the ground here; areas in "
        "the report are those on the ground"
    )
