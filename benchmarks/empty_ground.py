"""What a shard costs of which neither date shows anything, beside one that is full.

Two ways in which files tell that there is nothing: blocks that a sparse file does not hold, and blocks full of nodata.
Between full and empty shards lies a row of shards that neither date shows either, but for kernels that reach over their
edge. The bar: an empty shard takes at most 3 % of the CPU time of a full one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.config.run import load_config
from pipeline.scenes.pair import find_pair
from pipeline.storage.opening import open_run_folder
from pipeline.tiles.shards import create_store, write_shard

BAR_SHARE = 0.03
TILE_PX, SHARD_TILES = 256, 4
SHARD_PX = TILE_PX * SHARD_TILES
ORIGIN = 621_000.0, 3_362_000.0
RESOLUTION_M = 0.5
WAYS = ("not held by the file", "full of nodata")
FULL_ROW, EMPTY_ROW = 0, 2


def write_scene(path: Path, *, n_shards: int, way: str, date: int) -> None:
    """Write one date: a row of shards that are full over two rows that are empty."""
    rng = np.random.default_rng(date)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        width=n_shards * SHARD_PX,
        height=(EMPTY_ROW + 1) * SHARD_PX,
        dtype="uint8",
        nodata=0,
        crs="EPSG:32614",
        transform=from_origin(ORIGIN[0] + 0.15 * date, ORIGIN[1], RESOLUTION_M, RESOLUTION_M),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        sparse_ok=way == WAYS[0],
    ) as file:
        for index in range(n_shards):
            block = rng.integers(1, 255, (3, SHARD_PX, SHARD_PX), dtype=np.uint8)
            file.write(block, window=Window(index * SHARD_PX, FULL_ROW * SHARD_PX, SHARD_PX, SHARD_PX))


def time_way(way: str, *, n_shards: int) -> dict[str, float]:
    """Write full and empty shards in turn, and give milliseconds of CPU time a tile of each and their share."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for date, path in enumerate(("before.tif", "after.tif")):
            write_scene(folder / path, n_shards=n_shards, way=way, date=date)
        config = load_config(
            values={
                "before": str(folder / "before.tif"),
                "after": str(folder / "after.tif"),
                "output": str(folder / "run"),
                "grid": {"crs": "EPSG:32614", "resolution_m": RESOLUTION_M, "tile_size_px": TILE_PX},
                "tiles": {"overlap_px": 0, "shard_size_tiles": SHARD_TILES},
                "registration": {"estimate": False},
            }
        )
        pair = find_pair(config)[0]
        run = open_run_folder(str(folder / "run"))
        create_store(run, pair, shard_size_tiles=SHARD_TILES)
        seconds = {FULL_ROW: 0.0, EMPTY_ROW: 0.0}
        # The first of each opens the files.
        for index in range(n_shards):
            for row in seconds:
                start = time.process_time()
                write_shard(run, pair, SHARD_TILES, row, index)
                seconds[row] += (time.process_time() - start) if index else 0.0
    n_tiles = (n_shards - 1) * SHARD_TILES**2
    full, empty = (1e3 * seconds[row] / n_tiles for row in (FULL_ROW, EMPTY_ROW))
    return {"full_ms": round(full, 3), "empty_ms": round(empty, 3), "share": round(empty / full, 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-shards", type=int, default=6, help="shards of each kind")
    parser.add_argument("--quick", action="store_true", help="two shards of each kind, to see that it runs")
    options = parser.parse_args(arguments)
    print(f"{'ms of CPU time a tile':<24} {'full':>8} {'empty':>8} {'share':>7}   (bar {BAR_SHARE:.0%})")
    figures = {}
    for way in WAYS:
        found = time_way(way, n_shards=2 if options.quick else options.n_shards)
        figures[way] = found
        print(f"{way:<24} {found['full_ms']:>8.2f} {found['empty_ms']:>8.3f} {found['share']:>7.1%}", flush=True)
    holds = all(found["share"] <= BAR_SHARE for found in figures.values())
    print(json.dumps({"name": "empty_ground", "figures": figures, "bar": BAR_SHARE, "holds": holds}))


if __name__ == "__main__":
    main()
