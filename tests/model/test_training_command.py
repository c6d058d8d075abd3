"""The command `deltavlm model train`, as docs/train-on-your-data.md tells people to use it."""

import io
import json
import shutil
import subprocess

import pytest
import yaml
from made_scenes import command_environment, command_line
from rich.console import Console
from training_material import CLASSIFY, make_values, write_small_model
from training_pairs import write_pairs
from typer.testing import CliRunner

from flows.cli.main import app
from flows.cli.train import show_training, write_figures, write_validation
from model.errors import InputError
from model.registry import load_model
from model.training.progress import TrainingProgress


def run_command(*words: object) -> tuple[dict, str]:
    """Give the JSON of the last line on stdout, and what people saw."""
    result = CliRunner().invoke(app, ["model", "train", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout), result.stderr


def run_process(*words: object) -> tuple[dict, str]:
    """Do as `run_command` in a process of its own.

    Loader workers are forked, and what other tests leave running in this process may hold locks that a fork keeps.
    """
    result = subprocess.run(
        command_line("model", "train", *map(str, words)),
        env=command_environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    return json.loads(result.stdout), result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    write_pairs(folder / "mine", n_pairs=24)
    write_small_model(folder / "small")
    return folder


def test_the_model_that_ships_learns_from_a_folder_of_ones_own(repository, place):
    """Bright squares on grey noise are nothing that it knows; after some steps it says when there are some."""
    values = yaml.safe_load((repository / "configs" / "fine-tune.yaml").read_text())
    values |= {"n_steps": 14, "warm_up_steps": 2, "checkpoint_every_steps": 14, "batch_size_pairs": 8}
    values |= {"prompts": [CLASSIFY], "prompts_per_pair": 1, "learning_rate": 4e-4}
    values["augmentation"] = {"unchanged_fraction": 0, "removal_fraction": 0}
    values["validation"]["held_out_fraction"] = 0.3
    (place / "quick.yaml").write_text(yaml.safe_dump(values))
    (place / "mine" / "A" / "pair_999.png").write_bytes(b"no image")
    said, shown = run_process(place / "quick.yaml", "--data", place / "mine", "--output", place / "out")
    assert said["n_items"] + said["n_validation_items"] == 24
    assert said["validation"]["text_loss"] < 0.5 * said["validation_before"]["text_loss"]
    assert said["validation"]["exact_classify"] > said["validation_before"]["exact_classify"]
    assert [line.split(":")[0] for line in said["skipped"]] == ["pair_999"]
    assert "Left out: pair_999" in shown
    assert "text loss" in shown
    assert load_model(said["model"]).identity.path == str(place / "out")


def test_faults_of_the_input_are_told_in_one_message(place, tmp_path):
    config = tmp_path / "config.yaml"
    values = make_values(model=place / "small", sources=[{"path": "."}])

    def refuse(match: str, **changes: object) -> None:
        config.write_text(yaml.safe_dump(json.loads(json.dumps(values | changes))))
        with pytest.raises(InputError, match=match):
            run_command(config, "--data", tmp_path / "mine", "--output", tmp_path / "out")

    refuse("no pair")
    shutil.copytree(place / "mine", tmp_path / "mine", ignore=shutil.ignore_patterns("*999*"))
    refuse("learning_rat: unknown key", learning_rat=1)
    refuse("augmentation.colour: ", augmentation={"colour": 1})
    refuse("no model at 'nowhere'", initial_weights="nowhere")
    refuse("trained_parts: 'eyes' fits no parameter", trained_parts=["eyes"])
    shutil.copyfile(tmp_path / "mine" / "B" / "pair_000.png", tmp_path / "mine" / "B" / "pair_000.tif")
    refuse("share a name")
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no-such-config"):
        run_command(tmp_path / "no-such-config.yaml", "--output", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--initial-weights"),
        (["--initial-weights", "m", "--trunk-weights", "t"], "trunk_weights: unknown key"),
    ],
)
def test_a_mask_branch_is_trained_for_a_model_that_is_there(options, message, tmp_path):
    config = tmp_path / "mask.yaml"
    config.write_text("{kind: mask, sources: [], n_steps: 1}")
    result = CliRunner().invoke(app, ["model", "train", str(config), "--output", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, InputError)
    assert message in result.exception.found
    assert not (tmp_path / "out").exists()


def test_options_go_over_the_config_and_a_complete_training_is_not_run_again(place, tmp_path):
    values = make_values(model="nowhere", sources=[{"path": "mine"}], n_steps=1)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    words = (tmp_path / "config.yaml", "--data", place, "--output", tmp_path / "out")
    words = (*words, "--initial-weights", place / "small")
    first, _ = run_command(*words)
    weights = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    again, _ = run_command(*words)
    assert again == first
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == weights
    run_command(*words, "--start-over")
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns > weights


def test_what_is_not_known_yet_is_not_said():
    progress = TrainingProgress(
        step=3, n_steps=9, loss=1.25, pairs_per_s=None, compute_fraction=0.957, validation={"exact_fraction": 0.5}
    )
    assert write_figures(progress) == "loss 1.250, 96% computing"
    assert write_validation(progress) == "Validation at step 3: 50.0% of the answers right"


def test_a_training_says_in_a_log_how_far_it_is() -> None:
    file = io.StringIO()
    with show_training(Console(file=file), is_shown=True) as tell:
        for step in (1, 2):
            tell(
                TrainingProgress(
                    step=step, n_steps=2, loss=0.25, pairs_per_s=None, compute_fraction=None, validation={}
                )
            )

    assert file.getvalue().splitlines() == ["Train: 2 to do.", "Train: 2 of 2 done in 0 s; loss 0.250."]
