"""Where on Earth a raster lies: by a transform or control points, and a CRS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import GCPTransformer
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.grid.grid import compute_footprint, list_edge_points, make_outline
from pipeline.scenes.headers import RasterHeader
from pipeline.scenes.scene import Asset, ControlPoint


def place_raster(header: RasterHeader, *, assume_crs: str | None, date: str) -> Asset:
    """Make an asset of a raster, with its outline on Earth.

    Args:
        header: What the file tells.
        assume_crs: CRS of a file that names none.
        date: ``before`` or ``after``, to name the config key in errors.

    Raises:
        InputError: nothing tells where the raster lies, or not on Earth.
    """
    if header.transform is None:
        raise _refuse_unplaced(header)
    crs = header.crs or _check_assumed(assume_crs, date=date)
    if crs is None:
        raise InputError(
            f"{header.uri} has no CRS",
            expected="a georeferenced raster",
            remedy="name the CRS of its coordinates with --assume-crs EPSG:..., or before.assume_crs or "
            "after.assume_crs in the config",
        )
    asset = Asset(
        uri=header.uri,
        checksum=header.checksum,
        crs=crs,
        transform=header.transform,
        control_points=header.control_points,
        width=header.width,
        height=header.height,
        alpha_band=header.alpha_band,
        has_mask=header.has_mask,
        overviews=header.overviews,
        access=header.access,
        footprint=shapely.Polygon(),
    )
    try:
        footprint = _outline(asset)
    except InputError as refusal:
        raise refusal.about(f"{header.uri}: ") from None
    return Asset(**{**vars(asset), "footprint": footprint})


def make_control_points(points: Sequence[ControlPoint]) -> list[GroundControlPoint]:
    """Give control points as rasterio takes them."""
    return [GroundControlPoint(row=p.row, col=p.col, x=p.x, y=p.y) for p in points]


def join_footprints(footprints: Sequence[BaseGeometry]) -> BaseGeometry:
    """Give what outlines cover together; those beyond the antimeridian are moved beside the first."""
    first = footprints[0].envelope.centroid.x
    moved = [move_beside(footprint, lon=first) for footprint in footprints]
    return moved[0] if len(moved) == 1 else shapely.union_all(moved)


def move_beside(footprint: BaseGeometry, *, lon: float) -> BaseGeometry:
    """Turn an outline by whole rounds until it lies nearest to a longitude."""
    turns = round((lon - footprint.envelope.centroid.x) / 360)
    return translate(footprint, xoff=360.0 * turns) if turns else footprint


def _outline(asset: Asset) -> BaseGeometry:
    if not asset.control_points:
        return compute_footprint(crs=asset.crs, transform=asset.affine, width=asset.width, height=asset.height)
    columns, rows = list_edge_points(width=asset.width, height=asset.height)
    with GCPTransformer(make_control_points(asset.control_points)) as transformer:
        xs, ys = transformer.xy(rows, columns, offset="ul")
    return make_outline(np.asarray(xs), np.asarray(ys), crs=asset.crs)


def _check_assumed(crs: str | None, *, date: str) -> str | None:
    if crs is None:
        return None
    try:
        parsed = CRS.from_user_input(crs)
    except CRSError as problem:
        raise InputError(
            f"{date}.assume_crs {crs!r} is not understood ({problem})",
            expected="a CRS such as EPSG:32614",
            remedy=f"correct --assume-crs or {date}.assume_crs",
        ) from None
    authority = parsed.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else str(parsed.to_wkt())


def _refuse_unplaced(header: RasterHeader) -> InputError:
    if header.has_rpcs:
        return InputError(
            f"{header.uri} is placed by RPCs alone",
            expected="a raster with a geotransform or ground control points",
            remedy="rectify it first with a height model, for example with gdalwarp -rpc -to RPC_DEM=dem.tif",
        )
    return InputError(
        f"{header.uri} has no geotransform",
        expected="a georeferenced raster",
        remedy="give it its place, for example with gdal_translate -a_srs EPSG:... -a_ullr ...",
    )
