"""The only place that reads pixels of scenes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import rasterio
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from pipeline.errors import InputError
from pipeline.grid import GDAL_ERRORS, Grid, compute_warp_scale

if TYPE_CHECKING:
    from pipeline.scenes import Scene

UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_CACHE_MB = 256
_TOLERANCE_PX = 1e-3
# ^ GDAL's default of 0.125 source pixels can move edges by more than a grey level. This costs no time that
#   can be measured; 0 is refused by WarpedVRT, and 1e-9 takes 7 times as long for less than bytes can hold.
_STRIP_ROWS = 512
_SMALL_SCENE_PX = 4096 * 4096
_OVERVIEW_PX = 512


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
    options: dict[str, Any] = {"GDAL_CACHEMAX": _CACHE_MB}
    if "://" in uri:
        # Without this GDAL lists the whole remote folder in search of sidecar files.
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    with rasterio.Env(**options):
        with warnings.catch_warnings():
            # Said in better words by whoever finds the CRS or the transform missing.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(uri)
        with dataset:
            yield dataset


def read_block(
    scene: Scene, *, grid: Grid, window: tuple[int, int, int, int], resampling: str
) -> tuple[UInt8Array, BoolArray]:
    """Read a rectangle of the grid out of a scene.

    Any window gives the pixels that the warp of the whole scene would give there: GDAL works on blocks that
    are fixed in the grid, and the resampling kernel of all of them is as wide as at the grid's centre.

    Args:
        scene: Where the pixels are.
        grid: What they are warped onto.
        window: First row, first column, height and width in pixels of the grid.
        resampling: Name of one of rasterio's resampling methods.

    Returns:
        Red, green and blue, uint8 (3, height, width), 0 where nothing was seen; and where something was seen,
        bool (height, width): inside the file, not nodata, not masked out, not transparent.

    Raises:
        InputError: the file cannot be read to the end.
    """
    row, col, height, width = window
    x_scale, y_scale = compute_warp_scale(scene.crs, transform=scene.affine, grid=grid)
    try:
        with (
            open_raster(scene.uri) as dataset,
            WarpedVRT(
                dataset,
                crs=grid.crs,
                transform=grid.transform,
                height=grid.shape_px[0],
                width=grid.shape_px[1],
                resampling=Resampling[resampling],
                tolerance=_TOLERANCE_PX,
                src_nodata=scene.nodata,
                add_alpha=scene.alpha_band is None,
                # Left to itself, GDAL takes the kernel from each block's own share of the file, and blocks at
                # the edge of the file would come out sharper or softer than their neighbours.
                XSCALE=x_scale,
                YSCALE=y_scale,
            ) as vrt,
        ):
            alpha_band = scene.alpha_band or vrt.count
            # One read for all four: GDAL warps every band of a block at once.
            block = vrt.read([*scene.bands, alpha_band], window=Window(col, row, width, height))
    except GDAL_ERRORS as problem:
        refusal = refuse_unreadable(scene.uri, problem)
    else:
        is_valid = block[3] > 0
        pixels = block[:3]
        pixels[:, ~is_valid] = 0
        return pixels, is_valid
    # Out here it has no context. Workers send an error home with its context, and GDAL's errors do not survive
    # that: what arrives would no longer be an InputError.
    raise refusal


def check_pixels(dataset: DatasetReader, *, bands: tuple[int, int, int]) -> None:
    """Find out cheaply whether the pixels are there: all of a small scene, of a large one the length.

    Raises:
        InputError: the file is shorter than it says, or a block of a small scene cannot be decoded.
    """
    _check_length(dataset)
    if dataset.width * dataset.height > _SMALL_SCENE_PX:
        return
    try:
        for window in _list_strips(dataset):
            dataset.read(list(bands), window=window)
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(dataset.name, problem) from None


def has_valid_pixels(dataset: DatasetReader) -> bool:
    """Tell whether anything in the raster is not nodata, masked or transparent; reads as little as it can.

    Raises:
        InputError: the file cannot be read to the end.
    """
    if all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums):
        return True
    try:
        shape = min(dataset.height, _OVERVIEW_PX), min(dataset.width, _OVERVIEW_PX)
        if dataset.dataset_mask(out_shape=shape).any():
            return True
        return any(dataset.dataset_mask(window=window).any() for window in _list_strips(dataset))
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(dataset.name, problem) from None


def refuse_unreadable(uri: str, problem: Exception) -> InputError:
    """Make the error of a raster that GDAL gives up on, with GDAL's own last words."""
    words = str(problem.__cause__ or problem).strip().rstrip(".")
    return InputError(
        f"{uri} cannot be read ({words})",
        expected="a whole GeoTIFF or COG, or another raster that GDAL reads",
        remedy="check the path, fetch the file again, or see what gdalinfo -checksum says about it",
    )


def _list_strips(dataset: DatasetReader) -> Iterator[Window]:
    for row in range(0, dataset.height, _STRIP_ROWS):
        yield Window(0, row, dataset.width, min(_STRIP_ROWS, dataset.height - row))


def _check_length(dataset: DatasetReader) -> None:
    path = Path(dataset.name)
    if dataset.driver != "GTiff" or not path.is_file():
        return
    size = path.stat().st_size
    needed = max((end for end in _list_block_ends(dataset)), default=0)
    if needed > size:
        raise InputError(
            f"{path} ends after {size} bytes",
            expected=f"at least the {needed} bytes that its own index speaks of",
            remedy="fetch the file again; it was cut off",
        )


def _list_block_ends(dataset: DatasetReader) -> Iterator[int]:
    is_shared = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    for band in (1,) if is_shared else dataset.indexes:
        for (row, col), _ in dataset.block_windows(band):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
            length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
            # Blocks of a sparse file that were never written have neither.
            if offset is not None and length is not None:
                yield int(offset) + int(length)
