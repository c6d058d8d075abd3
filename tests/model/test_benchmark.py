"""The benchmark of the engine at sizes that a test can pay for."""

import importlib.util
import sys

import numpy as np
import pytest

from model.configuration import DeltaVlmConfig
from model.registry import find_model_folder


@pytest.fixture(scope="module")
def benchmark(repository):
    spec = importlib.util.spec_from_file_location("engine_benchmark", repository / "benchmarks" / "engine.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_loop_and_engine_give_the_same_answers(benchmark):
    benchmark.load("deltavlm-tiny", "float32", 1)
    pairs = benchmark.make_pairs(4)
    engine, loop = benchmark.run_engine(pairs), benchmark.run_loop(pairs)
    assert engine.texts == loop.texts
    assert [len(row) for row in engine.texts] == [4, 4, 4]
    assert engine.n_tokens == loop.n_tokens > 12
    assert engine.peak_bytes > 50e6


def test_random_weights_give_answers_of_the_length_that_is_timed(benchmark):
    answerer = benchmark.build_random_answerer(DeltaVlmConfig.from_pretrained(find_model_folder("deltavlm-tiny")))
    pairs = np.zeros((2, 2, 3, 32, 32), np.uint8)
    assert answerer.settings.limit_new_tokens(99) == benchmark.ANSWER_TOKENS
    assert benchmark.measure_pairs(answerer, pairs, n_rounds=1) > 0


def test_the_full_size_wants_a_gpu(benchmark, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        benchmark.measure_full_size()
