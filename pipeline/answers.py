"""The fourth verb: put every prompt to every selected tile, and keep the answers as parts.

A batch is the selected tiles of one shard of the store. Each prompt's answers to one batch are one Parquet
file, named after everything the answers depend on, so a file that is there is right, whoever wrote it, and a
run that is started again asks only for what is missing. When a batch fails, whether in an error or with its
worker, it is asked again in halves until the tile that does it stands alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, KilledWorker

from model.interface import Answer, ModelIdentity, NotingModel, Prompt
from pipeline.config import ModelConfig
from pipeline.errors import FolderError, InputError
from pipeline.object_facts import ObjectFacts, describe_bytes, describe_objects
from pipeline.redaction import redact_text
from pipeline.run_folder import RunFolder
from pipeline.summary import ProgressCallback, StageSummary, ignore_progress
from pipeline.tiles import Tile, TileStore
from pipeline.workers import get_worker_model, register_model, run_bounded

STAGE = "collect_answers"

ENGINE_VERSION = 3
"""Part of every part's name: raised when equal pixels, prompts and weights come to give other answers."""

MAX_FAILURES_IN_A_ROW = 16
"""So many failed batches without one success between them are no matter of single tiles: the stage stops."""

_PARTS_AT_ONCE = 1024

ANSWERS_SCHEMA = pa.schema(
    [
        pa.field("tile_id", pa.string(), nullable=False, metadata={"description": "Tile that was asked about."}),
        pa.field("prompt_name", pa.string(), nullable=False, metadata={"description": "Name of the prompt."}),
        pa.field("prompt_kind", pa.string(), nullable=False, metadata={"description": "Kind of the prompt."}),
        pa.field("text", pa.string(), nullable=False, metadata={"description": "The model's words."}),
        pa.field(
            "confidence",
            pa.float32(),
            nullable=False,
            metadata={"description": "Between 0 and 1, as model.interface.Answer defines it."},
        ),
    ]
)
"""Columns of an answer part: one row per tile of the batch."""


@dataclass(frozen=True, kw_only=True)
class AnswerParts:
    """The answers of one run, as names of parts."""

    folder: RunFolder
    """Folder of the run."""
    names: tuple[str, ...]
    """This run's parts, sorted; the folder may hold others, of other prompts, models or areas."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why there is no answer, by the id of each tile that the model or its worker failed on."""
    _described: dict[str, ObjectFacts] = field(default_factory=dict, init=False, repr=False, compare=False)

    def describe(self) -> dict[str, ObjectFacts]:
        """Give size and sha256 of every part, by name, reading only what `read_batches` has not come across."""
        missing = [name for name in self.names if name not in self._described]
        self._described.update(describe_objects(self.folder, names=missing))
        return {name: self._described[name] for name in self.names}

    def read(self) -> pa.Table:
        """Read all answers, sorted by tile and prompt, with the columns of `ANSWERS_SCHEMA`.

        Raises:
            InputError: a part is damaged or gone.
        """
        table = pa.concat_tables([ANSWERS_SCHEMA.empty_table(), *self.read_batches()])
        return table.sort_by([("tile_id", "ascending"), ("prompt_name", "ascending")])

    def read_batches(self) -> Iterator[pa.Table]:
        """Read all answers in tables of many parts each, in the order of `names`; what `read` gives, bit by bit.

        Raises:
            InputError: a part is damaged or gone.
        """
        parts = zip(self.names, self.folder.read_many(self.names), strict=True)
        while batch := [self._parse_part(name, data) for name, data in islice(parts, _PARTS_AT_ONCE)]:
            # A million tiles have more parts than Arrow should keep apart: each takes some kilobytes by itself.
            yield pa.concat_tables(batch).combine_chunks()

    def _parse_part(self, name: str, data: bytes | None) -> pa.Table:
        try:
            if data is None:
                raise FileNotFoundError("no such object")
            self._described[name] = describe_bytes(data)
            return _decode_part(data)
        except (OSError, ValueError, pa.ArrowException) as problem:
            raise InputError(
                f"answers {name} in {self.folder.uri} cannot be read ({problem})",
                expected="a whole Parquet file",
                remedy="run `deltavlm run` again: only it is made anew",
            ) from None


@dataclass(frozen=True, kw_only=True)
class Interview:
    """All that a worker needs to know besides the tiles it asks about."""

    store: TileStore
    """Where the pixels are; the answers go into the same run's folder."""
    prompts: tuple[Prompt, ...]
    """The questions."""
    model: ModelConfig
    """How the workers hold the model."""
    identity: ModelIdentity
    """Which weights answer."""

    def name_part(self, prompt: Prompt, *, tiles: Sequence[Tile]) -> str:
        """Name the part with one prompt's answers for some tiles after all that the answers depend on."""
        content = [
            self.store.content_key,
            [tile.tile_id for tile in tiles],
            [prompt.name, prompt.kind.value, prompt.text],
            self.identity.weight_hash,
            self.model.dtype,
            ENGINE_VERSION,
        ]
        return f"answers/{hashlib.sha256(json.dumps(content).encode()).hexdigest()}.parquet"


Batch = tuple[Tile, ...]
"""Tiles that go to a worker together."""


def group_batches(tiles: Iterable[Tile], *, shard_size_tiles: int) -> list[Batch]:
    """Put the selected tiles of each shard into one batch, shards and tiles both row-major."""
    shards: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        if tile.status is None:
            shards.setdefault((tile.row // shard_size_tiles, tile.col // shard_size_tiles), []).append(tile)
    return [tuple(sorted(shards[shard], key=lambda tile: (tile.row, tile.col))) for shard in sorted(shards)]


def encode_part(prompt: Prompt, *, tiles: Sequence[Tile], answers: Sequence[Answer]) -> bytes:
    """Give the Parquet file with one prompt's answers for some tiles.

    Raises:
        ValueError: there is not exactly one answer per tile.
    """
    if len(answers) != len(tiles):
        raise ValueError(
            f"{len(answers)} answers to prompt {prompt.name!r}; expected one for each of {len(tiles)} tiles"
        )
    table = pa.table(
        {
            "tile_id": [tile.tile_id for tile in tiles],
            "prompt_name": [prompt.name] * len(tiles),
            "prompt_kind": [prompt.kind.value] * len(tiles),
            "text": [answer.text for answer in answers],
            "confidence": [answer.confidence for answer in answers],
        },
        schema=ANSWERS_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def is_whole_part(data: bytes | None, *, prompt: Prompt, tiles: Sequence[Tile]) -> bool:
    """Tell whether a part is whole: a table that can be read, with the prompt and the tiles that it is named after."""
    try:
        rows = _decode_part(data or b"").to_pylist()
    # Depending on where a file is damaged, pyarrow raises one or the other.
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return False
    asked = [(tile.tile_id, prompt.name, prompt.kind.value) for tile in tiles]
    told = [(row["tile_id"], row["prompt_name"], row["prompt_kind"]) for row in rows]
    return asked == told and all(row["text"] is not None and row["confidence"] is not None for row in rows)


def _decode_part(data: bytes) -> pa.Table:
    # What `pyarrow.parquet.read_table` calls in the end; by itself it takes a third of the time for a small file.
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return file.read(use_threads=False).cast(ANSWERS_SCHEMA)


def answer_batch(interview: Interview, tiles: Batch, prompts: tuple[Prompt, ...]) -> StageSummary:
    """Ask about one batch and write its parts: the task that runs on a worker."""
    start = time.perf_counter()
    model = get_worker_model(interview.model, identity=interview.identity)
    pairs = interview.store.read_pairs(tiles)
    answered = model.answer_prompts(pairs, prompts=prompts)
    notes = model.take_notes() if isinstance(model, NotingModel) else {}
    written = sum(
        interview.store.folder.put(
            interview.name_part(prompt, tiles=tiles), encode_part(prompt, tiles=tiles, answers=answers)
        )
        for prompt, answers in zip(prompts, answered, strict=True)
    )
    return StageSummary(
        stage=STAGE,
        done=len(tiles),
        seconds=time.perf_counter() - start,
        bytes_read=pairs.nbytes,
        bytes_written=written,
        notes=notes,
    )


def collect_answers(
    tiles: Sequence[Tile],
    *,
    store: TileStore,
    prompts: Sequence[Prompt],
    model: ModelConfig,
    identity: ModelIdentity,
    client: Client,
    max_in_flight: int,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[AnswerParts, StageSummary]:
    """Ask every prompt about every selected tile, as far as the answers are not there yet.

    Args:
        tiles: Tiles of the grid; those without a status are asked about.
        store: The tile store.
        prompts: The questions.
        model: How the workers hold the model.
        identity: Which weights answer.
        client: The cluster; a model is loaded on its workers only if there is something to ask.
        max_in_flight: Most batches that the scheduler knows of at any time.
        on_progress: Called for every finished batch; counts are of tiles.

    Raises:
        InputError: a worker cannot load the model, or the scheduler went away.
    """
    start = time.perf_counter()
    interview = Interview(store=store, prompts=tuple(prompts), model=model, identity=identity)
    rounds = _Rounds(interview=interview, present=frozenset(store.folder.list_names("answers")))
    batches = group_batches(tiles, shard_size_tiles=store.shard_size_tiles)
    total = StageSummary(stage=STAGE, total=sum(len(batch) for batch in batches))
    on_progress(total)
    while batches:
        for part in rounds.ask(batches, client=client, max_in_flight=max_in_flight):
            total += part
            on_progress(part)
        batches = rounds.take_halves()
    # A scheduler blames a worker's death on all that the worker had been given, so the last word on a tile is
    # spoken with nothing beside it.
    for part in rounds.ask(rounds.take_suspects(), client=client, max_in_flight=1):
        total += part
        on_progress(part)
    parts = AnswerParts(
        folder=store.folder, names=tuple(sorted(rounds.names)), failures=dict(sorted(rounds.failures.items()))
    )
    return parts, replace(total, seconds=time.perf_counter() - start)


@dataclass(kw_only=True)
class _Rounds:
    """Asks batches round by round; what fails in one round is asked in halves in the next."""

    interview: Interview
    present: frozenset[str]
    """Names of the parts that were there when the stage began."""
    names: list[str] = field(default_factory=list)
    """This run's parts that are there by now."""
    failures: dict[str, str] = field(default_factory=dict)
    halves: list[Batch] = field(default_factory=list)
    """What the next round asks."""
    suspects: list[Batch] = field(default_factory=list)
    """Single tiles that a worker may have died of, or of their neighbours."""
    n_failures_in_a_row: int = 0

    def ask(self, batches: Sequence[Batch], *, client: Client, max_in_flight: int) -> Iterator[StageSummary]:
        """Ask what is missing of some batches, and yield what became of each that is settled by it."""
        asked: dict[str, Batch] = {}
        calls = []
        for batch in batches:
            missing, n_damaged = self._find_missing(batch)
            if n_damaged:
                yield StageSummary(stage=STAGE, notes={"a damaged answer part is asked for again": n_damaged})
            if missing:
                key = f"answer-batch-{uuid4().hex}"
                # ^ not derived from the content: runs into two folders may share a scheduler, not a task.
                asked[key] = batch
                calls.append((key, (self.interview, batch, missing)))
            else:
                self._accept(batch)
                yield StageSummary(stage=STAGE, skipped=len(batch), reasons={"already answered": len(batch)})
        if not calls:
            return
        register_model(client, model=self.interview.model, identity=self.interview.identity)
        for key, outcome in run_bounded(client, answer_batch, calls, max_in_flight=max_in_flight):
            batch = asked.pop(key)
            if isinstance(outcome, FolderError):
                raise outcome
            if isinstance(outcome, BaseException):
                self.n_failures_in_a_row += 1
                if len(batch) > 1:
                    self.halves += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                elif isinstance(outcome, KilledWorker) and max_in_flight > 1:
                    self.suspects.append(batch)
                else:
                    yield self._fail([batch], reason=describe_failure(outcome))
            else:
                self._accept(batch)
                self.n_failures_in_a_row = 0
                yield outcome
            if self.n_failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                rest = [*asked.values(), *self.take_halves(), *self.take_suspects()]
                yield self._fail(rest, reason=f"not asked, as many batches failed: {describe_failure(outcome)}")
                return

    def take_halves(self) -> list[Batch]:
        """Give the batches of the next round, and forget them."""
        halves, self.halves = self.halves, []
        return halves

    def take_suspects(self) -> list[Batch]:
        """Give the tiles to be asked about alone, and forget them."""
        suspects, self.suspects = self.suspects, []
        return suspects

    def _name(self, prompt: Prompt, batch: Batch) -> str:
        return self.interview.name_part(prompt, tiles=batch)

    def _find_missing(self, batch: Batch) -> tuple[tuple[Prompt, ...], int]:
        """Give the prompts whose parts are not there, or are damaged, and how many are damaged."""
        present = [prompt for prompt in self.interview.prompts if self._name(prompt, batch) in self.present]
        parts = self.interview.store.folder.read_many(self._name(prompt, batch) for prompt in present)
        whole = {
            prompt.name
            for prompt, data in zip(present, parts, strict=True)
            if is_whole_part(data, prompt=prompt, tiles=batch)
        }
        missing = tuple(prompt for prompt in self.interview.prompts if prompt.name not in whole)
        return missing, len(present) - len(whole)

    def _accept(self, batch: Batch) -> None:
        self.names += [self._name(prompt, batch) for prompt in self.interview.prompts]

    def _fail(self, batches: Sequence[Batch], *, reason: str) -> StageSummary:
        failures = {tile.tile_id: reason for batch in batches for tile in batch}
        self.failures |= failures
        return StageSummary(stage=STAGE, failed=len(failures), reasons={reason: len(failures)})


def describe_failure(problem: BaseException) -> str:
    """Say in one line why a batch failed."""
    if isinstance(problem, KilledWorker):
        return "the worker died again and again while it was at work on the tile"
    lines = redact_text(str(problem)).splitlines()
    return f"{type(problem).__name__}: {lines[0][:200]}" if lines else type(problem).__name__
