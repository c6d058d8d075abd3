"""Sparse TIFFs: which blocks a file holds at all. What it does not hold has one value, which need not be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.grid.window import BoolArray
from pipeline.scenes.rasters import open_raster, read_version
from pipeline.scenes.scene import Asset
from pipeline.uris import is_remote

_MOST_BLOCKS = 1 << 17
# ^ Asking GDAL for one takes about 15 microseconds.


@dataclass(frozen=True, kw_only=True)
class _BlockMap:
    """Which blocks of a band a file holds."""

    is_held: BoolArray
    """By row and column of the block."""
    height: int
    """Of a block, in pixels."""
    width: int
    """Of a block, in pixels."""
    fill: float
    """What GDAL reads where there is no block: the file's own nodata, or 0 where it tells none."""


def holds_blocks(
    asset: Asset, bands: Iterable[int], *, nothing: float, rows: tuple[int, int], cols: tuple[int, int]
) -> bool:
    """Tell whether a file may hold anything of a window; True where it does not tell, or only at some cost.

    Args:
        asset: The file.
        bands: Bands, counted from 1.
        nothing: Value that stands for nothing in them; a file whose missing blocks have another may hold something.
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
        if not np.array_equal(found.fill, nothing, equal_nan=True):
            return True
        ys = slice(rows[0] // found.height, -(-rows[1] // found.height))
        xs = slice(cols[0] // found.width, -(-cols[1] // found.width))
        if found.is_held[ys, xs].any():
            return True
    return False


@lru_cache(maxsize=64)
def _find_blocks(
    uri: str,
    version: tuple[int, int],  # noqa: ARG001  (a changed file is looked at again)
    band: int,
) -> _BlockMap | None:
    """Ask GDAL for every block of a band; None if those are many."""
    with open_raster(uri) as dataset:
        height, width = dataset.block_shapes[band - 1]
        shape = -(-dataset.height // height), -(-dataset.width // width)
        if shape[0] * shape[1] > _MOST_BLOCKS:
            return None
        is_held = np.zeros(shape, dtype=np.bool_)
        for row, col in np.ndindex(shape):
            is_held[row, col] = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is not None
        fill = dataset.nodatavals[band - 1]
    return _BlockMap(is_held=is_held, height=height, width=width, fill=0.0 if fill is None else float(fill))
