"""What the header of a raster tells, read once and judged before anything is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps

from model.errors import InputError
from pipeline.dates import format_moment, parse_moment
from pipeline.grid.grid import GDAL_ERRORS
from pipeline.scenes.integrity import compute_checksum
from pipeline.scenes.rasters import open_raster, refuse_unreadable
from pipeline.scenes.scene import ControlPoint
from pipeline.scenes.vrt import list_vrt_files
from pipeline.uris import is_remote

MAX_PIXELS = 10**12
"""Pixels of a file beyond which its header is not believed: a million by a million."""
MAX_BLOCK_BYTES = 1 << 29
"""Bytes that one block of a file may take in memory when it is decoded; whatever is read, whole blocks are."""


@dataclass(frozen=True, kw_only=True)
class BandHeader:
    """What a header tells of one band."""

    dtype: str
    """Type of the stored values."""
    meaning: str
    """Colour that GDAL takes it for, such as red or undefined."""
    description: str = ""
    """Name of the band, such as B04; empty where it has none."""
    scale: float = 1.0
    """Physical value = stored value * scale + offset."""
    offset: float = 0.0
    """Added after scaling."""
    nodata: float | None = None
    """Stored value that stands for nothing seen."""


@dataclass(frozen=True, kw_only=True)
class RasterHeader:
    """What a raster tells before any of its pixels is read."""

    uri: str
    """Where it is."""
    checksum: str
    """sha256 in hex of a local file; ``etag:...`` of a remote one."""
    width: int
    """Columns, in pixels."""
    height: int
    """Rows, in pixels."""
    bands: tuple[BandHeader, ...]
    """One for each band, in order."""
    crs: str | None
    """CRS of the transform or of the control points: an authority code or WKT; None where the file has none."""
    transform: tuple[float, float, float, float, float, float] | None
    """The numbers a to f of the affine transform; None where the file has none."""
    control_points: tuple[ControlPoint, ...] = ()
    """Places whose coordinates are known, if they are what places the file."""
    has_rpcs: bool = False
    """Whether rational polynomials are all that places the file."""
    has_mask: bool = False
    """Whether there is a mask inside or beside the file."""
    overviews: tuple[int, ...] = ()
    """How many times smaller than the file the versions of itself are that it holds, rising."""
    datetime: str | None = None
    """Acquisition time in ISO 8601, UTC, by the file's tags."""

    @property
    def alpha_band(self) -> int | None:
        """1-based number of the band that tells how opaque a pixel is."""
        return next((n for n, band in enumerate(self.bands, start=1) if band.meaning == "alpha"), None)


def read_header(uri: str) -> RasterHeader:
    """Read what a raster tells about itself.

    Args:
        uri: What `resolve_uri` gave.

    Raises:
        InputError: this cannot be read, or would take more memory than any raster should.
    """
    files = list_vrt_files(uri)
    try:
        with open_raster(uri) as dataset:
            _check_size(dataset, uri=uri)
            if files is None:
                # Of a remote file GDAL would ask the server for sidecar files, one after another.
                files = [] if is_remote(uri) else dataset.files
            return _read(dataset, uri=uri, checksum=compute_checksum(uri, files=files))
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(uri, problem) from None


def parse_tag_datetime(text: str) -> str | None:
    """Read a time as files write it, ISO 8601 or ``YYYY:MM:DD HH:MM:SS``; without a zone it is UTC."""
    words = re.sub(r"^(\d{4}):(\d{2}):(\d{2})", r"\1-\2-\3", text.strip())
    try:
        return format_moment(parse_moment(words))
    except ValueError:
        return None


def clean_nodata(nodata: float | None, *, dtype: str) -> float | None:
    """Give the nodata value as it is stored, or None where no pixel can have it.

    No byte equals -9999 or NaN: such a file has no nodata pixel. What is declared in double precision of a file
    in single precision is the nearest value that it can hold.
    """
    if nodata is None or dtype.startswith("complex"):
        return None
    if np.dtype(dtype).kind == "f":
        with np.errstate(over="ignore"):
            return float(np.dtype(dtype).type(nodata))
    limits = np.iinfo(dtype)
    is_held = math.isfinite(nodata) and nodata == int(nodata) and limits.min <= nodata <= limits.max
    return float(nodata) if is_held else None


def _read(dataset: DatasetReader, *, uri: str, checksum: str) -> RasterHeader:
    points, points_crs = dataset.gcps
    is_placed = not dataset.transform.is_identity
    crs = dataset.crs if is_placed or not points else points_crs
    authority = crs.to_authority(confidence_threshold=100) if crs else None
    return RasterHeader(
        uri=uri,
        checksum=checksum,
        width=dataset.width,
        height=dataset.height,
        bands=tuple(_read_band(dataset, index) for index in range(dataset.count)),
        crs=":".join(authority) if authority else str(crs.to_wkt()) if crs else None,
        transform=_give_six(dataset.transform) if is_placed else _give_six(from_gcps(points)) if points else None,
        control_points=()
        if is_placed
        else tuple(ControlPoint(col=float(p.col), row=float(p.row), x=float(p.x), y=float(p.y)) for p in points),
        has_rpcs=not is_placed and not points and dataset.rpcs is not None,
        has_mask=any(_is_masked(flags) for flags in dataset.mask_flag_enums),
        overviews=tuple(dataset.overviews(1)) if dataset.count else (),
        datetime=_find_datetime(dataset),
    )


def _read_band(dataset: DatasetReader, index: int) -> BandHeader:
    scale, offset = dataset.scales[index], dataset.offsets[index]
    dtype = dataset.dtypes[index]
    return BandHeader(
        dtype=dtype,
        meaning=dataset.colorinterp[index].name,
        description=(dataset.descriptions[index] or "").strip(),
        # Some files declare a scale of 0, which can mean nothing.
        scale=float(scale) if math.isfinite(scale) and scale != 0 else 1.0,
        offset=float(offset) if math.isfinite(offset) else 0.0,
        nodata=clean_nodata(dataset.nodatavals[index], dtype=dtype),
    )


def _is_masked(flags: Sequence[MaskFlags]) -> bool:
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _give_six(transform: Affine) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = tuple(transform)[:6]
    return float(a), float(b), float(c), float(d), float(e), float(f)


def _find_datetime(dataset: DatasetReader) -> str | None:
    tags = dataset.tags()
    found = (
        tags.get("ACQUISITION_DATETIME"),
        dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME"),
        tags.get("TIFFTAG_DATETIME"),
    )
    return next((moment for text in found if text and (moment := parse_tag_datetime(text))), None)


def _check_size(dataset: DatasetReader, *, uri: str) -> None:
    if dataset.width * dataset.height > MAX_PIXELS:
        raise InputError(
            f"{uri} says that it has {dataset.width} x {dataset.height} pixels",
            expected=f"at most {MAX_PIXELS:.0e} pixels",
            remedy="check the file with gdalinfo; cut it into several, and name them as a list",
        )
    is_interleaved = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    sizes = [
        # numpy has no complex numbers of two 16-bit integers.
        height * width * (4 if dtype == "complex_int16" else np.dtype(dtype).itemsize)
        for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    ]
    largest = sum(sizes) if is_interleaved else max(sizes, default=0)
    if largest > MAX_BLOCK_BYTES:
        raise InputError(
            f"{uri} is stored in blocks that take {largest / 1e6:.0f} MB each to decode",
            expected=f"blocks of at most {MAX_BLOCK_BYTES / 1e6:.0f} MB",
            remedy="store it in tiles, for example with gdal_translate -of COG -co BLOCKSIZE=512",
        )
