"""The first tile that a worker asks a model about, alone: whether it answers at all is known after minutes, not hours.

A batch has time for all of its tiles, as nobody can know how long one takes. So a model that hangs from the start would
be waited for that long. The answer is left aside: tiles are asked in the batches that their answers are named after.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from model.interface import ChangeModel, ContextModel, PairContext, Prompt
from pipeline.config.limits import LimitsConfig
from pipeline.workers.outcomes import call_in_time

FEWEST_TILES = 4
"""Batches of no more tiles have no time in which one more tile would be worth asking."""
_answering: set[str] = set()
"""What has answered in this process."""


def try_first_tile(
    model: ChangeModel,
    *,
    name: str,
    pairs: npt.NDArray[np.uint8],
    contexts: Sequence[PairContext] | None,
    prompts: Sequence[Prompt],
    limits: LimitsConfig,
) -> None:
    """Ask a model about the first tile of a batch, unless it has answered in this process already.

    Args:
        model: Who is asked.
        name: Tells it from others, such as the hash of its weights.
        pairs: The tiles of the batch, as `TileStore.read_pairs` gives them.
        contexts: What else it is told of them; None: nothing.
        prompts: The questions; none where only outlines are missing.
        limits: How long it may take.

    Raises:
        TimeoutError: it did not answer, and this worker is about to end.
    """
    if name in _answering or len(pairs) <= FEWEST_TILES or not prompts:
        return
    what = "the model's answer about the first tile of a batch"
    call_in_time(partial(_ask, model, pairs[:1], contexts, prompts), limit_s=limits.find_batch_s(1), what=what)
    _answering.add(name)


def _ask(
    model: ChangeModel,
    pairs: npt.NDArray[np.uint8],
    contexts: Sequence[PairContext] | None,
    prompts: Sequence[Prompt],
) -> None:
    # What goes wrong here goes wrong again in the batch, and is told of the tile that it is about.
    with suppress(Exception):
        if contexts is None:
            model.answer_prompts(pairs, prompts=prompts)
        else:
            cast(ContextModel, model).answer_in_context(pairs, prompts=prompts, contexts=contexts[:1])
