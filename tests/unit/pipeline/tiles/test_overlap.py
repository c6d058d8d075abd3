"""Tiles that share a margin: what a model sees of them, what each owns, and what depends on a neighbour's shard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.polygons.aoi import find_shards_needed
from pipeline.scenes.pair import find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.select import select_tiles
from pipeline.tiles.shards import create_store, write_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile

TILE_PX, OVERLAP_PX = 48, 12
STRIDE_PX = TILE_PX - OVERLAP_PX


@pytest.fixture(params=["overlap", "lattice"])
def store(request: pytest.FixtureRequest, tmp_path: Path, write_raster: Any) -> TileStore:
    """Two scenes of 150 x 190 pixels of 1 m, with a hole in the later one, in shards of 2 x 2 tiles."""
    rng = np.random.default_rng(8)
    before, after = rng.integers(1, 256, (2, 3, 150, 190), dtype=np.uint8)
    after[:, 60:80, 30:60] = 0
    values = {
        date: str(write_raster(tmp_path / f"{date}.tif", bands=bands, nodata=0))
        for date, bands in (("before", before), ("after", after))
    }
    settings = [
        "grid.resolution_m=1",
        f"grid.tile_size_px={TILE_PX}",
        f"tiles.overlap_px={OVERLAP_PX}",
        f"grid.anchor={request.param}",
        "tiles.resampling=nearest",
    ]
    pair, _ = find_pair(load_config(values=values | {"output": "never-written"}, assignments=settings))
    folder = RunFolder(str(tmp_path / "run"))
    create_store(folder, pair, shard_size_tiles=2)
    for shard in find_shards_needed(pair.grid, area=None, shard_size_tiles=2):
        write_shard(folder, pair, 2, *shard)
    return TileStore(folder=folder, grid=pair.grid, content_key=pair.content_key, shard_size_tiles=2)


def list_tiles(store: TileStore) -> list[Tile]:
    tiles, _ = select_tiles(store, area=None, min_valid_fraction=0.0)
    return list(tiles)


def test_gaps_of_a_tile_are_those_of_all_shards_that_its_margin_lies_in(store: TileStore) -> None:
    # Tiles own 36 pixels and see 6 more on each side: of the second column, some of the next shard's.
    gaps = replace(store, gaps={(0, 1): "without a scene"})
    assert gaps.list_gaps([(0, 0)]) == []
    assert gaps.list_gaps([(0, 1)]) == gaps.list_gaps([(0, 0), (1, 2)]) == ["(0, 1): without a scene"]
    assert store.list_gaps([(0, 1)]) == []


def test_a_tile_is_seen_with_its_margin_and_nothing_is_seen_beyond_the_grid(store: TileStore) -> None:
    grid, tiles = store.grid, list_tiles(store)
    with xr.open_zarr(f"{store.folder.uri}/tiles.zarr", consolidated=False) as dataset:
        pixels, is_valid = dataset.pixels.values, dataset.valid.values > 0
    assert pixels.shape[2:] == grid.shape_px
    half = OVERLAP_PX // 2
    around = ((0, 0), (0, 0), (half, half), (half, half))
    shown = np.pad(np.where(is_valid.all(axis=0), pixels, 0), around)

    pairs = store.read_pairs(tiles)

    assert pairs.shape[3:] == (TILE_PX, TILE_PX)
    for tile, pair in zip(tiles, pairs, strict=True):
        y, x = tile.row * STRIDE_PX, tile.col * STRIDE_PX
        np.testing.assert_array_equal(pair, shown[..., y : y + TILE_PX, x : x + TILE_PX])
    # One by one as well as all at once.
    np.testing.assert_array_equal(np.concatenate([store.read_pairs([tile]) for tile in tiles]), pairs)


def test_valid_ground_adds_up_to_what_both_scenes_show(store: TileStore) -> None:
    tiles = list_tiles(store)
    assert len(tiles) == store.grid.n_rows * store.grid.n_cols
    assert sum(tile.valid_fraction for tile in tiles) * STRIDE_PX**2 == pytest.approx(150 * 190 - 20 * 30)


def test_no_answer_rests_on_a_margin_that_is_missing(store: TileStore) -> None:
    broken = replace(store, failed_shards={(0, 1): "the disk was gone"})

    tiles = {(tile.row, tile.col): tile for tile in list_tiles(broken)}

    failed = {place for place, tile in tiles.items() if tile.status is TileStatus.FAILED}
    # Shard (0, 1) holds the tiles of rows 0 and 1, columns 2 and 3; those around it see a part of it.
    around = {(row, col) for row in range(3) for col in range(1, 5)}
    assert failed == {place for place in around if place in tiles}
    assert tiles[(0, 1)].reason == "the disk was gone"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("tiles.overlap_px=128", "less than half of grid.tile_size_px"),
        ("tiles.overlap_px=5", "multiple of 2"),
        ("grid.anchor=corner", "grid.anchor"),
        ("registration={estimate: false, correct: true}", "registration.correct needs registration.estimate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_config(values={"before": "a.tif", "after": "b.tif", "output": "x"}, assignments=[assignment])
