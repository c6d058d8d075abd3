"""Polygons out of any vector file, as the person drew them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

from model.errors import InputError
from pipeline.grid.date_line import unwrap_shape
from pipeline.grid.projections import refuse_named_files
from pipeline.polygons.crs_words import check_crs_words
from pipeline.polygons.unfolding import check_columns, check_unfolding

if TYPE_CHECKING:
    import geopandas as gpd

_FORMATS = frozenset(
    {
        *("GeoJSON", "GeoJSONSeq", "ESRIJSON", "TopoJSON", "GPKG", "ESRI Shapefile", "FlatGeobuf", "OpenFileGDB"),
        *("KML", "LIBKML", "MEM"),
    }
)
# ^ GDAL's names of formats that hold what they show. GDAL tells a format by what a file begins with, whatever its name
#   ends with, and knows others that are no more than a list of files and servers to open.
_OPTIONS = {
    # Views and columns of a GeoPackage are computed, by functions that may read files and ask servers.
    "OGR_SQLITE_PRAGMA": "trusted_schema=OFF",
}
_one_at_a_time = threading.Lock()

_MAX_LONGITUDE = 540.0
# ^ Once around and on, as shapes that run over the date line are written.
_MAX_LATITUDE = 90.0 + 1e-6

_POLYGON_KINDS = frozenset({"Polygon", "MultiPolygon"})


def read_polygons(path: str, *, key: str, may_be_none: bool = False) -> gpd.GeoDataFrame:
    """Read the rows of a vector file of polygons; rows may lack a geometry, or have an empty one.

    Args:
        path: The file.
        key: The setting that names it, for messages.
        may_be_none: Whether a file without any polygon says something too.

    Raises:
        InputError: the file cannot be read, has no CRS, no geometry at all, or shapes other than polygons.
    """
    frame = _read_frame(path, key=key)
    if frame.crs is None:
        raise InputError(
            f"{key} {path} has no CRS",
            expected="polygons with a CRS",
            remedy="set it, for example with ogr2ogr -a_srs",
        )
    refuse_named_files(f"{frame.crs.srs} {frame.crs.to_wkt()}", named_by=f"{key} {path}")
    shapes = frame.geometry[has_shape(frame.geometry)]
    kinds = sorted(set(shapes.geom_type) - _POLYGON_KINDS)
    if kinds or (shapes.empty and not may_be_none):
        raise InputError(
            f"{key} {path} holds {', '.join(kinds) or 'no geometry'}",
            expected="polygons",
            remedy="draw what is meant as one or more polygons; widen lines, for example with a buffer",
        )
    _check_coordinates(shapes, named_by=f"{key} {path}")
    return frame


def _check_coordinates(shapes: gpd.GeoSeries, *, named_by: str) -> None:
    """Refuse coordinates that are no numbers, or no degrees where they are said to be some.

    Raises:
        InputError: there are such.
    """
    bounds = shapely.bounds(shapes.to_numpy()).reshape(-1, 4)
    if not len(bounds):
        return
    left, bottom = bounds[:, :2].min(axis=0).tolist()
    right, top = bounds[:, 2:].max(axis=0).tolist()
    if not np.isfinite(bounds).all():
        raise InputError(
            f"{named_by} has corners without a place",
            expected="finite coordinates",
            remedy="correct the file, for example with ogr2ogr -makevalid",
        )
    is_round_the_globe = max(-left, right) <= _MAX_LONGITUDE and max(-bottom, top) <= _MAX_LATITUDE
    if shapes.crs is not None and shapes.crs.is_geographic and not is_round_the_globe:
        raise InputError(
            f"{named_by} reaches from {left:g}, {bottom:g} to {right:g}, {top:g} and is said to be in degrees",
            expected=f"longitudes of at most {_MAX_LONGITUDE:g} degrees and latitudes of at most 90",
            remedy="set the file's CRS to that of its coordinates, for example with ogr2ogr -a_srs; GeoJSON that "
            "names none is in degrees",
        )


def has_shape(geometry: gpd.GeoSeries) -> npt.NDArray[np.bool_]:
    """Tell which geometries are there and not empty."""
    shapes = geometry.to_numpy()
    return np.asarray(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)), dtype=np.bool_)


def _read_frame(path: str, *, key: str) -> gpd.GeoDataFrame:
    # Not before they are needed: most runs have no polygons, and pyogrio brings a GDAL of its own, of 30 MB.
    import geopandas as gpd
    import pyogrio

    try:
        if Path(path).suffix.lower() in {".parquet", ".geoparquet"}:
            check_columns(path, key=key)
            return gpd.read_parquet(path)
        check_unfolding(path, key=key)
        check_crs_words(path, key=key)
        with _keep_to_formats():
            # Tables without geometry are, for example, the styles that QGIS keeps in a GeoPackage.
            listed = pyogrio.list_layers(path)
            layers = [str(name) for name, kind in listed if kind is not None] or [str(name) for name, _ in listed]
            frame = gpd.read_file(path, layer=layers[0]) if len(layers) == 1 else None
    except InputError:
        raise
    # pyogrio, pyarrow and the operating system each bring their own kinds.
    except Exception as problem:
        words = str(problem).partition("\n")[0] or type(problem).__name__
        raise InputError(
            f"{key} {path} cannot be read ({words})",
            expected="GeoJSON, GeoPackage, GeoParquet, FlatGeobuf, a shapefile, a file geodatabase or KML",
            remedy="correct the path or the file; of another format, convert it with ogr2ogr",
        ) from None
    if frame is None:
        raise InputError(
            f"{key} {path} holds {len(layers)} layers ({', '.join(layers[:5])})",
            expected="a file with one layer",
            remedy="write the layer that is meant to a file of its own, for example with ogr2ogr",
        )
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError(f"{key} {path} is a table without geometry", expected="polygons", remedy="choose another file")
    return frame


@contextmanager
def _keep_to_formats() -> Iterator[None]:
    """Have GDAL know no other formats while the context lasts, whatever it is led to open."""
    import pyogrio
    from pyogrio._ogr import _register_drivers  # The only way to have GDAL read its setting again.

    with _one_at_a_time:
        others = [name for name in pyogrio.list_drivers() if name not in _FORMATS]
        options = {"GDAL_SKIP": ",".join(others), **_OPTIONS}
        former = {name: pyogrio.get_gdal_config_option(name) for name in options}
        try:
            pyogrio.set_gdal_config_options(options)
            _register_drivers()
            yield
        finally:
            pyogrio.set_gdal_config_options(former)
            _register_drivers()


def unwrap_date_line(geometry: gpd.GeoSeries) -> gpd.GeoSeries:
    """Let polygons in degrees run on over the date line, as `unwrap_shape` does; those in other CRSs stay."""
    if not geometry.crs.is_geographic:
        return geometry
    import geopandas as gpd

    shapes = [unwrap_shape(shape) for shape in geometry.to_numpy()]
    return gpd.GeoSeries(shapes, index=geometry.index, crs=geometry.crs)
