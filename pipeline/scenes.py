"""Two acquisitions of one place: what they are, and whether they can be compared."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from shapely.geometry import Polygon

from pipeline.aoi import read_aoi
from pipeline.checksums import compute_checksum
from pipeline.config import RunConfig, SceneConfig
from pipeline.errors import InputError
from pipeline.grid import GDAL_ERRORS, Grid, build_grid, compute_footprint, compute_warp_scale
from pipeline.sources import check_pixels, has_valid_pixels, open_raster, refuse_unreadable, resolve_uri
from pipeline.summary import StageSummary

STORE_FORMAT_VERSION = 1
"""Raised whenever equal input would give other pixels in the store than before."""

_FINEST_SCALE = 32


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one date, as its file tells it."""

    scene_id: str
    """Name for people: the file's name without its ending."""
    uri: str
    """Where the pixels are: an absolute local path, or an http(s) or s3 URI."""
    datetime: str | None
    """Acquisition time in ISO 8601, UTC, such as 2024-05-01T10:30:00Z; None where nobody knows."""
    crs: str
    """CRS of the file: an authority code or WKT."""
    transform: tuple[float, float, float, float, float, float]
    """The six numbers a to f of the affine transform from (column, row) to coordinates of `crs`."""
    width: int
    """Columns of the file, in pixels."""
    height: int
    """Rows of the file, in pixels."""
    bands: tuple[int, int, int]
    """1-based numbers of the red, green and blue band."""
    alpha_band: int | None
    """1-based number of the band that tells how opaque a pixel is."""
    nodata: float | None
    """Pixel value that stands for nothing seen."""
    checksum: str
    """sha256 in hex of a local file; ``etag:...`` of a remote one."""
    footprint: Polygon
    """Outline in WGS84 longitude and latitude."""

    @property
    def affine(self) -> Affine:
        """The transform as a value that multiplies."""
        return Affine(*self.transform)


@dataclass(frozen=True, kw_only=True)
class ScenePair:
    """Two scenes of one area and the grid they are compared on."""

    before: Scene
    """The earlier scene."""
    after: Scene
    """The later scene."""
    grid: Grid
    """What both dates are warped onto."""
    resampling: str
    """Name of rasterio's resampling method."""
    content_key: str
    """sha256 in hex over all that the pixels of the store depend on; never over paths."""


def find_pair(config: RunConfig) -> tuple[ScenePair, StageSummary]:
    """Look at both scenes and lay the grid over what they share; nothing is written.

    Raises:
        InputError: a scene cannot be used, the two do not make a pair, or the grid or the area of interest
            does not fit them.
    """
    start = time.perf_counter()
    before = read_scene(config.before, date="before")
    after = read_scene(config.after, date="after")
    pair = make_pair(before, after, config=config)
    if config.aoi is not None:
        # Read again where it is used; here only so that a wrong one ends the run before anything is written.
        read_aoi(config.aoi, grid=pair.grid)
    return pair, StageSummary(stage="find_pair", done=2, total=2, seconds=time.perf_counter() - start)


def make_pair(before: Scene, after: Scene, *, config: RunConfig) -> ScenePair:
    """Lay the grid of a run over what two scenes share.

    Raises:
        InputError: the two do not make a pair, or the grid does not fit them.
    """
    _check_two_dates(before, after)
    grid = build_grid(
        before.footprint,
        after.footprint,
        crs=config.grid.crs,
        resolution_m=config.grid.resolution_m,
        tile_size_px=config.grid.tile_size_px,
        overlap_px=config.tiles.overlap_px,
        anchor=config.grid.anchor,
    )
    _check_resolution(before, after, grid=grid)
    resampling = config.tiles.resampling
    return ScenePair(
        before=before,
        after=after,
        grid=grid,
        resampling=resampling,
        content_key=compute_content_key(before, after, grid=grid, resampling=resampling),
    )


def read_scene(config: SceneConfig, *, date: str) -> Scene:
    """Read what one raster tells about itself and refuse what cannot be worked on.

    Args:
        config: Where it is, and what the user knows better than the file.
        date: ``before`` or ``after``, to name the config key in errors.

    Raises:
        InputError: the file is missing or damaged, has no place on Earth, nothing to see or no colours in bytes.
    """
    try:
        uri = resolve_uri(config.uri)
        with open_raster(uri) as dataset:
            return _describe(dataset, uri=uri, config=config, date=date)
    except InputError as refusal:
        found = refusal.found if Path(config.uri).name in refusal.found else f"{config.uri}: {refusal.found}"
        raise InputError(f"{date}: {found}", expected=refusal.expected, remedy=refusal.remedy) from None
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(f"{date}: {config.uri}", problem) from None


def compute_content_key(before: Scene, after: Scene, *, grid: Grid, resampling: str) -> str:
    """Hash all that the pixels of the store depend on: content and meaning of both files, and the grid."""
    content: dict[str, Any] = {
        "version": STORE_FORMAT_VERSION,
        "grid": grid.to_dict(),
        "resampling": resampling,
    }
    for date, scene in (("before", before), ("after", after)):
        # A sidecar file may hold CRS, transform and nodata, so the file's own checksum does not cover them.
        content[date] = {
            name: getattr(scene, name) for name in ("checksum", "crs", "transform", "bands", "alpha_band", "nodata")
        }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def parse_tag_datetime(text: str) -> str | None:
    """Read a time as files write it, ISO 8601 or ``YYYY:MM:DD HH:MM:SS``; without a zone it is UTC."""
    words = re.sub(r"^(\d{4}):(\d{2}):(\d{2})", r"\1-\2-\3", text.strip())
    try:
        return _format_datetime(dt.datetime.fromisoformat(words))
    except ValueError:
        return None


def _format_datetime(value: dt.datetime) -> str:
    moment = value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _describe(dataset: DatasetReader, *, uri: str, config: SceneConfig, date: str) -> Scene:
    crs = _check_place(dataset)
    bands = _check_bands(dataset, config.bands, date=date)
    footprint = compute_footprint(crs=crs, transform=dataset.transform, width=dataset.width, height=dataset.height)
    check_pixels(dataset, bands=bands)
    if not has_valid_pixels(dataset):
        raise InputError(
            f"{uri} has no valid pixel, all are nodata or masked",
            expected="a scene that shows something",
            remedy="check its nodata value with gdalinfo, or choose another scene",
        )
    return Scene(
        scene_id=Path(urlsplit(uri).path).stem,
        uri=uri,
        datetime=_find_datetime(config, dataset),
        crs=crs,
        transform=tuple(dataset.transform)[:6],
        width=dataset.width,
        height=dataset.height,
        bands=bands,
        alpha_band=_find_alpha_band(dataset),
        nodata=_find_nodata(dataset),
        checksum=compute_checksum(uri, files=dataset.files),
        footprint=footprint,
    )


def _find_datetime(config: SceneConfig, dataset: DatasetReader) -> str | None:
    if config.datetime is not None:
        return _format_datetime(config.datetime)
    tags: Mapping[str, str] = dataset.tags()
    found = (
        tags.get("ACQUISITION_DATETIME"),
        dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME"),
        tags.get("TIFFTAG_DATETIME"),
    )
    return next((moment for text in found if text and (moment := parse_tag_datetime(text))), None)


def _check_place(dataset: DatasetReader) -> str:
    is_placed = not dataset.transform.is_identity
    if dataset.crs and is_placed:
        authority = dataset.crs.to_authority(confidence_threshold=100)
        return ":".join(authority) if authority else str(dataset.crs.to_wkt())
    gcps, rpcs = len(dataset.gcps[0]), dataset.rpcs is not None
    if gcps or rpcs:
        raise InputError(
            f"{dataset.name} is placed by {'ground control points' if gcps else 'RPCs'} alone",
            expected="a raster with a CRS and a geotransform",
            remedy=f"rectify it first, for example with gdalwarp {'-tps' if gcps else '-rpc'}",
        )
    raise InputError(
        f"{dataset.name} has no {'geotransform' if dataset.crs else 'CRS'}",
        expected="a georeferenced raster",
        remedy="give it its place, for example with gdal_translate -a_srs EPSG:... -a_ullr ...",
    )


def _check_bands(dataset: DatasetReader, wanted: tuple[int, int, int] | None, *, date: str) -> tuple[int, int, int]:
    count = dataset.count
    n_colours = count - list(dataset.colorinterp).count(ColorInterp.alpha)
    if n_colours < 3:
        is_palette = count == 1 and dataset.colorinterp[0] is ColorInterp.palette
        raise InputError(
            f"{dataset.name} has {n_colours} band{'' if n_colours == 1 else 's'}",
            expected="at least 3 bands: red, green and blue",
            remedy="convert it with gdal_translate -expand rgb" if is_palette else "choose a colour raster",
        )
    if wanted is None and count > 4:
        raise InputError(
            f"{dataset.name} has {count} bands",
            expected=f"{date}.bands to tell which are red, green and blue",
            remedy=f"set it, for example --set {date}.bands='[3, 2, 1]'",
        )
    bands = wanted or _find_colour_bands(dataset)
    if min(bands) < 1 or max(bands) > count:
        raise InputError(
            f"{dataset.name} has {count} bands, but {date}.bands is {list(bands)}",
            expected=f"numbers from 1 to {count}",
            remedy=f"correct {date}.bands",
        )
    kinds = sorted({dataset.dtypes[band - 1] for band in bands})
    if kinds != ["uint8"]:
        raise InputError(
            f"{dataset.name} holds {' and '.join(kinds)}",
            expected="uint8, 0 to 255",
            remedy="scale both dates alike with gdal_translate -ot Byte -scale LOW HIGH 0 255",
        )
    return bands


def _find_colour_bands(dataset: DatasetReader) -> tuple[int, int, int]:
    # Some deliver blue, green, red and say so; where the file does not say, the order is that of the file.
    meanings = list(dataset.colorinterp)
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if all(meanings.count(colour) == 1 for colour in colours):
        red, green, blue = (meanings.index(colour) + 1 for colour in colours)
        return red, green, blue
    return 1, 2, 3


def _find_alpha_band(dataset: DatasetReader) -> int | None:
    meanings = list(dataset.colorinterp)
    return meanings.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in meanings else None


def _find_nodata(dataset: DatasetReader) -> float | None:
    nodata = dataset.nodata
    # No byte equals -9999 or NaN: such a file has no nodata pixel.
    return float(nodata) if nodata is not None and nodata in range(256) else None


def _check_two_dates(before: Scene, after: Scene) -> None:
    if before.uri == after.uri or before.checksum == after.checksum:
        places = before.uri if before.uri == after.uri else f"{before.uri} and {after.uri}"
        raise InputError(
            f"before and after are the same file ({places})",
            expected="two scenes of two dates",
            remedy="name the other date's file",
        )
    if before.datetime and after.datetime and _parse(before.datetime) > _parse(after.datetime):
        raise InputError(
            f"before was acquired on {before.datetime}, after on {after.datetime}",
            expected="the earlier scene first",
            remedy="swap the two, or set before.datetime and after.datetime if the files' tags are wrong",
        )


def _parse(moment: str) -> dt.datetime:
    return dt.datetime.fromisoformat(moment)


def _check_resolution(before: Scene, after: Scene, *, grid: Grid) -> None:
    scales = [min(compute_warp_scale(s.crs, transform=s.affine, grid=grid)) for s in (before, after)]
    if min(scales) > _FINEST_SCALE:
        raise InputError(
            f"grid.resolution_m is {grid.resolution_m:g}, but a pixel of the scenes is about "
            f"{min(scales) * grid.resolution_m:.3g} m wide",
            expected=f"a grid at most {_FINEST_SCALE} times finer than the scenes",
            remedy="set grid.resolution_m to about the pixel size of the scenes",
        )
