"""Tiles as columns are the same tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.grid.grid import Grid
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.table import Tile, TileTable, encode_status, name_statuses

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=16,
    n_rows=2,
    n_cols=3,
    width_px=48,
    height_px=32,
)


@st.composite
def draw_tiles(draw: st.DrawFn) -> list[Tile]:
    places = draw(st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 50)), unique=True, max_size=6))
    part = st.floats(0, 1)
    return [
        Tile(
            row=row,
            col=col,
            tile_id=f"r{row:04d}_c{col:04d}",
            valid_fraction=draw(part),
            cloud_fraction=draw(st.one_of(st.none(), part)),
            status=draw(st.sampled_from([None, *TileStatus])),
            reason=draw(st.sampled_from(["", "too little valid"])),
        )
        for row, col in places
    ]


@settings(deadline=None, derandomize=True)
@given(draw_tiles(), st.slices(6))
def test_a_table_is_the_sequence_of_its_tiles(tiles: list[Tile], part: slice) -> None:
    table = TileTable.gather(tiles)

    assert list(table) == tiles
    assert [table[index] for index in range(-len(tiles), len(tiles))] == tiles + tiles
    assert list(table[part]) == tiles[part]
    assert TileTable.gather(table) is table
    assert sum(table.count_statuses().values()) == len(tiles)
    assert all(table.count_statuses()[tile.status] for tile in tiles)


def test_there_is_no_tile_beyond_the_last() -> None:
    table = TileTable.make(GRID)
    for index in (6, -7):
        with pytest.raises(IndexError, match=str(index)):
            table[index]


@settings(deadline=None, derandomize=True)
@given(draw_tiles(), st.lists(st.tuples(st.integers(-1, 12_001), st.integers(-1, 51)), max_size=4))
def test_tiles_are_found_by_their_place(tiles: list[Tile], others: list[tuple[int, int]]) -> None:
    places = [(tile.row, tile.col) for tile in tiles]
    expected = [places.index(place) if place in places else -1 for place in [*places, *others]]

    rows, cols = np.array([*places, *others], dtype=np.int64).reshape(-1, 2).T

    assert TileTable.gather(tiles).locate(rows, cols).tolist() == expected


def test_a_new_table_has_every_tile_of_the_grid_row_major() -> None:
    places = [(tile.row, tile.col, tile.tile_id, tile.status) for tile in TileTable.make(GRID)]

    assert places == [(row, col, GRID.tile_id(row, col), None) for row in range(2) for col in range(3)]


def test_statuses_have_names() -> None:
    codes = np.array([encode_status(status) for status in (TileStatus.CLOUDY, None, TileStatus.FAILED)], dtype=np.int8)

    assert name_statuses(codes).to_pylist() == ["cloudy", None, "failed"]
