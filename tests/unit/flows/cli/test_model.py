"""The commands under ``deltavlm model``: their words, their files, their errors."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from flows.cli.model import app
from model.errors import InputError
from model.inspection import count_parameters


def test_parameters_are_counted_from_the_header(tmp_path):
    tensors = {
        "vision_model.a": np.zeros((3, 4), np.float16),
        "vision_model.b": np.zeros(5, np.float16),
        "qformer.c": np.zeros((), np.float16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert count_parameters([tmp_path / "model.safetensors"]) == {"qformer": 1, "vision_model": 17}


def test_info_tells_which_weights_ship():
    result = CliRunner().invoke(app, ["info"])
    facts = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0
    assert facts["model_id"] == f"deltavlm-tiny@{facts['weight_hash'][:12]}"
    assert set(facts["parameters"]) >= {"vision_model", "difference", "qformer", "language_model"}
    assert 5e6 < sum(facts["parameters"].values()) < 8e6


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "no-such-model"],
        ["evaluate", "--data", "no-such-folder"],
    ],
)
def test_what_is_not_there_is_named(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert "no-such" in result.exception.found
    assert list(tmp_path.iterdir()) == []
