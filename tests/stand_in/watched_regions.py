"""Made regions: dated scenes of one place in a folder, with buildings that come and go cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import box

from pipeline.region_config import RegionConfig, load_region_config

TILE_PX, CELL_PX = 48, 16
N_ROWS, N_COLS = 3, 4
LEFT, TOP = 12_938 * TILE_PX, 70_042 * TILE_PX
"""Metres in EPSG:32614, on the lattice of tiles, so that tiles and cells are known beforehand."""
AREA_OF_CELL_M2 = CELL_PX * CELL_PX

Cell = tuple[int, int]
"""Row and column of a cell of 16 x 16 m, from the corner of the scenes."""


def write_scene(folder: Path, day: str, *, buildings: Iterable[Cell] = (), crs: str = "EPSG:32614") -> Path:
    """Write ``scene_YYYYMMDD.tif``: ground that no two days show alike, and bright buildings."""
    height, width = N_ROWS * TILE_PX, N_COLS * TILE_PX
    ground = np.random.default_rng(5).integers(20, 60, (3, height, width), dtype=np.uint8)
    pixels = ground + np.uint8(int(day) % 7)
    for row, col in buildings:
        pixels[:, row * CELL_PX : (row + 1) * CELL_PX, col * CELL_PX : (col + 1) * CELL_PX] += 150
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"scene_{day}.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, height=height, width=width, crs=crs,
        transform=from_origin(LEFT, TOP, 1.0, 1.0),
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def write_area(path: Path) -> Path:
    """Write the outline of the scenes, a metre inwards."""
    outline = box(LEFT + 1, TOP - N_ROWS * TILE_PX + 1, LEFT + N_COLS * TILE_PX - 1, TOP - 1)
    gpd.GeoDataFrame(geometry=[outline], crs="EPSG:32614").to_crs("EPSG:4326").to_file(path)
    return path


def make_region(
    folder: Path, scenes: Mapping[str, Iterable[Cell]], *, assignments: tuple[str, ...] = (), **values: Any
) -> RegionConfig:
    """Write scenes by their day, and give the config of a region that watches them in ``folder/region``."""
    for day, buildings in scenes.items():
        write_scene(folder / "scenes", day, buildings=buildings)
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    settings = {
        "name": "made",
        "aoi": str(write_area(folder / "area.geojson")),
        "source": {"kind": "folder", "folder": str(folder / "scenes"), "files": "scene_%Y%m%d.tif"},
        "pairing": {"kind": "series", "since": "2024-01-01"},
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX},
        "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in"},
    }
    return load_region_config(values={**settings, **values}, assignments=assignments)
