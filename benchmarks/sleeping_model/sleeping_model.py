"""A change model that is busy as a GPU is: it takes its time, and the processor is free meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.interface import Answer, ModelIdentity, Prompt


class SleepingModel:
    """Answers each batch the same, after ``SLEEPING_MODEL_S`` seconds."""

    identity = ModelIdentity(model_id="sleeping@1", weight_hash="sleeping", path="")

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Sleep, then answer."""
        time.sleep(float(os.environ["SLEEPING_MODEL_S"]))
        return [[Answer(text="No", confidence=1.0) for _ in pairs] for _ in prompts]


class SleepingSource:
    """What the entry point names."""

    def identify(self) -> ModelIdentity:
        """Tell which weights these are."""
        return SleepingModel.identity

    def load(self, *, device: str, dtype: str, batch_size_tiles: int) -> SleepingModel:  # noqa: ARG002
        """Load the model, which is quick."""
        return SleepingModel()


SOURCE = SleepingSource()
