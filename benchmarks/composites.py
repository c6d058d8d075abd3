"""What composites of 12 dates cost beside one scene, on a made archive with clouds of the shapes that clouds have.

Each date has bands of 16 bits and a class band; a third of it is under clouds, the shadow of each beside it. Timed is
writing shards, in CPU time; counted are the rasters that are opened for their pixels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

from pipeline.config.run import load_config
from pipeline.scenes.kept_open import KEPT_OPEN
from pipeline.scenes.pair import find_pair
from pipeline.scenes.warp_source import WarpSource
from pipeline.storage.opening import open_run_folder
from pipeline.tiles.shards import create_store, write_shard
from pipeline.tiles.store import TileStore

TILE_PX, SHARD_TILES = 256, 4
SHARD_PX = TILE_PX * SHARD_TILES
RESOLUTION_M = 10.0
CLEAR, CLOUD, SHADOW = 4, 9, 3
CLOUDY_FRACTION = 1 / 3
CLOUD_SIZE_PX = 60
SHADOW_OFFSET_PX = 12
BUFFER_M = 100
WAYS = ("one scene", "first_clear", "median")


def make_classes(rng: np.random.Generator, *, size_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw clouds as what is high of smoothed noise of two scales, and their shadows south-east of them."""
    noise = sum(
        scale * ndimage.gaussian_filter(rng.standard_normal((size_px, size_px)), scale, mode="wrap")
        for scale in (CLOUD_SIZE_PX, CLOUD_SIZE_PX / 6)
    )
    is_cloudy = noise > np.quantile(noise, 1 - CLOUDY_FRACTION)
    is_dark = np.roll(is_cloudy, (SHADOW_OFFSET_PX, SHADOW_OFFSET_PX), axis=(0, 1))
    classes = np.where(is_cloudy, CLOUD, np.where(is_dark, SHADOW, CLEAR))
    return classes.astype(np.uint8)


def write_archive(folder: Path, *, n_dates: int, size_px: int) -> dict[str, list[str]]:
    """Write so many dates before and after; gives their files, the newest first."""
    options = {
        "driver": "GTiff",
        "width": size_px,
        "height": size_px,
        "crs": "EPSG:32614",
        "transform": from_origin(600_000.0, 3_400_000.0, RESOLUTION_M, RESOLUTION_M),
        "tiled": True,
        "compress": "deflate",
    }
    files: dict[str, list[str]] = {}
    for place, date in enumerate(("before", "after")):
        for n in range(n_dates):
            rng = np.random.default_rng([place, n])
            name = str(folder / f"{date}_{n}.tif")
            with rasterio.open(name, "w", count=3, dtype="uint16", nodata=0, **options) as file:
                file.write(rng.integers(300, 3000, (3, size_px, size_px), dtype=np.uint16))
            with rasterio.open(name.replace(".tif", "_scl.tif"), "w", count=1, dtype="uint8", **options) as file:
                file.write(make_classes(rng, size_px=size_px)[None])
            files.setdefault(date, []).append(name)
    return files


def make_scene(files: Sequence[str], *, way: str, year: int) -> dict[str, Any]:
    """Give the settings of one date."""
    if way == WAYS[0]:
        return {"uri": files[0], "classes": {"uri": files[0].replace(".tif", "_scl.tif")}}
    moments = [f"{year}-06-{28 - n:02d}" for n in range(len(files))]
    return {
        "uri": list(files),
        "classes": {"uri": [name.replace(".tif", "_scl.tif") for name in files]},
        "composite": {"rule": way, "cloud_buffer_m": BUFFER_M, "datetimes": moments},
    }


@contextmanager
def count_opened() -> Iterator[list[str]]:
    """Gather what is opened for its pixels while the context lasts."""
    opened: list[str] = []
    hold = WarpSource.hold

    @contextmanager
    def count(self: WarpSource) -> Iterator[Any]:
        opened.extend(self.rasters)
        with hold(self) as dataset:
            yield dataset

    WarpSource.hold = count  # type: ignore[method-assign]
    try:
        yield opened
    finally:
        WarpSource.hold = hold  # type: ignore[method-assign]


def time_way(way: str, *, files: dict[str, list[str]], folder: Path, n_shards: int) -> dict[str, float]:
    """Write all shards; gives the cost of a tile and what its pixels came to."""
    config = load_config(
        values={
            "before": make_scene(files["before"], way=way, year=2025),
            "after": make_scene(files["after"], way=way, year=2026),
            "output": str(folder / way),
            "grid": {"crs": "EPSG:32614", "resolution_m": RESOLUTION_M, "tile_size_px": TILE_PX},
            "tiles": {"shard_size_tiles": SHARD_TILES, "stretch": {"limits": [0, 3000]}},
            "registration": {"estimate": False},
        }
    )
    start = time.process_time()
    pair = find_pair(config)[0]
    found_s = time.process_time() - start
    run = open_run_folder(str(folder / way))
    create_store(run, pair, shard_size_tiles=SHARD_TILES)
    KEPT_OPEN.close()
    shards = [divmod(n, n_shards) for n in range(n_shards**2)]
    with count_opened() as opened:
        start = time.process_time()
        for row, col in shards:
            write_shard(run, pair, SHARD_TILES, row, col)
        seconds = time.process_time() - start
    store = TileStore(folder=run, grid=pair.grid, content_key=pair.content_key, shard_size_tiles=SHARD_TILES)
    facts = [each for each in store.read_facts(shards) if each is not None]
    return {
        "ms_a_tile": round(1e3 * seconds / len(facts), 2),
        "find_pair_s": round(found_s, 2),
        "rasters_opened": len(opened),
        "valid_fraction": round(float(np.mean([each.valid_fraction for each in facts])), 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-dates", type=int, default=12, help="dates of each composite")
    parser.add_argument("--n-shards", type=int, default=3, help="shards along each side")
    parser.add_argument("--quick", action="store_true", help="three dates and one shard, to see that it runs")
    options = parser.parse_args(arguments)
    n_dates, n_shards = (3, 1) if options.quick else (options.n_dates, options.n_shards)
    print(f"{'':<12} {'ms a tile':>10} {'find_pair, s':>13} {'opened':>7} {'seen on both':>13}")
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        files = write_archive(Path(name), n_dates=n_dates, size_px=n_shards * SHARD_PX)
        for way in WAYS:
            found = figures[way] = time_way(way, files=files, folder=Path(name), n_shards=n_shards)
            print(
                f"{way:<12} {found['ms_a_tile']:>10.1f} {found['find_pair_s']:>13.2f} {found['rasters_opened']:>7}"
                f" {found['valid_fraction']:>13.1%}",
                flush=True,
            )
    ratios = {way: round(figures[way]["ms_a_tile"] / figures[WAYS[0]]["ms_a_tile"], 2) for way in WAYS[1:]}
    print(json.dumps({"name": "composites", "figures": figures, "n_dates": n_dates, "beside_one_scene": ratios}))


if __name__ == "__main__":
    main()
