"""The tiles of a run as an xarray dataset, for notebooks and for programs that go on with them."""

from __future__ import annotations

from pathlib import Path

import rioxarray  # noqa: F401 - brings the accessor `.rio`, which knows the CRS
import xarray as xr

from pipeline.errors import InputError
from pipeline.shards import STORE_NAME


def open_tiles(run: str) -> xr.Dataset:
    """Open the tile store of a run lazily, georeferenced, one Dask chunk per shard.

    Args:
        run: Folder of the run.

    Returns:
        ``pixels`` (date=2, band=3, y, x) and ``valid`` (date=2, y, x), both uint8; ``.rio.crs`` is the grid's CRS.

    Raises:
        InputError: the folder holds no tile store.
    """
    store = Path(run) / STORE_NAME
    if not (store / "zarr.json").is_file():
        raise InputError(f"{run} holds no {STORE_NAME}", expected="the folder of a run", remedy="correct the path")
    # Left to itself, xarray makes a chunk of every tile, where reading a shard costs no more than reading a tile; and
    # it would turn bytes into floats to make room for a missing value that `valid` speaks of already.
    dataset: xr.Dataset = xr.open_zarr(
        store, consolidated=False, mask_and_scale=False, chunks=None, decode_coords="all"
    )
    shards = dataset["pixels"].encoding["shards"]
    chunked: xr.Dataset = dataset.chunk(dict(zip(dataset["pixels"].dims, shards, strict=True)))
    return chunked
