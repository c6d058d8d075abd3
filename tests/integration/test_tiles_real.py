"""The tile store of real scenes, written by real workers, against rasterio's warp of the same tiles."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.windows
import rioxarray  # noqa: F401  (registers the accessor)
import shapely
import xarray as xr
from distributed import Client
from fork_server import FORKING
from patience import wait_for
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform
from rasterio.windows import Window
from shapely.geometry import Polygon

from model.errors import InputError
from pipeline.config.run import RunConfig, load_config
from pipeline.polygons.aoi import find_shards_needed
from pipeline.scenes.pair import find_pair
from pipeline.storage.folder import RunFolder
from pipeline.storage.opening import open_run_folder
from pipeline.summary import StageSummary
from pipeline.tiles.select import select_tiles
from pipeline.tiles.shards import create_store, write_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.write import write_tiles

# rasterio 1.4 and rioxarray 0.19 multiply transforms in a way that affine 3 means to retire.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

PAIRS = {
    "levir-1": ("levir_geo/A/train_1.tif", "levir_geo/B/train_1.tif"),
    "levir-2": ("levir_geo/A/train_2.tif", "levir_geo/B/train_2.tif"),
    "joplin-west": ("joplin_geo/input/pre/tile_337-9136.tif", "joplin_geo/input/post/tile_31500-5137.tif"),
    "joplin-east": ("joplin_geo/input/pre/tile_1361-9136.tif", "joplin_geo/input/post/tile_32524-5137.tif"),
}


@pytest.fixture(params=PAIRS)
def config(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> RunConfig:
    before, after = (str(shared_data / "data" / "fixtures" / name) for name in PAIRS[request.param])
    return load_config(values={"before": before, "after": after, "output": str(tmp_path / "run")})


def write(config: RunConfig, client: Client, **options: Any) -> tuple[TileStore, StageSummary]:
    pair, _ = find_pair(config)
    folder = open_run_folder(config.output)
    return write_tiles(pair, folder=folder, config=config.tiles, client=client, max_in_flight=2, **options)


def warp_tile(path: str, window: Window, *, store: xr.Dataset, bands: Any) -> Any:
    """Let rasterio warp a scene onto one tile of the grid that the store itself tells of."""
    pixels = np.zeros((3, int(window.height), int(window.width)), np.uint8)
    with rasterio.open(path) as dataset:
        reproject(
            rasterio.band(dataset, bands),
            pixels,
            dst_transform=rasterio.windows.transform(window, store.rio.transform()),
            dst_crs=store.rio.crs,
            resampling=Resampling.bilinear,
        )
    return pixels


def test_every_tile_agrees_with_rasterios_warp(config: RunConfig, client: Client) -> None:
    store, summary = write(config, client)
    grid = store.grid
    size = grid.tile_size_px
    assert (summary.done, summary.failed) == (grid.n_rows * grid.n_cols, 0)
    tiles, _ = select_tiles(store, area=None, min_valid_fraction=0.2)
    pairs = store.read_pairs(tiles)
    with xr.open_zarr(f"{config.output}/tiles.zarr", consolidated=False) as dataset:
        assert dataset.rio.crs.to_string() == grid.crs
        for tile, shown in zip(tiles, pairs, strict=True):
            window = Window(tile.col * size, tile.row * size, size, size)
            expected = np.stack(
                [
                    warp_tile(scene.uri, window, store=dataset, bands=[1, 2, 3])
                    for scene in (config.before, config.after)
                ]
            )
            part = dataset.isel(
                y=slice(tile.row * size, (tile.row + 1) * size), x=slice(tile.col * size, (tile.col + 1) * size)
            )
            stored, is_valid = part.pixels.values, part.valid.values > 0
            assert np.abs(stored.astype(int) - expected).max() <= 1
            np.testing.assert_array_equal(shown, np.where(is_valid.all(axis=0), stored, 0))
            assert tile.valid_fraction == is_valid.all(axis=0).mean()


def test_footprints_agree_with_rasterios_transform(config: RunConfig) -> None:
    grid = find_pair(config)[0].grid
    size = grid.tile_size_px
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    footprints = gpd.GeoSeries([grid.tile_polygon(*place) for place in places], crs=grid.crs).to_crs("EPSG:4326")
    for (row, col), footprint in zip(places, footprints, strict=True):
        window = Window(col * size, row * size, size, size)
        left, bottom, right, top = rasterio.windows.bounds(window, grid.transform)
        corners = transform(grid.crs, "EPSG:4326", [left, left, right, right], [bottom, top, top, bottom])
        expected = Polygon(np.column_stack(corners))
        assert shapely.hausdorff_distance(footprint, expected) < 1e-6


def test_before_and_after_show_the_same_ground(config: RunConfig, client: Client) -> None:
    """The two dates match best where they lie, not a few pixels beside it."""
    store, _ = write(config, client)
    tiles, _ = select_tiles(store, area=None, min_valid_fraction=1.0)
    pairs = store.read_pairs([tile for tile in tiles if tile.status is None]).astype(float).mean(axis=2)
    edges = [np.hypot(*np.gradient(pairs[:, date], axis=(1, 2))) for date in (0, 1)]
    margin = 8
    inner = edges[0][:, margin:-margin, margin:-margin].ravel()

    def match(shift_y: int, shift_x: int) -> float:
        moved = np.roll(edges[1], (shift_y, shift_x), axis=(1, 2))[:, margin:-margin, margin:-margin]
        return float(np.corrcoef(inner, moved.ravel())[0, 1])

    steps = range(-6, 7, 2)
    scores = {(y, x): match(y, x) for y in steps for x in steps}
    best = max(scores, key=lambda shift: scores[shift])
    # The scenes themselves are not registered to the pixel by those who made them.
    assert max(abs(best[0]), abs(best[1])) <= 4


def read_all(folder: RunFolder) -> dict[str, bytes]:
    return {name: folder.read(name) for prefix in ("tiles.zarr", "marks") for name in folder.list_names(prefix)}


@pytest.fixture
def small(shared_data: Path, tmp_path: Path) -> RunConfig:
    before, after = (str(shared_data / "data" / "fixtures" / name) for name in PAIRS["joplin-east"])
    return load_config(
        values={"before": before, "after": after, "output": str(tmp_path / "run")},
        assignments=["grid.tile_size_px=128", "tiles.shard_size_tiles=2"],
    )


def test_a_second_time_writes_nothing(small: RunConfig, client: Client) -> None:
    parts: list[StageSummary] = []
    store, first = write(small, client, on_progress=parts.append)
    former = read_all(store.folder)
    times = {path: path.stat().st_mtime_ns for path in Path(small.output).rglob("*") if path.is_file()}
    again, second = write(small, client)
    n_tiles = store.grid.n_rows * store.grid.n_cols
    assert again == store
    assert (first.done, first.skipped, first.total) == (n_tiles, 0, n_tiles)
    assert (second.done, second.skipped, second.total) == (0, n_tiles, n_tiles)
    assert second.reasons == {"already there": n_tiles}
    assert read_all(store.folder) == former
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert parts[0].total == n_tiles
    assert sum(parts[1:], parts[0]) == first


def write_slowly(config: RunConfig) -> None:
    """Write shard by shard in a process that is going to be killed."""
    pair, _ = find_pair(config)
    folder = open_run_folder(config.output)
    size = config.tiles.shard_size_tiles
    create_store(folder, pair, shard_size_tiles=size)
    *shards, last = find_shards_needed(pair.grid, area=None, shard_size_tiles=size)
    for shard in shards:
        write_shard(folder, pair, size, *shard)
    # However late it is killed, it is not done.
    signal.pause()
    write_shard(folder, pair, size, *last)


def test_kill_in_the_middle_and_run_again(small: RunConfig, client: Client, tmp_path: Path) -> None:
    undisturbed, _ = write(small.model_copy(update={"output": str(tmp_path / "undisturbed")}), client)
    process = FORKING.Process(target=write_slowly, args=(small,))
    process.start()
    marks = Path(small.output) / "marks"
    wait_for(lambda: len(list(marks.glob("*.json"))) >= 3 or not process.is_alive(), what="marks", pause_s=0.001)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in marks.glob("*.json")}
    store, summary = write(small, client)
    assert summary.skipped > 0
    assert summary.done > 0
    assert summary.done + summary.skipped == summary.total
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert read_all(store.folder) == read_all(undisturbed.folder)


def test_another_pair_in_the_same_folder_takes_the_place_of_the_first(small: RunConfig, client: Client) -> None:
    store, _ = write(small, client)
    coarser = load_config(values=small.model_dump(), assignments=["grid.resolution_m=1"])
    other, summary = write(coarser, client)
    assert other.content_key != store.content_key
    assert summary.skipped == 0
    assert len(other.folder.list_names("marks")) == len(find_shards_needed(other.grid, area=None, shard_size_tiles=2))
    assert dict(other.open().attrs)["content_key"] == other.content_key


def spoil(path: Path, *, first: float, last: float) -> None:
    content = bytearray(path.read_bytes())
    start, stop = int(first * len(content)), int(last * len(content))
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)


@pytest.fixture
def fragile(small: RunConfig, tmp_path: Path) -> RunConfig:
    """A pair of which the later file can be spoilt: compressed, so that a damaged block cannot be decoded."""
    path = tmp_path / "fragile.tif"
    with rasterio.open(small.after.uri) as dataset:
        profile = dataset.profile | {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
        with rasterio.open(path, "w", **profile) as copy:
            copy.write(dataset.read())
    return load_config(values=small.model_dump() | {"after": {"uri": str(path)}})


def test_shards_over_a_damaged_block_fail_and_the_others_do_not(
    fragile: RunConfig, client: Client, tmp_path: Path
) -> None:
    pair, _ = find_pair(fragile)
    whole = shutil.copy(fragile.after.uri, tmp_path / "whole.tif")
    folder = open_run_folder(fragile.output)
    # Between the first look and the work, a block goes bad.
    spoil(Path(fragile.after.uri), first=0.4, last=0.45)
    options: dict[str, Any] = {"folder": folder, "config": fragile.tiles, "client": client, "max_in_flight": 2}
    store, summary = write_tiles(pair, **options)
    assert 0 < summary.failed < summary.total
    assert summary.done + summary.failed == summary.total
    tiles, selection = select_tiles(store, area=None, min_valid_fraction=0.2)
    reasons = {tile.reason for tile in tiles if tile.status == "failed"}
    assert selection.failed == summary.failed
    assert reasons
    assert [reason for reason in reasons if "fragile.tif cannot be read" not in reason] == []
    shutil.copy(whole, fragile.after.uri)
    mended, summary = write_tiles(pair, **options)
    assert (summary.done, summary.failed) == (selection.failed, 0)
    assert not mended.failed_shards


def test_a_scene_that_is_gone_leaves_no_store_behind(fragile: RunConfig, client: Client) -> None:
    pair, _ = find_pair(fragile)
    Path(fragile.after.uri).unlink()
    folder = open_run_folder(fragile.output)
    with pytest.raises(InputError, match=r"fragile\.tif cannot be read"):
        write_tiles(pair, folder=folder, config=fragile.tiles, client=client, max_in_flight=2)
    assert folder.list_names() == []
