"""What writing tiles costs beside the bare library calls underneath: a warp by GDAL and a sharded write by zarr.

For each kind of pair both write the same shards in turn, in one process with one thread, from files of their own that
hold the same bytes. The bar: `write_shard` takes at most 1.4 times the bare calls, which check nothing, keep no
thumbnail and prove nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from zarr.codecs import ZstdCodec

from pipeline.config.run import load_config
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.opening import open_run_folder
from pipeline.tiles.shards import create_store, write_shard

BAR_RATIO = 1.4
TILE_PX, SHARD_TILES = 256, 4
SHARD_PX = TILE_PX * SHARD_TILES
ZSTD_LEVEL = 3
CACHE_BYTES = 256 << 20
ORIGIN = 621_000.0, 3_362_000.0
RESOLUTION_M = 0.5


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of pair."""

    name: str
    profile: dict[str, Any]
    """How the files are written, for rasterio."""
    dtype: str = "uint8"
    crs: str = "EPSG:32614"
    """Of the files; the grid's is always EPSG:32614, but for the neighbouring zone."""
    grid_crs: str = "EPSG:32614"
    finer: int = 1
    """How many times finer the files are than the grid."""


TIFF = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512}
DEFLATE = TIFF | {"compress": "deflate", "predictor": 2}
KINDS = (
    Kind(name="same CRS", profile=DEFLATE),
    Kind(name="neighbouring UTM zone", profile=DEFLATE, grid_crs="EPSG:32613"),
    Kind(name="longitude and latitude", profile=DEFLATE, crs="EPSG:4326"),
    Kind(name="uint16, stretched", profile=DEFLATE, dtype="uint16"),
    Kind(name="twice finer, averaged", profile=DEFLATE, finer=2),
    Kind(name="JPEG in TIFF", profile=TIFF | {"compress": "jpeg", "photometric": "ycbcr"}),
    Kind(name="JPEG 2000", profile={"driver": "JP2OpenJPEG", "quality": "100", "reversible": "yes"}),
)


def write_scene(path: Path, *, kind: Kind, size_px: int, date: int) -> None:
    """Write one date: smooth ground with grain; the later one lies a part of a pixel beside the earlier."""
    rng = np.random.default_rng(date)
    n = size_px * kind.finer
    coarse = rng.integers(40, 200, (3, n // 32 + 1, n // 32 + 1))
    values = coarse.repeat(32, 1).repeat(32, 2)[:, :n, :n] + rng.integers(0, 24, (3, n, n))
    values = values.astype(kind.dtype) * (12 if kind.dtype == "uint16" else 1)
    x, y = ORIGIN[0] + 0.3 * RESOLUTION_M * date, ORIGIN[1]
    size = RESOLUTION_M / kind.finer
    transform = from_origin(x, y, size, size)
    if kind.crs == "EPSG:4326":
        bounds = rasterio.warp.transform_bounds("EPSG:32614", kind.crs, x, y - n * size, x + n * size, y)
        transform = rasterio.transform.from_bounds(*bounds, n, n)
    shape = {"count": 3, "height": n, "width": n}
    with rasterio.open(path, "w", **shape, dtype=kind.dtype, crs=kind.crs, transform=transform, **kind.profile) as file:
        file.write(values)


def make_pair(folder: Path, *, kind: Kind, size_px: int) -> tuple[ScenePair, list[Path]]:
    """Write both dates of a kind, twice: for us, and for the bare calls."""
    suffix = ".jp2" if kind.profile["driver"] == "JP2OpenJPEG" else ".tif"
    ours = [folder / f"{date}{suffix}" for date in ("before", "after")]
    bare = [folder / f"bare_{path.name}" for path in ours]
    for date, (path, copy) in enumerate(zip(ours, bare, strict=True)):
        write_scene(path, kind=kind, size_px=size_px, date=date)
        shutil.copy(path, copy)
    config = load_config(
        values={
            "before": str(ours[0]),
            "after": str(ours[1]),
            "output": str(folder / "run"),
            "grid": {"crs": kind.grid_crs, "resolution_m": RESOLUTION_M, "tile_size_px": TILE_PX},
            "tiles": {"overlap_px": 0, "shard_size_tiles": SHARD_TILES},
            "registration": {"estimate": False},
        }
    )
    return find_pair(config)[0], bare


@contextmanager
def open_bare(pair: ScenePair, files: list[Path], folder: Path, *, finer: int) -> Iterator[Callable[[int, int], None]]:
    """Give the function that warps and writes one shard with nothing but rasterio and zarr."""
    height, width = pair.grid.shape_px
    group = zarr.open_group(str(folder / "bare.zarr"), mode="w", zarr_format=3)
    arrays = [
        group.create_array(
            name,
            shape=(*leading, height, width),
            shards=(*leading, SHARD_PX, SHARD_PX),
            chunks=(*leading, TILE_PX, TILE_PX),
            dtype="uint8",
            compressors=ZstdCodec(level=ZSTD_LEVEL),
        )
        for name, leading in (("pixels", (2, 3)), ("valid", (2,)))
    ]
    warp = {
        "crs": pair.grid.crs,
        "transform": pair.grid.transform,
        "height": height,
        "width": width,
        "add_alpha": True,
        "resampling": Resampling.average if finer > 1 else Resampling.bilinear,
    }
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES),
        rasterio.open(files[0]) as before,
        rasterio.open(files[1]) as after,
        WarpedVRT(before, **warp) as first,
        WarpedVRT(after, **warp) as second,
    ):

        def write(shard_row: int, shard_col: int) -> None:
            top, left = shard_row * SHARD_PX, shard_col * SHARD_PX
            ys, xs = slice(top, min(top + SHARD_PX, height)), slice(left, min(left + SHARD_PX, width))
            window = Window(left, top, xs.stop - left, ys.stop - top)
            blocks = np.stack([vrt.read(window=window) for vrt in (first, second)])
            pixels = blocks[:, :3]
            if pixels.dtype != np.uint8:
                pixels = np.clip(pixels * np.float32(255 / 3000), 0, 255).astype(np.uint8)
            arrays[0][..., ys, xs] = pixels
            arrays[1][..., ys, xs] = (blocks[:, 3] > 0).astype(np.uint8)

        yield write


def time_kind(kind: Kind, *, size_px: int) -> dict[str, float]:
    """Write every shard of a pair both ways in turn, and give milliseconds a tile of each and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair, files = make_pair(folder, kind=kind, size_px=size_px)
        run = open_run_folder(str(folder / "run"))
        create_store(run, pair, shard_size_tiles=SHARD_TILES)
        n_rows, n_cols = (-(-length // SHARD_PX) for length in pair.grid.shape_px)
        seconds = {"ours": 0.0, "bare": 0.0}
        with open_bare(pair, files, folder, finer=kind.finer) as write_bare:
            ways: dict[str, Callable[[int, int], Any]] = {
                "ours": lambda row, col: write_shard(run, pair, SHARD_TILES, row, col),
                "bare": write_bare,
            }
            for index, shard in enumerate(product(range(n_rows), range(n_cols))):
                # In turn, and each first as often as second: what else the machine does falls on both alike.
                for way in sorted(ways, reverse=bool(index % 2)):
                    start = time.process_time()
                    ways[way](*shard)
                    seconds[way] += time.process_time() - start
        n_tiles = pair.grid.n_rows * pair.grid.n_cols
    figures = {f"{way}_ms": round(1e3 * spent / n_tiles, 2) for way, spent in seconds.items()}
    return figures | {"ratio": round(seconds["ours"] / seconds["bare"], 2)}


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-px", type=int, default=4096, help="side of a pair in pixels of the grid")
    parser.add_argument("--quick", action="store_true", help="one shard of each kind, to see that it runs")
    parser.add_argument("--kind", action="append", choices=[kind.name for kind in KINDS], help="only this kind")
    arguments = parser.parse_args()
    size_px = SHARD_PX if arguments.quick else arguments.size_px
    print(f"{'ms of CPU time a tile':<26} {'ours':>8} {'bare':>8} {'ratio':>6}   (bar {BAR_RATIO})")
    figures = {}
    for kind in KINDS:
        if arguments.kind and kind.name not in arguments.kind:
            continue
        found = time_kind(kind, size_px=size_px)
        figures[kind.name] = found
        print(f"{kind.name:<26} {found['ours_ms']:>8.2f} {found['bare_ms']:>8.2f} {found['ratio']:>6.2f}", flush=True)
    holds = all(found["ratio"] <= BAR_RATIO for found in figures.values())
    print(json.dumps({"name": "tile_writing", "figures": figures, "bar": BAR_RATIO, "holds": holds}))


if __name__ == "__main__":
    main()
