"""Served models at the edges of the commands: what a name may make a command do, and what an error says."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows.cli.ask import choose_model
from flows.cli.main import app
from model.conversation import PromptText, Reply, describe_reply
from model.errors import InputError
from model.interface import PromptKind
from model.registry import identify_named_model

SERVED = "openai:http://127.0.0.1:9/v1#somebody"


def test_a_run_cannot_choose_where_pixels_and_key_are_sent():
    record = SimpleNamespace(config={"model": {"name": SERVED}})
    name, notes = choose_model(None, record=record)
    assert name == "deltavlm-tiny"
    assert len(notes) == 1
    assert SERVED in notes[0]
    assert choose_model(SERVED, record=record) == (SERVED, [])


def test_a_malformed_name_is_told_in_one_error():
    with pytest.raises(InputError) as caught:
        identify_named_model("openai:ftp://host/v1#m")
    assert str(caught.value).count("expected") == 1
    assert "http" in str(caught.value)


def test_no_information_about_weights_on_a_server():
    result = CliRunner().invoke(app, ["model", "info", SERVED])
    assert isinstance(result.exception, InputError)
    assert "weights on a server" in str(result.exception)


def test_no_confidence_is_null_in_json():
    reply = Reply(
        question="What?",
        kind=PromptKind.ASK,
        text="A house.",
        confidence=float("nan"),
        meaning=None,
        prompt=PromptText(text="What?", n_history_turns=0),
    )
    assert json.loads(json.dumps(describe_reply(reply), allow_nan=False))["confidence"] is None
