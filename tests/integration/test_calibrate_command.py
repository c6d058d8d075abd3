"""``deltavlm model calibrate``: a temperature beside the weights, and confidences that follow it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_material import write_small_model
from training_pairs import write_pairs
from typer.testing import CliRunner

from flows.cli.model import app
from model.certainty import Certainty
from model.decoding.steps import SearchSettings
from model.errors import InputError
from model.familiarity import FAMILIARITY_FILE
from model.interface import Prompt, PromptKind
from model.registry import find_model_folder, identify_model, load_model

CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Have these two images changed?")
BLANK = np.zeros((1, 2, 3, 96, 96), np.uint8)


@pytest.fixture
def decided_model(tmp_path):
    """A small model that says yes to everything: the word's embedding points where its thoughts do."""
    folder = write_small_model(tmp_path / "small")
    answerer = load_model(str(folder), dtype="float32")
    hidden = []
    hook = answerer.model.language_model.lm_head.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    answerer.answer_prompts(BLANK, prompts=[CLASSIFY])
    hook.remove()
    (yes,) = answerer.processor.tokenizer("Yes", add_special_tokens=False)["input_ids"]
    direction = hidden[0].reshape(-1, hidden[0].shape[-1])[0]
    model = type(answerer.model).from_pretrained(folder)
    model.get_input_embeddings().weight.data[yes] = direction / direction.norm()
    model.save_pretrained(folder)
    return folder


def calibrate(*arguments) -> dict[str, object]:
    result = CliRunner().invoke(app, ["calibrate", *map(str, arguments)])
    if isinstance(result.exception, InputError):
        raise result.exception
    return json.loads(result.stdout.splitlines()[-1])


def test_a_scaling_is_fitted_stored_and_fitted_on_top(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(find_model_folder("deltavlm-tiny"), tmp_path / "tiny"))
    (folder / FAMILIARITY_FILE).unlink()
    (folder / "generation_config.json").unlink(missing_ok=True)
    data = write_pairs(tmp_path / "data", n_pairs=6)
    first = calibrate(folder, "--data", data)
    stored = json.loads((folder / "generation_config.json").read_text())
    assert (first["former_temperature"], first["former_bias"]) == (1.0, 0.0)
    assert (first["confidence_temperature"], first["yes_bias"]) == (
        stored["confidence_temperature"],
        stored["yes_bias"],
    )
    assert first["n_answers"] == 6
    # Six pairs tell little of what pairs look like.
    assert not first["has_familiarity"]
    assert load_model(str(folder)).answer_prompts(BLANK, prompts=[CLASSIFY])[0][0].familiarity is None
    monkeypatch.setattr("model.evaluation.home_looks.MIN_PAIRS", 6)
    second = calibrate(folder, "--data", data, "--pattern", "pair_00[0-2]", "--pattern", "pair_00[3-5]")
    assert second["n_answers"] == 6
    assert (second["former_temperature"], second["former_bias"]) == (first["confidence_temperature"], first["yes_bias"])
    assert second["has_familiarity"]
    assert load_model(str(folder)).answer_prompts(BLANK, prompts=[CLASSIFY])[0][0].familiarity < 0.05
    # Six pairs are too few to measure anything by, and what was measured of the former model does not hold.
    assert second["certainty"] == {"outlines": [], "counts": [], "bare_yes": None}
    assert identify_model(str(folder)).certainty == Certainty()
    stored = (folder / "generation_config.json").read_bytes()
    kept = calibrate(folder, "--data", data, "--keep-scaling", "--pattern", "pair_000,pair_001")
    assert kept.keys() == {"model", "certainty", "has_familiarity"}
    assert (folder / "generation_config.json").read_bytes() == stored


def test_a_bias_turns_a_close_no_into_a_yes(decided_model):
    # The stand-in says yes to everything; against a bias that outweighs it, it cannot.
    (decided_model / "generation_config.json").write_text(json.dumps({"yes_bias": -50.0}))
    ((turned,),) = load_model(str(decided_model), dtype="float32").answer_prompts(BLANK, prompts=[CLASSIFY])
    assert not turned.text.startswith("Yes")
    count = Prompt(name="count", kind=PromptKind.COUNT, text=CLASSIFY.text)
    ((other,),) = load_model(str(decided_model), dtype="float32").answer_prompts(BLANK, prompts=[count])
    assert other.text.startswith("Yes")


def test_confidences_follow_the_stored_temperature_and_answers_do_not(decided_model):
    ((before,),) = load_model(str(decided_model), dtype="float32").answer_prompts(BLANK, prompts=[CLASSIFY])
    (decided_model / "generation_config.json").write_text(json.dumps({"confidence_temperature": 4.0}))
    ((after,),) = load_model(str(decided_model), dtype="float32").answer_prompts(BLANK, prompts=[CLASSIFY])
    assert before.text.startswith("Yes")
    assert after.text == before.text
    odds = (before.confidence / (1 - before.confidence)) ** 0.25
    assert after.confidence == pytest.approx(odds / (1 + odds), rel=1e-3)
    assert 0.5 < after.confidence < before.confidence


@pytest.mark.parametrize(
    ("probability", "temperature", "expected"), [(0.9, 2.0, 0.75), (0.5, 3.0, 0.5), (0.8, 1.0, 0.8)]
)
def test_a_temperature_divides_the_log_odds(probability, temperature, expected):
    settings = SearchSettings(eos_token_id=1, pad_token_id=0, confidence_temperature=temperature)
    assert settings.calibrate(torch.tensor(probability)).item() == pytest.approx(expected, abs=1e-6)


def test_only_a_folder_can_be_calibrated(tmp_path):
    with pytest.raises(InputError, match="deltavlm-tiny is no folder with a model"):
        calibrate("deltavlm-tiny", "--data", tmp_path)


def test_patterns_and_sizes_come_in_pairs(tmp_path, decided_model):
    with pytest.raises(InputError, match="2 times --tile-size-px and 1 times --pattern"):
        calibrate(decided_model, "--data", tmp_path, "--tile-size-px", "96", "--tile-size-px", "48")


def test_truths_of_one_kind_cannot_be_fitted(tmp_path):
    folder = Path(shutil.copytree(find_model_folder("deltavlm-tiny"), tmp_path / "tiny"))
    with pytest.raises(InputError, match="0 times yes and 2 times no in the truth"):
        calibrate(folder, "--data", write_pairs(tmp_path / "data", n_pairs=4), "--pattern", "pair_00[13]")
