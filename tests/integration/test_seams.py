"""Two scenes side by side as one mosaic against each alone: nothing lost, doubled or changed at the seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from made_scenes import N_COLS, N_ROWS, SETTINGS, TILE_PX, make_scenes
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.config.prompts import load_default_prompts
from pipeline.config.run import load_config
from pipeline.runs.record_files import read_record
from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.storage.folder import RunFolder

ORIGIN = 48 * 12_938.0, 48 * 70_042.0
"""On the lattice of tiles of 48 m."""
CHANGED = {
    (0, 0): ["top-left", "center-center"],
    (1, 2): ["center-right", "top-right"],
    (1, 3): ["center-left", "bottom-left"],
    (3, 5): ["bottom-right"],
}
SEAM_COL = 3


def cut(source: Path, target: Path, *, cols: tuple[int, int]) -> str:
    """Write columns of a made scene, counted in tiles, to a file of its own that lies on the lattice."""
    first, last = (col * TILE_PX for col in cols)
    with rasterio.open(source) as file:
        pixels = file.read(window=Window(first, 0, last - first, file.height))
        profile = file.profile | {"width": last - first, "transform": from_origin(ORIGIN[0] + first, ORIGIN[1], 1, 1)}
    with rasterio.open(target, "w", **profile) as file:
        file.write(pixels)
    return str(target)


def run(scenes: dict[str, Any], output: Path, *, cluster: OpenCluster, settings: list[str]) -> Path:
    values = {**scenes, "output": str(output)}
    detect_changes(load_config(values=values, assignments=["grid.anchor=lattice", *settings]), open_cluster=cluster)
    return output


def read(folder: Path, name: str) -> gpd.GeoDataFrame:
    return gpd.read_parquet(folder / "report" / f"{name}.parquet")


def count(folder: Path) -> float:
    """Give what the tiles of a run count as buildings, nothing of it twice."""
    counted = read_record(RunFolder(str(folder))).thing_counts["building"]
    assert counted is not None
    return counted


def key_by_place(tiles: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    return tiles.set_index(tiles.geometry.to_wkb(hex=True))


def test_a_mosaic_tells_what_its_parts_tell(tmp_path: Path, shared_cluster: OpenCluster) -> None:
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED)
    sides = {"west": (0, SEAM_COL), "east": (SEAM_COL, N_COLS)}
    files = {
        side: {
            date: cut(getattr(scenes, date), tmp_path / f"{date}_{side}.tif", cols=cols) for date in ("before", "after")
        }
        for side, cols in sides.items()
    }
    files["both"] = {date: {"uri": [files["west"][date], files["east"][date]]} for date in ("before", "after")}
    settings = [*SETTINGS, "registration.estimate=false"]
    runs = {
        name: run(found, tmp_path / name, cluster=shared_cluster, settings=settings) for name, found in files.items()
    }

    columns = ["status", "is_changed", "building_cells", "building_count", "valid_fraction", "description"]
    whole = key_by_place(read(runs["both"], "tiles"))
    parts = [key_by_place(read(runs[side], "tiles")) for side in sides]
    assert len(whole) == N_ROWS * N_COLS == sum(len(part) for part in parts)
    for part in parts:
        assert whole.loc[part.index, columns].equals(part[columns])

    changes = read(runs["both"], "changes")
    apart = [read(runs[side], "changes") for side in sides]
    # The one change that lies on the seam is one in the mosaic and two without it.
    assert len(changes) == sum(len(part) for part in apart) - 1
    assert count(runs["both"]) == sum(count(runs[side]) for side in sides) == sum(map(len, CHANGED.values()))
    assert changes["cell_count"].sum() == sum(part["cell_count"].sum() for part in apart)
    assert changes["area_m2"].sum() == pytest.approx(sum(part["area_m2"].sum() for part in apart), rel=1e-12)
    united = shapely.union_all([geometry for part in apart for geometry in part.geometry])
    assert changes.union_all().symmetric_difference(united).area == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("overlap_px", [6, 18])
def test_with_overlap_every_change_is_on_the_ground_of_one_tile(
    tmp_path: Path, shared_cluster: OpenCluster, overlap_px: int
) -> None:
    everywhere = {(row, col): list(CELLS) for row in range(1, 3) for col in range(1, 5)}
    scenes = make_scenes(tmp_path / "scenes", changed=everywhere)
    files = {"before": str(scenes.before), "after": str(scenes.after)}
    settings = [*SETTINGS, f"tiles.overlap_px={overlap_px}", "grid.anchor=overlap"]

    folder = run(files, tmp_path / "run", cluster=shared_cluster, settings=settings)

    tiles, changes = read(folder, "tiles"), read(folder, "changes")
    assert set(tiles["status"]) == {"analysed"}
    assert tiles.area.sum() == pytest.approx(tiles.union_all().area)
    assert changes.area.sum() == pytest.approx(changes.union_all().area)
    # One town in one piece, as far as cells of a third of a tile can draw it.
    truth = shapely.box(621_000 + 48, 3_362_000 - 3 * 48, 621_000 + 5 * 48, 3_362_000 - 48)
    (town,) = changes.geometry
    assert town.symmetric_difference(truth).area < 0.5 * truth.length * 16
    # Tiles count cells of theirs; what they own of them adds up to no more.
    assert count(folder) < tiles["building_count"].sum()
    assert count(folder) == pytest.approx(town.area / 16**2, rel=1e-6)


KINDS = ("classify", "count")
CELLS = [f"{y}-{x}" for y in ("top", "center", "bottom") for x in ("left", "center", "right")]


def test_the_two_levir_scenes_as_one_mosaic(tmp_path: Path, shared_data: Path, shared_cluster: OpenCluster) -> None:
    folder = shared_data / "data" / "fixtures" / "levir_geo"
    files: dict[str, Any] = {
        str(n): {"before": str(folder / f"A/train_{n}.tif"), "after": str(folder / f"B/train_{n}.tif")} for n in (1, 2)
    }
    files["both"] = {date: {"uri": [files["1"][date], files["2"][date]]} for date in ("before", "after")}
    # Without descriptions and places of cells, which take most of the time.
    prompts = [prompt.model_dump(mode="json") for prompt in load_default_prompts() if prompt.kind in KINDS]
    runs = {
        name: run(
            {**found, "prompts": prompts},
            tmp_path / name,
            cluster=shared_cluster,
            settings=["registration.estimate=false"],
        )
        for name, found in files.items()
    }

    whole = key_by_place(read(runs["both"], "tiles"))
    pixels = read_tiles(runs["both"])
    columns = ["status", "is_changed", "building_count", "road_count"]
    n_compared = 0
    for side in ("1", "2"):
        part, alone = key_by_place(read(runs[side], "tiles")), read_tiles(runs[side])
        assert part.index.isin(whole.index).all()
        # Away from the seam and from the outer edges, both runs see all of a tile.
        inner = part[part["valid_fraction"].eq(1)]
        for place in inner.index:
            np.testing.assert_array_equal(pixels[place], alone[place])
        assert whole.loc[inner.index, columns].equals(inner[columns])
        n_compared += len(inner)
    assert n_compared >= 25
    assert whole["building_count"].sum() > 20
    # Tiles on the seam are there once, and more of them is seen than of either half.
    assert whole.index.is_unique
    halves = [key_by_place(read(runs[side], "tiles"))["valid_fraction"] for side in ("1", "2")]
    both = halves[0].index.intersection(halves[1].index)
    assert len(both) >= 4
    assert (whole["valid_fraction"][both] >= np.maximum(halves[0][both], halves[1][both])).all()
    assert (whole["valid_fraction"][both] <= halves[0][both] + halves[1][both] + 1e-9).all()
    for _, changes in read(runs["both"], "changes").groupby("kind"):
        assert changes.area.sum() == pytest.approx(changes.union_all().area)
    assert count(runs["both"]) == whole["building_count"].sum()


def read_tiles(run: Path) -> dict[str, Any]:
    """Read the pixels of every tile by the place of the tile."""
    tiles = read(run, "tiles")
    with xr.open_zarr(run / "tiles.zarr", consolidated=False) as dataset:
        pixels = dataset.pixels.values
    size = 256
    return {
        place: pixels[..., row * size : (row + 1) * size, col * size : (col + 1) * size]
        for place, row, col in zip(tiles.geometry.to_wkb(hex=True), tiles["row"], tiles["col"], strict=True)
    }
