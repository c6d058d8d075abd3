"""Settled tiles become a folder that a training reads as it is, whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from made_pages import GRID, PlainStore
from training_material import CLASSIFY, write_small_model

from model.errors import InputError
from model.evaluation.pair_folders import FolderSelection, open_pair_folder
from model.training.recipe import TrainingConfig
from model.training.trainer import train
from pipeline.regions.reviewed_pairs import ReviewedPairsSettings, write_reviewed_pairs, write_truths
from pipeline.runs.reviewed_tiles import RunTruth
from pipeline.storage.folder import RunFolder
from pipeline.training_data.reviewed_tiles import SettledTile, TrueShape

ROAD = {(0, 0), (4, 6)}
SETTINGS = ReviewedPairsSettings(square_m=240, val_fraction=0.3)


@pytest.fixture
def truth(tmp_path: Path) -> RunTruth:
    """A run of 6 x 8 tiles: every second one has a house that went, two have a road."""
    (tmp_path / "run").mkdir()
    store = PlainStore(folder=RunFolder(str(tmp_path / "run")), grid=GRID, content_key="key", shard_size_tiles=2)
    return RunTruth(
        run_id="run1",
        store=store,
        tiles=[make_tile(row, col) for row in range(GRID.n_rows) for col in range(GRID.n_cols)],
        left_out=Counter({"it is open": 2}),
        n_reviews=48,
        notes=(),
    )


def make_tile(row: int, col: int) -> SettledTile:
    left, top = GRID.transform @ (col * 240, row * 240)
    shapes = []
    if (row + col) % 2 == 0:
        house = shapely.box(left + 10, top - 40, left + 40, top - 10)
        shapes.append(TrueShape(kind="building", direction="removed", geometry=house))
    if (row, col) in ROAD:
        road = shapely.box(left, top - 60, left + 120, top - 50)
        shapes.append(TrueShape(kind="road", direction="removed", geometry=road))
    return SettledTile(
        tile_id=GRID.tile_id(row, col), row=row, col=col, shapes=tuple(shapes), has_road_truth=(row, col) in ROAD
    )


def test_pairs_have_the_pixels_the_mask_and_the_facts(truth: RunTruth, tmp_path: Path) -> None:
    made = write_truths([truth], tmp_path / "pairs", settings=SETTINGS)

    assert made.n_train + made.n_val == 48
    assert min(made.n_train_changed, made.n_val_changed) > 0
    assert (made.n_gap, made.n_left_out, made.left_out) == (0, 2, {"it is open": 2})
    files = {part: sorted((tmp_path / "pairs").glob(f"*/{part}/*.png")) for part in ("A", "B", "label")}
    assert {len(found) for found in files.values()} == {48}
    (label,) = (tmp_path / "pairs").glob("*/label/run1_r0000_c0000.png")
    mask = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (240, 240)
    assert (mask == 255).sum() == 60 * 60
    assert (mask == 128).sum() == 20 * 240
    assert np.unique(cv2.imread(str(files["B"][0]))).tolist() == [140]
    told = [json.loads(line) for line in (label.parent.parent / "facts.jsonl").read_text().splitlines()]
    (own,) = [line for line in told if line["name"] == "run1_r0000_c0000"]
    assert (own["is_removal"], own["has_road_truth"], own["building"]["count"]) == (True, True, 1)
    origin = json.loads((tmp_path / "pairs" / "origin.json").read_text())
    assert origin["runs"] == [{"run_id": "run1", "n_tiles": 48}]


def test_a_training_and_an_evaluation_read_them(truth: RunTruth, tmp_path: Path) -> None:
    write_truths([truth], tmp_path / "pairs", settings=SETTINGS)
    values = {"n_steps": 2, "warm_up_steps": 1, "batch_size_pairs": 2, "prompts_per_pair": 1, "n_loader_workers": 0}
    config = TrainingConfig.model_validate(
        values
        | {
            "sources": [{"kind": "folder", "path": "train"}],
            "validation": {"sources": [{"kind": "folder", "path": "val"}], "figure": "text_loss"},
            "initial_weights": str(write_small_model(tmp_path / "small")),
            "prompts": [CLASSIFY],
            "use_bfloat16": False,
        }
    )

    result = train(config, output=tmp_path / "model", data_root=tmp_path / "pairs")

    assert result.n_items + result.n_validation_items == 48
    assert not result.skipped
    whole = open_pair_folder(tmp_path / "pairs", selection=FolderSelection(split="val"))
    part = open_pair_folder(tmp_path / "pairs" / "val", selection=FolderSelection())
    assert whole.n_pairs == part.n_pairs == result.n_validation_items
    assert part.class_values.road == (128,)


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "mine.txt").write_text("mine")

    with pytest.raises(InputError, match="is there already"):
        write_reviewed_pairs([str(tmp_path)], tmp_path / "pairs", settings=SETTINGS)

    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["mine.txt"]
