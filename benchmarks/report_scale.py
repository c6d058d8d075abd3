"""What a report of a million tiles costs: time and memory from marks and answer parts to the files of the report.

The folder of a run is made by script, as workers leave it: marks and a tile store of 15,625 shards, and one Parquet
part per shard and prompt, 62,500 in all, with a fifth of the tiles changed and the outlines of what did in 15,625 more.
A process of its own then does what the client does once the last answer is there: selects the tiles, reads the answers,
extracts the findings, writes the report and the record. Another one writes the two tables with geopandas'
`to_parquet`, to compare. The bars are the peak memory and the time of the first; CPU time counts, as the machine may
have other work.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

BAR_MEMORY_BYTES = 2e9
BAR_S = 60.0
CHANGED_ABOVE = 0.45
"""Tiles have changes where the ground's waves are above this: about a fifth of all."""
SHARD_SIZE_TILES = 8
TILE_SIZE_PX = 256
KINDS = ("building", "road")
SLOTS_A_SIDE, SLOT_PX = 6, 42
BUILDING_PX = np.array([(0, 0), (14, 0), (14, 6), (22, 6), (22, 24), (10, 24), (10, 18), (4, 18), (4, 12), (0, 12)])
ROAD_PX = np.array([(0, 0), (90, 2), (170, 1), (256, 0), (256, 3), (170, 4), (90, 4), (0, 3)])
N_FAILED = 40
QUICK_TILES = 1024
RUN_NAME = "run"


def paint_scenes(folder: Path) -> None:
    """Write two small rasters that differ: one shard of the store, which every other shard repeats."""
    import rasterio
    from affine import Affine

    side = SHARD_SIZE_TILES * TILE_SIZE_PX
    coarse = np.random.default_rng(0).integers(40, 220, (2, 3, side // 16, side // 16), dtype=np.uint8)
    options = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32614", "height": side, "width": side}
    options |= {"transform": Affine(0.5, 0, 600_000, 0, -0.5, 3_400_000), "compress": "zstd"}
    for name, bands in zip(("before", "after"), coarse, strict=True):
        with rasterio.open(folder / f"{name}.tif", "w", **options) as file:
            file.write(bands.repeat(16, axis=1).repeat(16, axis=2))


class AloneHere:
    """The lock of a folder that no other process knows of."""

    def check(self) -> None:
        """Find it held."""


def count_side(n_tiles: int) -> int:
    """Give the rows of about so many tiles, whole shards of them, as all shards have the same pixels."""
    return round(math.sqrt(n_tiles) / SHARD_SIZE_TILES) * SHARD_SIZE_TILES


def prepare_run(folder: Path, *, n_tiles: int) -> Any:
    """Give the run whose folder is made here: a pair of the painted scenes on a grid of about so many tiles."""
    from model.registry import identify_named_model
    from pipeline.config.run import load_config
    from pipeline.runs.prepare import Run
    from pipeline.scenes.pair import find_pair
    from pipeline.storage.folder import RunFolder

    scenes = {date: str(folder / f"{date}.tif") for date in ("before", "after")}
    config = load_config(values={**scenes, "output": str(folder / RUN_NAME)})
    pair, _ = find_pair(config)
    n_rows = n_cols = count_side(n_tiles)
    size_px = pair.grid.tile_size_px
    grid = replace(pair.grid, n_rows=n_rows, n_cols=n_cols, height_px=n_rows * size_px, width_px=n_cols * size_px)
    return Run(
        config=config,
        pair=replace(pair, grid=grid),
        identity=identify_named_model(config.model.name),
        area=None,
        folder=RunFolder(str(folder / RUN_NAME)),
        lock=AloneHere(),
    )


def make_folder(run: Any) -> None:
    """Make the store, the marks and the answer parts."""
    from pipeline.answers.batch import Interview
    from pipeline.answers.collect import group_batches
    from pipeline.answers.parts import encode_outlines, encode_part
    from pipeline.polygons.aoi import find_shards_needed
    from pipeline.runs.run import Stages
    from pipeline.tiles.marks import encode_mark, name_mark, read_mark
    from pipeline.tiles.shards import create_store, write_shard
    from pipeline.tiles.store import TileStore

    key, grid, folder = run.pair.content_key, run.pair.grid, run.folder
    create_store(folder, run.pair, shard_size_tiles=SHARD_SIZE_TILES)
    write_shard(folder, run.pair, SHARD_SIZE_TILES, 0, 0)
    first = name_mark(key, (0, 0), shard_size_tiles=SHARD_SIZE_TILES)
    mark = read_mark(folder.read(first))
    objects = mark["objects"]
    store = TileStore(folder=folder, grid=grid, content_key=key, shard_size_tiles=SHARD_SIZE_TILES)
    rng = np.random.default_rng(1)
    shards = find_shards_needed(grid, area=None, shard_size_tiles=SHARD_SIZE_TILES)
    for shard in shards:
        placed = {_place_object(folder.uri, name, shard): size for name, size in objects.items()}
        marked = cut_mark(mark, shard=shard, grid=grid, rng=rng) | {"objects": placed}
        folder.put(name_mark(key, shard, shard_size_tiles=SHARD_SIZE_TILES), encode_mark(marked))
    tiles = Stages().select_tiles(run, store=store)
    asked = {"prompts": run.prompts, "model": run.config.model, "identity": run.identity}
    interview = Interview(store=store, **asked, outline_kinds=KINDS)
    names: dict[str, list[str]] = {"answers": [], "outlines": []}
    for batch in group_batches(tiles, shard_size_tiles=SHARD_SIZE_TILES):
        sizes, roads = count_changes(batch, rng=rng)
        rows = make_answers(batch, prompts=run.prompts, rng=rng, sizes=sizes, roads=roads)
        for prompt, answers in zip(run.prompts, rows, strict=True):
            names["answers"].append(interview.name_part(prompt, tiles=batch))
            folder.put(names["answers"][-1], encode_part(prompt, tiles=batch, answers=answers))
        names["outlines"].append(interview.name_outlines(tiles=batch))
        outlines = [
            outline
            for tile, size, road in zip(batch, sizes, roads, strict=True)
            for outline in make_outlines(tile, n_buildings=size, n_roads=road, rng=rng)
        ]
        folder.put(names["outlines"][-1], encode_outlines(outlines, tiles=batch))
    Path(folder.uri, "parts.json").write_text(json.dumps({kind: sorted(each) for kind, each in names.items()}))


def _place_object(uri: str, name: str, shard: tuple[int, int]) -> str:
    """Give another shard the first one's object, as one more name of the same bytes."""
    stem = name.rsplit("/", 2)[0]
    placed = f"{stem}/{shard[0]}/{shard[1]}"
    if shard != (0, 0):
        Path(uri, placed).parent.mkdir(parents=True, exist_ok=True)
        os.link(Path(uri, name), Path(uri, placed))
    return placed


def cut_mark(mark: dict[str, Any], *, shard: tuple[int, int], grid: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Vary what a mark tells: some shards show nothing, some tiles are cut off, some are the same on both dates."""
    from pipeline.tiles.marks import list_tiles_of_shard

    places = list_tiles_of_shard(grid, shard, shard_size_tiles=SHARD_SIZE_TILES)
    kept = [(row % SHARD_SIZE_TILES) * SHARD_SIZE_TILES + col % SHARD_SIZE_TILES for row, col in places]
    lists = {name: np.array(value)[kept] for name, value in mark.items() if isinstance(value, list) and len(value) > 2}
    full = TILE_SIZE_PX**2
    after = np.where(rng.random(len(kept)) < 0.02, rng.integers(0, full, len(kept)), full)
    if rng.random() < 0.03:
        after[:] = 0
    lists |= {"after": after, "both": after, "identical": (rng.random(len(kept)) < 0.01) & (after > 0)}
    return mark | {name: value.tolist() for name, value in lists.items()}


def count_changes(batch: Any, *, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Choose how many buildings and roads changed in each tile: changes come in clusters."""
    is_busy = np.array([math.sin(tile.row / 17) * math.sin(tile.col / 23) > CHANGED_ABOVE for tile in batch])
    sizes = rng.poisson(2.5, len(batch)) * is_busy
    roads = sizes * (rng.random(len(batch)) < 0.3) // 2
    return sizes.tolist(), roads.tolist()


def make_outlines(tile: Any, *, n_buildings: int, n_roads: int, rng: np.random.Generator) -> Iterator[Any]:
    """Outline what changed in a tile: buildings apart from each other, and roads from one border to the other."""
    import shapely

    from pipeline.answers.outlines import Outline

    corner = np.array([tile.col, tile.row]) * TILE_SIZE_PX
    slots = rng.permutation(SLOTS_A_SIDE**2)[:n_buildings]
    buildings = [
        ("building", BUILDING_PX * rng.uniform(0.7, 1.3) + SLOT_PX * np.array(divmod(int(slot), SLOTS_A_SIDE)) + 4)
        for slot in slots
    ]
    roads = [("road", ROAD_PX + np.array([0, SLOT_PX * number - 4])) for number in range(1, n_roads + 1)]
    n_seen = {"building": len(buildings), "road": len(roads)}
    for kind, shape in [*buildings, *roads]:
        ring = np.rint(shape) + corner
        polygon = shapely.Polygon(ring)
        probability = round(float(rng.uniform(0.5, 1)), 4)
        first_col, first_row = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]]
        yield Outline(
            tile_id=tile.tile_id,
            kind=kind,
            first_row_px=int(first_row),
            first_col_px=int(first_col),
            n_pixels=int(polygon.area),
            n_seen_pixels=int(polygon.area) * n_seen[kind],
            probability=probability,
            peak_probability=(1 + probability) / 2,
            geometry=polygon,
        )


def make_answers(
    batch: Any, *, prompts: Any, rng: np.random.Generator, sizes: list[int], roads: list[int]
) -> Iterator[list[Any]]:
    """Answer as a model would, of whose prompts the four kinds agree."""
    from model.interface import CELL_NAMES, Answer, PromptKind

    cells = [rng.choice(CELL_NAMES, min(size, 4), replace=False).tolist() for size in sizes]
    streets = [rng.choice(CELL_NAMES, min(road, 2), replace=False).tolist() for road in roads]
    words = ("row", "corner", "hill", "field", "forest", "meadow", "river", "farm", "square", "school")
    places = [" and the ".join(rng.choice(words, 3)) for _ in batch]
    texts = {
        PromptKind.CLASSIFY: ["Yes" if size else "No" for size in sizes],
        PromptKind.COUNT: [
            f"{road} roads have changed, and {size} buildings have changed."
            if size
            else "There are no changes in roads or buildings between the two images."
            for size, road in zip(sizes, roads, strict=True)
        ],
        PromptKind.LOCATE: [f"roads: {road}. buildings: {cell}." for road, cell in zip(streets, cells, strict=True)],
        PromptKind.DESCRIBE: [
            f"{size} houses have been built beside the {place} ." if size else "the scene is the same as before ."
            for size, place in zip(sizes, places, strict=True)
        ],
    }
    confidences = rng.uniform(0.5, 1.0, len(batch)).tolist()
    for prompt in prompts:
        said = texts[prompt.kind]
        yield [Answer(text=text, confidence=value) for text, value in zip(said, confidences, strict=True)]


def read_peak_bytes() -> int:
    """Give the largest memory of this process."""
    # A process that was started by a larger one has that one's peak in ru_maxrss; what Linux tells here is its own.
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Clock:
    """Wall time, time of all cores and memory of this process, stage by stage."""

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []

    def measure(self, name: str, call: Callable[[], Any]) -> Any:
        """Call, and note what it took."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        result = call()
        peak = read_peak_bytes()
        self.stages.append(
            {
                "stage": name,
                "wall_s": round(time.perf_counter() - wall_s, 2),
                "cpu_s": round(time.process_time() - cpu_s, 2),
                "peak_mb": round(peak / 1e6),
            }
        )
        return result


def report(folder: Path, *, n_tiles: int) -> list[dict[str, Any]]:
    """Do what the client does once all answers are there."""
    from pipeline.answers.parts import AnswerParts
    from pipeline.runs.run import Stages
    from pipeline.summary import ignore_progress
    from pipeline.tiles.store import TileStore

    clock = Clock()
    run = clock.measure("prepare", lambda: prepare_run(folder, n_tiles=n_tiles))
    store = TileStore(
        folder=run.folder,
        grid=run.pair.grid,
        content_key=run.pair.content_key,
        shard_size_tiles=SHARD_SIZE_TILES,
        failed_shards={(0, 1): "made to fail"},
    )
    names = json.loads(Path(run.folder.uri, "parts.json").read_text())
    stages = Stages(around=lambda stage, call: clock.measure(stage, lambda: call(ignore_progress)))
    tiles = stages.select_tiles(run, store=store)
    failed = {store.grid.tile_id(row, row): "the worker died" for row in range(N_FAILED)}
    answers = AnswerParts(
        folder=run.folder, names=tuple(names["answers"]), outline_names=tuple(names["outlines"]), failures=failed
    )
    findings = stages.extract_findings(run, answers=answers, tiles=tiles, store=store)
    written = stages.write_report(run, findings=findings, tiles=tiles, store=store, answers=answers)
    summaries = stages.summaries
    clock.measure("write_record", lambda: run.write_record(written, store=store, answers=answers, stages=summaries))
    return clock.stages


def write_with_geopandas(folder: Path) -> list[dict[str, Any]]:
    """Write the tables of the report once more, as geopandas does."""
    import geopandas as gpd

    clock = Clock()
    for name in ("tiles", "changes"):
        frame = gpd.read_parquet(folder / RUN_NAME / "report" / f"{name}.parquet")
        path = folder / f"{name}_by_geopandas.parquet"
        clock.measure(name, lambda: frame.to_parquet(path, compression="zstd", write_covering_bbox=True))  # noqa: B023
    return clock.stages


def measure_apart(way: str, folder: Path, *, n_tiles: int) -> list[dict[str, Any]]:
    """Take one way in a process of its own, where nothing else takes memory."""
    command = [sys.executable, __file__, "--tiles", str(n_tiles), "--folder", str(folder), "--in-this-process", way]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    stages: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return stages


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=1_000_000, help="tiles of the region, about")
    parser.add_argument("--folder", type=Path, help="where to make the run, and to find it again the next time")
    parser.add_argument("--quick", action="store_true", help="a thousand tiles, to see that it runs")
    parser.add_argument("--in-this-process", choices=("report", "geopandas"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    n_tiles = QUICK_TILES if asked.quick else asked.tiles
    if asked.in_this_process is not None:
        done = (
            write_with_geopandas(asked.folder)
            if asked.in_this_process == "geopandas"
            else report(asked.folder, n_tiles=n_tiles)
        )
        print(json.dumps(done))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RUN_NAME / "parts.json").is_file():
            paint_scenes(folder)
            make_folder(prepare_run(folder, n_tiles=n_tiles))
        stages = measure_apart("report", folder, n_tiles=n_tiles)
        by_geopandas = measure_apart("geopandas", folder, n_tiles=n_tiles)
        sizes = measure_files(folder / RUN_NAME)
    print(f"{'stage':<24} {'wall s':>8} {'cpu s':>8} {'peak MB':>8}")
    for stage in stages:
        print(f"{stage['stage']:<24} {stage['wall_s']:>8.2f} {stage['cpu_s']:>8.2f} {stage['peak_mb']:>8}")
    for stage in by_geopandas:
        name = f"{stage['stage']} by geopandas"
        print(f"{name:<24} {stage['wall_s']:>8.2f} {stage['cpu_s']:>8.2f} {stage['peak_mb']:>8}")
    print(json.dumps(summarise(n_tiles, stages=stages, by_geopandas=by_geopandas, sizes=sizes)))


def measure_files(run: Path) -> dict[str, int]:
    """Give the bytes of the record, and of each file or folder of the report."""
    return {
        path.name: sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
        for path in (run / "run.json", *(run / "report").iterdir())
    }


def summarise(
    n_tiles: int, *, stages: list[dict[str, Any]], by_geopandas: list[dict[str, Any]], sizes: dict[str, int]
) -> dict[str, Any]:
    """Hold the figures against the bars."""
    figures = {
        "n_tiles": count_side(n_tiles) ** 2,
        "wall_s": round(sum(stage["wall_s"] for stage in stages), 1),
        "cpu_s": round(sum(stage["cpu_s"] for stage in stages), 1),
        "peak_mb": max(stage["peak_mb"] for stage in stages),
        "stages": {stage["stage"]: [stage["wall_s"], stage["cpu_s"], stage["peak_mb"]] for stage in stages},
        "geopandas": {stage["stage"]: [stage["wall_s"], stage["cpu_s"], stage["peak_mb"]] for stage in by_geopandas},
        "files_kb": {name: -(-size // 1000) for name, size in sorted(sizes.items())},
    }
    bar = {"cpu_s": BAR_S, "peak_mb": round(BAR_MEMORY_BYTES / 1e6)}
    holds = figures["cpu_s"] < BAR_S and figures["peak_mb"] * 1e6 < BAR_MEMORY_BYTES
    return {"name": "report_scale", "figures": figures, "bar": bar, "holds": holds}


if __name__ == "__main__":
    main()
