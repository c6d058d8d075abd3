"""Sparse TIFFs: which blocks a file holds at all. What it does not hold is nodata, and need not be read to know it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from pipeline.grid.window import BoolArray
from pipeline.scenes.rasters import open_raster, read_version
from pipeline.scenes.scene import Asset
from pipeline.uris import is_remote

_MOST_BLOCKS = 1 << 17
# ^ Asking GDAL for one takes about 15 microseconds.


def holds_blocks(asset: Asset, bands: Iterable[int], *, rows: tuple[int, int], cols: tuple[int, int]) -> bool:
    """Tell whether a file may hold anything of a window; True where it does not tell, or only at some cost.

    Args:
        asset: The file.
        bands: Bands, counted from 1.
        rows: First row and the one after the last.
        cols: First column and the one after the last.
    """
    is_plain = asset.access.driver == "GTiff" and not asset.access.vrt and asset.overview_level is None
    if not is_plain or is_remote(asset.uri):
        return True
    version = read_version(asset.uri)
    for band in bands:
        found = _find_blocks(asset.uri, version, band)
        if found is None:
            return True
        is_held, (height, width) = found
        if is_held[rows[0] // height : -(-rows[1] // height), cols[0] // width : -(-cols[1] // width)].any():
            return True
    return False


@lru_cache(maxsize=64)
def _find_blocks(
    uri: str,
    version: tuple[int, int],  # noqa: ARG001  (a changed file is looked at again)
    band: int,
) -> tuple[BoolArray, tuple[int, int]] | None:
    """Give which blocks of a band a file holds, (row, column), and their height and width; None if those are many."""
    with open_raster(uri) as dataset:
        height, width = dataset.block_shapes[band - 1]
        shape = -(-dataset.height // height), -(-dataset.width // width)
        if shape[0] * shape[1] > _MOST_BLOCKS:
            return None
        is_held = np.zeros(shape, dtype=np.bool_)
        for row, col in np.ndindex(shape):
            is_held[row, col] = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is not None
    return is_held, (height, width)
