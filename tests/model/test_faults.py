"""A fault of the program ends every command with exit code 3 and a traceback, wrong input with 2 and three parts."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.cli import main as cli

MESSAGE = "3 is not in list"


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whole inputs of all commands, in the folder that they are called from."""
    for part in ("A", "B", "label"):
        (tmp_path / "pairs" / part).mkdir(parents=True)
        pixels = np.full((64, 64, 3), {"A": 90, "B": 150, "label": 0}[part], np.uint8)
        Image.fromarray(pixels[..., 0] if part == "label" else pixels).save(tmp_path / "pairs" / part / "one.png")
    (tmp_path / "recipe.yaml").write_text("{sources: [{kind: folder, path: pairs}], n_steps: 1}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple:
    monkeypatch.setattr(sys, "argv", ["deltavlm", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


IMAGES = ["--before", "pairs/A/one.png", "--after", "pairs/B/one.png"]
FAULTS = {
    "train": (["model", "train", "recipe.yaml", "-o", "out"], "model.training.trainer.load_all_sources"),
    "train, settings": (["model", "train", "recipe.yaml", "-o", "out"], "model.training.recipe.check_settings"),
    "evaluate": (["model", "evaluate", "--data", "pairs"], "model.evaluation.pair_folders.read_image"),
    "convert": (["model", "convert", "x.pth", "-o", "out"], "model.conversion.converting.read_inputs"),
    "calibrate": (["model", "calibrate", "model", "--data", "pairs"], "model.registry.load_model"),
    "ask": (["ask", *IMAGES, "--model", "stand-in", "Why?"], "model.conversation.parse_answer"),
    "ask, loading": (["ask", *IMAGES, "Why?"], "model.registry.load_model"),
    "explore": (["explore", "run"], "pipeline.storage.opening.find_run_folder"),
    "changechat": (["data", "changechat", "pairs", "-o", "out"], "model.changechat.building.read_image"),
    "synthesize": (["data", "synthesize", "out", "--n-tiles", "1"], "pipeline.training_data.tiles.synthesize_tiles"),
    "info": (["model", "info"], "model.inspection.count_parameters"),
    "run": (["run", "a.tif", "b.tif", "-o", "out"], "pipeline.runs.run.find_pair"),
}


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_ends_with_three_and_a_traceback(case, monkeypatch, capsys):
    arguments, place = FAULTS[case]

    def fail(*_, **__):
        raise ValueError(MESSAGE)

    monkeypatch.setattr(place, fail)

    code, out, err = call(arguments, monkeypatch, capsys)

    assert code == cli.FAULT
    assert out == ""
    assert "Traceback (most recent call last)" in err
    assert f"ValueError: {MESSAGE}" in err
    assert "Fault: ValueError in the program" in err
    assert "Expected:" not in err


WRONG_INPUTS = {
    "train": (["model", "train", "none.yaml", "-o", "out"], "none.yaml cannot be read"),
    "evaluate": (["model", "evaluate", "--data", "none"], "none is not a folder"),
    "evaluate, output": (
        ["model", "evaluate", "--data", "pairs", "-o", "recipe.yaml"],
        "recipe.yaml cannot be written",
    ),
    "convert": (["model", "convert", "none.pth", "-o", "out"], "none.pth"),
    "calibrate": (["model", "calibrate", "none", "--data", "pairs"], "none is no folder with a model"),
    "ask": (["ask", *IMAGES, "--model", "none", "Why?"], "model 'none': no model at 'none'"),
    "explore": (["explore", "none"], "none is no folder"),
    "changechat": (["data", "changechat", "none", "-o", "out"], "none is not a folder"),
    "changechat, output": (["data", "changechat", "pairs", "-o", "recipe.yaml"], "recipe.yaml cannot be written"),
    "synthesize": (["data", "synthesize", "out", "--n-tiles", "1", "--size-px", "9"], "size_px is 9"),
    "info": (["model", "info", "none"], "no model at 'none'"),
    "run": (["run", "none.tif", "none.tif", "-o", "out"], "none.tif"),
}


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_input_ends_with_two_and_three_parts(case, monkeypatch, capsys):
    arguments, found = WRONG_INPUTS[case]

    code, out, err = call(arguments, monkeypatch, capsys)

    assert code == cli.WRONG_INPUT
    assert out == ""
    assert found in err.partition("Expected: ")[0]
    assert "\nExpected: " in err
    assert "\nTo do: " in err
    assert "Traceback" not in err
