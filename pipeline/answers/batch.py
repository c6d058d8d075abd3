"""What is asked of a batch of tiles, and the task that asks it on a worker."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from model.checking import read_notes
from model.interface import (
    ENDPOINT_PREFIX,
    ENGINE_VERSION,
    Answer,
    ChangeMasks,
    ChangeModel,
    MaskModel,
    ModelIdentity,
    PairContext,
    Prompt,
)
from pipeline.answers.contexts import Dates, describe_contexts
from pipeline.answers.first_tile import try_first_tile
from pipeline.answers.meaning import list_witnesses
from pipeline.answers.outlines import OUTLINE_VERSION, trace_masks
from pipeline.answers.parts import decode_part, encode_outlines, encode_part
from pipeline.answers.screening import find_screen
from pipeline.answers.seams import Blended, Place, blend_seams
from pipeline.answers.sitting import Answered, Masked, Sitting
from pipeline.config.limits import DEFAULT_LIMITS, LimitsConfig
from pipeline.config.model import ModelConfig
from pipeline.grid.window import Window
from pipeline.summary import StageSummary
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.workers.outcomes import call_in_time

STAGE = "collect_answers"

Batch = tuple[Tile, ...]
"""Tiles that go to a worker together."""


@dataclass(frozen=True, kw_only=True)
class Lack:
    """What is not there yet of what a batch is to give."""

    prompts: tuple[Prompt, ...]
    """Those whose answers are missing."""
    has_outlines: bool = False
    """Whether the outlines are missing."""

    def __bool__(self) -> bool:
        return bool(self.prompts) or self.has_outlines


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
    dates: Dates = (None, None)
    """When the scenes were taken, for models that read it."""
    outline_kinds: tuple[str, ...] = ()
    """Kinds of change that are outlined by the model's masks; empty: none."""
    is_reading_ahead: bool = True
    """Whether a worker reads its next batch while it computes."""
    limits: LimitsConfig = DEFAULT_LIMITS
    """How long a batch may take."""

    @property
    def screen(self) -> Prompt | None:
        """The prompt that decides which tiles get the others; None: all do."""
        return find_screen(self.prompts, model=self.model)

    def name_part(self, prompt: Prompt, *, tiles: Sequence[Tile]) -> str:
        """Name the part with one prompt's answers for some tiles after all that the answers depend on."""
        content = [
            self.store.content_key,
            [tile.tile_id for tile in tiles],
            [prompt.name, prompt.kind.value, prompt.text],
            self.identity.weight_hash,
            self.model.precision,
            ENGINE_VERSION,
            # Place and size go with the store.
            *([self.dates] if self.model.reads_context else []),
            *(
                [[screen.name, screen.text, self.model.screening_confidence]]
                if (screen := self.screen) is not None and prompt != screen
                else []
            ),
            *self._list_gaps(tiles),
        ]
        return f"answers/{hashlib.sha256(json.dumps(content).encode()).hexdigest()}.parquet"

    def name_outlines(self, *, tiles: Sequence[Tile], around: frozenset[Place] = frozenset()) -> str:
        """Name the part with the outlines in some tiles likewise.

        They depend on what the witnesses answer, too, and on the pixels of the tiles beside them that are asked about.
        """
        content = [
            self.store.content_key,
            [tile.tile_id for tile in tiles],
            [[prompt.name, prompt.kind.value, prompt.text] for prompt in list_witnesses(self.prompts)],
            self.identity.weight_hash,
            self.model.precision,
            ENGINE_VERSION,
            self.outline_kinds,
            OUTLINE_VERSION,
            sorted(around),
            *self._list_gaps(tiles, around=around),
        ]
        return f"outlines/{hashlib.sha256(json.dumps(content).encode()).hexdigest()}.parquet"

    def _list_gaps(self, tiles: Sequence[Tile], *, around: frozenset[Place] = frozenset()) -> list[list[str]]:
        """Give what the content key does not tell of the pixels; nothing where there is nothing of that kind."""
        gaps = self.store.list_gaps([*((tile.row, tile.col) for tile in tiles), *around])
        return [["without", *gaps]] if gaps else []

    def name_parts(self, *, tiles: Sequence[Tile], around: frozenset[Place] = frozenset()) -> list[str]:
        """Name all parts that some tiles are to give: one per prompt, and the outlines where there are any."""
        names = [self.name_part(prompt, tiles=tiles) for prompt in self.prompts]
        return [*names, self.name_outlines(tiles=tiles, around=around)] if self.outline_kinds else names


def answer_batch(
    interview: Interview, tiles: Batch, lack: Lack, around: frozenset[Place] = frozenset()
) -> StageSummary:
    """Ask about one batch and write its parts: the task that runs on a worker.

    Before and after it has the model, the worker computes other batches.

    Args:
        interview: What is asked.
        tiles: The batch.
        lack: What is not there of it.
        around: Row and column of the other tiles that are asked about and touch one of these.
    """
    # Not at the top: Dask takes half a second to import, and a finished run asks no worker.
    from pipeline.workers.models import hold_model

    start = time.perf_counter()
    pairs = interview.store.read_pairs(tiles)
    n_bytes = pairs.nbytes
    contexts = None
    if interview.model.reads_context:
        contexts = describe_contexts(tiles, grid=interview.store.grid, dates=interview.dates)
    put_questions = _prepare_questions(interview, tiles, lack, pairs=pairs, contexts=contexts)
    with hold_model(interview.model, identity=interview.identity, is_reading_ahead=interview.is_reading_ahead) as model:
        if not interview.model.name.startswith(ENDPOINT_PREFIX):
            # Of one behind a server every request has its end.
            name, limits = interview.identity.weight_hash, interview.limits
            try_first_tile(model, name=name, pairs=pairs, contexts=contexts, prompts=lack.prompts, limits=limits)
        what = f"the model's answer about {len(tiles)} tiles"
        limit_s = interview.limits.find_batch_s(len(tiles))
        answered, masked = call_in_time(partial(put_questions, model), limit_s=limit_s, what=what)
        del pairs, put_questions
        looked = None
        if masked is not None:
            looked = (
                _look_over_borders(interview, tiles, masked, around=around, model=cast(MaskModel, model)),
                masked[1],
            )
        notes = read_notes(model)
    folder = interview.store.folder
    written = sum(
        folder.put(interview.name_part(prompt, tiles=tiles), encode_part(prompt, tiles=tiles, answers=answers))
        for prompt, answers in zip(lack.prompts, answered, strict=True)
    )
    if looked is not None:
        blended, is_open = looked
        kinds, grid = interview.outline_kinds, interview.store.grid
        outlines = trace_masks(blended.masks, tiles=tiles, is_open=is_open, kinds=kinds, grid=grid, wider=blended.wider)
        written += folder.put(
            interview.name_outlines(tiles=tiles, around=around), encode_outlines(outlines, tiles=tiles)
        )
    return StageSummary(
        stage=STAGE,
        done=len(tiles),
        seconds=time.perf_counter() - start,
        bytes_read=n_bytes,
        bytes_written=written,
        notes=notes,
    )


def _look_over_borders(
    interview: Interview, tiles: Batch, masked: Masked, *, around: frozenset[Place], model: MaskModel
) -> Blended:
    """Have the model look over the borders of tiles at which something changed."""
    masks, is_open = masked
    indexes = np.flatnonzero(is_open.any(axis=1))
    is_open_kind = dict(zip(interview.outline_kinds, is_open[indexes].T, strict=True))
    is_drawn = [is_open_kind.get(label, np.zeros(len(indexes), np.bool_)) for label in masks.labels]

    def look_again(windows: Sequence[Window]) -> ChangeMasks:
        pairs = interview.store.read_windows(windows)
        limit_s = interview.limits.find_batch_s(len(windows))
        what = f"the model's look over {len(windows)} borders of tiles"
        return call_in_time(partial(model.predict_masks, pairs), limit_s=limit_s, what=what)

    asked = around | {(tile.row, tile.col) for tile in tiles}
    return blend_seams(
        masks,
        tiles=[tiles[index] for index in indexes],
        is_drawn=np.array(is_drawn, np.bool_).T,
        asked=asked,
        grid=interview.store.grid,
        look_again=look_again,
    )


def _prepare_questions(
    interview: Interview,
    tiles: Batch,
    lack: Lack,
    *,
    pairs: npt.NDArray[np.uint8],
    contexts: Sequence[PairContext] | None,
) -> Callable[[ChangeModel], Answered]:
    """Read what else is to be known before a model is asked, and give what asks it."""
    kinds, screen, witnesses = interview.outline_kinds, interview.screen, list_witnesses(interview.prompts)
    wanted = {prompt.name for prompt in (*(witnesses if kinds else ()), *([screen] if screen else ()))}
    answered = [prompt for prompt in interview.prompts if prompt.name in wanted and prompt not in lack.prompts]
    known = {prompt.name: _read_answers(interview, tiles, prompt) for prompt in answered}

    def put_questions(model: ChangeModel) -> Answered:
        sitting = Sitting(
            model=model,
            pairs=pairs,
            contexts=contexts,
            witnesses=witnesses,
            known={name: [answer.text for answer in answers] for name, answers in known.items()},
            kinds=kinds,
        )
        if screen is None:
            return sitting.ask(lack.prompts, has_outlines=lack.has_outlines)
        return sitting.ask_screened(
            lack.prompts,
            has_outlines=lack.has_outlines,
            screen=screen,
            first=known.get(screen.name),
            confidence=interview.model.screening_confidence,
        )

    return put_questions


def _read_answers(interview: Interview, tiles: Batch, prompt: Prompt) -> list[Answer]:
    """Read what was answered before, in the order of the tiles."""
    table = decode_part(interview.store.folder.read(interview.name_part(prompt, tiles=tiles)))
    return [Answer(text=row["text"], confidence=row["confidence"]) for row in table.to_pylist()]
