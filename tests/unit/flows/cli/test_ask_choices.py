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
    record.config["model"] |= {"quantize": "off"}
    assert choose_dtype(record) == "float32"
    record.config["model"] |= {"quantize": "int8", "dtype": "auto"}
    assert choose_dtype(record) == "int8"


def test_an_error_of_the_model_is_told_in_its_own_words(monkeypatch):
    def refuse(*_, **__):
        raise InputError("weights in here are cut", expected="all of them", remedy="get the files again")

    monkeypatch.setattr(registry, "load_model", refuse)
    with pytest.raises(InputError) as caught:
        load_named_model("mine", device="cpu", dtype="auto")
    told = caught.value
    assert (told.found, told.expected, told.remedy) == (
        "model 'mine': weights in here are cut",
        "all of them",
        "get the files again",
    )


def test_a_fault_of_the_model_stays_one(monkeypatch):
    def fail(*_, **__):
        raise ValueError("3 is not in list")

    monkeypatch.setattr(registry, "load_model", fail)
    with pytest.raises(ValueError, match="3 is not in list") as caught:
        load_named_model("mine", device="cuda", dtype="auto")
    assert not isinstance(caught.value, InputError)
