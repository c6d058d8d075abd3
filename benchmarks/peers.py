"""Two scenes to a common grid as tiles: our tile store beside what people would write with rioxarray and with odc-geo.

All read the same bytes from files of their own, one thread each, and write sharded Zarr of the same chunks and codec.
The later date lies a part of a pixel beside the earlier. rioxarray warps each date onto the other's grid as a whole
(`reproject_match`), odc-geo onto a GeoBox (`xr_reproject`); ours goes shard by shard, tells for each pixel whether it
is valid, reads back what it wrote and keeps checksums. The bar: ours takes no more CPU time than either.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import dask
import numpy as np
import odc.geo.xr  # noqa: F401  (gives arrays their odc accessor)
import rioxarray
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_reproject
from rasterio.enums import Resampling
from tile_writing import KINDS, SHARD_PX, SHARD_TILES, TILE_PX, ZSTD_LEVEL, Kind, make_pair
from zarr.codecs import ZstdCodec

from pipeline.scenes.kept_open import KEPT_OPEN
from pipeline.scenes.pair import ScenePair
from pipeline.storage.opening import open_run_folder
from pipeline.tiles.shards import create_store, write_shard

BAR_RATIO = 1.0
NAMES = ("same CRS", "neighbouring UTM zone")
_CHUNK_PX = 2048


def _open(path: Path, *, chunks: int | None = None) -> xr.DataArray:
    opened = rioxarray.open_rasterio(path, chunks=None if chunks is None else {"x": chunks, "y": chunks})
    assert isinstance(opened, xr.DataArray)
    return opened


def _write(dates: list[xr.DataArray], folder: Path, *, name: str) -> None:
    pixels = xr.concat(dates, "date", join="override").rename("pixels")
    pixels = pixels.drop_vars([key for key in pixels.coords if key not in pixels.dims])
    pixels.attrs.clear()
    encoding = {
        "chunks": (2, 3, TILE_PX, TILE_PX),
        "shards": (2, 3, SHARD_PX, SHARD_PX),
        "compressors": ZstdCodec(level=ZSTD_LEVEL),
    }
    whole = pixels.chunk({"date": 2, "band": 3, "y": SHARD_PX, "x": SHARD_PX})
    whole.to_dataset().to_zarr(
        folder / name, mode="w", zarr_format=3, encoding={"pixels": encoding}, consolidated=False
    )


def write_with_rioxarray(pair: ScenePair, files: list[Path], folder: Path) -> None:
    """Warp both dates onto the grid with `reproject_match`, and write them."""
    height, width = pair.grid.shape_px
    target = xr.DataArray(np.zeros((height, width), dtype=np.uint8), dims=("y", "x"))
    target = target.rio.write_crs(pair.grid.crs).rio.write_transform(pair.grid.transform)
    dates = [_open(path).rio.reproject_match(target, resampling=Resampling.bilinear) for path in files]
    _write(dates, folder, name="rioxarray.zarr")


def write_with_odc_geo(pair: ScenePair, files: list[Path], folder: Path) -> None:
    """Warp both dates onto the grid with `xr_reproject`, chunk by chunk, and write them."""
    box = GeoBox(pair.grid.shape_px, pair.grid.transform, pair.grid.crs)
    dates = [
        xr_reproject(_open(path, chunks=_CHUNK_PX), box, resampling="bilinear", chunks=(SHARD_PX, SHARD_PX))
        for path in files
    ]
    _write(dates, folder, name="odc.zarr")


def write_ours(pair: ScenePair, files: list[Path], folder: Path) -> None:
    """Write the tile store, shard by shard; the files are those that the pair was found in."""
    del files
    # What the round before left open would spare this one the decoding.
    KEPT_OPEN.close()
    run = open_run_folder(str(folder / "run"))
    create_store(run, pair, shard_size_tiles=SHARD_TILES)
    for row, col in product(*(range(-(-length // SHARD_PX)) for length in pair.grid.shape_px)):
        write_shard(run, pair, SHARD_TILES, row, col)


WAYS: dict[str, Callable[[ScenePair, list[Path], Path], None]] = {
    "ours": write_ours,
    "rioxarray": write_with_rioxarray,
    "odc-geo": write_with_odc_geo,
}


def time_kind(kind: Kind, *, size_px: int, rounds: int) -> dict[str, float]:
    """Write a pair in every way in turn, and give milliseconds of CPU time a tile, the least of some rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair, copies = make_pair(folder, kind=kind, size_px=size_px)
        files = {"ours": copies}
        for way in list(WAYS)[1:]:
            files[way] = [Path(shutil.copy(path, folder / f"{way}_{path.name}")) for path in copies]
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(rounds):
            for way, write in WAYS.items():
                start = time.process_time()
                with dask.config.set(scheduler="single-threaded"):
                    write(pair, files[way], folder)
                best[way] = min(best[way], time.process_time() - start)
        n_tiles = pair.grid.n_rows * pair.grid.n_cols
    return {way: round(1e3 * seconds / n_tiles, 2) for way, seconds in best.items()}


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-px", type=int, default=4096, help="side of a pair in pixels of the grid")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of which the least counts")
    parser.add_argument("--quick", action="store_true", help="one shard and round, to see that it runs")
    options = parser.parse_args()
    print(f"{'ms of CPU time a tile':<26}" + "".join(f"{way:>12}" for way in WAYS))
    figures = {}
    for kind in (kind for kind in KINDS if kind.name in NAMES):
        size_px, rounds = (SHARD_PX, 1) if options.quick else (options.size_px, options.rounds)
        found = time_kind(kind, size_px=size_px, rounds=rounds)
        figures[kind.name] = found
        print(f"{kind.name:<26}" + "".join(f"{found[way]:>12.2f}" for way in WAYS), flush=True)
    holds = all(found["ours"] <= BAR_RATIO * found[way] for found in figures.values() for way in WAYS)
    print(json.dumps({"name": "peers", "figures": figures, "bar": BAR_RATIO, "holds": holds}))


if __name__ == "__main__":
    main()
