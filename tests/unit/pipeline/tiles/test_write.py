"""From scenes whose pixels tell where they are to tiles that still do; and which tiles are worth a look."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.grid.window import Window
from pipeline.polygons.aoi import find_shards_needed, read_grid_area
from pipeline.runs.read import open_tiles
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.ground import GroundShares
from pipeline.tiles.marks import TileFacts, count_valid, find_whole_shards, list_tiles_of_shard, name_mark
from pipeline.tiles.select import decide_tile, select_tiles
from pipeline.tiles.shards import StoreReader, create_store, describe_store, open_store, write_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile

CENTRE = 620_000.0, 3_340_000.0
SCENE_CRS = {
    "EPSG:32614": 1.0,
    "EPSG:32615": 1.0,
    "EPSG:4326": 9e-6,
    "EPSG:3857": 1.15,
    "EPSG:2277": 3.28,
    "EPSG:5070": 1.0,
}
"""Scenes' CRS, with about a metre in each one's units."""


def make_tile(row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=f"r{row:04d}_c{col:04d}", valid_fraction=1.0, status=None, reason="")


def make_pair(before: Path, after: Path, *assignments: str) -> ScenePair:
    values = {"before": str(before), "after": str(after), "output": "never-written"}
    return find_pair(load_config(values=values, assignments=assignments))[0]


def write_store(pair: ScenePair, path: Path, *, shard_size_tiles: int = 2, n_shards: int | None = None) -> TileStore:
    folder = RunFolder(str(path))
    create_store(folder, pair, shard_size_tiles=shard_size_tiles)
    for shard in find_shards_needed(pair.grid, area=None, shard_size_tiles=shard_size_tiles)[:n_shards]:
        write_shard(folder, pair, shard_size_tiles, *shard)
    return TileStore(folder=folder, grid=pair.grid, content_key=pair.content_key, shard_size_tiles=shard_size_tiles)


def read_facts(store: TileStore) -> dict[tuple[int, int], TileFacts]:
    shards = find_shards_needed(store.grid, area=None, shard_size_tiles=store.shard_size_tiles)
    return {(facts.row, facts.col): facts for facts in store.read_facts(shards) if facts}


@st.composite
def draw_scenes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Two scenes over one place, each with its own CRS, resolution, size and offset."""
    scenes = []
    for _ in range(2):
        crs = draw(st.sampled_from(sorted(SCENE_CRS)))
        step = SCENE_CRS[crs] * draw(st.floats(0.6, 1.6))
        height, width = draw(st.tuples(st.integers(50, 90), st.integers(50, 90)))
        east, north = (draw(st.floats(-15, 15)) for _ in range(2))
        x, y = pyproj.Transformer.from_crs("EPSG:32614", crs, always_xy=True).transform(
            CENTRE[0] + east, CENTRE[1] + north
        )
        transform = Affine(step, 0, x - step * width / 2, 0, -step, y + step * height / 2)
        scenes.append({"crs": crs, "transform": transform, "size": (height, width)})
    return scenes


def erode(mask: Any, *, by: int) -> Any:
    """Leave out what lies within some pixels of anything that is not there."""
    padded = np.pad(mask, by)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * by + 1, 2 * by + 1))
    return windows.all(axis=(2, 3))


# No shrinking: an example is small as it is, and takes long enough to make 5 minutes of a failing test.
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    scenes=draw_scenes(),
    resolution_m=st.floats(0.7, 2.0),
    tile_size_px=st.sampled_from([16, 32, 48, 64]),
    shard_size_tiles=st.integers(2, 3),
)
def test_coordinates_come_through_the_store_unshifted(
    write_raster: Any,
    make_ramp: Any,
    centres: Any,
    scenes: list[dict[str, Any]],
    resolution_m: float,
    tile_size_px: int,
    shard_size_tiles: int,
) -> None:
    ramp = make_ramp(crs="EPSG:32614", x=CENTRE[0], y=CENTRE[1], slope=8.0)
    with tempfile.TemporaryDirectory() as name:
        paths = [
            # The tag keeps two scenes that happen to be drawn alike from being the same file.
            write_raster(Path(name) / f"{n}.tif", ramp=ramp, tags={"NUMBER": str(n)}, **scene)
            for n, scene in enumerate(scenes)
        ]
        pair = make_pair(*paths, f"grid.resolution_m={resolution_m}", f"grid.tile_size_px={tile_size_px}")
        store = write_store(pair, Path(name) / "run", shard_size_tiles=shard_size_tiles)
        grid = pair.grid
        height, width = grid.shape_px
        xs, ys = centres(grid.transform, width=width, height=height)
        expected = ramp.compute(xs, ys, crs=grid.crs)
        with xr.open_zarr(Path(name) / "run" / "tiles.zarr", consolidated=False) as dataset:
            pixels, is_valid = dataset.pixels.values, dataset.valid.values > 0
            places = np.meshgrid(dataset.x.values, dataset.y.values)
        tiles = [make_tile(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
        pairs = store.read_pairs(tiles)
    # What the store says of itself is the same as what the grid says.
    np.testing.assert_allclose(places, [xs, ys], rtol=0, atol=1e-6)
    # Not where the levels begin anew within the reach of a kernel.
    is_steady = (expected > 48) & (expected < 208)
    for seen, is_seen in zip(pixels, is_valid, strict=True):
        # Nor where a kernel reaches over the end of the file and leans inwards.
        inner = is_steady & erode(is_seen, by=3)
        assert inner.sum() > 300
        # Half a level by rounding when the scene was painted and half when it was warped; the rest is a tenth of
        # a pixel.
        assert np.abs(seen - expected)[inner].max() <= 1 + 0.1 * ramp.slope * resolution_m
    is_both = is_valid.all(axis=0)
    for tile, shown in zip(tiles, pairs, strict=True):
        y, x = tile.row * tile_size_px, tile.col * tile_size_px
        part = np.s_[..., y : y + tile_size_px, x : x + tile_size_px]
        np.testing.assert_array_equal(shown, np.where(is_both[part], pixels[part], 0))


@pytest.fixture
def paths(tmp_path: Path, write_raster: Any) -> tuple[Path, Path]:
    """Two scenes of 5 x 3 tiles of 16 px; the later one lacks what lies in the first tile and most of the second.

    The last column and row stand over by 8 px; the tile in row 1, column 2 is the same on both dates.
    """
    before, after = np.random.default_rng(3).integers(1, 256, (2, 3, 40, 72), dtype=np.uint8)
    after[:, 16:32, 32:48] = before[:, 16:32, 32:48]
    after[:, :16, :30] = 0
    return (
        write_raster(tmp_path / "before.tif", bands=before, nodata=0),
        write_raster(tmp_path / "after.tif", bands=after, nodata=0, tags={"ACQUISITION_DATETIME": "2024-05-01"}),
    )


@pytest.fixture
def pair(paths: tuple[Path, Path]) -> ScenePair:
    return make_pair(*paths, "grid.resolution_m=1", "grid.tile_size_px=16")


# rioxarray 0.19 multiplies transforms in a way that affine 3 means to retire.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_store_opens_in_xarray_with_crs_and_labels(tmp_path: Path, pair: ScenePair) -> None:
    write_store(pair, tmp_path / "run")
    import rioxarray  # noqa: F401  (registers the accessor)

    with xr.open_zarr(tmp_path / "run" / "tiles.zarr", consolidated=False) as dataset:
        assert dataset.rio.crs.to_epsg() == dataset.pixels.rio.crs.to_epsg() == 32614
        assert dataset.pixels.dims == ("date", "band", "y", "x")
        assert dataset.valid.dims == ("date", "y", "x")
        assert (dataset.pixels.dtype, dataset.valid.dtype) == (np.uint8, np.uint8)
        assert dataset.pixels.shape == (2, 3, 48, 80)
        assert dataset.date.values.tolist() == ["before", "after"]
        assert dataset.datetime.values.tolist() == ["", "2024-05-01T00:00:00Z"]
        assert dataset.band.values.tolist() == ["red", "green", "blue"]
        assert (dataset.x.values[0], dataset.y.values[0]) == (500_000.5, 3_299_999.5)
        assert (dataset.x.values[-1], dataset.y.values[-1]) == (500_079.5, 3_299_952.5)
        assert dataset.rio.bounds() == (500_000.0, 3_299_952.0, 500_080.0, 3_300_000.0)
        assert dataset.attrs["content_key"] == pair.content_key
        assert json.loads(dataset.attrs["scenes"])["after"]["checksum"] == pair.after.checksum


def test_tiles_open_for_analysis_shard_by_shard(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    dataset = open_tiles(str(tmp_path / "run"))
    assert dataset.rio.crs.to_epsg() == 32614
    assert dataset.pixels.dtype == np.uint8
    assert dataset.pixels.data.chunksize == (2, 3, 32, 32)
    pixels: Any = store.open()["pixels"]
    np.testing.assert_array_equal(dataset.pixels.values, pixels[:])
    with pytest.raises(InputError, match="holds no tiles"):
        open_tiles(str(tmp_path))


def test_one_chunk_is_one_tile_pair_and_one_object_is_one_shard(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    pixels: Any = store.open()["pixels"]
    assert (pixels.chunks, pixels.shards) == ((2, 3, 16, 16), (2, 3, 32, 32))
    objects = [name for name in store.folder.list_names("tiles.zarr") if "/pixels/c/" in name]
    assert len(objects) == len(find_shards_needed(pair.grid, area=None, shard_size_tiles=2)) == 6
    with pytest.raises(ValueError, match="read"):
        pixels[0, 0, 0, 0] = 1


def test_facts_are_counted_per_tile(tmp_path: Path, pair: ScenePair) -> None:
    facts = read_facts(write_store(pair, tmp_path / "run"))
    assert set(facts) == {(row, col) for row in range(3) for col in range(5)}
    assert facts[0, 0] == TileFacts(
        row=0, col=0, before_valid_fraction=1.0, after_valid_fraction=0.0, valid_fraction=0.0, is_identical=False
    )
    assert facts[0, 1].after_valid_fraction == facts[0, 1].valid_fraction == 2 / 16
    assert facts[2, 4].valid_fraction == 0.25
    assert [place for place, tile in facts.items() if tile.is_identical] == [(1, 2)]


def test_every_tile_is_listed_with_its_status(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    tiles, summary = select_tiles(store, area=None, min_valid_fraction=0.2)
    assert [(tile.row, tile.col) for tile in tiles] == [(row, col) for row in range(3) for col in range(5)]
    assert [tile.tile_id for tile in tiles[:2]] == ["r0000_c0000", "r0000_c0001"]
    assert {tile.tile_id: tile.status for tile in tiles if tile.status} == {
        "r0000_c0000": TileStatus.NO_DATA,
        "r0000_c0001": TileStatus.NO_DATA,
        "r0001_c0002": TileStatus.IDENTICAL,
    }
    assert tiles[1].reason == "too little valid after (before 100.0%, after 12.5%, both 12.5%)"
    assert tiles[1].valid_fraction == 0.125
    assert (summary.done, summary.skipped, summary.failed, summary.total) == (12, 3, 0, 15)
    assert summary.reasons == {"identical": 1, "no_data": 2}


def test_tiles_of_a_shard_that_could_not_be_written_are_failed(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run", n_shards=5)
    broken = TileStore(
        folder=store.folder,
        grid=store.grid,
        content_key=store.content_key,
        shard_size_tiles=2,
        failed_shards={(1, 2): "after.tif cannot be read"},
    )
    for known, reason in ((store, "its shard was not written"), (broken, "after.tif cannot be read")):
        tiles, summary = select_tiles(known, area=None, min_valid_fraction=0.2)
        assert [(tile.tile_id, tile.reason) for tile in tiles if tile.status is TileStatus.FAILED] == [
            ("r0002_c0004", reason)
        ]
        assert (len(tiles), summary.failed) == (15, 1)


def save(path: Path, geometry: Any, *, crs: str | None = "EPSG:32614") -> str:
    gpd.GeoDataFrame(geometry=[geometry], crs=crs).to_file(path)
    return str(path)


def test_an_aoi_of_one_tile_in_another_crs_selects_that_tile(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    square = gpd.GeoSeries([pair.grid.tile_polygon(1, 3)], crs="EPSG:32614").to_crs("EPSG:4326").iloc[0]
    area = read_grid_area(save(tmp_path / "aoi.geojson", square, crs="EPSG:4326"), grid=pair.grid)
    tiles, summary = select_tiles(store, area=area, min_valid_fraction=0.2)
    assert [tile.tile_id for tile in tiles if tile.status is None] == ["r0001_c0003"]
    assert summary.reasons == {"outside": 14}
    assert {tile.reason for tile in tiles if tile.status} == {"outside the area of interest"}


def test_an_aoi_with_a_hole_leaves_the_hole_out(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    left, _, _, top = pair.grid.tile_bounds(0, 0)
    ring = shapely.box(left + 33, top - 47, left + 79, top - 1) - shapely.box(left + 48, top - 32, left + 64, top - 16)
    area = read_grid_area(save(tmp_path / "aoi.gpkg", ring), grid=pair.grid)
    tiles, _ = select_tiles(store, area=area, min_valid_fraction=0.0)
    inside = {(tile.row, tile.col) for tile in tiles if tile.status is not TileStatus.OUTSIDE}
    assert inside == {(row, col) for row in range(3) for col in (2, 3, 4)} - {(1, 3)}


@pytest.mark.parametrize(
    ("geometry", "crs", "words"),
    [
        (shapely.Point(500_010, 3_299_990), "EPSG:32614", "holds Point"),
        (shapely.box(400_000, 3_200_000, 400_010, 3_200_010), "EPSG:32614", "lies off the overlap"),
        (shapely.box(500_000, 3_299_990, 500_010, 3_300_000), None, "has no CRS"),
    ],
)
def test_an_aoi_that_does_not_fit_is_named(
    tmp_path: Path, pair: ScenePair, geometry: Any, crs: str | None, words: str
) -> None:
    gpd.GeoDataFrame(geometry=[geometry], crs=crs).to_parquet(tmp_path / "aoi.parquet")
    with pytest.raises(InputError, match=rf"aoi .*aoi\.parquet {words}"):
        read_grid_area(str(tmp_path / "aoi.parquet"), grid=pair.grid)


def make_facts(
    before: float, after: float, both: float, *, cloudy: float | None = None, is_identical: bool = False
) -> TileFacts:
    return TileFacts(
        row=0,
        col=0,
        before_valid_fraction=before,
        after_valid_fraction=after,
        valid_fraction=both,
        cloud_fraction=cloudy,
        is_identical=is_identical,
    )


@pytest.mark.parametrize(
    ("facts", "is_inside", "least", "status", "words"),
    [
        (make_facts(1, 1, 1), True, 0.2, None, ""),
        (make_facts(1, 0.2, 0.2), True, 0.2, None, ""),
        (make_facts(1, 0.19, 0.19), True, 0.2, "no_data", "too little valid after "),
        (make_facts(0, 1, 0), True, 0.2, "no_data", "too little valid before "),
        (make_facts(0, 0, 0), True, 0.2, "no_data", "too little valid before and after "),
        # Each date shows half of the tile, but not the same half.
        (make_facts(0.5, 0.5, 0), True, 0.0, "no_data", "too little valid before and after "),
        (make_facts(0.01, 0.01, 0.01), True, 0.0, None, ""),
        (make_facts(1, 1, 1, is_identical=True), True, 0.2, "identical", "equal pixels"),
        (make_facts(0.1, 0.1, 0.1, is_identical=True), True, 0.2, "no_data", "too little"),
        (make_facts(1, 1, 1, is_identical=True), False, 0.2, "outside", "outside"),
        (make_facts(1, 0.4, 0.4, cloudy=0.6), True, 0.2, "cloudy", "60.0% is cloudy on one of the dates"),
        (make_facts(1, 0.5, 0.5, cloudy=0.5), True, 0.2, None, ""),
        # Clouds say more about a tile than that little of it is valid.
        (make_facts(0.1, 0.1, 0.1, cloudy=0.9), True, 0.2, "cloudy", "90.0%"),
        (make_facts(0.1, 0.1, 0.1, cloudy=0.4), True, 0.2, "no_data", "too little"),
        (make_facts(1, 1, 1, cloudy=0.9), False, 0.2, "outside", "outside"),
        (None, False, 0.2, "outside", "outside"),
        (None, True, 0.2, "failed", "disk on fire"),
    ],
)
def test_decisions_about_tiles(
    facts: TileFacts | None, is_inside: bool, least: float, status: str | None, words: str
) -> None:
    shares = facts and GroundShares(
        fraction=1.0,
        before=facts.before_valid_fraction,
        after=facts.after_valid_fraction,
        both=facts.valid_fraction,
        cloudy=facts.cloud_fraction,
    )
    decided, reason = decide_tile(
        facts,
        shares=shares,
        is_inside=is_inside,
        min_valid_fraction=least,
        max_cloud_fraction=0.5,
        problem="disk on fire",
    )
    assert decided == status
    assert reason.startswith(words)
    assert bool(reason) == (status is not None)


def test_valid_pixels_are_counted_where_they_are() -> None:
    pixels = np.zeros((2, 3, 4, 6), np.uint8)
    is_valid = np.zeros((2, 4, 6), bool)
    is_valid[0, :2, :4] = True
    is_valid[1, :3, 1:4] = True
    pixels[1, 2, 0, 1] = 1
    # A difference that only one date shows does not count.
    pixels[1, 0, 2, 2] = 1
    assert count_valid(pixels, is_valid, tile_size_px=2) == {
        "before": [4, 4, 0, 0, 0, 0],
        "after": [2, 4, 0, 1, 2, 0],
        "both": [2, 4, 0, 0, 0, 0],
        "cloudy": None,
        "identical": [False, True, False, False, False, False],
    }


def test_clouds_are_counted_where_they_are() -> None:
    is_cloudy = np.zeros((4, 6), bool)
    is_cloudy[1:3, 3:] = True
    counts = count_valid(
        np.ones((2, 3, 4, 6), np.uint8), ~np.stack([is_cloudy] * 2), is_cloudy=is_cloudy, tile_size_px=2
    )
    assert counts["cloudy"] == [0, 1, 2, 0, 1, 2]


@pytest.fixture
def cloudy_pair(tmp_path: Path, write_raster: Any) -> ScenePair:
    """Two scenes of 16 bits, 1 x 3 tiles; clouds over all of the first tile before, over half of the second after."""
    stored = np.random.default_rng(3).integers(500, 4000, (2, 3, 16, 48)).astype(np.uint16)
    classes = np.full((2, 1, 16, 48), 5, np.uint8)
    classes[0, 0, :, :16], classes[1, 0, :8, 16:32] = 9, 3
    paths = []
    for n, name in enumerate(("before", "after")):
        paths.append(write_raster(tmp_path / f"{name}.tif", bands=stored[n], nodata=0))
        write_raster(tmp_path / f"{name}_scl.tif", bands=classes[n])
    settings = [f"{date}.classes={{uri: {tmp_path}/{date}_scl.tif}}" for date in ("before", "after")]
    return make_pair(*paths, "grid.resolution_m=1", "grid.tile_size_px=16", *settings)


def test_cloudy_tiles_are_not_asked_about(tmp_path: Path, cloudy_pair: ScenePair) -> None:
    store = write_store(cloudy_pair, tmp_path / "run")
    tiles, summary = select_tiles(store, area=None, min_valid_fraction=0.2, max_cloud_fraction=0.5)
    assert [(tile.status, tile.cloud_fraction, tile.valid_fraction) for tile in tiles] == [
        ("cloudy", 1.0, 0.0),
        (None, 0.5, 0.5),
        (None, 0.0, 1.0),
    ]
    assert summary.reasons == {"cloudy": 1}
    stricter, _ = select_tiles(store, area=None, min_valid_fraction=0.2, max_cloud_fraction=0.4)
    assert [tile.status for tile in stricter] == ["cloudy", "cloudy", None]


def test_the_store_becomes_netcdf(tmp_path: Path, cloudy_pair: ScenePair) -> None:
    write_store(cloudy_pair, tmp_path / "run")

    opened = xr.open_zarr(tmp_path / "run" / "tiles.zarr", consolidated=False)
    # The old netCDF, which needs no further package, has no unsigned bytes.
    opened.astype(np.int16).load().to_netcdf(tmp_path / "tiles.nc")

    with xr.open_dataset(tmp_path / "tiles.nc") as again:
        assert json.loads(again.attrs["stretch"]) == cloudy_pair.stretch.to_dict()
        np.testing.assert_array_equal(again["pixels"], opened["pixels"])


def test_the_store_tells_how_values_became_bytes(tmp_path: Path, cloudy_pair: ScenePair) -> None:
    attrs = write_store(cloudy_pair, tmp_path / "run").open().attrs
    attributes = {name: json.loads(str(attrs[name])) for name in ("stretch", "scenes")}
    assert attributes["stretch"] == cloudy_pair.stretch.to_dict()
    assert attributes["stretch"]["before"] == attributes["stretch"]["after"]
    scene: Any = attributes["scenes"]
    assert [asset["checksum"] for asset in scene["after"]["assets"]] == [a.checksum for a in cloudy_pair.after.assets]


def test_shards_hold_every_tile_once(pair: ScenePair) -> None:
    for size in (1, 2, 3, 8):
        shards = find_shards_needed(pair.grid, area=None, shard_size_tiles=size)
        tiles = [tile for shard in shards for tile in list_tiles_of_shard(pair.grid, shard, shard_size_tiles=size)]
        assert sorted(tiles) == [(row, col) for row in range(3) for col in range(5)]


def test_marks_are_named_by_content() -> None:
    names = {
        name_mark("key", (0, 1), shard_size_tiles=2),
        name_mark("other", (0, 1), shard_size_tiles=2),
        name_mark("key", (1, 0), shard_size_tiles=2),
        name_mark("key", (0, 1), shard_size_tiles=4),
    }
    assert len(names) == 4
    assert all(name.startswith("marks/") and name.endswith(".json") for name in names)


def forget_mark(folder: RunFolder, pair: ScenePair) -> None:
    folder.delete([name_mark(pair.content_key, (0, 1), shard_size_tiles=2)])


def lose_object(folder: RunFolder, pair: ScenePair) -> None:
    folder.delete(["tiles.zarr/pixels/c/0/0/0/1"])


@pytest.mark.parametrize("spoil", [forget_mark, lose_object])
def test_a_shard_counts_with_mark_and_objects_only(
    tmp_path: Path, pair: ScenePair, spoil: Callable[[RunFolder, ScenePair], None]
) -> None:
    store = write_store(pair, tmp_path / "run")
    shards = find_shards_needed(pair.grid, area=None, shard_size_tiles=2)
    spoil(store.folder, pair)
    whole = find_whole_shards(store.folder, shards, content_key=pair.content_key, shard_size_tiles=2)
    assert set(shards) - set(whole) == {(0, 1)}


def read_all(folder: RunFolder) -> dict[str, bytes]:
    return {name: folder.read(name) for prefix in ("tiles.zarr", "marks") for name in folder.list_names(prefix)}


def test_a_shard_written_again_over_rubbish_is_the_same_to_the_byte(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    expected = read_all(store.folder)
    store.folder.put("tiles.zarr/pixels/c/0/0/1/2", b"half a shard")
    summary = write_shard(store.folder, pair, 2, 1, 2)
    assert read_all(store.folder) == expected
    assert (summary.done, summary.bytes_read) == (1, 2 * 3 * 16 * 16)
    sizes = [len(expected[f"tiles.zarr/{name}/1/2"]) for name in ("pixels/c/0/0", "valid/c/0")]
    mark = expected[name_mark(pair.content_key, (1, 2), shard_size_tiles=2)]
    assert summary.bytes_written == sum(sizes) + len(mark)
    assert json.loads(mark)["both"] == [64]


def test_a_shard_without_any_pixel_has_a_mark_but_no_object(tmp_path: Path, write_raster: Any) -> None:
    bands = np.zeros((3, 32, 64), np.uint8)
    bands[:, :, 40:] = 9
    before, after = (
        write_raster(tmp_path / name, bands=bands + (bands > 0) * np.uint8(n), nodata=0) for n, name in enumerate("ab")
    )
    pair = make_pair(before, after, "grid.resolution_m=1", "grid.tile_size_px=16")
    store = write_store(pair, tmp_path / "run")
    assert [name for name in store.folder.list_names("tiles.zarr") if "/c/0/0/0/" in name] == [
        "tiles.zarr/pixels/c/0/0/0/1"
    ]
    assert len(read_facts(store)) == 8
    assert not store.read_pairs([make_tile(0, 0)]).any()


def test_a_new_store_removes_the_former_one_and_its_marks(tmp_path: Path, pair: ScenePair) -> None:
    store = write_store(pair, tmp_path / "run")
    create_store(store.folder, pair, shard_size_tiles=4)
    assert store.folder.list_names("marks") == []
    assert not [name for name in store.folder.list_names("tiles.zarr") if "/pixels/c/" in name]
    assert dict(open_store(store.folder).attrs)["shard_size_tiles"] == 4


def test_a_time_that_the_config_corrects_needs_no_new_pixels(
    tmp_path: Path, paths: tuple[Path, Path], pair: ScenePair
) -> None:
    store = write_store(pair, tmp_path / "run")
    corrected = make_pair(
        *paths, "grid.resolution_m=1", "grid.tile_size_px=16", "before.datetime='2020-01-01T00:00:00Z'"
    )
    assert corrected.content_key == pair.content_key
    describe_store(store.folder, corrected, shard_size_tiles=store.shard_size_tiles)
    with xr.open_zarr(tmp_path / "run" / "tiles.zarr", consolidated=False) as dataset:
        assert dataset.datetime.values.tolist() == ["2020-01-01T00:00:00Z", "2024-05-01T00:00:00Z"]
    assert len(read_facts(store)) == 15


def test_pairs_are_read_in_the_order_asked_for(tmp_path: Path, pair: ScenePair) -> None:
    store = pickle.loads(pickle.dumps(write_store(pair, tmp_path / "run")))  # noqa: S301  (own bytes)
    tiles = [make_tile(*place) for place in ((2, 4), (0, 1), (1, 3), (1, 2))]
    together = store.read_pairs(tiles)
    assert together.shape == (4, 2, 3, 16, 16)
    np.testing.assert_array_equal(together, np.concatenate([store.read_pairs([tile]) for tile in tiles]))
    # Most of the second tile is nodata after, so nothing of it is shown before.
    assert not together[1, :, :, :, :14].any()
    assert together[1, :, :, :, 14:].all()
    assert store.read_pairs([]).shape == (0, 2, 3, 16, 16)


def test_tiles_far_apart_in_a_shard_are_read_without_those_between(
    tmp_path: Path, pair: ScenePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(pair, tmp_path / "run", shard_size_tiles=4)
    tiles = [make_tile(0, 0), make_tile(2, 3)]
    alone = [store.read_pairs([tile]) for tile in tiles]
    n_pixels: list[int] = []
    read = StoreReader.read_pixels

    def count(self: StoreReader, window: Window) -> Any:
        n_pixels.append(window.height * window.width)
        return read(self, window)

    monkeypatch.setattr(StoreReader, "read_pixels", count)
    np.testing.assert_array_equal(store.read_pairs(tiles), np.concatenate(alone))
    assert n_pixels == [256, 256]
