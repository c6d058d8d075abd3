"""What the header of a raster tells, read once and judged before anything is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.transform import from_gcps

from model.errors import InputError
from pipeline.dates import format_moment, parse_moment
from pipeline.grid.grid import GDAL_ERRORS
from pipeline.grid.projections import refuse_named_files
from pipeline.hosts import find_held_hosts
from pipeline.scenes.held_vrt import open_vrt
from pipeline.scenes.integrity import compute_checksum, read_etag
from pipeline.scenes.memory import check_size, count_block_bytes
from pipeline.scenes.rasters import open_raster, refuse_unreadable
from pipeline.scenes.scene import Access, ControlPoint
from pipeline.scenes.sidecars import Sidecars, find_sidecars
from pipeline.scenes.signing import read_signed
from pipeline.scenes.vrt import Vrt, choose_text, read_vrt
from pipeline.uris import AUX_SUFFIX, is_remote, split_zip_uri


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
    access: Access = field(default_factory=Access, repr=False)
    """How its pixels are come by."""

    @property
    def alpha_band(self) -> int | None:
        """1-based number of the band that tells how opaque a pixel is."""
        return next((n for n, band in enumerate(self.bands, start=1) if band.meaning == "alpha"), None)


def read_header(uri: str, *, root: str | None = None, allow_private: bool = False) -> RasterHeader:
    """Read what a raster tells about itself.

    Args:
        uri: What `resolve_uri` gave.
        root: Folder that a VRT on this machine may not lead out of; None: it may name anything.
        allow_private: Whether servers, and VRTs on them, may lead to hosts of closed networks.

    Raises:
        InputError: this cannot be read, names what it may not, or would take more memory than any raster should.
    """
    try:
        vrt = read_vrt(uri, root=root, allow_private=allow_private)
        # Before GDAL comes there: it follows a redirect wherever it leads.
        etag = read_etag(uri, allow_private=allow_private) if is_remote(uri) else None
        rasters = () if vrt is None else vrt.rasters
        return read_signed(
            lambda: _open_and_read(uri, vrt=vrt, etag=etag, allow_private=allow_private), uris=[uri, *rasters]
        )
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(uri, problem) from None


def _open_and_read(uri: str, *, vrt: Vrt | None, etag: str | None, allow_private: bool) -> RasterHeader:
    with _open(uri, vrt, allow_private=allow_private) as dataset, ExitStack() as beside:
        check_size(dataset, uri=uri)
        sidecars = find_sidecars(uri, dataset=dataset, allow_private=allow_private)
        told = dataset
        if vrt is None and (sidecars.has_aux or not is_remote(uri)):
            told = beside.enter_context(open_raster(uri, with_sidecars=True, allow_private=allow_private))
        files = _list_files(told, uri=uri, sidecars=sidecars) if vrt is None else list(vrt.files)
        rasters = () if vrt is None else vrt.rasters
        access = Access(
            driver=dataset.driver,
            block_bytes=count_block_bytes(dataset),
            vrt="" if vrt is None else vrt.text,
            rasters=rasters,
            files=tuple(files),
            mask=sidecars.mask,
            overviews=sidecars.overviews,
            allow_private=allow_private,
            public_hosts=find_held_hosts([uri, *rasters, *files]),
        )
        checksum = compute_checksum(uri, files=files, etag=etag, allow_private=allow_private)
        header = _read(dataset, told=told, uri=uri, checksum=checksum)
        return replace(
            header,
            has_mask=header.has_mask or bool(sidecars.mask),
            overviews=sidecars.factors or header.overviews,
            access=access,
        )


def _open(uri: str, vrt: Vrt | None, *, allow_private: bool) -> AbstractContextManager[DatasetReader]:
    if vrt is None:
        return open_raster(uri, allow_private=allow_private)
    # Its shape stands in its text.
    text, rasters = choose_text(vrt.text, rasters=vrt.rasters, window=(0, 0, 0, 0))
    return open_vrt(text, rasters=rasters, allow_private=allow_private)


def _list_files(told: DatasetReader, *, uri: str, sidecars: Sidecars) -> list[str]:
    """List what belongs to a raster that is no VRT."""
    if is_remote(uri):
        return [uri + suffix for suffix, is_there in ((AUX_SUFFIX, sidecars.has_aux),) if is_there] + [
            found for found in (sidecars.mask, sidecars.overviews) if found
        ]
    files = [] if split_zip_uri(uri) is not None else list(told.files)
    away = [name for name in files if Path(name).parent != Path(uri).parent]
    if away:
        raise InputError(
            f"{uri} keeps some of its pixels in {away[0]}",
            expected="a raster whose parts lie beside it",
            remedy="copy it with gdal_translate, which puts all into one file",
        )
    return files


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


def _read(dataset: DatasetReader, *, told: DatasetReader, uri: str, checksum: str) -> RasterHeader:
    """Read a header.

    Args:
        dataset: The raster by itself, which tells of its pixels.
        told: The same with the small files beside it, which tells where it lies and what its values mean.
        uri: Where it is.
        checksum: Of its content.
    """
    points, points_crs = told.gcps
    is_placed = not told.transform.is_identity
    if not all(map(math.isfinite, told.transform)) or told.transform.is_degenerate:
        raise InputError(
            f"{uri} has pixels without extent: its transform is {tuple(told.transform)[:6]}",
            expected="a transform that gives every pixel a place of its own",
            remedy="write the scene anew with its place, for example with gdal_translate -a_ullr",
        )
    crs = told.crs if is_placed or not points else points_crs
    refuse_named_files(crs.to_wkt() if crs else "", named_by=uri)
    authority = crs.to_authority(confidence_threshold=100) if crs else None
    return RasterHeader(
        uri=uri,
        checksum=checksum,
        width=dataset.width,
        height=dataset.height,
        bands=tuple(_read_band(told, index) for index in range(told.count)),
        crs=":".join(authority) if authority else str(crs.to_wkt()) if crs else None,
        transform=_give_six(told.transform) if is_placed else _give_six(from_gcps(points)) if points else None,
        control_points=()
        if is_placed
        else tuple(ControlPoint(col=float(p.col), row=float(p.row), x=float(p.x), y=float(p.y)) for p in points),
        has_rpcs=not is_placed and not points and told.rpcs is not None,
        has_mask=any(_is_masked(flags) for flags in dataset.mask_flag_enums),
        overviews=tuple(dataset.overviews(1)) if dataset.count else (),
        datetime=_find_datetime(told),
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
