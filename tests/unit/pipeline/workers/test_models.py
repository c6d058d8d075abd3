"""Which precision the workers take, and what becomes of a model that several runs need."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from stand_in_model import StandInModel

from model.errors import InputError
from model.registry import resolve_dtype
from pipeline.config.model import ModelConfig
from pipeline.workers.models import list_held_models, return_model, settle_dtype, take_model


def make_client(answers: dict[str, Any]) -> Any:
    return SimpleNamespace(run=lambda function, *arguments, **how: answers)


def test_definite_precision_is_nobody_s_question() -> None:
    for model in (ModelConfig(dtype="float32"), ModelConfig(quantize="int8")):
        assert settle_dtype(make_client({}), model) is model


def test_precision_of_all_workers_is_taken() -> None:
    settled = settle_dtype(make_client({"tcp://a:1": "bfloat16", "tcp://b:1": "bfloat16"}), ModelConfig())

    assert settled == ModelConfig(dtype="bfloat16")


def test_worker_that_went_away_is_not_counted() -> None:
    answers = {"tcp://a:1": "float32", "tcp://b:1": ConnectionResetError("gone")}

    assert settle_dtype(make_client(answers), ModelConfig()).dtype == "float32"


def test_mixed_workers_are_refused() -> None:
    answers = {"tcp://a:1": "bfloat16", "tcp://b:1": "float32", "tcp://c:1": "float32"}

    with pytest.raises(InputError, match=r"auto is bfloat16 on worker tcp://a:1 and float32 on worker tcp://b:1"):
        settle_dtype(make_client(answers), ModelConfig())


@pytest.mark.parametrize("name", ["stand-in", "openai:http://127.0.0.1:1/v1#m"])
def test_precision_of_a_model_from_elsewhere_is_its_own_affair(name: str) -> None:
    assert resolve_dtype(name, device="auto", dtype="auto") == "auto"


@pytest.mark.parametrize("name", ["stand-in", "openai:http://127.0.0.1:1/v1#m"])
def test_a_model_from_elsewhere_is_not_quantized(name: str) -> None:
    with pytest.raises(InputError, match=r"model\.quantize int8 for model .*; leave model\.quantize out"):
        resolve_dtype(name, device="auto", dtype="int8")


def test_model_stays_as_long_as_one_run_needs_it() -> None:
    loads: list[int] = []

    def load() -> StandInModel:
        loads.append(1)
        return StandInModel()

    take_model("key", load)
    take_model("key", load)
    return_model("key")
    assert "key" in list_held_models()
    return_model("key")

    assert "key" not in list_held_models()
    assert loads == [1]
