"""Where rasters may be, and the only way in which they are opened."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from pipeline.errors import InputError

UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_CACHE_MB = 256


def resolve_uri(uri: str) -> str:
    """Make a local path absolute, so that workers elsewhere find it; leave http(s) and s3 URIs as they are.

    Raises:
        InputError: there is no such local file, or the scheme is none of these.
    """
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme in {"http", "https", "s3"}:
        return uri
    if scheme not in {"", "file"}:
        raise InputError(
            f"{uri} is of the kind {scheme}://",
            expected="a local path, or an http(s) or s3 URI",
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
    with share_settings(is_remote="://" in uri):
        with warnings.catch_warnings():
            # Said in better words by whoever finds the CRS or the transform missing.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(name_for_gdal(uri))
        with dataset:
            yield dataset


def name_for_gdal(uri: str) -> str:
    """Give the name by which GDAL itself knows what a resolved URI means, as a VRT needs it."""
    scheme, _, rest = uri.partition("://")
    if scheme in {"http", "https"}:
        return f"/vsicurl/{uri}"
    return f"/vsis3/{rest}" if scheme == "s3" else uri


@contextmanager
def share_settings(*, is_remote: bool) -> Iterator[None]:
    """Set what GDAL is told for all reads of this package."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": _CACHE_MB}
    if is_remote:
        # Without this GDAL lists the whole remote folder in search of sidecar files.
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    with rasterio.Env(**options):
        yield


def refuse_unreadable(uri: str, problem: Exception) -> InputError:
    """Make the error of a raster that GDAL gives up on, with GDAL's own last words."""
    words = str(problem.__cause__ or problem).strip().rstrip(".")
    return InputError(
        f"{uri} cannot be read ({words})",
        expected="a whole GeoTIFF or COG, or another raster that GDAL reads",
        remedy="check the path, fetch the file again, or see what gdalinfo -checksum says about it",
    )
