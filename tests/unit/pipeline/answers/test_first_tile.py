"""A model that hangs from the start is found by one tile, and one that answers is not asked twice for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from model.interface import Answer, ModelIdentity, Prompt, PromptKind
from pipeline.answers.first_tile import try_first_tile
from pipeline.config.limits import LimitsConfig

CHANGED = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?")
PAIRS = np.zeros((64, 2, 3, 8, 8), np.uint8)


class CountingModel:
    """Keeps how many tiles it was asked about each time, and may fail or hang."""

    identity = ModelIdentity(model_id="counting", weight_hash="c" * 64, path="")

    def __init__(self, *, fails: bool = False, hangs: bool = False) -> None:
        self.asked: list[int] = []
        self.fails, self.hangs = fails, hangs
        self.is_over = threading.Event()

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        self.asked.append(len(pairs))
        if self.fails:
            raise RuntimeError("not this tile")
        if self.hangs:
            self.is_over.wait(60)
        return [[Answer(text="no")] * len(pairs) for _ in prompts]


def try_model(model: CountingModel, *, name: str, n_tiles: int = 64, prompts: Sequence[Prompt] = (CHANGED,)) -> None:
    limits = LimitsConfig(tile_s=0.05 if model.hangs else 60)
    try_first_tile(model, name=name, pairs=PAIRS[:n_tiles], contexts=None, prompts=prompts, limits=limits)


def test_a_model_that_hangs_is_told_of_after_the_time_of_one_tile() -> None:
    model = CountingModel(hangs=True)
    try:
        with pytest.raises(TimeoutError, match=r"first tile of a batch did not end within 0\.15 s"):
            try_model(model, name="hangs")
    finally:
        model.is_over.set()


def test_one_tile_is_asked_alone_once_in_a_process() -> None:
    model = CountingModel()
    for _ in range(3):
        try_model(model, name="answers")
    assert model.asked == [1]


@pytest.mark.parametrize("given", [{"n_tiles": 4}, {"prompts": ()}])
def test_where_little_is_asked_no_tile_is_asked_alone(given: dict[str, object]) -> None:
    model = CountingModel()
    try_model(model, name="little", **given)  # type: ignore[arg-type]
    assert model.asked == []


def test_what_goes_wrong_is_left_to_the_batch() -> None:
    model = CountingModel(fails=True)
    try_model(model, name="fails")
    assert model.asked == [1]
