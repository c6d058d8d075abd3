"""What is not what was written is noticed, and written again; pixels of another pair never become an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import FolderError
from model.interface import Answer, Prompt, PromptKind
from pipeline.answers.parts import ANSWERS_SCHEMA, encode_part, is_whole_part
from pipeline.config.run import load_config
from pipeline.polygons.aoi import find_shards_needed
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tiles.marks import (
    checksum_tile,
    checksum_tiles,
    encode_mark,
    find_whole_shards,
    list_damaged_shards,
    name_mark,
    read_mark,
)
from pipeline.tiles.shards import create_store, describe_store, write_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile

PIXELS = "tiles.zarr/pixels/c/0/0/0/0"
SIZE_TILES = 2


def make_tile(row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=f"r{row:04d}_c{col:04d}", valid_fraction=1.0, status=None, reason="")


@pytest.fixture
def make_pair(tmp_path: Path, write_raster: Any) -> Callable[[int], ScenePair]:
    """Make pairs of scenes of 2 x 4 tiles on one grid that differ in their pixels."""

    def make(seed: int) -> ScenePair:
        before, after = np.random.default_rng(seed).integers(1, 256, (2, 3, 32, 64), dtype=np.uint8)
        paths = [
            write_raster(tmp_path / f"{seed}-{name}.tif", bands=bands) for name, bands in (("b", before), ("a", after))
        ]
        values = {"before": str(paths[0]), "after": str(paths[1]), "output": "never-written"}
        assignments = ["grid.resolution_m=1", "grid.tile_size_px=16"]
        return find_pair(load_config(values=values, assignments=assignments))[0]

    return make


def write_store(folder: RunFolder, pair: ScenePair) -> TileStore:
    create_store(folder, pair, shard_size_tiles=SIZE_TILES)
    for shard in find_shards_needed(pair.grid, area=None, shard_size_tiles=SIZE_TILES):
        write_shard(folder, pair, SIZE_TILES, *shard)
    return TileStore(folder=folder, grid=pair.grid, content_key=pair.content_key, shard_size_tiles=SIZE_TILES)


def find_whole(store: TileStore) -> set[tuple[int, int]]:
    shards = find_shards_needed(store.grid, area=None, shard_size_tiles=SIZE_TILES)
    return set(find_whole_shards(store.folder, shards, content_key=store.content_key, shard_size_tiles=SIZE_TILES))


def cut(folder: RunFolder, name: str) -> None:
    data = folder.read(name)
    folder.put(name, data[: len(data) // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder, mark: cut(folder, mark),
        lambda folder, mark: folder.put(mark, b""),
        lambda folder, mark: folder.put(mark, b"[]"),
        lambda folder, mark: folder.put(mark, b'{"objects": ["of an older version"]}'),
        lambda folder, mark: cut(folder, PIXELS),
        lambda folder, mark: folder.put(PIXELS, b""),
        lambda folder, mark: folder.delete([PIXELS]),
    ],
)
def test_a_damaged_shard_or_mark_is_found_and_written_again(
    tmp_path: Path, make_pair: Callable[[int], ScenePair], spoil: Callable[[RunFolder, str], None]
) -> None:
    folder, pair = RunFolder(str(tmp_path / "run")), make_pair(1)
    store = write_store(folder, pair)
    expected = {name: folder.read(name) for name in folder.list_names()}
    spoil(folder, name_mark(pair.content_key, (0, 0), shard_size_tiles=SIZE_TILES))

    whole = find_whole(store)

    assert whole == {(0, 1)}
    assert list_damaged_shards(
        folder, [(0, 0), (0, 1)], whole=whole, content_key=pair.content_key, shard_size_tiles=SIZE_TILES
    ) == [(0, 0)]
    write_shard(folder, pair, SIZE_TILES, 0, 0)
    assert {name: folder.read(name) for name in folder.list_names()} == expected


def test_every_flipped_bit_of_a_mark_is_found(tmp_path: Path, make_pair: Callable[[int], ScenePair]) -> None:
    folder, pair = RunFolder(str(tmp_path / "run")), make_pair(1)
    write_store(folder, pair)
    data = folder.read(name_mark(pair.content_key, (0, 0), shard_size_tiles=SIZE_TILES))
    sizes = folder.list_sizes("tiles.zarr")
    assert read_mark(data, sizes=sizes) is not None

    taken = [
        (place, bit)
        for place in range(len(data))
        for bit in range(8)
        if read_mark(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :], sizes=sizes) is not None
    ]

    assert taken == []


@pytest.mark.parametrize("name", ["zarr.json", "pixels/zarr.json", "x/c/0", "spatial_ref/zarr.json"])
def test_flipped_bit_of_a_description_is_mended_and_pixels_stay(
    name: str, tmp_path: Path, make_pair: Callable[[int], ScenePair]
) -> None:
    folder, pair = RunFolder(str(tmp_path / "run")), make_pair(1)
    write_store(folder, pair)
    expected = {each: folder.read(each) for each in folder.list_names()}
    data = folder.read(f"tiles.zarr/{name}")
    folder.put(f"tiles.zarr/{name}", data[:30] + bytes([data[30] ^ 4]) + data[31:])

    describe_store(folder, pair, shard_size_tiles=SIZE_TILES)

    assert {each: folder.read(each) for each in folder.list_names()} == expected


def test_pixels_of_another_pair_never_become_an_answer(tmp_path: Path, make_pair: Callable[[int], ScenePair]) -> None:
    """A worker of a former run puts its shard after the new run has written and marked it."""
    folder, other = RunFolder(str(tmp_path / "run")), RunFolder(str(tmp_path / "other"))
    write_store(other, make_pair(2))
    store = write_store(folder, make_pair(1))
    expected = folder.read(PIXELS)
    store.read_pairs([make_tile(0, 0), make_tile(0, 2)])
    folder.put(PIXELS, other.read(PIXELS))

    with pytest.raises(FolderError, match=r"tile r0000_c0001 .* is not what was written there"):
        store.read_pairs([make_tile(0, 1), make_tile(0, 2)])

    assert find_whole(store) == {(0, 1)}
    write_shard(folder, make_pair(1), SIZE_TILES, 0, 0)
    assert folder.read(PIXELS) == expected
    store.read_pairs([make_tile(0, 1)])


def test_a_mark_that_calls_a_tile_full_is_held_to_it(tmp_path: Path, write_raster: Any) -> None:
    """What is valid is read only where a mark tells that not all is."""
    values = {"output": "never-written"}
    for date, value in (("before", 8), ("after", 9)):
        bands = np.full((3, 16, 32), value, dtype=np.uint8)
        bands[:, :4, :4] = 0
        values[date] = str(write_raster(tmp_path / f"{date}.tif", bands=bands, nodata=0))
    pair = find_pair(load_config(values=values, assignments=["grid.resolution_m=1", "grid.tile_size_px=16"]))[0]
    store = write_store(RunFolder(str(tmp_path / "run")), pair)
    name = name_mark(pair.content_key, (0, 0), shard_size_tiles=SIZE_TILES)
    mark = read_mark(store.folder.read(name))
    assert mark is not None
    assert mark["both"] == [240, 256]
    store.folder.put(name, encode_mark(mark | {"both": [256, 256]}))

    assert store.read_pairs([make_tile(0, 1)]).all()
    with pytest.raises(FolderError, match=r"tile r0000_c0000 .* is not what was written there"):
        store.read_pairs([make_tile(0, 0)])


def test_a_worker_of_a_former_run_reads_nothing_of_the_new_one(
    tmp_path: Path, make_pair: Callable[[int], ScenePair]
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    former = write_store(folder, make_pair(1))
    store = write_store(folder, make_pair(2))

    with pytest.raises(FolderError, match="is not what was written"):
        former.read_pairs([make_tile(0, 0)])

    assert find_whole(store) == {(0, 0), (0, 1)}


def test_a_worker_of_a_former_run_writes_nothing_over_the_new_one(
    tmp_path: Path, make_pair: Callable[[int], ScenePair]
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    write_store(folder, make_pair(1))
    write_store(folder, make_pair(2))
    before = {name: folder.read(name) for name in folder.list_names()}

    with pytest.raises(OSError, match="is the store of another pair by now"):
        write_shard(folder, make_pair(1), SIZE_TILES, 0, 0)

    assert {name: folder.read(name) for name in folder.list_names()} == before


def test_a_shard_that_two_write_at_once_is_there_at_every_moment(
    tmp_path: Path, make_pair: Callable[[int], ScenePair], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pair = RunFolder(str(tmp_path / "run")), make_pair(1)
    store = write_store(folder, pair)
    expected = store.read_pairs([make_tile(0, 0), make_tile(1, 1)])
    n_looks = 0
    put = RunFolder.put

    def look_around(self: RunFolder, name: str, data: bytes) -> int:
        nonlocal n_looks
        n_looks += 1
        np.testing.assert_array_equal(store.read_pairs([make_tile(0, 0), make_tile(1, 1)]), expected)
        size = put(self, name, data)
        np.testing.assert_array_equal(store.read_pairs([make_tile(0, 0), make_tile(1, 1)]), expected)
        return size

    monkeypatch.setattr(RunFolder, "put", look_around)

    write_shard(folder, pair, SIZE_TILES, 0, 0)

    assert n_looks == 3


def test_checksums_of_a_block_are_those_of_its_tiles() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 48), dtype=np.uint8)
    valid = pixels[:, 0] > 100

    checksums = checksum_tiles(pixels, valid, tile_size_px=16)

    assert len(set(checksums)) == 6
    assert checksums[4] == checksum_tile(pixels[..., 16:32, 16:32].copy(), valid[..., 16:32, 16:32].copy())
    assert checksums[4] == checksum_tile(pixels[..., 16:32, 16:32], valid[..., 16:32, 16:32].astype(np.uint8))
    changed = pixels.copy()
    changed[1, 2, 31, 47] ^= 1
    assert [a != b for a, b in zip(checksums, checksum_tiles(changed, valid, tile_size_px=16), strict=True)] == [
        False
    ] * 5 + [True]


def test_a_mark_tells_of_every_tile() -> None:
    mark = {"both": [1, 2], "checksums": ["a", "b"], "objects": {"x": 3}}
    assert read_mark(json.dumps(mark).encode(), sizes={"x": 3, "y": 1}) == mark
    assert read_mark(json.dumps(mark).encode(), sizes={"x": 4}) is None
    assert read_mark(json.dumps(mark | {"checksums": ["a"]}).encode()) is None
    assert read_mark(None) is None


def read_part(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(data), schema=ANSWERS_SCHEMA).to_pylist()
    return rows


def test_a_part_is_whole_with_its_own_tiles_alone() -> None:
    prompt = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?")
    tiles = [make_tile(0, 0), make_tile(0, 1)]
    data = encode_part(prompt, tiles=tiles, answers=[Answer(text="yes", confidence=0.5)] * 2)

    assert is_whole_part(data, prompt=prompt, tiles=tiles)
    assert not is_whole_part(data, prompt=prompt, tiles=tiles[:1])
    assert not is_whole_part(None, prompt=prompt, tiles=tiles)
    for length in range(0, len(data), 7):
        assert not is_whole_part(data[:length], prompt=prompt, tiles=tiles), length
    n_noticed = 0
    for place in range(len(data)):
        # One byte that was turned over either is noticed, or harms nothing that the part tells.
        spoilt = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        if is_whole_part(spoilt, prompt=prompt, tiles=tiles):
            assert read_part(spoilt) == read_part(data), place
        else:
            n_noticed += 1
    assert n_noticed > 200
