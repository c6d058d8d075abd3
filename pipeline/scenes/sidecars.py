"""The files beside a raster that belong to it by its own name, wherever it lies: its mask, its overviews, its metadata.

GDAL would find them by itself, on this machine alone, and open those of any format. Here each has to be what GDAL
writes, and is looked for on servers and in archives in the same way as in a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

from obstore.exceptions import BaseError as ObstoreError
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader

from model.errors import InputError
from pipeline.grid.projections import refuse_named_in_bytes
from pipeline.scenes.rasters import NotServedError, open_raster, read_start, refuse_unreadable
from pipeline.scenes.signing import is_signing
from pipeline.uris import AUX_SUFFIX, is_remote, split_zip_uri

_MASK_SUFFIX, _OVERVIEW_SUFFIX = ".msk", ".ovr"
_TIFF_SIGNS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEAD_BYTES = 1024
_MOST_AUX_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Sidecars:
    """What lies beside a raster and counts."""

    mask: str = ""
    """Raster that is its mask; empty where there is none."""
    overviews: str = ""
    """Raster that is its first overview and holds the others; empty where there is none."""
    factors: tuple[int, ...] = ()
    """How many times smaller than the raster these are, rising."""
    has_aux: bool = False
    """Whether there is a file of metadata in GDAL's format."""


def find_sidecars(uri: str, *, dataset: DatasetReader, allow_private: bool) -> Sidecars:
    """Find what belongs to a raster by its name.

    Args:
        uri: What `resolve_uri` gave; one with a query or a signature names no file that others could lie beside.
        dataset: The raster by itself: what it holds inside goes before what lies beside it.
        allow_private: Whether servers may redirect to hosts of closed networks.

    Raises:
        InputError: a mask or overviews on this machine are not what GDAL writes.
        OSError: a server does not tell what is there.
    """
    if is_remote(uri) and (urlsplit(uri).query or urlsplit(uri).fragment or is_signing()):
        return Sidecars()
    is_masked = any(MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums)
    has_overviews = dataset.count > 0 and bool(dataset.overviews(1))
    heads = {
        suffix: _read_head(
            uri + suffix,
            at_most=_MOST_AUX_BYTES if suffix == AUX_SUFFIX else _HEAD_BYTES,
            allow_private=allow_private,
        )
        for suffix, is_wanted in (
            # Where GDAL lists the files itself, it opens the mask, needed or not.
            (_MASK_SUFFIX, not is_masked or not is_remote(uri)),
            (_OVERVIEW_SUFFIX, not has_overviews),
            (AUX_SUFFIX, True),
        )
        if is_wanted
    }
    refuse_named_in_bytes(unescape(heads[AUX_SUFFIX].decode(errors="replace")).encode(), named_by=uri + AUX_SUFFIX)
    for suffix in (_MASK_SUFFIX, _OVERVIEW_SUFFIX):
        if heads.get(suffix) and not heads[suffix].startswith(_TIFF_SIGNS):
            if not is_remote(uri):
                raise _refuse(uri + suffix, "is no TIFF")
            # Some servers answer whatever is asked for with a page of words.
            del heads[suffix]
    has_mask = (
        bool(heads.get(_MASK_SUFFIX))
        and not is_masked
        and _is_mask(uri + _MASK_SUFFIX, dataset=dataset, allow_private=allow_private)
    )
    factors = (
        _list_factors(uri + _OVERVIEW_SUFFIX, dataset=dataset, allow_private=allow_private)
        if heads.get(_OVERVIEW_SUFFIX)
        else ()
    )
    return Sidecars(
        mask=uri + _MASK_SUFFIX if has_mask else "",
        overviews=uri + _OVERVIEW_SUFFIX if factors else "",
        factors=factors,
        has_aux=is_remote(uri) and b"<PAMDataset" in heads[AUX_SUFFIX][:_HEAD_BYTES],
    )


def _read_head(uri: str, *, at_most: int, allow_private: bool) -> bytes:
    """Read the beginning of a file; nothing where it is not there."""
    archive = split_zip_uri(uri)
    try:
        if archive is None and not is_remote(uri) and not Path(uri).is_file():
            return b""
        return read_start(uri, at_most=at_most, allow_private=allow_private)
    # A bucket that may not be listed says of what is not there that it may not be read.
    except (NotServedError, KeyError, FileNotFoundError, PermissionError):
        return b""
    except ObstoreError as problem:
        raise refuse_unreadable(uri, problem) from None


def _is_mask(uri: str, *, dataset: DatasetReader, allow_private: bool) -> bool:
    with open_raster(uri, allow_private=allow_private) as mask:
        flags = mask.tags().get("INTERNAL_MASK_FLAGS_1", "")
        if not flags.isdigit() or not int(flags) & MaskFlags.per_dataset:
            return False
        if mask.shape != dataset.shape:
            raise _refuse(uri, f"has {mask.width} x {mask.height} pixels, not {dataset.width} x {dataset.height}")
        return True


def _list_factors(uri: str, *, dataset: DatasetReader, allow_private: bool) -> tuple[int, ...]:
    with open_raster(uri, allow_private=allow_private) as first:
        is_smaller = first.width < dataset.width and first.height < dataset.height
        if not is_smaller or first.count < dataset.count or first.dtypes[: dataset.count] != dataset.dtypes:
            return ()
        return tuple(round(dataset.width * factor / first.width) for factor in (1, *first.overviews(1)))


def _refuse(uri: str, words: str) -> InputError:
    return InputError(
        f"{uri} {words}",
        expected="a mask or overviews as GDAL writes them beside a raster",
        remedy="make it again with gdal_translate -mask or gdaladdo -ro, or remove it",
    )
