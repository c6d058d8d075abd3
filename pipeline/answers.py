"""The fourth verb: put every prompt to every selected tile, and keep the answers as parts.

A batch is the selected tiles of one shard of the store. Each prompt's answers to one batch are one Parquet
file, named after everything the answers depend on, so a file that is there is right, whoever wrote it, and a
run that is started again asks only for what is missing. When a batch fails, whether in an error or with its
worker, its halves are asked next, until the tile that does it stands alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker

from model.interface import ENGINE_VERSION, ModelIdentity, NotingModel, Prompt
from pipeline.answer_parts import AnswerParts, encode_part, is_whole_part
from pipeline.config import ModelConfig
from pipeline.errors import FolderError
from pipeline.held_models import hold_model, register_model, unregister_model
from pipeline.redaction import redact_text
from pipeline.summary import ProgressCallback, StageSummary, ignore_progress
from pipeline.tile_store import TileStore
from pipeline.tile_table import Tile
from pipeline.workers import run_bounded

STAGE = "collect_answers"

MIN_BATCHES_WITHOUT_AN_ANSWER = 8
"""Fewest batches that may go by without any tile of them being answered before the stage gives up."""


@dataclass(frozen=True, kw_only=True)
class Interview:
    """All that a worker needs to know besides the tiles it asks about."""

    store: TileStore
    """Where the pixels are; the answers go into the same run's folder."""
    prompts: tuple[Prompt, ...]
    """The questions."""
    model: ModelConfig
    """How the workers hold the model, in which precision above all: `settle_dtype` has made it definite."""
    identity: ModelIdentity
    """Which weights answer."""
    is_reading_ahead: bool = True
    """Whether a worker reads its next batch while it computes."""

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


def answer_batch(interview: Interview, tiles: Batch, prompts: tuple[Prompt, ...]) -> StageSummary:
    """Ask about one batch and write its parts: the task that runs on a worker.

    Before and after it has the model, the worker computes other batches.
    """
    start = time.perf_counter()
    pairs = interview.store.read_pairs(tiles)
    n_bytes = pairs.nbytes
    with hold_model(interview.model, identity=interview.identity, is_reading_ahead=interview.is_reading_ahead) as model:
        answered = model.answer_prompts(pairs, prompts=prompts)
        notes = model.take_notes() if isinstance(model, NotingModel) else {}
    del pairs
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
        bytes_read=n_bytes,
        bytes_written=written,
        notes=notes,
    )


def is_hopeless(n_batches_without_an_answer: int, *, max_in_flight: int) -> bool:
    """Decide whether the stage gives up, as nothing at all can be answered.

    A bad tile says nothing about the others, so what counts are batches: how many have had a tile that failed alone
    since a tile was last answered. As the halves of a batch that failed are asked before further batches are, at most
    as many batches as are in flight can be halfway; where more than that have gone by, no tile of some was answered.

    Args:
        n_batches_without_an_answer: Batches of which a tile failed alone, and no tile of any was answered meanwhile.
        max_in_flight: Most tasks that were under way together.
    """
    return n_batches_without_an_answer > max(MIN_BATCHES_WITHOUT_AN_ANSWER, max_in_flight)


def collect_answers(
    tiles: Sequence[Tile],
    *,
    store: TileStore,
    prompts: Sequence[Prompt],
    model: ModelConfig,
    identity: ModelIdentity,
    client: Client,
    max_in_flight: int | None,
    is_reading_ahead: bool = True,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[AnswerParts, StageSummary]:
    """Ask every prompt about every selected tile, as far as the answers are not there yet.

    Args:
        tiles: Tiles of the grid; those without a status are asked about.
        store: The tile store.
        prompts: The questions.
        model: How the workers hold the model.
        identity: Which weights answer.
        client: The cluster; a model is loaded on its workers only if there is something to ask, and let go at the end.
        max_in_flight: Most batches that the scheduler knows of at any time; None follows the number of workers.
        is_reading_ahead: Whether a worker reads its next batch while it computes.
        on_progress: Called for every finished batch; counts are of tiles.

    Raises:
        InputError: a worker cannot load the model, scheduler or workers went away, or the run's folder is full or out
            of reach.
    """
    start = time.perf_counter()
    interview = Interview(
        store=store, prompts=tuple(prompts), model=model, identity=identity, is_reading_ahead=is_reading_ahead
    )
    asking = _Asking(interview=interview, present=frozenset(store.folder.list_names("answers")))
    batches = group_batches(tiles, shard_size_tiles=store.shard_size_tiles)
    total = StageSummary(stage=STAGE, total=sum(len(batch) for batch in batches))
    on_progress(total)
    try:
        for part in asking.ask_all(batches, client=client, max_in_flight=max_in_flight):
            total += part
            on_progress(part)
    finally:
        unregister_model(client, model=model, identity=identity)
    parts = AnswerParts(
        folder=store.folder, names=tuple(sorted(asking.names)), failures=dict(sorted(asking.failures.items()))
    )
    return parts, replace(total, seconds=time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A batch, or a part of one that failed."""

    tiles: Batch
    prompts: tuple[Prompt, ...]
    """Those whose parts are not there."""
    origin: int
    """Number of the batch."""


@dataclass(kw_only=True)
class _Asking:
    """Asks batches, and of what fails the halves; iterates over the calls that are to be made next."""

    interview: Interview
    present: frozenset[str]
    """Names of the parts that were there when the stage began."""
    names: list[str] = field(default_factory=list)
    """This run's parts that are there by now."""
    failures: dict[str, str] = field(default_factory=dict)
    line: deque[_Piece] = field(default_factory=deque)
    """What is to be asked, the halves of what failed first."""
    asked: dict[str, _Piece] = field(default_factory=dict)
    """What is under way, by the key of its task."""
    suspects: list[Batch] = field(default_factory=list)
    """Single tiles that a worker may have died of, or of their neighbours."""
    hopeless: set[int] = field(default_factory=set)
    """Batches of which a tile failed alone since one was last answered."""
    max_asked: int = 0

    def __iter__(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        return self

    def __next__(self) -> tuple[str, tuple[Any, ...]]:
        """Give the next call; there may be more after there were none, as some that are under way fail."""
        if not self.line:
            raise StopIteration
        piece = self.line.popleft()
        key = f"answer-batch-{uuid4().hex}"
        # ^ not derived from the content: runs into two folders may share a scheduler, not a task.
        self.asked[key] = piece
        self.max_asked = max(self.max_asked, len(self.asked))
        return key, (self.interview, piece.tiles, piece.prompts)

    def ask_all(self, batches: Sequence[Batch], *, client: Client, max_in_flight: int | None) -> Iterator[StageSummary]:
        """Ask what is missing of some batches, and yield what became of each piece that is settled by it."""
        yield from self._ask(list(enumerate(batches)), client=client, max_in_flight=max_in_flight)
        # A scheduler blames a worker's death on all that the worker had been given, so the last word on a tile is
        # spoken with nothing beside it.
        suspects, self.suspects = self.suspects, []
        yield from self._ask(list(enumerate(suspects)), client=client, max_in_flight=1)

    def _ask(
        self, batches: Sequence[tuple[int, Batch]], *, client: Client, max_in_flight: int | None
    ) -> Iterator[StageSummary]:
        for origin, batch in batches:
            yield from self._line_up(batch, origin=origin)
        if not self.line:
            return
        register_model(client, model=self.interview.model, identity=self.interview.identity)
        for key, outcome in run_bounded(client, answer_batch, self, max_in_flight=max_in_flight):
            piece = self.asked.pop(key)
            if isinstance(outcome, FolderError):
                raise outcome
            if isinstance(outcome, BaseException):
                yield from self._take_failure(piece, outcome, is_alone=max_in_flight == 1)
            else:
                self._accept(piece.tiles)
                self.hopeless.clear()
                yield outcome
            if is_hopeless(len(self.hopeless), max_in_flight=self.max_asked):
                rest = [*(piece.tiles for piece in (*self.asked.values(), *self.line)), *self.suspects]
                self.line.clear()
                self.suspects.clear()
                yield self._fail(rest, reason=f"not asked, as many batches failed: {describe_failure(outcome)}")
                return

    def _line_up(self, tiles: Batch, *, origin: int, is_first: bool = False) -> Iterator[StageSummary]:
        missing, n_damaged = self._find_missing(tiles)
        if n_damaged:
            yield StageSummary(stage=STAGE, notes={"a damaged answer part is asked for again": n_damaged})
        if not missing:
            self._accept(tiles)
            yield StageSummary(stage=STAGE, skipped=len(tiles), reasons={"already answered": len(tiles)})
            return
        piece = _Piece(tiles=tiles, prompts=missing, origin=origin)
        (self.line.appendleft if is_first else self.line.append)(piece)

    def _take_failure(self, piece: _Piece, problem: BaseException, *, is_alone: bool) -> Iterator[StageSummary]:
        tiles = piece.tiles
        if len(tiles) > 1:
            for half in (tiles[len(tiles) // 2 :], tiles[: len(tiles) // 2]):
                yield from self._line_up(half, origin=piece.origin, is_first=True)
            return
        self.hopeless.add(piece.origin)
        if isinstance(problem, KilledWorker) and not is_alone:
            self.suspects.append(tiles)
        else:
            yield self._fail([tiles], reason=describe_failure(problem))

    def _name(self, prompt: Prompt, tiles: Batch) -> str:
        return self.interview.name_part(prompt, tiles=tiles)

    def _find_missing(self, tiles: Batch) -> tuple[tuple[Prompt, ...], int]:
        """Give the prompts whose parts are not there, or are damaged, and how many are damaged."""
        present = [prompt for prompt in self.interview.prompts if self._name(prompt, tiles) in self.present]
        parts = self.interview.store.folder.read_many(self._name(prompt, tiles) for prompt in present)
        whole = {
            prompt.name
            for prompt, data in zip(present, parts, strict=True)
            if is_whole_part(data, prompt=prompt, tiles=tiles)
        }
        missing = tuple(prompt for prompt in self.interview.prompts if prompt.name not in whole)
        return missing, len(present) - len(whole)

    def _accept(self, tiles: Batch) -> None:
        self.names += [self._name(prompt, tiles) for prompt in self.interview.prompts]

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
