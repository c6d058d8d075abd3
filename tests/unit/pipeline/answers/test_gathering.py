"""Answers of very many parts, lined up with their tiles."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.answers.parts
from model.errors import InputError
from model.interface import Answer, Prompt, PromptKind
from pipeline.answers.parts import ANSWERS_SCHEMA, AnswerParts, encode_part
from pipeline.findings.extract import gather_answers, outline_tiles
from pipeline.grid.grid import Grid, name_tile
from pipeline.storage.folder import RunFolder
from pipeline.tiles.table import Tile, TileTable

PROMPTS = [
    Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Yes or no?"),
    Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?"),
]


def make_tile(row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=name_tile(row, col), valid_fraction=1.0, status=None, reason="")


@st.composite
def draw_answers(draw: st.DrawFn) -> tuple[list[Tile], list[list[tuple[str, str, str, float]]]]:
    """Some tiles, and answers in batches: of these and of other tiles, to these and to other prompts."""
    place = st.tuples(st.integers(0, 3), st.integers(0, 3))
    places = draw(st.lists(place, unique=True, max_size=8))
    keys = draw(st.lists(st.tuples(place, st.sampled_from(["changed", "trees", "other"])), unique=True, max_size=30))
    rows = [
        (
            name_tile(*at),
            name,
            draw(st.sampled_from(["Yes", "No", "", "Yes, two."])),
            draw(st.sampled_from([0.25, 1.0])),
        )
        for at, name in keys
    ]
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    edges = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    return [make_tile(*at) for at in places], [rows[start:stop] for start, stop in edges]


def make_table(rows: list[tuple[str, str, str, float]]) -> pa.Table:
    full = [(tile_id, name, "ask", text, confidence, None) for tile_id, name, text, confidence in rows]
    columns = {name: [row[i] for row in full] for i, name in enumerate(ANSWERS_SCHEMA.names)}
    return pa.table(columns, schema=ANSWERS_SCHEMA)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(draw_answers())
def test_every_tile_gets_its_own_answers(case: tuple[list[Tile], list[list[tuple[str, str, str, float]]]]) -> None:
    tiles, batches = case
    expected = {(tile_id, name): (text, confidence) for rows in batches for tile_id, name, text, confidence in rows}

    given, n_bytes = gather_answers(map(make_table, batches), tiles=TileTable.gather(tiles), prompts=PROMPTS)

    for prompt in PROMPTS:
        answers = given[prompt.name]
        assert len(set(answers.texts.to_pylist())) == len(answers.texts)
        for tile, code, confidence in zip(tiles, answers.codes, answers.confidences, strict=True):
            found = (answers.texts[int(code)].as_py(), confidence) if code >= 0 else None
            assert found == expected.get((tile.tile_id, prompt.name))
    assert n_bytes == sum(make_table(rows).nbytes for rows in batches)


def test_ids_that_name_no_tile_are_left_out() -> None:
    ids = ["r0000_c0000", "r0_c0", "r0000_c0000x", "r99999999999999999999_c0000", "", "r-001_c0000"]
    table = make_table([(tile_id, "changed", "Yes", 1.0) for tile_id in ids])

    given, _ = gather_answers([table], tiles=TileTable.gather([make_tile(0, 0), make_tile(0, 1)]), prompts=PROMPTS)

    assert given["changed"].codes.tolist() == [0, -1]


def test_tiles_are_outlined_where_the_grid_has_them() -> None:
    grid = Grid(
        crs="EPSG:32614",
        resolution_m=0.3,
        origin_x=600_000.3,
        origin_y=3_300_000.0,
        tile_size_px=16,
        n_rows=3,
        n_cols=5,
        width_px=80,
        height_px=48,
    )
    tiles = TileTable.gather([make_tile(2, 4), make_tile(0, 1), make_tile(1, 0)])

    outlines = outline_tiles(tiles, grid=grid)

    assert [outline.wkb for outline in outlines] == [grid.tile_polygon(t.row, t.col).wkb for t in tiles]


@pytest.fixture
def parts(tmp_path: Path) -> AnswerParts:
    """Seven parts of three tiles each."""
    folder = RunFolder(str(tmp_path))
    rng = np.random.default_rng(1)
    names = []
    for row in range(7):
        tiles = [make_tile(row, col) for col in range(3)]
        answers = [Answer(text=str(rng.integers(99)), confidence=0.5) for _ in tiles]
        names.append(f"answers/{rng.integers(1 << 30)}.parquet")
        folder.put(names[-1], encode_part(PROMPTS[row % 2], tiles=tiles, answers=answers))
    return AnswerParts(folder=folder, names=tuple(sorted(names)))


@pytest.mark.parametrize("parts_at_once", [1, 2, 7, 100])
def test_batches_hold_every_answer_once(
    parts: AnswerParts, monkeypatch: pytest.MonkeyPatch, parts_at_once: int
) -> None:
    expected = parts.read()
    monkeypatch.setattr(pipeline.answers.parts, "PARTS_AT_ONCE", parts_at_once)

    batches = list(parts.read_batches())

    assert len(batches) == -(-7 // parts_at_once)
    assert max(batch.num_rows for batch in batches) <= 3 * parts_at_once
    together = pa.concat_tables(batches).sort_by([("tile_id", "ascending"), ("prompt_name", "ascending")])
    assert together.equals(expected)
    assert expected.num_rows == 21


def cut_short(data: bytes) -> bytes:
    return data[:-9]


def fill_with_zeros(data: bytes) -> bytes:
    return bytes(len(data))


def use_other_columns(data: bytes) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"tile_id": ["r0000_c0000"]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("spoil", [cut_short, fill_with_zeros, use_other_columns])
def test_a_damaged_part_is_named(parts: AnswerParts, spoil: Any) -> None:
    name = parts.names[3]
    parts.folder.put(name, spoil(parts.folder.read(name)))

    with pytest.raises(InputError, match=name):
        list(parts.read_batches())


@pytest.mark.parametrize("is_read", [False, True])
def test_parts_are_described_by_what_they_hold_and_read_once(
    parts: AnswerParts, monkeypatch: pytest.MonkeyPatch, is_read: bool
) -> None:
    data = {name: parts.folder.read(name) for name in parts.names}
    if is_read:
        list(parts.read_batches())
        monkeypatch.setattr(RunFolder, "read", None)

    described = parts.describe()

    assert list(described) == list(parts.names)
    assert described == {
        name: {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in data.items()
    }


def test_a_part_that_is_gone_cannot_be_described(parts: AnswerParts) -> None:
    parts.folder.delete([parts.names[2]])

    with pytest.raises(FileNotFoundError, match=parts.names[2]):
        parts.describe()
