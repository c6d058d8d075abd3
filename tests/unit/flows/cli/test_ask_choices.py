"""What `deltavlm ask` chooses where the command line leaves it open, and how it tells what is wrong with a model."""

from types import SimpleNamespace

import pytest

from flows.cli.ask import choose_dtype
from model import registry
from model.errors import InputError
from model.registry import load_named_model


def test_the_precision_is_the_runs_own():
    record = SimpleNamespace(config={"model": {"name": "deltavlm-tiny", "dtype": "float32"}})
    assert choose_dtype(record) == "float32"
    assert choose_dtype(None) == "auto"


def test_an_error_of_the_model_is_told_in_its_own_words(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("weights in here are cut; expected all of them; get the files again")

    monkeypatch.setattr(registry, "load_model", refuse)
    with pytest.raises(InputError) as caught:
        load_named_model("mine", device="cpu", dtype="auto")
    assert "model 'mine': weights in here are cut" in str(caught.value)
    assert "get the files again" in str(caught.value)


def test_any_other_error_names_its_kind(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA went away")

    monkeypatch.setattr(registry, "load_model", fail)
    with pytest.raises(InputError, match="RuntimeError: CUDA went away"):
        load_named_model("mine", device="cuda", dtype="auto")
