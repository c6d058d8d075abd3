"""The fourth verb: put every prompt to every selected tile, and keep the answers as parts.

A batch is the selected tiles of one shard of the store. Each prompt's answers to one batch are one Parquet
file, and so are the outlines of what changed in it, where the model has masks. Each is named after everything it
depends on, so a file that is there is right, whoever wrote it, and a run that is started again asks only for what is
missing. When a batch fails, whether in an error or with its
worker, its halves are asked next, until the tile that does it stands alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from model.errors import FolderError
from model.interface import ModelIdentity, Prompt
from model.redaction import redact_text
from pipeline.answers.batch import STAGE, Batch, Interview, Lack, answer_batch
from pipeline.answers.contexts import Dates
from pipeline.answers.parts import AnswerParts, is_whole_outline_part, is_whole_part
from pipeline.answers.seams import Place
from pipeline.config.limits import DEFAULT_LIMITS, LimitsConfig
from pipeline.config.model import ModelConfig
from pipeline.summary import PART_REPAIRED, ProgressCallback, StageSummary, ignore_progress
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.workers.outcomes import TaskFailedError

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.workers.tasks import Call

MIN_BATCHES_WITHOUT_AN_ANSWER = 8
"""Fewest batches that may go by without any tile of them being answered before the stage gives up."""


def group_batches(tiles: Iterable[Tile], *, shard_size_tiles: int) -> list[Batch]:
    """Put the selected tiles of each shard into one batch, shards and tiles both row-major."""
    shards: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        if tile.status is None:
            shards.setdefault((tile.row // shard_size_tiles, tile.col // shard_size_tiles), []).append(tile)
    return [tuple(sorted(shards[shard], key=lambda tile: (tile.row, tile.col))) for shard in sorted(shards)]


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
    dates: Dates = (None, None),
    outline_kinds: Sequence[str] = (),
    is_reading_ahead: bool = True,
    limits: LimitsConfig = DEFAULT_LIMITS,
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
        dates: When the scenes were taken, before first; only models that are told use it.
        outline_kinds: Kinds of change that are outlined by the model's masks.
        is_reading_ahead: Whether a worker reads its next batch while it computes.
        limits: How long a worker may take to load the model, and a batch to be answered.
        on_progress: Called for every finished batch; counts are of tiles.

    Raises:
        InputError: a worker cannot load the model, scheduler or workers went away, or the run's folder is full or out
            of reach.
    """
    start = time.perf_counter()
    interview = Interview(
        store=store,
        prompts=tuple(prompts),
        model=model,
        identity=identity,
        dates=dates,
        outline_kinds=tuple(outline_kinds),
        is_reading_ahead=is_reading_ahead,
        limits=limits,
    )
    present = [name for kind in ("answers", "outlines") for name in store.folder.list_names(kind)]
    batches = group_batches(tiles, shard_size_tiles=store.shard_size_tiles)
    asked = frozenset((tile.row, tile.col) for batch in batches for tile in batch) if outline_kinds else frozenset()
    asking = _Asking(interview=interview, present=frozenset(present), asked_places=asked)
    total = StageSummary(stage=STAGE, total=sum(len(batch) for batch in batches))
    on_progress(total)
    try:
        for part in asking.ask_all(batches, client=client, max_in_flight=max_in_flight):
            total += part
            on_progress(part)
    finally:
        if asking.max_asked:
            from pipeline.workers.models import unregister_model

            unregister_model(client, model=model, identity=identity)
    parts = AnswerParts(
        folder=store.folder,
        names=tuple(sorted(name for name in asking.names if name.startswith("answers/"))),
        outline_names=tuple(sorted(name for name in asking.names if name.startswith("outlines/"))),
        failures=dict(sorted(asking.failures.items())),
    )
    return parts, replace(total, seconds=time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A batch, or a part of one that failed."""

    tiles: Batch
    lack: Lack
    """What is not there of it."""
    origin: int
    """Number of the batch."""


@dataclass(kw_only=True)
class _Asking:
    """Asks batches, and of what fails the halves."""

    interview: Interview
    present: frozenset[str]
    """Names of the parts that were there when the stage began."""
    asked_places: frozenset[Place] = frozenset()
    """Row and column of all tiles that are asked about, where there are to be outlines."""
    names: list[str] = field(default_factory=list)
    """This run's parts that are there by now."""
    failures: dict[str, str] = field(default_factory=dict)
    line: deque[_Piece] = field(default_factory=deque)
    """What is to be asked, the halves of what failed first."""
    asked: dict[str, _Piece] = field(default_factory=dict)
    """What is under way, by the key of its task."""
    suspects: list[Batch] = field(default_factory=list)
    """Single tiles that a worker may have died of, or of their neighbours."""
    hopeless: set[tuple[int, str]] = field(default_factory=set)
    """Batches of which a tile failed alone since one was last answered; of those that ran out of time, each tile."""
    max_asked: int = 0

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
        # Not at the top: Dask takes half a second to import, and a finished run asks no worker.
        from pipeline.workers.models import register_model
        from pipeline.workers.tasks import run_bounded

        interview = self.interview
        register_model(
            client, model=interview.model, identity=interview.identity, limit_s=interview.limits.model_load_s
        )
        for key, outcome in run_bounded(client, answer_batch, self._take_call, max_in_flight=max_in_flight):
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

    def _take_call(self) -> Call | None:
        """Give the next call; there may be more after there were none, as some that are under way fail."""
        if not self.line:
            return None
        piece = self.line.popleft()
        key = f"answer-batch-{uuid4().hex}"
        # ^ not derived from the content: runs into two folders may share a scheduler, not a task.
        self.asked[key] = piece
        self.max_asked = max(self.max_asked, len(self.asked))
        from pipeline.workers.tasks import Call

        return Call(key, (self.interview, piece.tiles, piece.lack, self._find_around(piece.tiles)))

    def _find_around(self, tiles: Batch) -> frozenset[Place]:
        """Give row and column of the other tiles that are asked about and touch one of these, by a corner at least."""
        own = {(tile.row, tile.col) for tile in tiles}
        beside = {(row + y, col + x) for row, col in own for y in (-1, 0, 1) for x in (-1, 0, 1)}
        return frozenset((beside - own) & self.asked_places)

    def _line_up(self, tiles: Batch, *, origin: int, is_first: bool = False) -> Iterator[StageSummary]:
        lack, n_damaged = self._find_lack(tiles)
        if n_damaged:
            yield StageSummary(stage=STAGE, notes={PART_REPAIRED: n_damaged})
        if not lack:
            self._accept(tiles)
            yield StageSummary(stage=STAGE, skipped=len(tiles), reasons={"already answered": len(tiles)})
            return
        piece = _Piece(tiles=tiles, lack=lack, origin=origin)
        (self.line.appendleft if is_first else self.line.append)(piece)

    def _take_failure(self, piece: _Piece, problem: BaseException, *, is_alone: bool) -> Iterator[StageSummary]:
        tiles = piece.tiles
        is_late = getattr(problem, "kind", "") == TimeoutError.__name__
        if len(tiles) > 1:
            middle = len(tiles) // 2
            # Halves of what hangs would hang for half as long each, again and again.
            parts = [(tile,) for tile in reversed(tiles)] if is_late else [tiles[middle:], tiles[:middle]]
            for part in parts:
                yield from self._line_up(part, origin=piece.origin, is_first=True)
            return
        self.hopeless.add((piece.origin, tiles[0].tile_id if is_late else ""))
        if _is_deadly(problem) and not is_alone:
            self.suspects.append(tiles)
        else:
            yield self._fail([tiles], reason=describe_failure(problem))

    def _find_lack(self, tiles: Batch) -> tuple[Lack, int]:
        """Tell what is not there, or is damaged, of what a batch is to give, and how many parts are damaged."""
        interview = self.interview
        names = interview.name_parts(tiles=tiles, around=self._find_around(tiles))
        present = [name for name in names if name in self.present]
        found = dict(zip(present, interview.store.folder.read_many(present), strict=True))
        is_whole = [
            name in found and is_whole_part(found[name], prompt=prompt, tiles=tiles)
            for prompt, name in zip(interview.prompts, names, strict=False)
        ]
        # ^ The name that is left is that of the outlines, which no prompt asks for.
        has_no_outlines = bool(interview.outline_kinds) and not is_whole_outline_part(found.get(names[-1]), tiles=tiles)
        missing = tuple(prompt for prompt, whole in zip(interview.prompts, is_whole, strict=True) if not whole)
        n_whole = sum(is_whole) + (bool(interview.outline_kinds) and not has_no_outlines)
        return Lack(prompts=missing, has_outlines=has_no_outlines), len(present) - n_whole

    def _accept(self, tiles: Batch) -> None:
        self.names += self.interview.name_parts(tiles=tiles, around=self._find_around(tiles))

    def _fail(self, batches: Sequence[Batch], *, reason: str) -> StageSummary:
        failures = {tile.tile_id: reason for batch in batches for tile in batch}
        self.failures |= failures
        return StageSummary(stage=STAGE, failed=len(failures), reasons={reason: len(failures)})


def describe_failure(problem: BaseException) -> str:
    """Say in one line why a batch failed."""
    if _is_deadly(problem):
        return "the worker died again and again while it was at work on the tile"
    name = problem.kind if isinstance(problem, TaskFailedError) else type(problem).__name__
    words = problem.words if isinstance(problem, TaskFailedError) else str(problem)
    lines = redact_text(words).splitlines()
    return f"{name}: {lines[0][:200]}" if lines else name


def _is_deadly(problem: BaseException) -> bool:
    from distributed import KilledWorker

    return isinstance(problem, KilledWorker)
