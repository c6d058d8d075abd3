"""Whether a worker reads its next batch while a GPU computes: one worker, with read-ahead and without, side by side.

The model sleeps as long as a GPU would compute, and a batch's pixels take about as long to come, as from a bucket far
away. Read one after the other, a batch takes both times; read ahead, only the longer one. The pixels really are read
and the answers really written; what is added is waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from distributed import Client
from rasterio.transform import from_origin

from flows.cluster import open_cluster
from model.interface import Prompt, PromptKind
from model.registry import identify_model
from pipeline.answers.collect import collect_answers
from pipeline.config.cluster import ClusterConfig
from pipeline.config.model import ModelConfig
from pipeline.config.run import load_config
from pipeline.grid.window import UInt8Array
from pipeline.scenes.pair import find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tiles.select import select_tiles
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.tiles.write import write_tiles

BAR_RATIO = 1.5
N_ROUNDS = 3
TILE_PX, SHARD_TILES = 64, 2
PROMPTS = (Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?"),)


@dataclass(frozen=True, kw_only=True)
class FarStore(TileStore):
    """A tile store whose pixels take their time to come."""

    latency_s: float
    """Waiting per batch, in seconds."""

    def read_pairs(self, tiles: Sequence[Tile]) -> UInt8Array:
        """Wait, then read."""
        time.sleep(self.latency_s)
        return super().read_pairs(tiles)


def write_scenes(folder: Path, *, n_batches: int) -> list[str]:
    """Write two scenes of so many batches in a row; every tile differs between them."""
    rng = np.random.default_rng(0)
    before = rng.integers(1, 200, (3, SHARD_TILES * TILE_PX, n_batches * SHARD_TILES * TILE_PX), dtype=np.uint8)
    for name, pixels in (("before", before), ("after", before + np.uint8(1))):
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            dtype="uint8",
            count=3,
            height=pixels.shape[1],
            width=pixels.shape[2],
            crs="EPSG:32614",
            transform=from_origin(621_000.0, 3_362_000.0, 1.0, 1.0),
        ) as file:
            file.write(pixels)
    return [str(folder / "before.tif"), str(folder / "after.tif")]


def make_store(folder: Path, client: Client, *, n_batches: int, latency_s: float) -> tuple[FarStore, list[Tile]]:
    """Write a tile store, and list its tiles."""
    before, after = write_scenes(folder, n_batches=n_batches)
    config = load_config(
        values={"before": before, "after": after, "output": str(folder)},
        assignments=(f"grid.tile_size_px={TILE_PX}", "grid.resolution_m=1", f"tiles.shard_size_tiles={SHARD_TILES}"),
    )
    pair, _ = find_pair(config)
    store, _ = write_tiles(pair, folder=RunFolder(str(folder)), config=config.tiles, client=client, max_in_flight=None)
    tiles, _ = select_tiles(store, area=None, min_valid_fraction=0.2)
    return FarStore(**vars(store), latency_s=latency_s), tiles


def measure(client: Client, store: FarStore, tiles: Sequence[Tile], *, is_reading_ahead: bool) -> float:
    """Give the seconds that it takes to answer all tiles anew."""
    store.folder.delete(store.folder.list_names("answers"))
    start = time.perf_counter()
    _, summary = collect_answers(
        tiles,
        store=store,
        prompts=PROMPTS,
        model=ModelConfig(name="sleeping"),
        identity=identify_model("sleeping"),
        client=client,
        max_in_flight=None,
        is_reading_ahead=is_reading_ahead,
    )
    if summary.done != len(tiles):
        raise RuntimeError(f"{summary.done} of {len(tiles)} tiles were answered: {dict(summary.reasons)}")
    return time.perf_counter() - start


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=12, help="Batches per round.")
    parser.add_argument("--batch-s", type=float, default=0.3, help="Seconds that computing a batch takes, and reading.")
    arguments = parser.parse_args()
    os.environ["SLEEPING_MODEL_S"] = str(arguments.batch_s)
    with tempfile.TemporaryDirectory() as folder, open_cluster(ClusterConfig(n_workers=1)) as client:
        store, tiles = make_store(Path(folder), client, n_batches=arguments.batches, latency_s=arguments.batch_s)
        rounds = [
            [measure(client, store, tiles, is_reading_ahead=ahead) for ahead in (False, True)] for _ in range(N_ROUNDS)
        ]
    without_s, with_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(without / ahead for without, ahead in rounds)
    print(f"{arguments.batches} batches, {arguments.batch_s} s to read and {arguments.batch_s} s to compute each")
    print(f"one after the other {without_s:6.2f} s")
    print(
        f"reading ahead       {with_s:6.2f} s, {ratio:.2f} times as fast; computing alone is "
        f"{arguments.batches * arguments.batch_s:.2f} s"
    )
    figures = {
        "n_batches": arguments.batches,
        "without_s": round(without_s, 2),
        "with_s": round(with_s, 2),
        "computing_s": round(arguments.batches * arguments.batch_s, 2),
        "ratio": round(ratio, 2),
    }
    print(json.dumps({"name": "read_ahead", "figures": figures, "bar": BAR_RATIO, "holds": ratio >= BAR_RATIO}))


if __name__ == "__main__":
    model = str(Path(__file__).with_name("sleeping_model"))
    if model not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        # The workers find the model as any other package's, by its entry point, and so does this process.
        os.environ["PYTHONPATH"] = os.pathsep.join([model, os.environ.get("PYTHONPATH", "")])
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    main()
