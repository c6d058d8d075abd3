"""A change model that tells what differs by plain arithmetic: exact, quick, and to be told how to go wrong.

It comes to the pipeline as any other package's model would, through the entry point group ``deltavlm.models``: the
folder of this file, put on the path, looks like an installed distribution to Python.

A cell counts as a changed building where the two dates differ by more than 100 grey levels on average. A tile whose
upper left pixel has one of the colours below on the before date is trouble of that kind.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.interface import Answer, ChangeMasks, ChooseMasked, MaskedAnswers, ModelIdentity, Prompt, PromptKind

RAISES_COLOUR = (250, 1, 250)
KILLS_COLOUR = (1, 250, 250)
MUMBLES_COLOUR = (250, 250, 1)
HUNGRY_COLOUR = (1, 1, 250)
GATE_LIMIT_S = 240

CELLS = tuple(f"{y}-{x}" for y in ("top", "center", "bottom") for x in ("left", "center", "right"))


class StandInModel:
    """Answers about pairs by looking at the mean difference of each cell."""

    identity = ModelIdentity(model_id="stand-in@1", weight_hash=hashlib.sha256(b"stand-in 1").hexdigest(), path="")

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        wait_for_gate(os.environ.get("STAND_IN_WAITS_FOR"))
        time.sleep(float(os.environ.get("STAND_IN_SECONDS_PER_TILE", "0")) * len(pairs))
        for colour in (tuple(pair[0, :, 0, 0].tolist()) for pair in pairs):
            if colour == RAISES_COLOUR:
                raise ValueError("the model tripped over a tile")
            if colour == HUNGRY_COLOUR and len(pairs) > 1:
                raise MemoryError("no room beside this tile")
            if colour == KILLS_COLOUR:
                os.kill(os.getpid(), signal.SIGKILL)
        return [[answer_one(pair, kind=prompt.kind) for pair in pairs] for prompt in prompts]


def wait_for_gate(gate: str | None) -> None:
    """Wait until there is a file of this name: a test makes it once it has seen what it waited for."""
    deadline = time.monotonic() + GATE_LIMIT_S
    while gate is not None and not Path(gate).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{gate} did not come within {GATE_LIMIT_S} s")
        time.sleep(0.02)


def answer_one(pair: npt.NDArray[np.uint8], *, kind: PromptKind) -> Answer:
    if tuple(pair[0, :, 0, 0].tolist()) == MUMBLES_COLOUR:
        return Answer(text="colourless green ideas", confidence=0.5)
    cells = find_changed_cells(pair)
    texts = {
        PromptKind.DESCRIBE: f"{len(cells)} buildings appear." if cells else "the scene is the same as before.",
        PromptKind.CLASSIFY: "Yes" if cells else "No",
        PromptKind.COUNT: f"{len(cells)} buildings have changed, and 0 roads have changed.",
        PromptKind.LOCATE: f"roads: []. buildings: {cells}.",
        PromptKind.ASK: f"{len(cells)} by my eyes",
        PromptKind.DIALOGUE: f"{len(cells)}, as I said",
    }
    return Answer(text=texts[kind], confidence=0.75)


def find_changed_cells(pair: npt.NDArray[np.uint8]) -> list[str]:
    difference = np.abs(pair[1].astype(np.int16) - pair[0]).mean(axis=0)
    size = difference.shape[0]
    edges = [round(size * third / 3) for third in range(4)]
    return [
        CELLS[3 * row + col]
        for row in range(3)
        for col in range(3)
        if difference[edges[row] : edges[row + 1], edges[col] : edges[col + 1]].mean() > 100
    ]


class OutliningModel(StandInModel):
    """Also gives masks: each pixel that differs by more than 100 grey levels is building for 0.9; no road anywhere."""

    identity = ModelIdentity(
        model_id="stand-in-outlining@1",
        weight_hash=hashlib.sha256(b"stand-in outlining 1").hexdigest(),
        path="",
        mask_labels=("road", "building"),
    )
    mask_labels = identity.mask_labels

    def predict_masks(self, pairs: npt.NDArray[np.uint8], *, size_px: tuple[int, int] | None = None) -> ChangeMasks:
        is_changed = np.abs(pairs[:, 1].astype(np.int16) - pairs[:, 0]).mean(axis=1) > 100
        building = np.where(is_changed, np.float32(0.9), np.float32(0.2))
        return ChangeMasks(labels=self.mask_labels, probabilities=np.stack([np.zeros_like(building), building], axis=1))

    def answer_with_masks(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], choose_masked: ChooseMasked
    ) -> MaskedAnswers:
        answers = self.answer_prompts(pairs, prompts=prompts)
        chosen = np.flatnonzero(choose_masked(range(len(pairs)), answers))
        return MaskedAnswers(answers=answers, pair_indexes=chosen, masks=self.predict_masks(pairs[chosen]))


class StandInSource:
    """What the entry point names."""

    def __init__(self, kind: type[StandInModel] = StandInModel) -> None:
        self.kind = kind

    def identify(self) -> ModelIdentity:
        return self.kind.identity

    def load(self, *, device: str, dtype: str, batch_size_tiles: int) -> StandInModel:
        return self.kind()


SOURCE = StandInSource()
OUTLINING_SOURCE = StandInSource(OutliningModel)
