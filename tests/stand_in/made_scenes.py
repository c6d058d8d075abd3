"""Made pairs of scenes whose changes are known cell by cell, and how to run the command on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from pipeline.config.run import RunConfig, load_config

STAND_IN_FOLDER = Path(__file__).parent
TILE_PX = 48
"""Divisible by 3, so that cells are whole pixels."""
CELL_PX = TILE_PX // 3
N_ROWS, N_COLS = 4, 6
LEFT_M, TOP_M = 621_000.0, 3_362_000.0
"""Upper left corner of the scenes in EPSG:32614."""

CELL_OFFSETS = {
    f"{y}-{x}": (row, col)
    for row, y in enumerate(("top", "center", "bottom"))
    for col, x in enumerate(("left", "center", "right"))
}


@dataclass(frozen=True, kw_only=True)
class MadeScenes:
    """A pair of scenes on one 1 m grid, and what a reader who sees exactly would say of it."""

    before: Path
    after: Path
    building_cells: dict[str, str] = field(default_factory=dict)
    """Changed cells by tile id, as the report writes them; all other tiles are unchanged."""


def make_series(folder: Path, built: dict[str, dict[tuple[int, int], list[str]]]) -> list[Path]:
    """Write a scene per day, ``scene_YYYYMMDD.tif``, that shows what was built by then.

    Args:
        folder: Where the files go; made if missing.
        built: What is there on each day: cells by row and column of the tile.
    """
    ground = np.random.default_rng(5).integers(20, 60, (3, N_ROWS * TILE_PX, N_COLS * TILE_PX), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, (day, tiles) in enumerate(built.items()):
        # Never the same pixels twice: those would not be asked about.
        pixels = ground + np.uint8(index)
        for (row, col), cells in tiles.items():
            for dy, dx in (CELL_OFFSETS[cell] for cell in cells):
                top, left = row * TILE_PX + dy * CELL_PX, col * TILE_PX + dx * CELL_PX
                pixels[:, top : top + CELL_PX, left : left + CELL_PX] += 150
        path = folder / f"scene_{day.replace('-', '')}.tif"
        _write_scene(path, pixels, moment=f"{day}T10:00:00Z")
        paths.append(path)
    return paths


def _write_scene(path: Path, pixels: NDArray[np.uint8], *, moment: str) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=3,
        height=pixels.shape[1],
        width=pixels.shape[2],
        crs="EPSG:32614",
        transform=from_origin(LEFT_M, TOP_M, 1.0, 1.0),
    ) as file:
        file.write(pixels)
        file.update_tags(ACQUISITION_DATETIME=moment)


def make_scenes(
    folder: Path,
    *,
    changed: dict[tuple[int, int], list[str]] | None = None,
    marked: dict[tuple[int, int], tuple[int, int, int]] | None = None,
) -> MadeScenes:
    """Write a pair of scenes.

    Args:
        folder: Where the files go; made if missing.
        changed: Cells that change, by row and column of the tile.
        marked: Colours to put into a tile's first pixel, by row and column of the tile.
    """
    rng = np.random.default_rng(5)
    before = rng.integers(20, 60, (3, N_ROWS * TILE_PX, N_COLS * TILE_PX), dtype=np.uint8)
    for (row, col), colour in (marked or {}).items():
        before[:, row * TILE_PX, col * TILE_PX] = colour
    after = before + np.uint8(1)
    for (row, col), cells in (changed or {}).items():
        for dy, dx in (CELL_OFFSETS[cell] for cell in cells):
            top, left = row * TILE_PX + dy * CELL_PX, col * TILE_PX + dx * CELL_PX
            after[:, top : top + CELL_PX, left : left + CELL_PX] += 150
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels, year in (("before", before, "2020"), ("after", after, "2024")):
        _write_scene(folder / f"{name}.tif", pixels, moment=f"{year}-06-01T10:00:00Z")
    return MadeScenes(
        before=folder / "before.tif",
        after=folder / "after.tif",
        building_cells={
            f"r{row:04d}_c{col:04d}": ";".join(cell for cell in CELL_OFFSETS if cell in cells)
            for (row, col), cells in (changed or {}).items()
        },
    )


SETTINGS = (
    "grid.resolution_m=1",
    f"grid.tile_size_px={TILE_PX}",
    "tiles.shard_size_tiles=2",
    "tiles.resampling=nearest",
    "model.name=stand-in",
    "cluster.n_workers=2",
)


def make_config(scenes: MadeScenes, *, output: Path | str, assignments: tuple[str, ...] = ()) -> RunConfig:
    values: dict[str, Any] = {"before": str(scenes.before), "after": str(scenes.after), "output": str(output)}
    return load_config(values=values, assignments=(*SETTINGS, *assignments))


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from flows.cli.main import main; main()", *arguments]


def command_environment(**environment: str) -> dict[str, str]:
    path = os.pathsep.join([str(STAND_IN_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **environment}


def run_arguments(
    scenes: MadeScenes, *, output: Path | str, address: str | None = None, n_workers: int = 2
) -> list[str]:
    """Give the arguments of a run on workers that are there already, or else on some of its own.

    Args:
        scenes: Of the run.
        output: Its folder.
        address: Of the scheduler, if there is one.
        n_workers: How many workers of its own.
    """
    cluster = (f"cluster.n_workers={n_workers}",) if address is None else give_address(address)
    settings = [part for assignment in (*SETTINGS, *cluster) for part in ("--set", assignment)]
    return ["run", str(scenes.before), str(scenes.after), "--output", str(output), *settings]


def give_address(address: str) -> tuple[str, ...]:
    """Give the settings of a run on workers that are there already."""
    return "cluster.kind=address", f"cluster.address={address}"


def read_result(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return values
