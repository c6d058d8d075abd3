"""A training that was killed ends like one that was not; a full disk costs what came after the last checkpoint."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_material import make_values, write_small_model
from training_pairs import write_pairs

from model.errors import InputError
from model.training.checkpoints import CheckpointError, find_stop, list_checkpoints
from model.training.dataset import InstructionStream
from model.training.masks import train_masks
from model.training.recipe import MaskTrainingConfig, TrainingConfig
from model.training.trainer import train

STAND_IN = Path(__file__).parents[1] / "stand_in"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pairs and a small model."""
    folder = tmp_path_factory.mktemp("training")
    write_pairs(folder / "pairs", n_pairs=6)
    write_small_model(folder / "small")
    return folder


def make_config(place: Path, **values) -> TrainingConfig:
    return TrainingConfig.model_validate(make_values(model=place / "small", **values))


class InterruptedTraining(RuntimeError):  # noqa: N818 - nothing is wrong
    """What a test ends a training with."""


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from model.training.masks import train_masks
from model.training.recipe import MaskTrainingConfig, TrainingConfig
from model.training.trainer import train

values, place, output = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])

def kill(progress):
    if progress.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

is_mask = "kind" in values
config = (MaskTrainingConfig if is_mask else TrainingConfig).model_validate(values)
(train_masks if is_mask else train)(config, output=output, data_root=place, on_progress=kill)
"""


def test_a_killed_training_ends_like_one_that_was_not(place, monkeypatch):
    config = make_config(
        place,
        n_steps=8,
        checkpoint_every_steps=3,
        batch_size_pairs=4,
        accumulation_steps=2,
        averaging_decay=0.8,
        validation={"held_out_fraction": 0.3, "patience": 5},
    )
    whole = train(config, output=place / "whole", data_root=place)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(config.model_dump(mode="json")), str(place), str(place / "killed")],
        env={**os.environ, "PYTHONPATH": str(STAND_IN)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [step for step, _ in list_checkpoints(place / "killed-training")] == [3]
    assert not (place / "killed").exists()
    drawn = []
    draw = InstructionStream.__getitem__
    monkeypatch.setattr(InstructionStream, "__getitem__", lambda self, k: drawn.append(k) or draw(self, k))
    resumed = train(config, output=place / "killed", data_root=place)
    assert same_weights(place / "whole", place / "killed")
    assert (resumed.n_steps, resumed.best_step) == (8, whole.best_step)
    assert resumed.validation == whole.validation
    assert resumed.validation_before == whole.validation_before
    # What steps 1 to 3 were shown is not drawn again.
    assert sorted(drawn) == list(range(3 * 4, 8 * 4))
    drawn.clear()
    assert train(config, output=place / "killed", data_root=place).to_dict() == resumed.to_dict()
    assert drawn == []


def test_the_mask_branch_goes_on_as_well(place):
    values = make_values(model=place / "small", n_steps=7, checkpoint_every_steps=2)
    for name in ("prompts", "prompts_per_pair"):
        del values[name]
    decoder = {"hidden_size": 16, "n_stages": 2, "has_attention": False, "output_size_px": 24, "labels": ["building"]}
    values |= {"kind": "mask", "decoder": decoder, "validation": {"held_out_fraction": 0.3}}
    config = MaskTrainingConfig.model_validate(values)
    result = train_masks(config, output=place / "whole-mask", data_root=place)
    assert set(result.validation) == {"loss"}
    assert result.validation["loss"] < result.validation_before["loss"]

    def stop(progress):
        if progress.step == 5:
            raise InterruptedTraining

    with pytest.raises(InterruptedTraining):
        train_masks(config, output=place / "stopped-mask", data_root=place, on_progress=stop)
    train_masks(config, output=place / "stopped-mask", data_root=place)
    assert same_weights(place / "whole-mask", place / "stopped-mask")


def test_another_recipe_does_not_go_on_with_it(place):
    config = make_config(place, n_steps=1)
    train(config, output=place / "mine", data_root=place)
    other = config.model_copy(update={"n_steps": 2, "n_checkpoints_kept": 1})
    with pytest.raises(ValueError, match=r"another recipe \(n_steps differ\); expected .*; .*start over"):
        train(other, output=place / "mine", data_root=place)
    assert train(other, output=place / "mine", data_root=place, starts_over=True).n_steps == 2


@contextmanager
def limited_files(n_bytes: int):
    """Let no file grow beyond a size: writes fail in the kernel then, whatever library they come from."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [10_000, 1_500_000])
def test_a_disk_that_fills_leaves_the_last_checkpoint(place, n_bytes):
    """The smaller limit stops the weights, the larger one those of the optimizer, which torch writes."""
    output = place / f"full-{n_bytes}"
    config = make_config(place, n_steps=6, checkpoint_every_steps=2)
    limits = []

    def fill(progress):
        if progress.step == 3:
            limits.append(limited_files(n_bytes))
            limits[0].__enter__()

    try:
        with pytest.raises(CheckpointError, match=r"step 4 cannot .*; expected room.*goes on from step 2"):
            train(config, output=output, data_root=place, on_progress=fill)
    finally:
        limits[0].__exit__(None, None, None)
    folder = place / f"full-{n_bytes}-training"
    assert [path.name for _, path in list_checkpoints(folder)] == ["checkpoint-2"]
    assert not (folder / "checkpoint-4").exists()
    train(config, output=output, data_root=place)
    train(config, output=place / "roomy", data_root=place)
    assert same_weights(output, place / "roomy")


def test_a_disk_that_is_full_at_the_end_says_so(place):
    config = make_config(place, n_steps=1)
    limits = []

    def fill(progress):
        limits.append(limited_files(200_000))

    train(config, output=place / "fits", data_root=place, on_progress=fill)
    (place / "fits" / "config.json").unlink()
    with (
        limits[0],
        pytest.raises(InputError, match=r"the model cannot be written .*; expected room.*goes on from step 1"),
    ):
        train(config, output=place / "fits", data_root=place)
    # The model that was there is still whole, and no half of another lies beside it.
    load_file(place / "fits" / "model.safetensors")
    assert [path.name for path in place.glob("fits-*")] == ["fits-training"]


def test_halves_of_checkpoints_are_not_gone_on_from(place):
    output = place / "halves"
    config = make_config(place, n_steps=4, checkpoint_every_steps=2)

    def stop(progress):
        if progress.step == 3:
            raise InterruptedTraining

    with pytest.raises(InterruptedTraining):
        train(config, output=output, data_root=place, on_progress=stop)
    half = place / "halves-training" / "checkpoint-3"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    train(config, output=output, data_root=place)
    assert not half.exists()


def test_checkpoints_rotate(place):
    config = make_config(place, n_steps=5, checkpoint_every_steps=1, n_checkpoints_kept=2)
    train(config, output=place / "rotated", data_root=place)
    assert [step for step, _ in list_checkpoints(place / "rotated-training")] == [4, 5]


def test_training_stops_early_and_keeps_the_best(place):
    """With a learning rate of zero nothing gets better, so the first checkpoint stays the best."""
    config = make_config(
        place,
        n_steps=20,
        checkpoint_every_steps=1,
        learning_rate=0.0,
        frozen_parts=["vision_model"],
        validation={"sources": [{"path": "pairs"}], "patience": 2, "figure": "text_loss"},
    )
    result = train(config, output=place / "early", data_root=place)
    assert (result.n_steps, result.best_step) == (3, 1)
    assert result.validation == result.validation_before
    last = place / "early-training" / "checkpoint-3"
    assert find_stop(last, patience=2) == 3
    assert find_stop(last, patience=3) is None
    # Killed between its last checkpoint and its end, it does not go on beyond its stop.
    (place / "early-training" / "result.json").unlink()
    again = train(config, output=place / "early", data_root=place)
    assert (again.n_steps, again.best_step) == (3, 1)


SHARED = """
import json, os, sys
from pathlib import Path
from model.training.dataset import InstructionStream
from model.training.recipe import TrainingConfig
from model.training.trainer import train

values, place, output = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
draw = InstructionStream.__getitem__

def note(self, k):
    with open(place / f"rank-{os.environ['RANK']}", "a") as file:
        file.write(f"{k} ")
    return draw(self, k)

InstructionStream.__getitem__ = note
result = train(TrainingConfig.model_validate(values), output=output, data_root=place)
assert result.n_steps == 2
"""


def test_two_processes_share_a_step_between_them(place, tmp_path):
    """A step's pairs are the same four whether one process computes them or two with two workers each."""
    (tmp_path / "script.py").write_text(SHARED)
    values = make_values(
        model=place / "small",
        n_steps=2,
        batch_size_pairs=4,
        n_loader_workers=2,
        validation={"held_out_fraction": 0.3},
    )
    (tmp_path / "pairs").symlink_to(place / "pairs")
    started = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *(str(tmp_path / "script.py"), json.dumps(values), str(tmp_path), str(tmp_path / "out")),
        ],
        env={**os.environ, "PYTHONPATH": str(STAND_IN), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr.decode()[-3000:]
    drawn = [sorted(map(int, (tmp_path / f"rank-{rank}").read_text().split())) for rank in (0, 1)]
    assert drawn == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    result = json.loads((tmp_path / "out-training" / "result.json").read_text())
    assert result["validation"]["text_loss"] > 0
