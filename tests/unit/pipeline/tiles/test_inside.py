"""Which tiles and shards an area of interest needs; the others are not even read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pipeline.polygons.aoi
import pipeline.workers.tasks
from pipeline.config.grid import TilesConfig
from pipeline.config.run import load_config
from pipeline.grid.grid import Grid
from pipeline.polygons.aoi import find_inside, find_shards_inside, read_grid_area
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.select import select_tiles
from pipeline.tiles.shards import SlowSceneError
from pipeline.tiles.write import WAITS_IN_VAIN, write_tiles
from pipeline.workers.tasks import Call

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=1.0,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=16,
    n_rows=7,
    n_cols=9,
    width_px=9 * 16,
    height_px=7 * 16,
)


def save(path: Path, geometry: Any) -> str:
    gpd.GeoDataFrame(geometry=[geometry], crs="EPSG:32614").to_parquet(path)
    return str(path)


@pytest.mark.parametrize("boxes_at_once", [1, 20, 1000])
def test_a_tile_is_inside_if_it_shares_area_with_the_area(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boxes_at_once: int
) -> None:
    # A triangle, and a square whose edges are tile edges.
    area = shapely.union(
        shapely.Polygon([(600_010, 3_299_990), (600_070, 3_299_985), (600_020, 3_299_930)]),
        shapely.box(600_096, 3_299_904, 600_112, 3_299_920),
    )
    monkeypatch.setattr(pipeline.polygons.aoi, "BOXES_AT_ONCE", boxes_at_once)

    is_inside = find_inside(GRID, area=read_grid_area(save(tmp_path / "aoi.parquet", area), grid=GRID))

    for row in range(GRID.n_rows):
        for col in range(GRID.n_cols):
            assert is_inside[row, col] == (shapely.intersection(area, GRID.tile_polygon(row, col)).area > 1e-3)
    assert is_inside[5, 6]
    assert not is_inside[4:7, [5, 7]].any()


def test_without_an_area_everything_is_inside() -> None:
    assert find_inside(GRID, area=None).all()


@settings(deadline=None, derandomize=True)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, 5))
def test_shards_with_a_tile_inside_are_needed(is_inside: Any, size: int) -> None:
    expected = {(row // size, col // size) for row, col in np.argwhere(is_inside).tolist()}

    assert find_shards_inside(is_inside, shard_size_tiles=size) == sorted(expected)


def run_here(
    client: Client, function: Callable[..., Any], take_call: Callable[[], Call | None], **_: Any
) -> Iterator[tuple[str, Any]]:
    """Be `run_bounded` without workers."""
    while (call := take_call()) is not None:
        yield call.key, function(*call.arguments)


@pytest.fixture
def pair(tmp_path: Path, write_raster: Any) -> ScenePair:
    """Two scenes of 6 x 6 tiles, in shards of 2 x 2."""
    bands = np.random.default_rng(3).integers(1, 256, (2, 3, 96, 96), dtype=np.uint8)
    scenes = {
        date: str(write_raster(tmp_path / f"{date}.tif", bands=bands[n])) for n, date in enumerate(("before", "after"))
    }
    settings = ("grid.resolution_m=1", "grid.tile_size_px=16", "grid.crs=EPSG:32614")
    return find_pair(load_config(values={**scenes, "output": "never-written"}, assignments=settings))[0]


def test_shards_outside_the_area_are_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: ScenePair
) -> None:
    read: list[tuple[int, ...]] = []
    read_block = ScenePair.read_block

    def note(self: ScenePair, date: Any, *, window: Any) -> Any:
        read.append(window)
        return read_block(self, date, window=window)

    monkeypatch.setattr(ScenePair, "read_block", note)
    monkeypatch.setattr(pipeline.workers.tasks, "run_bounded", run_here)
    # One tile in the second shard of the first row of shards, and its neighbour in the third.
    shape = shapely.union(pair.grid.tile_polygon(1, 3), pair.grid.tile_polygon(1, 4))
    area = read_grid_area(save(tmp_path / "aoi.parquet", shape), grid=pair.grid)
    folder = RunFolder(str(tmp_path / "run"))
    config, nobody = TilesConfig(shard_size_tiles=2), cast(Client, None)

    store, summary = write_tiles(pair, folder=folder, config=config, client=nobody, max_in_flight=1, area=area)
    tiles, _ = select_tiles(store, area=area, min_valid_fraction=0.2)

    assert sorted(set(read)) == [(0, 32, 32, 32), (0, 64, 32, 32)]
    assert len(folder.list_names("marks")) == 2
    assert (summary.done, summary.skipped, summary.total) == (8, 28, 36)
    assert summary.reasons == {"outside the area of interest": 28}
    assert [tile.tile_id for tile in tiles if tile.status is None] == ["r0001_c0003", "r0001_c0004"]
    assert {tile.status for tile in tiles} == {None, TileStatus.OUTSIDE}
    assert {tile.valid_fraction for tile in tiles if tile.status} == {0.0}
    assert store.list_missing_shards(area=area) == []
    assert len(store.list_missing_shards(area=None)) == 7


def test_a_server_that_stalls_is_waited_for_a_few_times_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: ScenePair
) -> None:
    asked: list[str] = []

    def stall(
        client: Client, function: Callable[..., Any], take_call: Callable[[], Call | None], **_: Any
    ) -> Iterator[tuple[str, Any]]:
        while (call := take_call()) is not None:
            asked.append(call.key)
            is_first = len(asked) == 1
            problem = SlowSceneError("scene.tif cannot be read (too slow)", expected="a scene", remedy="try again")
            yield call.key, function(*call.arguments) if is_first else problem

    monkeypatch.setattr(pipeline.workers.tasks, "run_bounded", stall)
    config, nobody = TilesConfig(shard_size_tiles=2), cast(Client, None)

    store, summary = write_tiles(
        pair, folder=RunFolder(str(tmp_path / "run")), config=config, client=nobody, max_in_flight=1
    )

    assert len(asked) == 1 + WAITS_IN_VAIN
    assert (summary.done, summary.failed, summary.total) == (4, 32, 36)
    assert summary.reasons == {
        "scene.tif cannot be read (too slow)": 12,
        "not read: scene.tif cannot be read (too slow)": 20,
    }
    assert len(store.failed_shards) == 8


def test_what_earlier_runs_have_left_outside_the_area_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: ScenePair
) -> None:
    monkeypatch.setattr(pipeline.workers.tasks, "run_bounded", run_here)
    aoi = read_grid_area(save(tmp_path / "aoi.parquet", pair.grid.tile_polygon(1, 3)), grid=pair.grid)
    nobody = cast(Client, None)
    listed = []
    for name, size, areas in (("fresh", 2, [aoi]), ("used", 2, [None, aoi]), ("coarse", 4, [aoi])):
        folder, config = RunFolder(str(tmp_path / name)), TilesConfig(shard_size_tiles=size)
        for area in areas:
            store, _ = write_tiles(pair, folder=folder, config=config, client=nobody, max_in_flight=1, area=area)
        listed.append(list(select_tiles(store, area=aoi, min_valid_fraction=0.2)[0]))

    assert listed[0] == listed[1] == listed[2]


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        (shapely.box(-180, -90, 180, 90), "EPSG:4326"),
        (shapely.box(-180, 0, 0, 90), "EPSG:4326"),
        (shapely.box(-99, -60, 160, 60), "EPSG:4326"),
        (shapely.box(-20_037_508, -20_000_000, 20_037_508, 20_000_000), "EPSG:3857"),
        (shapely.box(-20_037_508, 0, 0, 20_000_000), "EPSG:3857"),
    ],
)
def test_an_area_as_large_as_half_the_globe_holds_every_tile(tmp_path: Path, shape: shapely.Polygon, crs: str) -> None:
    gpd.GeoSeries([shape], crs=crs).to_file(tmp_path / "aoi.gpkg")

    area = read_grid_area(str(tmp_path / "aoi.gpkg"), grid=GRID)

    assert area is not None
    assert area.geometry.is_valid
    assert find_inside(GRID, area=area).all()


def test_the_edge_of_a_large_area_runs_where_it_was_drawn(tmp_path: Path) -> None:
    # Along a meridian through the middle of the grid, from pole to pole.
    x, y = GRID.origin_x + GRID.width_px / 2, GRID.origin_y - GRID.height_px / 2
    lon, _ = pyproj.Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True).transform(x, y)
    gpd.GeoSeries([shapely.box(lon - 170, -89, lon, 89)], crs="EPSG:4326").to_file(tmp_path / "aoi.gpkg")

    area = read_grid_area(str(tmp_path / "aoi.gpkg"), grid=GRID)

    assert area is not None
    bounds = shapely.box(GRID.origin_x, GRID.origin_y - GRID.height_px, GRID.origin_x + GRID.width_px, GRID.origin_y)
    assert area.geometry.intersection(bounds).area == pytest.approx(bounds.area / 2, rel=0.02)
    assert find_inside(GRID, area=area)[0].tolist() == [True] * 5 + [False] * 4
