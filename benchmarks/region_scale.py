"""What a run over a region holds in memory: a pair of 40,000 x 40,000 pixels, each process by itself.

The pair is made by script out of one synthetic pair of 2,048 pixels: by default sparse GeoTIFFs that show it in some
places and nothing in between, or, with ``--scenes full``, a virtual raster that repeats it all over. ``deltavlm run``
then works on it in processes of its own, whose resident memory is sampled until they end. The bar is for the client
and for each worker, beyond what a fresh process takes up when it loads the model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BAR_BYTES = 1.5e9
SIZE_PX = 40_000
STAMP_PX = 2048
N_STAMPS = 12
SAMPLE_S = 0.1
ROOT = Path(__file__).parents[1]
STAND_IN_FOLDER = ROOT / "tests" / "stand_in"


def make_environment() -> dict[str, str]:
    """Give the environment of the runs: they find this repository's code, and its stand-in model as if installed."""
    path = [str(ROOT), str(STAND_IN_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


def command_line(*arguments: str) -> list[str]:
    """Give the command ``deltavlm`` of this interpreter."""
    return [sys.executable, "-c", "from flows.cli.main import main; main()", *arguments]


def make_scenes(folder: Path, *, size_px: int, kind: str) -> None:
    """Write ``before.tif`` and ``after.tif``, or ``.vrt``, of a region."""
    command = command_line("data", "synthesize", str(folder / "stamp"), "--seed", "11", "--size-px", str(STAMP_PX))
    subprocess.run(command, check=True, stdout=subprocess.PIPE, env=make_environment())
    write: Callable[..., None] = write_full if kind == "full" else write_sparse
    for date in ("before", "after"):
        write(folder / "stamp" / f"{date}.tif", folder=folder, date=date, size_px=size_px)


def write_sparse(stamp: Path, *, folder: Path, date: str, size_px: int) -> None:
    """Put the stamp down in some places of a raster whose other blocks take no room."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(stamp) as file:
        pixels, profile = file.read(), file.profile
    profile |= {"width": size_px, "height": size_px, "nodata": 0, "tiled": True, "blockxsize": 512, "blockysize": 512}
    profile |= {"compress": "zstd", "sparse_ok": True, "bigtiff": "yes", "photometric": "rgb"}
    corners = np.random.default_rng(4).integers(0, size_px - STAMP_PX + 1, (N_STAMPS, 2))
    # Both ends, so that the overlap of the scenes is no smaller than they are.
    corners[:2] = (0, 0), (size_px - STAMP_PX, size_px - STAMP_PX)
    with rasterio.open(folder / f"{date}.tif", "w", **profile) as file:
        for row, col in corners.tolist():
            file.write(pixels, window=Window(col, row, STAMP_PX, STAMP_PX))


def write_full(stamp: Path, *, folder: Path, date: str, size_px: int) -> None:
    """Repeat the stamp over a virtual raster."""
    import rasterio

    with rasterio.open(stamp) as file:
        crs, transform = file.crs.to_wkt(), ", ".join(map(repr, file.transform.to_gdal()))
    starts = range(0, size_px, STAMP_PX)
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        sources = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="0">{stamp.absolute()}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{STAMP_PX}" ySize="{STAMP_PX}"/>'
            f'<DstRect xOff="{col}" yOff="{row}" xSize="{STAMP_PX}" ySize="{STAMP_PX}"/></SimpleSource>'
            for row in starts
            for col in starts
        )
        bands.append(
            f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp>{sources}</VRTRasterBand>'
        )
    text = f"<SRS>{crs}</SRS><GeoTransform>{transform}</GeoTransform>{''.join(bands)}"
    text = f'<VRTDataset rasterXSize="{size_px}" rasterYSize="{size_px}">{text}</VRTDataset>'
    (folder / f"{date}.vrt").write_text(text)


class Sampler:
    """The largest resident memory of a process and of each of its descendants, sampled while it runs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peaks: dict[int, int] = {}
        self.is_over = threading.Event()

    def sample(self) -> None:
        """Sample until told that it is over."""
        import psutil

        while not self.is_over.wait(SAMPLE_S):
            try:
                client = psutil.Process(self.pid)
                processes = [client, *client.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    self.peaks[process.pid] = max(self.peaks.get(process.pid, 0), process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


def run_region(scenes: Path, *, ending: str, model: str, n_workers: int) -> tuple[dict[str, Any], Sampler, float]:
    """Run ``deltavlm run``; give its record, the memory of its processes and the seconds it took."""
    arguments = [str(scenes / f"{date}.{ending}") for date in ("before", "after")]
    settings = [f"model.name={model}", f"cluster.n_workers={n_workers}"]
    start = time.perf_counter()
    process = subprocess.Popen(
        command_line("run", *arguments, "--output", str(scenes / "run"), *(p for s in settings for p in ("--set", s))),
        stdout=subprocess.PIPE,
        env=make_environment(),
    )
    sampler = Sampler(process.pid)
    thread = threading.Thread(target=sampler.sample)
    thread.start()
    process.communicate()
    sampler.is_over.set()
    thread.join()
    if process.returncode:
        sys.exit(f"deltavlm run ended with {process.returncode}")
    return json.loads((scenes / "run" / "run.json").read_text()), sampler, time.perf_counter() - start


def measure_model(name: str) -> int:
    """Give the resident memory in bytes that a fresh process takes up when it loads a model."""
    code = (
        "import sys, psutil, pipeline.workers.tasks; from model.registry import load_model; memory = psutil.Process();"
        "before = memory.memory_info().rss; model = load_model(sys.argv[1], device='auto', dtype='auto',"
        " batch_size_tiles=64); print(memory.memory_info().rss - before)"
    )
    command = [sys.executable, "-c", code, name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=make_environment())
    return int(done.stdout)


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-px", type=int, default=SIZE_PX, help="side of the pair in pixels of 0.5 m")
    parser.add_argument("--scenes", choices=("sparse", "full"), default="sparse", help="pixels in places, or all over")
    parser.add_argument(
        "--model", default="deltavlm-tiny", help="model that answers; stand-in: arithmetic of the tests"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="worker processes")
    parser.add_argument("--folder", type=Path, help="where to leave scenes and run; left out, they are removed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        make_scenes(folder, size_px=asked.size_px, kind=asked.scenes)
        model_bytes = measure_model(asked.model)
        ending = "vrt" if asked.scenes == "full" else "tif"
        record, sampler, wall_s = run_region(folder, ending=ending, model=asked.model, n_workers=asked.workers)
    client_bytes = sampler.peaks.pop(sampler.pid)
    # The tracker of Python's shared memory is a process as well, and takes next to nothing.
    worker_bytes = sorted(sampler.peaks.values(), reverse=True)[: asked.workers]
    print(f"{'stage':<18} {'done':>7} {'skipped':>8} {'seconds of work':>16}")
    for stage in record["stages"]:
        print(f"{stage['stage']:<18} {stage['done']:>7} {stage['skipped']:>8} {stage['seconds']:>16.2f}")
    figures = {
        "size_px": asked.size_px,
        "scenes": asked.scenes,
        "model": asked.model,
        "statuses": {status: count for status, count in record["status_counts"].items() if count},
        "wall_s": round(wall_s, 1),
        "stages_s": {stage["stage"]: round(stage["seconds"], 1) for stage in record["stages"]},
        "model_mb": round(model_bytes / 1e6),
        "client_peak_mb": round(client_bytes / 1e6),
        "worker_peaks_mb": [round(peak / 1e6) for peak in worker_bytes],
    }
    holds = client_bytes < BAR_BYTES and all(peak - model_bytes < BAR_BYTES for peak in worker_bytes)
    print(json.dumps({"name": "region_scale", "figures": figures, "bar": round(BAR_BYTES / 1e6), "holds": holds}))


if __name__ == "__main__":
    main()
