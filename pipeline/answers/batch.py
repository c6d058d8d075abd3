"""What is asked of a batch of tiles, and the task that asks it on a worker."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from model.checking import read_notes
from model.interface import (
    ENGINE_VERSION,
    Answer,
    ChangeMasks,
    ChangeModel,
    ContextModel,
    MaskModel,
    ModelIdentity,
    PairContext,
    Prompt,
)
from pipeline.answers.contexts import Dates, describe_contexts
from pipeline.answers.meaning import list_witnesses
from pipeline.answers.outlines import OUTLINE_VERSION, answer_with_outlines, trace_masks
from pipeline.answers.parts import decode_part, encode_outlines, encode_part
from pipeline.config.limits import DEFAULT_LIMITS, LimitsConfig
from pipeline.config.run import ModelConfig
from pipeline.summary import StageSummary
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.workers.models import hold_model
from pipeline.workers.outcomes import call_in_time

STAGE = "collect_answers"

Masked = tuple[ChangeMasks, npt.NDArray[np.bool_]]
"""Masks, and which kinds are open per tile."""

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

    def name_part(self, prompt: Prompt, *, tiles: Sequence[Tile]) -> str:
        """Name the part with one prompt's answers for some tiles after all that the answers depend on."""
        content = [
            self.store.content_key,
            [tile.tile_id for tile in tiles],
            [prompt.name, prompt.kind.value, prompt.text],
            self.identity.weight_hash,
            self.model.dtype,
            ENGINE_VERSION,
            # Place and size go with the store.
            *([self.dates] if self.model.reads_context else []),
        ]
        return f"answers/{hashlib.sha256(json.dumps(content).encode()).hexdigest()}.parquet"

    def name_outlines(self, *, tiles: Sequence[Tile]) -> str:
        """Name the part with the outlines in some tiles likewise; they depend on what the witnesses answer, too."""
        content = [
            self.store.content_key,
            [tile.tile_id for tile in tiles],
            [[prompt.name, prompt.kind.value, prompt.text] for prompt in list_witnesses(self.prompts)],
            self.identity.weight_hash,
            self.model.dtype,
            ENGINE_VERSION,
            self.outline_kinds,
            OUTLINE_VERSION,
        ]
        return f"outlines/{hashlib.sha256(json.dumps(content).encode()).hexdigest()}.parquet"

    def name_parts(self, *, tiles: Sequence[Tile]) -> list[str]:
        """Name all parts that some tiles are to give: one per prompt, and the outlines where there are any."""
        names = [self.name_part(prompt, tiles=tiles) for prompt in self.prompts]
        return [*names, self.name_outlines(tiles=tiles)] if self.outline_kinds else names


def answer_batch(interview: Interview, tiles: Batch, lack: Lack) -> StageSummary:
    """Ask about one batch and write its parts: the task that runs on a worker.

    Before and after it has the model, the worker computes other batches.
    """
    start = time.perf_counter()
    pairs = interview.store.read_pairs(tiles)
    n_bytes = pairs.nbytes
    kinds, witnesses = interview.outline_kinds, list_witnesses(interview.prompts)
    contexts = (
        describe_contexts(tiles, grid=interview.store.grid, dates=interview.dates)
        if interview.model.reads_context
        else None
    )
    known = _read_texts(interview, tiles, prompts=[p for p in witnesses if p not in lack.prompts]) if kinds else {}
    with hold_model(interview.model, identity=interview.identity, is_reading_ahead=interview.is_reading_ahead) as model:
        ask = partial(_ask, model, pairs, lack=lack, witnesses=witnesses, known=known, kinds=kinds, contexts=contexts)
        what = f"the model's answer about {len(tiles)} tiles"
        answered, masked, notes = call_in_time(ask, limit_s=interview.limits.find_batch_s(len(tiles)), what=what)
    del pairs, ask
    folder = interview.store.folder
    written = sum(
        folder.put(interview.name_part(prompt, tiles=tiles), encode_part(prompt, tiles=tiles, answers=answers))
        for prompt, answers in zip(lack.prompts, answered, strict=True)
    )
    if masked is not None:
        masks, is_open = masked
        outlines = trace_masks(masks, tiles=tiles, is_open=is_open, kinds=kinds, grid=interview.store.grid)
        written += folder.put(interview.name_outlines(tiles=tiles), encode_outlines(outlines, tiles=tiles))
    return StageSummary(
        stage=STAGE,
        done=len(tiles),
        seconds=time.perf_counter() - start,
        bytes_read=n_bytes,
        bytes_written=written,
        notes=notes,
    )


def _ask(
    model: ChangeModel,
    pairs: npt.NDArray[np.uint8],
    *,
    lack: Lack,
    witnesses: Sequence[Prompt],
    known: Mapping[str, Sequence[str]],
    kinds: Sequence[str],
    contexts: Sequence[PairContext] | None,
) -> tuple[list[list[Answer]], Masked | None, dict[str, int]]:
    """Have the model answer, with masks where they are missing; the last is what it has to say besides."""
    if contexts is not None:
        answers = cast(ContextModel, model).answer_in_context(pairs, prompts=lack.prompts, contexts=contexts)
        return answers, None, read_notes(model)
    if not lack.has_outlines:
        return model.answer_prompts(pairs, prompts=lack.prompts), None, read_notes(model)
    answered, masks, is_open = answer_with_outlines(
        cast(MaskModel, model), pairs, prompts=lack.prompts, witnesses=witnesses, known=known, kinds=kinds
    )
    return answered, (masks, is_open), read_notes(model)


def _read_texts(interview: Interview, tiles: Batch, *, prompts: Sequence[Prompt]) -> dict[str, list[str]]:
    """Read what was answered before: the texts by the name of the prompt, in the order of the tiles."""
    names = {prompt.name: interview.name_part(prompt, tiles=tiles) for prompt in prompts}
    return {name: decode_part(interview.store.folder.read(part))["text"].to_pylist() for name, part in names.items()}
