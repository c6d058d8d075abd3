"""Where rasters may be, and the only way in which they are opened."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from model.errors import InputError
from pipeline.storage.s3_access import read_s3_access
from pipeline.uris import REMOTE_SCHEMES, S3_SCHEME, ZIP_MARK, is_remote, normalise_uri, split_zip_uri

REMOTE_TIMEOUT_S = 30
"""How long a server may take to answer."""

CACHE_BYTES = 256 << 20
"""Decoded blocks that GDAL keeps, so that neighbouring windows do not decode them again."""
# ^ GDAL itself takes a small number for megabytes; rasterio hands an integer on as bytes, and takes nothing else.

_JPEG_2000 = ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")
_DRIVERS = ("GTiff", *_JPEG_2000, "PNG", "JPEG", "HFA")
# ^ GDAL knows formats that are no more than a list of servers and files to open. Of these there is just the VRT, which
#   is looked through first.


def resolve_uri(uri: str) -> str:
    """Make a local path absolute, so that workers elsewhere find it; leave http(s) and s3 URIs as they are.

    A file in a zip archive is named ``zip://PATH.zip!NAME``, or ``/vsizip/PATH.zip/NAME`` as GDAL has it.

    Raises:
        InputError: there is no such local file, or the scheme is none of these.
    """
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme in REMOTE_SCHEMES:
        return normalise_uri(uri)
    if scheme == "zip" or uri.startswith("/vsizip/"):
        return _resolve_zip(uri)
    if scheme not in {"", "file"}:
        raise InputError(
            f"{uri} is of the kind {scheme}://",
            expected="a local path, or an http(s), s3 or zip URI",
            remedy="fetch the file first",
        )
    path = Path(unquote(urlsplit(uri).path) if scheme else uri).expanduser().absolute()
    if not path.is_file():
        raise InputError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
            expected="a raster file",
            remedy="correct the path",
        )
    return str(path)


@contextmanager
def open_raster(uri: str) -> Iterator[DatasetReader]:
    """Open a raster with the settings that all reads of this package share.

    Raises:
        rasterio.errors.RasterioError: this is nothing that GDAL can read.
    """
    has_vrt = not is_remote(uri) or urlsplit(uri).path.lower().endswith(".vrt")
    with share_settings([uri]):
        with warnings.catch_warnings():
            # Said in better words by whoever finds the CRS or the transform missing.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = DatasetReader(name_for_gdal(uri), driver=[*_DRIVERS, "VRT"] if has_vrt else list(_DRIVERS))
        with dataset:
            yield dataset


def name_for_gdal(uri: str) -> str:
    """Give the name by which GDAL itself knows what a resolved URI means, as a VRT needs it."""
    if (archive := split_zip_uri(uri)) is not None:
        # Braces, as the archive may be named in any way.
        return f"/vsizip/{{{archive[0]}}}/{archive[1]}"
    scheme, _, rest = uri.partition("://")
    if scheme in {"http", "https"}:
        return f"/vsicurl/{uri}"
    return f"/vsis3/{rest}" if scheme == "s3" else uri


@contextmanager
def share_settings(uris: Iterable[str]) -> Iterator[None]:
    """Set what GDAL is told for all reads of this package."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_VRT_ENABLE_PYTHON": "NO"}
    named = list(uris)
    if any(is_remote(uri) for uri in named):
        # Without this GDAL lists the whole remote folder in search of sidecar files.
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    if any(uri.startswith(S3_SCHEME) or uri.lower().endswith(".vrt") for uri in named):
        options |= read_s3_access(os.environ).to_gdal()
    with rasterio.Env(**options):
        yield


def refuse_unreadable(uri: str, problem: Exception) -> InputError:
    """Make the error of a raster that GDAL gives up on, with GDAL's own last words."""
    words = str(problem.__cause__ or problem).strip().rstrip(".")
    return InputError(
        f"{uri} cannot be read ({words})",
        expected="a whole GeoTIFF or COG, VRT, JPEG 2000, PNG, JPEG or IMG",
        remedy="check the path, fetch the file again, or see what gdalinfo -checksum says about it",
    )


def _resolve_zip(uri: str) -> str:
    if uri.startswith("/vsizip/"):
        head, ending, member = uri.removeprefix("/vsizip/").replace("{", "").replace("}", "").partition(".zip/")
        path = Path(head + ending.rstrip("/"))
    else:
        head, _, member = unquote(uri.removeprefix("zip://")).partition(ZIP_MARK)
        path, member = Path(head), member.lstrip("/")
    path = path.expanduser().absolute()
    try:
        with zipfile.ZipFile(path) as archive:
            is_there = member in archive.namelist()
    except (OSError, zipfile.BadZipFile) as problem:
        raise refuse_unreadable(str(path), problem) from None
    # No name with a way up: GDAL would follow it out of the archive.
    if not is_there or not member or ".." in PurePosixPath(member).parts:
        raise InputError(
            f"{path} has no file {member!r}",
            expected=f"zip://PATH.zip{ZIP_MARK}NAME with the name of a file in it",
            remedy="correct the name; unzip -l lists them",
        )
    return f"zip://{path}{ZIP_MARK}{member}"
