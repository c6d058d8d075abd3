"""Whether the pixels of a raster are there, found out without reading all of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.assets import Asset, BandSource
from pipeline.errors import InputError
from pipeline.grid import GDAL_ERRORS
from pipeline.sources import BoolArray, open_raster, refuse_unreadable

_STRIP_ROWS = 512
_SMALL_SCENE_PX = 4096 * 4096
_MOST_BLOCKS = 1 << 16
# ^ Blocks of which the length is looked up: 0.1 s worth.


def check_pixels(sources: Sequence[BandSource]) -> bool:
    """Find out cheaply whether the pixels are there: all of a small raster, of a large one the length.

    Args:
        sources: The bands of one raster that are going to be read.

    Returns:
        Whether there is a valid pixel. A large raster is taken to have some: its tiles say so if not.

    Raises:
        InputError: the file is shorter than it says, or a small one has a block that cannot be decoded.
    """
    uri = sources[0].asset.uri
    try:
        with open_raster(uri) as dataset:
            _check_length(dataset)
            is_small = dataset.width * dataset.height <= _SMALL_SCENE_PX
            return _read_through(dataset, sources=sources) if is_small else True
    except GDAL_ERRORS as problem:
        raise refuse_unreadable(uri, problem) from None


def _read_through(dataset: DatasetReader, *, sources: Sequence[BandSource]) -> bool:
    """Read every pixel; tell whether any is valid."""
    has_valid = False
    for row in range(0, dataset.height, _STRIP_ROWS):
        window = Window(0, row, dataset.width, min(_STRIP_ROWS, dataset.height - row))
        pixels = dataset.read([source.band for source in sources], window=window)
        if not has_valid:
            is_shown = is_shown_by_mask(dataset, sources[0].asset, window=window)
            has_valid = any(
                bool((find_valid(band, nodata=source.nodata) & is_shown).any())
                for band, source in zip(pixels, sources, strict=True)
            )
    return has_valid


def find_valid(stored: np.ndarray[Any, Any], *, nodata: float | None) -> BoolArray:
    """Tell which stored values of a band stand for something seen; NaN never does."""
    is_valid = np.isfinite(stored)
    if nodata is not None and np.isfinite(nodata):
        is_valid &= stored != stored.dtype.type(nodata)
    return np.asarray(is_valid, dtype=np.bool_)


def is_shown_by_mask(dataset: DatasetReader, asset: Asset, *, window: Window, **options: Any) -> BoolArray:
    """Tell which pixels of a window no mask and no alpha band hides."""
    if asset.alpha_band is not None:
        return np.asarray(dataset.read(asset.alpha_band, window=window, **options) > 0)
    if asset.has_mask:
        return np.asarray(dataset.read_masks(1, window=window, **options) > 0)
    return np.asarray(True)


def _check_length(dataset: DatasetReader) -> None:
    path = Path(dataset.name)
    if dataset.driver != "GTiff" or not path.is_file():
        return
    size = path.stat().st_size
    needed = max(_list_block_ends(dataset), default=0)
    if needed > size:
        raise InputError(
            f"{path} ends after {size} bytes",
            expected=f"at least the {needed} bytes that its own index speaks of",
            remedy="fetch the file again; it was cut off",
        )


def _list_block_ends(dataset: DatasetReader) -> Iterator[int]:
    is_shared = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    for band in (1,) if is_shared else dataset.indexes:
        height, width = dataset.block_shapes[band - 1]
        n_blocks = -(-dataset.height // height) * -(-dataset.width // width)
        step = -(-n_blocks // _MOST_BLOCKS)
        for (row, col), _ in islice(dataset.block_windows(band), 0, None, step):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
            length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
            # Blocks of a sparse file that were never written have neither.
            if offset is not None and length is not None:
                yield int(offset) + int(length)
