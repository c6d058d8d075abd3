"""What is asked, under which name its answers are kept, and what becomes of batches that go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import KilledWorker

from model.errors import InputError
from model.interface import Answer, ModelIdentity, Prompt, PromptKind
from pipeline.answers.batch import Interview
from pipeline.answers.collect import (
    MIN_BATCHES_WITHOUT_AN_ANSWER,
    collect_answers,
    describe_failure,
    group_batches,
    is_hopeless,
)
from pipeline.answers.parts import ANSWERS_SCHEMA, AnswerParts, encode_part
from pipeline.config.model import ModelConfig
from pipeline.storage.folder import RunFolder
from pipeline.summary import StageSummary
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.table import Tile
from pipeline.workers import models, tasks
from pipeline.workers.tasks import Call

CHANGED = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
IDENTITY = ModelIdentity(model_id="fake@1", weight_hash="f00d", path="")


def make_tile(row: int, col: int, status: TileStatus | None = None) -> Tile:
    return Tile(row=row, col=col, tile_id=f"r{row:04d}_c{col:04d}", valid_fraction=1.0, status=status, reason="")


def make_tiles(n_rows: int, n_cols: int) -> list[Tile]:
    return [make_tile(row, col) for row in range(n_rows) for col in range(n_cols)]


class FakeModel:
    """Answers with the prompt's name and the tile's first pixel."""

    identity = IDENTITY

    def answer_prompts(self, pairs: Any, *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        return [
            [Answer(text=f"{prompt.name} {pair[0, 0, 0, 0]}", confidence=0.5) for pair in pairs] for prompt in prompts
        ]


class FakeStore:
    """Tiles of one pixel that holds ten times the row plus the column."""

    def __init__(self, folder: Path, *, shard_size_tiles: int) -> None:
        self.folder = RunFolder(str(folder))
        self.content_key = "abc"
        self.shard_size_tiles = shard_size_tiles
        self.gaps: list[str] = []

    def list_gaps(self, places: Iterable[tuple[int, int]]) -> list[str]:
        return self.gaps

    def read_pairs(self, tiles: Sequence[Tile]) -> Any:
        values = np.array([10 * tile.row + tile.col for tile in tiles], dtype=np.uint8)
        return np.broadcast_to(values[:, None, None, None, None], (len(tiles), 2, 3, 1, 1))


class FakeCluster:
    """Runs batches here and now; `spoil` says which tiles go wrong, and how."""

    def __init__(self, spoil: Callable[[Sequence[Tile], int], BaseException | None]) -> None:
        self.spoil = spoil
        self.asked: list[list[str]] = []
        self.client = SimpleNamespace(id="client", status="running", register_plugin=lambda plugin: None)

    def run_bounded(
        self,
        client: object,
        function: Callable[..., Any],
        take_call: Callable[[], Call | None],
        *,
        max_in_flight: int,
    ) -> Iterator[tuple[str, Any]]:
        while (call := take_call()) is not None:
            interview, tiles, *rest = call.arguments
            self.asked.append([tile.tile_id for tile in tiles])
            problem = self.spoil(tiles, max_in_flight)
            yield call.key, problem if problem is not None else function(interview, tiles, *rest)


@pytest.fixture
def make_cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCluster]:
    def make(spoil: Callable[[Sequence[Tile], int], BaseException | None] = lambda tiles, n: None) -> FakeCluster:
        cluster = FakeCluster(spoil)
        monkeypatch.setattr(tasks, "run_bounded", cluster.run_bounded)
        monkeypatch.setattr(models, "hold_model", lambda model, **how: nullcontext(FakeModel()))
        return cluster

    return make


def collect(
    cluster: FakeCluster, store: FakeStore, tiles: Sequence[Tile], *, prompts: Sequence[Prompt] = (CHANGED, COUNT)
) -> tuple[AnswerParts, StageSummary]:
    return collect_answers(
        tiles,
        store=store,  # type: ignore[arg-type]
        prompts=prompts,
        model=ModelConfig(),
        identity=IDENTITY,
        client=cluster.client,  # type: ignore[arg-type]
        max_in_flight=4,
    )


def test_batches_are_the_selected_tiles_of_each_shard() -> None:
    tiles = make_tiles(3, 3)
    tiles[4] = make_tile(1, 1, TileStatus.NO_DATA)

    batches = group_batches(reversed(tiles), shard_size_tiles=2)

    ids = [[(tile.row, tile.col) for tile in batch] for batch in batches]
    assert ids == [[(0, 0), (0, 1), (1, 0)], [(0, 2), (1, 2)], [(2, 0), (2, 1)], [(2, 2)]]


def test_shard_without_selected_tiles_makes_no_batch() -> None:
    tiles = [make_tile(0, 0, TileStatus.OUTSIDE), make_tile(0, 1)]

    assert group_batches(tiles, shard_size_tiles=1) == [(tiles[1],)]


def test_part_is_named_after_all_that_the_answers_depend_on(tmp_path: Path) -> None:
    store = FakeStore(tmp_path, shard_size_tiles=2)
    tiles = make_tiles(1, 2)
    interview = Interview(store=store, prompts=(CHANGED,), model=ModelConfig(), identity=IDENTITY)  # type: ignore[arg-type]
    other_store = FakeStore(tmp_path, shard_size_tiles=2)
    other_store.content_key = "abd"
    with_gap = FakeStore(tmp_path, shard_size_tiles=2)
    with_gap.gaps = ["(0, 0): a scene that could not be read"]
    name = interview.name_part(CHANGED, tiles=tiles)

    others = [
        replace(interview, store=other_store).name_part(CHANGED, tiles=tiles),  # type: ignore[arg-type]
        replace(interview, store=with_gap).name_part(CHANGED, tiles=tiles),  # type: ignore[arg-type]
        replace(interview, model=ModelConfig(dtype="bfloat16")).name_part(CHANGED, tiles=tiles),
        replace(interview, identity=replace(IDENTITY, weight_hash="beef")).name_part(CHANGED, tiles=tiles),
        interview.name_part(replace(CHANGED, text="Changed!"), tiles=tiles),
        interview.name_part(replace(CHANGED, name="other"), tiles=tiles),
        interview.name_part(replace(CHANGED, kind=PromptKind.ASK), tiles=tiles),
        interview.name_part(CHANGED, tiles=tiles[:1]),
    ]
    equal = [
        replace(interview, store=FakeStore(tmp_path / "elsewhere", shard_size_tiles=8)),  # type: ignore[arg-type]
        replace(interview, model=ModelConfig(batch_size_tiles=1)),
        replace(interview, identity=replace(IDENTITY, path="/elsewhere")),
        replace(interview, prompts=(CHANGED, COUNT)),
    ]

    # The pixels beside a tile shape its outlines, and no answer.
    outlines = {interview.name_outlines(tiles=tiles, around=frozenset(some)) for some in ([], [(1, 0)], [(1, 1)])}
    parts = replace(interview, outline_kinds=("building",)).name_parts(tiles=tiles, around=frozenset([(1, 0)]))

    assert len(outlines) == 3
    assert parts[0] == name
    assert len({name, *others}) == len(others) + 1
    assert {interview.name_part(CHANGED, tiles=tiles) for interview in equal} == {name}


def test_part_holds_one_row_per_tile() -> None:
    tiles = make_tiles(1, 2)
    answers = [Answer(text="Yes", confidence=0.25), Answer(text="Nö", confidence=1.0, familiarity=0.5)]

    table = pq.read_table(pa.BufferReader(encode_part(CHANGED, tiles=tiles, answers=answers)))

    assert table.schema.equals(ANSWERS_SCHEMA)
    assert table.to_pydict() == {
        "tile_id": ["r0000_c0000", "r0000_c0001"],
        "prompt_name": ["changed", "changed"],
        "prompt_kind": ["classify", "classify"],
        "text": ["Yes", "Nö"],
        "confidence": [0.25, 1.0],
        "familiarity": [None, 0.5],
    }


def test_model_that_leaves_a_tile_out_is_caught() -> None:
    with pytest.raises(ValueError, match="1 answers to prompt 'changed'; expected one for each of 2 tiles"):
        encode_part(CHANGED, tiles=make_tiles(1, 2), answers=[Answer(text="Yes", confidence=1.0)])


def test_every_prompt_is_asked_of_every_selected_tile(tmp_path: Path, make_cluster) -> None:
    tiles = [*make_tiles(2, 3), make_tile(2, 0, TileStatus.IDENTICAL)]
    expected = [
        {"tile_id": tile.tile_id, "prompt_name": prompt.name, "text": f"{prompt.name} {10 * tile.row + tile.col}"}
        for tile in tiles[:-1]
        for prompt in (CHANGED, COUNT)
    ]

    parts, summary = collect(make_cluster(), FakeStore(tmp_path, shard_size_tiles=2), tiles)

    assert parts.read().select(["tile_id", "prompt_name", "text"]).to_pylist() == expected
    assert (summary.done, summary.skipped, summary.failed, summary.total) == (6, 0, 0, 6)
    assert parts.failures == {}


def test_what_the_model_notes_is_in_the_summary(tmp_path: Path, make_cluster, monkeypatch) -> None:
    class NotingModel(FakeModel):
        def take_notes(self) -> dict[str, int]:
            return {"out of memory: batches of 2 tiles from here on": 1}

    cluster = make_cluster()
    monkeypatch.setattr(models, "hold_model", lambda model, **how: nullcontext(NotingModel()))
    _, summary = collect(cluster, FakeStore(tmp_path, shard_size_tiles=2), make_tiles(2, 4))

    assert summary.notes == {"out of memory: batches of 2 tiles from here on": 2}


def test_second_time_nothing_is_asked(tmp_path: Path, make_cluster) -> None:
    store = FakeStore(tmp_path, shard_size_tiles=2)
    first, _ = collect(make_cluster(), store, make_tiles(2, 3))
    cluster = make_cluster()

    second, summary = collect(cluster, store, make_tiles(2, 3))

    assert cluster.asked == []
    assert second == first
    assert (summary.done, summary.skipped, summary.total) == (0, 6, 6)


def test_smaller_area_asks_only_shards_that_it_cuts(tmp_path: Path, make_cluster) -> None:
    store = FakeStore(tmp_path, shard_size_tiles=2)
    collect(make_cluster(), store, make_tiles(2, 4))
    cluster = make_cluster()
    tiles = [tile for tile in make_tiles(2, 4) if tile.col < 3]

    collect(cluster, store, tiles)

    assert cluster.asked == [["r0000_c0002", "r0001_c0002"]]


def test_tile_that_raises_is_found_and_the_rest_is_answered(tmp_path: Path, make_cluster) -> None:
    def spoil(tiles: Sequence[Tile], max_in_flight: int) -> BaseException | None:
        is_bad = any(tile.tile_id == "r0001_c0002" for tile in tiles)
        return ValueError("odd tile\nand a long story") if is_bad else None

    store = FakeStore(tmp_path, shard_size_tiles=4)

    parts, summary = collect(make_cluster(spoil), store, make_tiles(4, 4))

    assert parts.failures == {"r0001_c0002": "ValueError: odd tile"}
    answered = set(parts.read()["tile_id"].to_pylist())
    assert answered == {tile.tile_id for tile in make_tiles(4, 4)} - {"r0001_c0002"}
    assert (summary.done, summary.failed, summary.total) == (15, 1, 16)
    assert summary.reasons == {"ValueError: odd tile": 1}


def test_neighbours_of_a_tile_that_kills_workers_are_not_blamed(tmp_path: Path, make_cluster) -> None:
    def spoil(tiles: Sequence[Tile], max_in_flight: int) -> BaseException | None:
        is_killer = any(tile.tile_id == "r0000_c0001" for tile in tiles)
        # With others in flight, whatever waits behind the killer on its worker is blamed as well.
        is_beside = max_in_flight > 1 and any(tile.tile_id == "r0000_c0002" for tile in tiles)
        return KilledWorker("key", None, 1) if is_killer or is_beside else None

    parts, summary = collect(make_cluster(spoil), FakeStore(tmp_path, shard_size_tiles=1), make_tiles(1, 4))

    assert set(parts.failures) == {"r0000_c0001"}
    assert "worker died" in parts.failures["r0000_c0001"]
    assert (summary.done, summary.failed) == (3, 1)


def test_failed_tile_is_asked_again_by_the_next_run(tmp_path: Path, make_cluster) -> None:
    store = FakeStore(tmp_path, shard_size_tiles=2)
    collect(make_cluster(lambda tiles, n: ValueError("x") if tiles[0].col == 0 else None), store, make_tiles(2, 4))
    cluster = make_cluster()

    parts, summary = collect(cluster, store, make_tiles(2, 4))

    assert cluster.asked == [[f"r000{row}_c000{col}" for row in (0, 1) for col in (0, 1)]]
    assert parts.failures == {}
    assert (summary.done, summary.skipped) == (4, 4)


def test_model_that_always_fails_is_not_asked_for_ever(tmp_path: Path, make_cluster) -> None:
    cluster = make_cluster(lambda tiles, n: RuntimeError("out of memory"))
    tiles = make_tiles(20, 20)

    parts, summary = collect(cluster, FakeStore(tmp_path, shard_size_tiles=2), tiles)

    # A batch of four is asked whole, in halves, and one by one.
    assert len(cluster.asked) <= (MIN_BATCHES_WITHOUT_AN_ANSWER + 1) * 7
    assert set(parts.failures) == {tile.tile_id for tile in tiles}
    assert all("out of memory" in reason for reason in parts.failures.values())
    assert summary.failed == summary.total == 400


@pytest.mark.parametrize("bad", [(0, 0), (0, 1), (1, 1)])
def test_one_bad_tile_in_every_batch_stops_nothing(bad: tuple[int, int], tmp_path: Path, make_cluster) -> None:
    def is_bad(tile: Tile) -> bool:
        return (tile.row % 2, tile.col % 2) == bad

    tiles = make_tiles(12, 12)
    cluster = make_cluster(lambda some, n: ValueError("odd") if any(is_bad(tile) for tile in some) else None)

    parts, summary = collect(cluster, FakeStore(tmp_path, shard_size_tiles=2), tiles)

    assert parts.failures == {tile.tile_id: "ValueError: odd" for tile in tiles if is_bad(tile)}
    assert (summary.done, summary.failed) == (108, 36)


def test_batches_without_an_answer_stop_nothing_as_long_as_others_have_one(tmp_path: Path, make_cluster) -> None:
    # Every other batch has bad tiles only.
    tiles = make_tiles(2, 80)
    cluster = make_cluster(lambda some, n: ValueError("odd") if any(tile.col // 2 % 2 for tile in some) else None)

    parts, summary = collect(cluster, FakeStore(tmp_path, shard_size_tiles=2), tiles)

    assert (summary.done, summary.failed) == (80, 80)
    assert set(parts.failures.values()) == {"ValueError: odd"}


@pytest.mark.parametrize(
    ("n_batches", "max_in_flight", "expected"),
    [(0, 1, False), (8, 1, False), (9, 1, True), (16, 30, False), (30, 30, False), (31, 30, True)],
)
def test_giving_up_takes_more_batches_than_can_be_halfway(n_batches: int, max_in_flight: int, expected: bool) -> None:
    assert is_hopeless(n_batches, max_in_flight=max_in_flight) is expected


def test_batch_that_takes_too_much_memory_is_answered_in_halves(tmp_path: Path, make_cluster) -> None:
    cluster = make_cluster(lambda tiles, n: MemoryError("no room") if len(tiles) > 2 else None)

    parts, summary = collect(cluster, FakeStore(tmp_path, shard_size_tiles=4), make_tiles(4, 8))

    assert (summary.done, summary.failed) == (32, 0)
    assert parts.failures == {}
    assert parts.read().num_rows == 32 * 2


def test_halves_that_an_earlier_run_answered_are_kept(tmp_path: Path, make_cluster) -> None:
    store = FakeStore(tmp_path, shard_size_tiles=2)
    bad = "r0001_c0001"
    collect(
        make_cluster(lambda some, n: ValueError("x") if any(t.tile_id == bad for t in some) else None),
        store,
        make_tiles(2, 2),
    )
    cluster = make_cluster(lambda some, n: ValueError("x") if any(t.tile_id == bad for t in some) else None)

    parts, summary = collect(cluster, store, make_tiles(2, 2))

    assert (summary.done, summary.skipped, summary.failed) == (0, 3, 1)
    assert set(parts.failures) == {bad}
    assert parts.read().num_rows == 3 * 2


def test_damaged_part_is_named(tmp_path: Path, make_cluster) -> None:
    parts, _ = collect(make_cluster(), FakeStore(tmp_path, shard_size_tiles=2), make_tiles(1, 1))
    (tmp_path / parts.names[0]).write_bytes(b"torn")

    with pytest.raises(InputError, match=parts.names[0]):
        parts.read()


def test_workers_let_go_of_the_model_at_the_end(tmp_path: Path, make_cluster) -> None:
    cluster = make_cluster(lambda tiles, n: ValueError("x"))
    gone: list[str] = []
    cluster.client.unregister_worker_plugin = gone.append

    collect(cluster, FakeStore(tmp_path, shard_size_tiles=2), make_tiles(1, 1))

    assert len(gone) == 1
    assert gone[0].startswith("deltavlm-model-f00d")


def test_no_tiles_make_an_empty_table(tmp_path: Path, make_cluster) -> None:
    parts, _ = collect(make_cluster(), FakeStore(tmp_path, shard_size_tiles=2), [])

    assert parts.read().equals(ANSWERS_SCHEMA.empty_table())


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (ValueError("one line"), "ValueError: one line"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (RuntimeError("x" * 300), "RuntimeError: " + "x" * 200),
    ],
)
def test_failure_is_described_in_one_line(problem: BaseException, expected: str) -> None:
    assert describe_failure(problem) == expected
