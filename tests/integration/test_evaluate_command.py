"""``deltavlm model evaluate`` on made folders and files, with a model whose answers are known, and on what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_scenes import read_result
from PIL import Image
from typer.testing import CliRunner

import model.evaluation.evaluation as evaluation_module
from flows.cli.model import app
from model.errors import InputError
from model.interface import CELL_NAMES

SIDE = 48
CHANGES = {"val_000001": ("top-left",), "val_000002": ("center-center", "bottom-right"), "val_000003": ()}
"""Cells that hold a new building, which the stand-in model finds; LEVIR-CC takes all three from one scene."""


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """METEOR takes seconds to start, and is tested on its own."""
    monkeypatch.setattr(evaluation_module, "has_java", lambda: False)


def write_pair(folder: Path, stem: str, *, cells: tuple[str, ...], mask_cells: tuple[str, ...]) -> None:
    images = {"A": np.full((SIDE, SIDE, 3), 60, np.uint8), "B": np.full((SIDE, SIDE, 3), 60, np.uint8)}
    mask = np.zeros((SIDE, SIDE), np.uint8)
    third = SIDE // 3
    for image, named, value in ((images["B"], cells, 220), (mask, mask_cells, 255)):
        for row, col in (divmod(CELL_NAMES.index(name), 3) for name in named):
            image[row * third + 1 : (row + 1) * third - 1, col * third + 1 : (col + 1) * third - 1] = value
    for name, image in (*images.items(), ("label", mask)):
        (folder / name).mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(folder / name / f"{stem}.png")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three pairs as LEVIR-CC's, with captions that the stand-in model's words meet in part."""
    data = tmp_path / "data"
    entries = []
    for stem, cells in CHANGES.items():
        write_pair(data, stem, cells=cells, mask_cells=cells)
        captions = [f"{len(cells)} buildings appear ."] if cells else ["the scene is the same as before ."]
        entry = {"filename": f"{stem}.png", "split": "val", "changeflag": int(bool(cells)), "captions": captions}
        entries.append(entry)
    (data / "captions.json").write_text(json.dumps({"pairs": entries}))
    return data


def run(*arguments: str | Path):
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if isinstance(result.exception, InputError):
        raise result.exception
    return result, json.loads(result.stdout.splitlines()[-1])


def test_a_folder_is_measured_and_written(folder, tmp_path):
    output = tmp_path / "out"
    result, figures = run("--data", folder, "--model", "stand-in", "--swap-test", "--output", output)
    assert result.exit_code == 0
    expected = {
        "model_id": "stand-in@1",
        "n_tiles": 3,
        "n_scenes": 1,
        "n_skipped": 0,
        "classify.accuracy": 1.0,
        "classify.accuracy.baseline": 2 / 3,
        "locate.building.f1": 1.0,
        "count.building.mae": 0.0,
        "count.road.mae": None,
        "describe.meteor": None,
        "describe.bleu4": pytest.approx(1, abs=1e-6),
        "describe.rouge_l": 1.0,
        # The three are of one scene, so there is nothing to draw again.
        "classify.ece": pytest.approx(0.25),
        # It looks at differences and not at their order.
        "swap.removed_fraction": 0.0,
        "swap.built_fraction": 1.0,
    }
    assert {name: figures[name] for name in expected} == expected
    assert "classify.accuracy.low" not in figures
    assert all(not isinstance(value, dict) for value in figures.values())
    assert all(Path(file).is_file() for file in figures["files"])
    assert {Path(file).name for file in figures["files"]} >= {"evaluation.json", "answers.jsonl", "table.md"}
    assert "arXiv 2507.22346" in result.stderr


def test_the_same_figures_come_of_the_same_pairs_in_changechat_json(folder, tmp_path):
    _, of_folder = run("--data", folder, "--model", "stand-in")
    questions = {
        "Please judge whether these two images have changed. Please answer yes or no.": lambda cells: (
            "Yes" if cells else "No"
        ),
        "Please determine how many roads and buildings have changed?": lambda cells: (
            f"0 roads has changed, and {len(cells)} buildings has changed."
        ),
    }
    records = [
        {
            "image": [f"A/{stem}.png", f"B/{stem}.png"],
            "changeflag": int(bool(cells)),
            "conversations": [{"from": "human", "value": f"<image>{q}"}, {"from": "gpt", "value": answer(cells)}],
        }
        for stem, cells in CHANGES.items()
        for q, answer in questions.items()
    ]
    file = tmp_path / "test.json"
    file.write_text(json.dumps(records))
    result, of_file = run("--data", file, "--images", folder, "--model", "stand-in")
    assert result.exit_code == 0
    for name in ("n_tiles", "classify.accuracy", "classify.ece", "count.building.rmse"):
        assert of_file[name] == of_folder[name]
    assert of_file["count.road.mae"] == 0
    assert of_file["describe.bleu4"] is None


def test_what_cannot_be_read_is_left_out_listed_and_told_by_the_exit_code(folder, tmp_path):
    (folder / "B" / "val_000002.png").write_bytes(b"no image")
    (folder / "label" / "val_000003.png").unlink()
    result, figures = run("--data", folder, "--model", "stand-in", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert (figures["n_tiles"], figures["n_skipped"]) == (2, 1)
    assert "Left out: val_000002" in result.stderr
    assert "1 of 3 pairs have no mask" in result.stderr
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [one["name"] for one in record["skipped"]] == ["val_000002"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "nowhere.json", "--images", "."], "nowhere.json"),
        (["--data", "data/captions.json"], "captions.json without its images"),
        (["--data", "data/captions.json", "--images", "data"], "captions.json"),
        (["--data", "data", "--split", "test"], "split test"),
        (["--data", "data", "--pattern", "x*"], r"'x\*'"),
        (["--data", "data", "--captions", "nowhere.json"], "nowhere.json"),
        (["--data", "data", "--class-values", "tree=3"], "tree=3"),
        (["--data", "data", "--model", "no-such-model"], "no-such-model"),
        (["--data", "data", "--output", "data/captions.json"], "captions.json"),
        (["--data", "data", "--tile-size-px", "64"], "no tile to ask about"),
    ],
)
def test_wrong_input_is_one_clear_error(arguments, found, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(InputError, match=found) as refusal:
        run(*arguments, *([] if "--model" in arguments else ["--model", "stand-in"]))
    assert refusal.value.expected
    assert refusal.value.remedy


def test_the_command_runs_in_a_process_of_its_own(folder, run_command):
    (folder / "captions.json").unlink()
    result = run_command("model", "evaluate", "--data", str(folder), "--model", "stand-in")
    assert result.returncode == 0, result.stderr
    figures = read_result(result)
    assert figures["locate.building.f1"] == 1.0
    assert figures["describe.bleu4"] is None
