"""What `deltavlm check` says of a model's own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.registry import identify_model
from pipeline.runs.check import check_config


@pytest.mark.parametrize(("changes", "n_problems"), [({}, 0), ({"model_type": "bert"}, 1)])
def test_a_config_that_cannot_be_loaded_is_named(changes: dict[str, str], n_problems: int, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(identify_model("deltavlm-tiny").path, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    config = tmp_path / "mine.yaml"
    config.write_text(f"before: b.tif\nafter: a.tif\noutput: {tmp_path / 'run'}\nmodel: {{name: {folder}}}\n")

    named = [each for each in check_config(str(config)).problems if each.startswith("model.name")]

    assert len(named) == n_problems
    assert all("bert" in each for each in named)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_before_a_run() -> None:
    values = {"before": {"uri": "b.tif"}, "after": {"uri": "a.tif"}}
    problems = check_config(None, values=values, assignments=["model.device=cuda"]).problems

    assert [each for each in problems if "device 'cuda' on a machine with 0 CUDA devices" in each]
