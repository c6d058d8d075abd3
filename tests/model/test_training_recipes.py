"""The recipes that ship: what learns, at which size, and that they run on models of the same kind."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from original_files import settle
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.autograd.graph import saved_tensors_hooks
from training_material import make_values, write_small_model
from training_pairs import make_images, write_pairs

from model.configuration import DeltaVlmConfig
from model.conversion.converting import convert_model
from model.inspection import inspect_model
from model.interface import Prompt, PromptKind
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.facts import TargetText
from model.processing import DeltaVlmProcessor, PromptForm
from model.registry import load_model
from model.training.collation import InstructionCollator
from model.training.dataset import InstructionSample
from model.training.masks import add_mask_decoder
from model.training.optimization import build_optimizer
from model.training.progress import StepClock
from model.training.recipe import TrainingConfig, load_training_config
from model.training.running import build_arguments, count_steps
from model.training.trainer import STALE_MASKS, prepare_model, train
from model.training.training_model import TrainingModel, choose_trained
from model.training.training_run import TrainingRun

STAND_IN = Path(__file__).parents[1] / "stand_in"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    write_pairs(folder / "pairs", n_pairs=4)
    write_small_model(folder / "small")
    return folder


def test_the_papers_recipe_trains_what_the_paper_says(repository):
    """253.6 million, counted as in test_modeling: with two heads that no answer passes through, without key biases."""
    config = load_training_config(repository / "configs" / "train-deltavlm.yaml")
    with torch.device("meta"):
        model = DeltaVlmForConditionalGeneration(DeltaVlmConfig())
    names = choose_trained([name for name, _ in model.named_parameters()], trained=config.trained_parts)
    learned = sum(parameter.numel() for name, parameter in model.named_parameters() if name in names) / 1e6
    unused_heads, key_biases = 2 * (768 * 256 + 256) / 1e6, 2 * 1408 / 1e6
    assert round(learned + unused_heads - key_biases, 1) == 253.6
    assert not any(name.startswith("language_model") for name in names)
    # 105,107 instructions, less than 2 % held out.
    assert count_steps(config, n_items=105_107) == 131_384
    augmentation = config.augmentation
    assert (augmentation.crop_fraction, augmentation.rotation_degrees) == (0.05, 15)
    assert (config.learning_rate, config.weight_decay, config.warm_up_steps) == (1e-5, 0.05, 1000)
    assert (config.batch_size_pairs, config.n_epochs, config.prompt_form) == (24, 30, PromptForm.TRAINING)


def test_a_pattern_or_part_that_fits_nothing_is_refused():
    names = ["vision_model.a", "qformer.layer.1.b", "qformer.layer.10.b"]
    assert choose_trained(names, trained=["qformer.layer.1.*"]) == {"qformer.layer.1.b"}
    assert choose_trained(names, trained=["*"], frozen=["qformer"]) == {"vision_model.a"}
    with pytest.raises(ValueError, match=r"trained_parts: 'qfromer.\*' fits no parameter; expected .*; "):
        choose_trained(names, trained=["qfromer.*"])
    with pytest.raises(ValueError, match=r"frozen_parts: .* no part 'vision'; expected one of vision_model, qformer; "):
        choose_trained(names, trained=["*"], frozen=["vision"])
    with pytest.raises(ValueError, match=r"no parameter is left to learn; expected .*; "):
        choose_trained(names, trained=["qformer.*"], frozen=["qformer"])


def write_changechat(folder, *, n_pairs):
    entries = []
    for index in range(n_pairs):
        before, after, _ = make_images(n_buildings=index % 2, seed=index)
        for name, image in (("A", before), ("B", after)):
            (folder / "images" / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / "images" / name / f"{index}.png"), image)
        turns = ["<image> <image> have the roads changed?", "Yes." if index % 2 else "No."]
        conversations = [{"from": who, "value": text} for who, text in zip(("human", "gpt"), turns, strict=True)]
        entries.append({"id": index, "image": [f"A/{index}.png", f"B/{index}.png"], "conversations": conversations})
    (folder / "train.json").write_text(json.dumps(entries))


def test_the_papers_recipe_runs_from_the_originals_files_to_answers(repository, originals, tmp_path):
    """Three blocks stand for 39, of which the last two learn; everything else is as the recipe says."""
    convert_model(settle(originals, vision_layers=3), output=tmp_path / "initial")
    config = load_training_config(repository / "configs" / "train-deltavlm.yaml")
    write_changechat(tmp_path, n_pairs=6)
    small = {
        "trained_parts": [part.replace(".37.", ".1.").replace(".38.", ".2.") for part in config.trained_parts],
        "validation": config.validation.model_dump() | {"held_out_fraction": 0.3},
        "initial_weights": str(tmp_path / "initial"),
        "n_epochs": 1,
        "batch_size_pairs": 2,
        "warm_up_steps": 1,
        "n_loader_workers": 0,
        "learning_rate": 1e-3,
        "saved_dtype": "float32",
    }
    config = TrainingConfig.model_validate(config.model_dump() | small)
    result = train(config, output=tmp_path / "trained", data_root=tmp_path)
    assert result.n_steps == count_steps(config, n_items=result.n_items)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("initial", "trained"))
    moved = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    parts = {".".join(name.split(".")[:4]) if "encoder.layers" in name else name.split(".")[0] for name in moved}
    layers = {f"vision_model.encoder.layers.{index}" for index in (1, 2)}
    assert parts >= layers | {"difference", "qformer", "query_tokens", "language_projection"}
    assert not any(name.startswith("language_model") for name in moved)
    assert "vision_model.encoder.layers.0" not in parts
    # The difference perception of the original was never trained; ours says that it is.
    assert inspect_model(tmp_path / "trained")["difference_is_trained"] is True
    assert DeltaVlmProcessor.from_pretrained(tmp_path / "trained").prompt_form is PromptForm.TRAINING
    settings = [(tmp_path / name / "generation_config.json").read_text() for name in ("initial", "trained")]
    assert settings[0] == settings[1]
    model = load_model(str(tmp_path / "trained"), dtype="float32")
    asked = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="have the roads changed?")
    assert len(model.answer_prompts(np.zeros((1, 2, 3, 32, 32), np.uint8), prompts=[asked])[0]) == 1


def make_training_model(place, **values) -> tuple[TrainingModel, TrainingConfig]:
    config = TrainingConfig.model_validate(make_values(model=place / "small", **values))
    torch.manual_seed(0)
    model = DeltaVlmForConditionalGeneration.from_pretrained(place / "small")
    return prepare_model(model, config)[0], config


def make_batch(place) -> dict[str, torch.Tensor]:
    pairs = np.random.default_rng(1).integers(0, 256, (2, 2, 3, 96, 96), dtype=np.uint8)
    samples = [
        InstructionSample(pair=pair, facts=None, turns=(("Have these two images changed?", TargetText(text=answer)),))
        for pair, answer in zip(pairs, ("Yes", "No"), strict=True)
    ]
    return InstructionCollator(DeltaVlmProcessor.from_pretrained(place / "small"))(samples)


def measure_gradients(model: TrainingModel, batch) -> tuple[dict[str, torch.Tensor], int]:
    """Give the gradients of a step, and the bytes that were kept for them."""
    kept = []
    torch.manual_seed(3)
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes) or tensor, lambda tensor: tensor):
        loss = model.train()(**batch)["loss"]
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, sum(kept)


def test_activations_that_are_computed_again_give_the_same_gradients_and_need_less_memory(place):
    """Also through a language model that does not learn, whose layers then stay in eval."""
    values = {"frozen_parts": ["language_model", "vision_model"], "auxiliary_loss_weight": 0.0}
    model, _ = make_training_model(place, **values)
    batch = make_batch(place)
    expected, n_kept = measure_gradients(model, batch)
    model.zero_grad()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=None, every_n_layers=1, offload=False)
    found, n_kept_again = measure_gradients(model, batch)
    assert n_kept_again < 0.8 * n_kept
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_what_does_not_learn_keeps_its_statistics_and_drops_nothing(place):
    model, _ = make_training_model(place, trained_parts=["qformer.*", "difference.*"], auxiliary_loss_weight=0.0)
    model.train()
    is_training = {name: part.training for name, part in model.model.named_children()}
    assert is_training == {
        "vision_model": False,
        "difference": True,
        "qformer": True,
        "language_projection": False,
        "language_model": False,
    }
    norms = [name for name in model.state_dict() if "running_" in name or "vision" in name or "language" in name]
    assert norms == []
    assert {name.split(".")[1] for name in model.state_dict()} == {"qformer", "difference"}
    # Statistics of norms that do learn are part of a checkpoint.
    model, _ = make_training_model(place)
    assert any("running_mean" in name for name in model.state_dict())
    with pytest.raises(ValueError, match=r"parameters of the checkpoint are others .*; expected .*; start over"):
        model.load_state_dict({"model.query_tokens": torch.zeros(1)})


def test_learning_rates_follow_the_parts(place):
    model, config = make_training_model(
        place, trunk_learning_rate_fraction=0.1, language_learning_rate_fraction=0.5, weight_decay=0.2, adam_beta2=0.9
    )
    optimizer = build_optimizer(model, config)
    assert optimizer.defaults["betas"] == (0.9, 0.9)
    rate_of = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    inner = model.model
    found = {
        "trunk": rate_of[id(inner.vision_model.trunk[0][1].weight)],
        "csrm": rate_of[id(inner.difference.context1.weight)],
        "qformer": rate_of[id(inner.qformer.encoder.layer[0].attention.attention.query.weight)],
        "bias": rate_of[id(inner.difference.context2.bias)],
    }
    expected = {"trunk": (1e-4, 0.2), "csrm": (1e-3, 0.2), "qformer": (5e-4, 0.2), "bias": (1e-3, 0.0)}
    assert {name: pytest.approx(values) for name, values in expected.items()} == found


def test_a_step_is_shared_out_evenly_or_not_at_all(tmp_path):
    config = TrainingConfig.model_validate(
        {"sources": [], "n_steps": 25, "batch_size_pairs": 12, "accumulation_steps": 3}
    )
    run = TrainingRun(config=config, output=tmp_path / "out", data_root=tmp_path)
    arguments = build_arguments(run, n_steps=25)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (4, 3)
    assert arguments.save_steps == 3
    uneven = config.model_copy(update={"accumulation_steps": 5})
    with pytest.raises(ValueError, match=r"batch_size_pairs 12 on 1 processes .*; expected a multiple of 5; "):
        build_arguments(replace(run, config=uneven), n_steps=25)


WATCHED = """
import json, sys
from pathlib import Path
from model.training.recipe import TrainingConfig
from model.training.trainer import train

values, place = json.loads(sys.argv[1]), Path(sys.argv[2])
seen = []

def look(progress):
    seen.append([progress.step, (place / "logged" / "model.safetensors").is_file()])

result = train(TrainingConfig.model_validate(values), output=place / "logged", data_root=place, on_progress=look)
print(json.dumps({"seen": seen, **result.to_dict()}))
"""


def test_the_log_tells_of_losses_throughput_and_computing(place):
    """In a process of its own: a loader's worker is forked, with the locks that other tests' threads hold."""
    values = make_values(model=place / "small", n_steps=2, n_loader_workers=1, snapshot_every_steps=1)
    config = TrainingConfig.model_validate(values).model_dump(mode="json")
    watched = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(config), str(place)],
        env={**os.environ, "PYTHONPATH": str(STAND_IN)},
        capture_output=True,
        check=False,
    )
    assert watched.returncode == 0, watched.stderr.decode()
    result = json.loads(watched.stdout.splitlines()[-1])
    # Snapshots are there before the training is over.
    assert result["seen"] == [[1, True], [2, True]]
    assert 0 < result["compute_fraction"] <= 1
    assert result["pairs_per_s"] > 0
    log = EventAccumulator(str(place / "logged-training" / "tensorboard"))
    log.Reload()
    tags = set(log.Tags()["scalars"])
    wanted = {"loss", "text", "difference", "query", "learning_rate", "grad_norm", "pairs_per_s", "compute_fraction"}
    assert {f"train/{name}" for name in wanted} <= tags


def test_a_clock_tells_waiting_from_computing():
    times = iter([0.0, 2.0, 5.0, 10.0, 11.0, 14.0])
    clock = StepClock(read_time_s=lambda: next(times))
    for _ in range(2):
        clock.begin_wait()
        clock.end_wait()
        clock.end_step()
    # The five seconds between the steps belong to neither.
    assert clock.take() == (3.0, 6.0, 2)
    assert clock.take() == (0.0, 0.0, 0)
    assert (clock.total_wait_s, clock.total_compute_s, clock.total_steps) == (3.0, 6.0, 2)


def test_heads_are_for_the_small_kind_alone(originals, tmp_path):
    convert_model(settle(originals), output=tmp_path / "vit")
    model = DeltaVlmForConditionalGeneration.from_pretrained(tmp_path / "vit")
    with pytest.raises(
        ValueError, match=r"auxiliary heads for .* instructblip_vision_model .*; expected .*; set auxil"
    ):
        TrainingModel(model, text_loss_weight=1.0)


def test_a_mask_branch_that_was_left_behind_is_told(place):
    config = TrainingConfig.model_validate(make_values(model=place / "small"))
    model = DeltaVlmForConditionalGeneration.from_pretrained(place / "small")
    add_mask_decoder(model, {"feature_source": "difference_perception", "unification": "projection"})
    training, notes = prepare_model(model, config)
    assert notes == (STALE_MASKS,)
    assert not any("mask_decoder" in name for name in training.state_dict())
    still = config.model_copy(update={"frozen_parts": ["vision_model", "difference"]})
    assert prepare_model(model, still)[1] == ()


def test_all_steps_of_an_epoch_are_taken(place):
    config = TrainingConfig.model_validate(make_values(model=place / "small", n_steps=None, n_epochs=3))
    result = train(config, output=place / "epochs", data_root=place)
    assert (result.n_items, result.n_steps) == (4, 6)
    weights = load_file(place / "epochs" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in chain(weights.values()) if tensor.is_floating_point())
