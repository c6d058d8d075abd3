"""Commands without the packages of an extra: those that need it say what to install, the others do without."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest
import yaml
from made_scenes import TILE_PX, command_environment, command_line, make_scenes, read_result, run_arguments
from training_material import make_values
from training_pairs import write_pairs

from flows.cli.main import main
from model.extras import EXTRAS
from model.registry import find_model_folder

SERVED = "openai:http://127.0.0.1:9/v1#some-model"
BLOCK_EXTRAS = f"""
import sys

sys.modules.update(dict.fromkeys({[module for modules in EXTRAS.values() for module in modules]!r}))
"""
"""What Python runs first in every process that finds it."""

RunWithout = Callable[..., str]


@pytest.fixture
def run_without(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunWithout:
    """Run ``deltavlm`` in this process without an extra, to its exit code 2; gives the last line of its message."""

    def run(extra: str, *arguments: object) -> str:
        for module in EXTRAS[extra]:
            monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.setattr(sys, "argv", ["deltavlm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert (end.value.code, said.out) == (2, ""), said.err
        return said.err.splitlines()[-1]

    return run


def test_a_report_for_word(run_without: RunWithout, tmp_path: Path) -> None:
    told = run_without("docx", "report", tmp_path, "--format", "docx")

    assert told == "To do: pip install 'deltavlm-monitor[docx]'"


def test_a_served_model(run_without: RunWithout, tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path)
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump(
            {
                "before": str(scenes.before),
                "after": str(scenes.after),
                "output": str(tmp_path / "run"),
                "model": {"name": SERVED},
            }
        )
    )
    pair = write_pairs(tmp_path / "pairs", n_pairs=2)
    commands = {
        "run": ["run", "--config", tmp_path / "run.yaml"],
        "ask": ["ask", "--before", pair / "A/pair_000.png", "--after", pair / "B/pair_000.png", "--model", SERVED],
        "evaluate": ["model", "evaluate", "--data", pair, "--model", SERVED],
        "open-questions": ["data", "open-questions", pair, "--output", tmp_path / "out.json", "--assistant", SERVED],
    }

    told = {name: run_without("openai", *arguments) for name, arguments in commands.items()}

    assert told == dict.fromkeys(commands, "To do: pip install 'deltavlm-monitor[openai]'")


def test_a_worker_per_gpu(run_without: RunWithout, tmp_path: Path) -> None:
    arguments = run_arguments(make_scenes(tmp_path), output=tmp_path / "run")

    told = run_without("cuda", *arguments, "--set", "cluster.kind=cuda", "--set", "cluster.n_workers=null")

    assert told.startswith("To do: pip install 'deltavlm-monitor[cuda]'; or for one GPU, set cluster.kind: local")


def test_training(run_without: RunWithout, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(make_values(model=tmp_path / "small", sources=[{"path": "."}])))
    output = tmp_path / "out"

    told = run_without("train", "model", "train", config, "--data", tmp_path, "--output", output)

    assert told == "To do: pip install 'deltavlm-monitor[train]'"
    assert not output.with_name("out-training").exists()


def test_evaluation_and_calibration(run_without: RunWithout, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", n_pairs=2)
    model = find_model_folder("deltavlm-tiny")

    told = [
        run_without("train", "model", "evaluate", "--data", pairs),
        run_without("train", "model", "calibrate", model, "--data", pairs),
    ]

    assert told == ["To do: pip install 'deltavlm-monitor[train]'"] * 2


def test_a_language_model_in_a_gguf_file(run_without: RunWithout, tmp_path: Path) -> None:
    (tmp_path / "words.gguf").touch()
    write_pairs(tmp_path / "pairs", n_pairs=4)
    config = tmp_path / "config.yaml"
    values = make_values(
        model=tmp_path / "small", sources=[{"path": "pairs"}], language_model=str(tmp_path / "words.gguf")
    )
    config.write_text(yaml.safe_dump(values))

    told = run_without("smollm2", "model", "train", config, "--data", tmp_path, "--output", tmp_path / "out")

    assert told == "To do: pip install 'deltavlm-monitor[smollm2]'"


def test_a_run_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK_EXTRAS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    arguments = run_arguments(make_scenes(tmp_path / "scenes"), output=tmp_path / "run", n_workers=1)
    settings = ("model.name=deltavlm-tiny", "model.outside=warn", f"grid.tile_size_px={4 * TILE_PX}")
    arguments += [word for setting in settings for word in ("--set", setting)]
    checked = f"import sitecustomize; assert sitecustomize.__file__ == {str(tmp_path / 'sitecustomize.py')!r}; "
    program, flag, code, *words = command_line(*arguments)

    ran = run(
        [program, flag, checked + code, *words],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    counts = read_result(ran)["status_counts"]
    assert counts["analysed"] > 0
    assert counts["failed"] == 0
