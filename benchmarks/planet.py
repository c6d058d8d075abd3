"""What the planet's land costs beside its pixels and its model: 25 million tiles planned, named, kept, read and merged.

At 10 m the land has about 25 million tiles of 256 pixels. They are worked on as people would: one region per square of
440 km, a pair of mosaics in each, a few squares at a time. Each square is planned as a pass over a region does, its
batches and the parts of its answers are named as a run names them, answers that a script makes up are kept as parts and
read back, the findings of every tile and the changes are extracted and written, and the region's tables and its log of
events are merged: one tile of twenty has changed. No pixel is read and no model asked. A square's folder goes once its
figures are taken, so that the disk holds but a few at any time. The bars are half an hour and 4 GB, of all processes
together.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import hashlib
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from report_scale import make_answers, read_peak_bytes

N_TILES = 25_000_000
QUICK_SIDE_TILES = 20
BAR_S = 1800.0
BAR_MEMORY_BYTES = 4e9
SQUARE_SIDE_TILES = 172
CHANGED_SHARE = 0.05
N_VARIANTS = 64
"""Different batches of answers that are made up."""
SHARD_SIZE_TILES = 8
TILE_SIZE_PX = 256
RESOLUTION_M = 10.0
N_ZONES = 60
DATES = (dt.datetime(2025, 6, 1, 10, 30, tzinfo=dt.UTC), dt.datetime(2026, 6, 1, 10, 30, tzinfo=dt.UTC))
NOW = dt.datetime(2026, 6, 2, tzinfo=dt.UTC)
STAGES = ("plan", "keys", "made up", "parts", "findings", "tables", "merge")
SETTINGS = "planet"


@functools.cache
def settle() -> dict[str, Any]:
    """Give what is the same for every square: the questions, how the model is held, and which one it is."""
    from model.registry import identify_named_model
    from pipeline.config.run import load_config

    config = load_config(values={"before": "before.tif", "after": "after.tif", "output": "never-written"})
    prompts = tuple(prompt.to_prompt() for prompt in config.prompts)
    return {"prompts": prompts, "model": config.model, "identity": identify_named_model(config.model.name)}


def lay_grid(square: int, *, side_tiles: int) -> Any:
    """Give the grid of a square: squares go round the planet, zone by zone, then one row further north."""
    from pipeline.grid.grid import Grid

    side_px = side_tiles * TILE_SIZE_PX
    row, zone = divmod(square, N_ZONES)
    return Grid(
        crs=f"EPSG:{32601 + zone}",
        resolution_m=RESOLUTION_M,
        origin_x=280_000,
        origin_y=(row + 1) * side_px * RESOLUTION_M,
        tile_size_px=TILE_SIZE_PX,
        n_rows=side_tiles,
        n_cols=side_tiles,
        width_px=side_px,
        height_px=side_px,
    )


def plan_pair(square: int) -> Any:
    """Plan the pair of a square as a pass over a region does that knows of none; gives its record."""
    from pipeline.regions.dates import DatedScene
    from pipeline.regions.pairs import name_pair
    from pipeline.regions.plan import decide_pass

    before, after = (
        DatedScene(
            scene_id=f"S{square}_{moment:%Y%m%d}", start=moment, piece_ids=(f"S{square}_{moment:%Y}",), version="1"
        )
        for moment in DATES
    )
    pair = name_pair(before, after, cell=str(square), settings=SETTINGS)
    plan = decide_pass(
        [pair],
        states=(),
        cell=str(square),
        settings=SETTINGS,
        planned_at=NOW,
        max_attempts=3,
        max_pairs=10,
        n_scenes=2,
    )
    (record,) = plan.to_do
    return record


class Clock:
    """CPU time of this process by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count what happens inside to a stage."""
        start = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - start


def work_on(square: int, *, side_tiles: int, scratch: str) -> dict[str, Any]:
    """Do one square in a folder of its own; gives what it came to."""
    from pipeline.answers.batch import Interview
    from pipeline.answers.collect import group_batches
    from pipeline.storage.folder import RunFolder
    from pipeline.tiles.store import TileStore
    from pipeline.tiles.table import TileTable

    clock = Clock()
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        region = RunFolder(place)
        with clock.measure("plan"):
            record = plan_pair(square)
            grid = lay_grid(square, side_tiles=side_tiles)
            tiles = TileTable.make(grid)
            for shares in (tiles.valid_fractions, tiles.ground_fractions, tiles.shown_fractions):
                shares[:] = 1.0
        folder = RunFolder(region.join(record.run_name))
        key = hashlib.sha256(record.pair.pair_id.encode()).hexdigest()
        store = TileStore(folder=folder, grid=grid, content_key=key, shard_size_tiles=SHARD_SIZE_TILES)
        with clock.measure("keys"):
            interview = Interview(store=store, **settle())
            batches = group_batches(tiles, shard_size_tiles=SHARD_SIZE_TILES)
            names = [interview.name_parts(tiles=batch) for batch in batches]
        keep_answers(interview, batches=batches, names=names, rng=np.random.default_rng(square), clock=clock)
        answers = sorted(name for each in names for name in each)
        findings, changes = tell_findings(record, answers=answers, tiles=tiles, store=store, clock=clock)
        with clock.measure("merge"):
            n_events = merge(record, region=region, crs=grid.crs)
        sizes = region.list_sizes()
    return {
        "tiles": len(findings),
        "changed": int(findings["is_changed"].fillna(value=False).sum()),
        "changes": len(changes),
        "events": n_events,
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "seconds": clock.seconds,
        "pid": os.getpid(),
        "peak_bytes": read_peak_bytes(),
    }


@functools.cache
def make_up(n_tiles: int, variant: int) -> list[Any]:
    """Make up the answers to so many tiles, prompt by prompt."""
    rng = np.random.default_rng(variant)
    sizes = (rng.poisson(2.5, n_tiles) + 1) * (rng.random(n_tiles) < CHANGED_SHARE)
    roads = sizes * (rng.random(n_tiles) < 0.3) // 2
    told = {"sizes": sizes.tolist(), "roads": roads.tolist()}
    return list(make_answers(range(n_tiles), prompts=settle()["prompts"], rng=rng, **told))


def keep_answers(
    interview: Any, *, batches: Any, names: list[list[str]], rng: np.random.Generator, clock: Clock
) -> None:
    """Make up the answers to every batch, and keep them as a worker does."""
    from pipeline.answers.parts import encode_part

    for batch, parts in zip(batches, names, strict=True):
        with clock.measure("made up"):
            answers = make_up(len(batch), int(rng.integers(N_VARIANTS)))
        with clock.measure("parts"):
            for prompt, name, given in zip(interview.prompts, parts, answers, strict=True):
                interview.store.folder.put(name, encode_part(prompt, tiles=batch, answers=given))


def tell_findings(record: Any, *, answers: list[str], tiles: Any, store: Any, clock: Clock) -> tuple[Any, Any]:
    """Make the two tables of a pair's run out of its answers, as a run does without the rest of its report."""
    from pipeline.answers.parts import AnswerParts
    from pipeline.findings.columns import make_findings_schema
    from pipeline.findings.extract import extract_findings
    from pipeline.findings.totals import sum_up
    from pipeline.storage.names import CHANGES_NAME, TILES_NAME
    from pipeline.tables.geoparquet import encode_geoparquet, order_along_hilbert
    from pipeline.tables.schemas import CHANGES_SCHEMA

    settled = settle()
    with clock.measure("findings"):
        findings, _ = extract_findings(
            AnswerParts(folder=store.folder, names=tuple(answers)),
            tiles=tiles,
            store=store,
            prompts=settled["prompts"],
            identity=settled["identity"],
            run_id=record.pair.pair_id,
            before_datetime=DATES[0].isoformat(),
            after_datetime=DATES[1].isoformat(),
        )
        totals = sum_up(findings, store=store, tiles=tiles, certainty=settled["identity"].certainty)
    with clock.measure("tables"):
        for name, frame, schema, key in (
            (TILES_NAME, findings, make_findings_schema(settled["prompts"]), "tile_id"),
            (CHANGES_NAME, totals.changes, CHANGES_SCHEMA, "change_id"),
        ):
            store.folder.put(name, encode_geoparquet(frame, schema=schema, order=order_along_hilbert(frame, key=key)))
    return findings, totals.changes


def merge(record: Any, *, region: Any, crs: str) -> int:
    """Make the tables of a region of one pair, and its log of events; gives how many events there are."""
    from pipeline.regions.events.changelog import read_changelog
    from pipeline.regions.events.table import TellingRules
    from pipeline.regions.pair_records import PairState, PairStatus, write_record
    from pipeline.regions.tables import encode_tables, make_tables

    write_record(record, folder=region)
    figures = {"changed_tile_count": 0}
    state = PairState(record=record, status=PairStatus.DONE, reason=None, figures=figures, has_folder=True)
    log = read_changelog(region, crs=crs, facts=None)
    tables = make_tables([state], folder=region, crs=crs, log=log, rules=TellingRules(), now=NOW)
    for name, data in encode_tables(tables):
        region.put(name, data)
    return len(tables.events)


def run_all(n_squares: int, *, side_tiles: int, n_workers: int, scratch: str) -> dict[str, Any]:
    """Do so many squares, several at a time, and add up what they came to."""
    sums: dict[str, Any] = dict.fromkeys(("tiles", "changed", "changes", "events", "files", "bytes"), 0)
    seconds, peaks, halves = dict.fromkeys(STAGES, 0.0), {}, [0.0, 0.0]
    context = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    with context.Pool(n_workers) as pool:
        work = functools.partial(work_on, side_tiles=side_tiles, scratch=scratch)
        for number, told in enumerate(pool.imap_unordered(work, range(n_squares))):
            for name in sums:
                sums[name] += told[name]
            for stage in STAGES:
                seconds[stage] += told["seconds"][stage]
            halves[2 * number // n_squares] += sum(told["seconds"].values())
            peaks[told["pid"]] = told["peak_bytes"]
    return sums | {
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": {stage: round(spent, 1) for stage, spent in seconds.items()},
        "halves_cpu_s": [round(half, 1) for half in halves],
        "client_peak_mb": round(read_peak_bytes() / 1e6),
        "worker_peaks_mb": sorted(round(peak / 1e6) for peak in peaks.values()),
    }


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=N_TILES, help="tiles, about: whole squares of them are done")
    parser.add_argument("--workers", type=int, default=2, help="processes beside the one that hands out squares")
    parser.add_argument("--quick", action="store_true", help="two small squares, to see that it runs")
    asked = parser.parse_args()
    side_tiles = QUICK_SIDE_TILES if asked.quick else SQUARE_SIDE_TILES
    n_squares = 2 if asked.quick else max(2, math.ceil(asked.tiles / side_tiles**2))
    with tempfile.TemporaryDirectory() as scratch:
        figures = run_all(n_squares, side_tiles=side_tiles, n_workers=asked.workers, scratch=scratch)
    n_tiles = figures["tiles"]
    if n_tiles != n_squares * side_tiles**2:
        sys.exit(f"{n_tiles} tiles came back of {n_squares} squares of {side_tiles**2}")
    figures["cpu_ms_a_tile"] = round(1000 * sum(figures["cpu_s"].values()) / n_tiles, 4)
    for stage, spent in figures["cpu_s"].items():
        print(f"{stage:<10} {spent:>9.1f} s of CPU {1000 * spent / n_tiles:>9.4f} ms a tile")
    peak = figures["client_peak_mb"] + sum(figures["worker_peaks_mb"])
    holds = n_tiles >= N_TILES and figures["wall_s"] < BAR_S and peak * 1e6 < BAR_MEMORY_BYTES
    bar = {"n_tiles": N_TILES, "wall_s": BAR_S, "peak_mb": round(BAR_MEMORY_BYTES / 1e6)}
    print(json.dumps({"name": "planet", "figures": figures, "bar": bar, "holds": holds}))


if __name__ == "__main__":
    main()
