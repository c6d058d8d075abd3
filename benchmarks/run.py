"""A whole `deltavlm run` beside the sum of its parts: what processes, scheduler and start-up put on top.

A synthetic pair, repeated to the size asked for, is run by one worker and by two; then the finished folder is run once
more, and its report rebuilt. The parts are the same six verbs in one process without Dask, called on the same scenes.
Whole and parts are each taken of many tiles and of one: the difference is what tiles cost, without imports, loading the
model and starting workers, and that is what is compared.

CPU time of all processes counts, as other work on the machine spoils wall time; the latter is told beside it. Of two
workers it tells how well the work is spread: the client's own time and that of the busiest worker come one after the
other, so their sum is what a quiet machine would take at most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from region_scale import command_line, make_environment

BARS = {"on_top": 1.1, "two_workers": 1.8, "first_tile_s": 8.0, "second_run_s": 4.0}
TILE_PX, STAMP_PX = 256, 2048
SAMPLE_S = 0.1


def make_scenes(folder: Path, *, side_tiles: int) -> list[str]:
    """Write a pair of so many tiles in a row and column, and give its files."""
    stamp_px = min(STAMP_PX, side_tiles * TILE_PX)
    stamp = folder / f"stamp_{stamp_px}"
    if not stamp.exists():
        arguments = ["data", "synthesize", str(stamp), "--size-px", str(stamp_px), "--resolution-m", "0.5"]
        subprocess.run(command_line(*arguments), check=True, env=make_environment(), stdout=subprocess.DEVNULL)
    files = []
    for date in ("before", "after"):
        with rasterio.open(stamp / f"{date}.tif") as file:
            bands, profile = file.read(), file.profile
        side_px, n_stamps = side_tiles * TILE_PX, -(-side_tiles * TILE_PX // stamp_px)
        profile |= {"height": side_px, "width": side_px, "tiled": True, "blockxsize": 512, "blockysize": 512}
        files.append(str(folder / f"{date}_{side_tiles}.tif"))
        with rasterio.open(files[-1], "w", **profile | {"compress": "deflate", "predictor": 2}) as file:
            file.write(np.tile(bands, (1, n_stamps, n_stamps))[:, :side_px, :side_px])
    return files


@dataclass(kw_only=True)
class Spent:
    """What a command took."""

    wall_s: float
    first_tile_s: float = float("inf")
    """Seconds until the first shard of tiles was there; of a folder that had it before, none."""
    cpu_s: dict[int, float] = field(default_factory=dict)
    """CPU time of each of its processes."""
    client: int = 0
    """Which of them is the command itself."""

    @property
    def all_cpu_s(self) -> float:
        """CPU time of all processes."""
        return sum(self.cpu_s.values())

    @property
    def span_s(self) -> float:
        """CPU time of what comes one after the other: the command's own and that of its busiest process."""
        others = (spent for pid, spent in self.cpu_s.items() if pid != self.client)
        return self.cpu_s[self.client] + max(others, default=0.0)


def spend(*arguments: str, output: Path) -> Spent:
    """Run a command and watch its processes until it ends."""
    start, is_over = time.perf_counter(), threading.Event()
    process = subprocess.Popen(
        command_line(*arguments), env=make_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    spent = Spent(wall_s=0.0, client=process.pid)
    has_tiles = (output / "marks").exists()

    def sample() -> None:
        while not is_over.wait(SAMPLE_S):
            if not has_tiles and spent.first_tile_s == float("inf") and any((output / "marks").glob("*.json")):
                spent.first_tile_s = time.perf_counter() - start
            add_cpu_times(spent, process.pid)

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, words = process.communicate()
    is_over.set()
    sampler.join()
    if process.returncode:
        sys.exit(f"deltavlm {arguments[0]} ended with {process.returncode}: {words.decode()}")
    spent.wall_s = time.perf_counter() - start
    return spent


def add_cpu_times(spent: Spent, pid: int) -> None:
    """Note the CPU time of a process and of its descendants so far."""
    try:
        client = psutil.Process(pid)
        processes = [client, *client.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent.cpu_s[process.pid] = times.user + times.system


def write_all_shards(run: Any) -> Any:
    """Write every shard of a run's store in this process, and give the store."""
    from pipeline.tiles.shards import create_store, write_shard
    from pipeline.tiles.store import TileStore

    side = run.config.tiles.shard_size_tiles
    create_store(run.folder, run.pair, shard_size_tiles=side)
    grid = run.pair.grid
    for row, col in product(range(-(-grid.n_rows // side)), range(-(-grid.n_cols // side))):
        write_shard(run.folder, run.pair, side, row, col)
    return TileStore(folder=run.folder, grid=grid, content_key=run.pair.content_key, shard_size_tiles=side)


def answer_all(run: Any, *, store: Any, tiles: Iterable[Any]) -> Any:
    """Answer about every batch of a run in this process, and give the parts."""
    from pipeline.answers.batch import Interview, Lack, answer_batch
    from pipeline.answers.collect import group_batches
    from pipeline.answers.outlines import choose_outline_kinds
    from pipeline.answers.parts import AnswerParts

    kinds = choose_outline_kinds(run.config.model.outlines, mask_labels=run.identity.mask_labels)
    asked = {"prompts": run.prompts, "model": run.config.model, "identity": run.identity}
    interview = Interview(store=store, **asked, outline_kinds=kinds, is_reading_ahead=False)
    names: list[str] = []
    for batch in group_batches(tiles, shard_size_tiles=store.shard_size_tiles):
        answer_batch(interview, batch, Lack(prompts=run.prompts, has_outlines=bool(kinds)))
        names += interview.name_parts(tiles=batch)
    answers, outlines = (
        tuple(sorted(name for name in names if name.startswith(room))) for room in ("answers/", "outlines/")
    )
    return AnswerParts(folder=run.folder, names=answers, outline_names=outlines)


def measure_parts(files: list[str], output: str, *, model: str) -> dict[str, float]:
    """Do in this process what a run does, and give the CPU seconds of each part."""
    from model.registry import load_model, resolve_dtype
    from pipeline.config.run import load_config
    from pipeline.runs.inputs import check_inputs
    from pipeline.runs.prepare import Run
    from pipeline.runs.run import Stages
    from pipeline.summary import ignore_progress
    from pipeline.workers.models import ModelPlugin, take_model

    seconds: dict[str, float] = {}

    def measure(name: str, call: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = call()
        seconds[name] = time.process_time() - start
        return result

    config = load_config(values={"before": files[0], "after": files[1], "output": output, "model": {"name": model}})
    stages = Stages(around=lambda stage, call: measure(stage, lambda: call(ignore_progress)))
    pair = stages.find_pair(config, aoi=None)
    with Run.prepare(config, pair=pair, polygons=check_inputs(config)) as run:
        run = run.with_dtype(resolve_dtype(model, device="auto", dtype="auto"))
        held = {
            "device": "auto",
            "dtype": run.config.model.dtype,
            "batch_size_tiles": run.config.model.batch_size_tiles,
        }
        plugin = ModelPlugin(model=run.config.model, identity=run.identity)
        take_model(plugin.key, partial(load_model, model, **held))
        store = measure("write_tiles", lambda: write_all_shards(run))
        tiles = stages.select_tiles(run, store=store)
        answers = measure("collect_answers", lambda: answer_all(run, store=store, tiles=tiles))
        findings = stages.extract_findings(run, answers=answers, tiles=tiles, store=store)
        report = stages.write_report(run, findings=findings, tiles=tiles, store=store, answers=answers)
        measure("record", lambda: run.write_record(report, store=store, answers=answers, stages=stages.summaries))
    return seconds


def measure_parts_apart(files: list[str], output: Path, *, model: str) -> dict[str, float]:
    """Measure the parts in a process of its own, one thread like a worker's."""
    command = [sys.executable, __file__, "--model", model, "--parts", *files, str(output)]
    environment = make_environment() | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def measure_all(folder: Path, *, side_tiles: int, model: str) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Take each measure, and give figures, and the ratios that are held against the bars."""
    pairs = {"one": make_scenes(folder, side_tiles=1), "many": make_scenes(folder, side_tiles=side_tiles)}

    def run(pair: str, *, n_workers: int) -> Spent:
        output = folder / f"{pair}_{n_workers}"
        settings = [f"model.name={model}", f"cluster.n_workers={n_workers}"]
        words = [word for setting in settings for word in ("--set", setting)]
        return spend("run", *pairs[pair], "--output", str(output), *words, output=output)

    start = run("one", n_workers=1)
    parts = {name: measure_parts_apart(files, folder / f"{name}_parts", model=model) for name, files in pairs.items()}
    single, double = run("many", n_workers=1), run("many", n_workers=2)
    second = run("many", n_workers=2)
    report = spend("report", str(folder / "many_2"), output=folder / "many_2")
    n_more = side_tiles**2 - 1
    bare_s = {name: seconds - parts["one"][name] for name, seconds in parts["many"].items()}
    figures = {
        "start-up": {"first_tile_s": start.first_tile_s, "wall_s": start.wall_s, "cpu_s": start.all_cpu_s},
        "one worker": {"wall_s": single.wall_s, "cpu_s": single.all_cpu_s, "span_s": single.span_s},
        "two workers": {"wall_s": double.wall_s, "cpu_s": double.all_cpu_s, "span_s": double.span_s},
        "second run": {"wall_s": second.wall_s, "cpu_s": second.all_cpu_s},
        "report": {"wall_s": report.wall_s, "cpu_s": report.all_cpu_s},
        "parts, cpu_s": parts["many"],
    }
    ratios = {
        "tiles_a_second": n_more / (double.wall_s - start.wall_s),
        "ms_a_tile": 1e3 * (single.all_cpu_s - start.all_cpu_s) / n_more,
        "parts_ms_a_tile": 1e3 * sum(bare_s.values()) / n_more,
        "on_top": (single.all_cpu_s - start.all_cpu_s) / sum(bare_s.values()),
        "two_workers": (single.span_s - start.span_s) / (double.span_s - start.span_s),
        "first_tile_s": min(start.first_tile_s, start.all_cpu_s),
        "second_run_s": second.all_cpu_s,
    }
    return figures, ratios


def is_held(ratios: dict[str, float]) -> bool:
    """Hold the ratios against the bars."""
    at_most = all(ratios[name] <= BARS[name] for name in ("on_top", "first_tile_s", "second_run_s"))
    return at_most and ratios["two_workers"] >= BARS["two_workers"]


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side-tiles", type=int, default=32, help="tiles in a row and column of the pair")
    parser.add_argument("--model", default="deltavlm-tiny", help="model that answers")
    parser.add_argument("--quick", action="store_true", help="four tiles, to see that it runs")
    parser.add_argument("--folder", type=Path, help="where to leave scenes and runs; left out, they are removed")
    parser.add_argument("--parts", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.parts:
        print(json.dumps(measure_parts(asked.parts[:2], asked.parts[2], model=asked.model)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures, ratios = measure_all(folder, side_tiles=2 if asked.quick else asked.side_tiles, model=asked.model)
    for name, found in figures.items():
        print(f"{name:<16}" + "".join(f"{key:>18} {value:>7.2f}" for key, value in found.items()))
    for name, ratio in ratios.items():
        print(f"{name:<16} {ratio:>8.2f}" + (f"   (bar {BARS[name]})" if name in BARS else ""))
    told = {name: {key: round(value, 3) for key, value in found.items()} for name, found in figures.items()}
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    print(json.dumps({"name": "run", "figures": told, "ratios": rounded, "bar": BARS, "holds": is_held(ratios)}))


if __name__ == "__main__":
    main()
