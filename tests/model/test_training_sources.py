"""What a training reads: the pairs of a folder as far as they can be used, and what is held out of them."""

import json
import shutil

import cv2
import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from training_pairs import make_images, write_pairs

from model.errors import InputError
from model.interface import PromptKind
from model.pairs.folders import read_captions, scan_pair_folder
from model.training.augmentation import Augmentation, move_images
from model.training.conversations import scan_instructions
from model.training.recipe import MaskTrainingConfig, TrainingConfig, load_training_config
from model.training.sources import (
    ChangeChatSourceConfig,
    FolderSourceConfig,
    SyntheticSourceConfig,
    choose_held_out,
    load_sources,
)
from model.training.synthetic_pairs import SyntheticPairs, synthesize_pairs


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "pairs", n_pairs=6)


def test_what_cannot_be_used_is_left_out_and_listed(folder):
    (folder / "label" / "pair_000.png").unlink()
    (folder / "B" / "pair_001.png").write_bytes((folder / "B" / "pair_001.png").read_bytes()[:500])
    cv2.imwrite(str(folder / "label" / "pair_002.png"), np.zeros((95, 96), np.uint8))
    (folder / "A" / "pair_003.png").unlink()
    (folder / "label" / "pair_004.png").write_text("no image")
    (folder / "A" / "notes.txt").write_text("no image either, and nobody expects one")
    reading = scan_pair_folder(folder)
    assert [pair.name for pair in reading.pairs] == ["pair_005"]
    reasons = dict(line.split(": ", 1) for line in reading.skipped)
    assert list(reasons) == [f"pair_00{n}" for n in range(5)]
    assert reasons["pair_000"] == "no mask of this name in label/"
    assert "pair_001.png cannot be read" in reasons["pair_001"]
    assert reasons["pair_002"] == "A is 96 x 96, B 96 x 96 and label 96 x 95 pixels"
    assert reasons["pair_003"] == "no image of the earlier date of this name in A/"
    assert "pair_004.png cannot be read" in reasons["pair_004"]


def test_a_folder_without_a_usable_pair_is_refused(folder):
    shutil.rmtree(folder / "label")
    with pytest.raises(InputError, match=r"no pair .* 6 left out, the first is pair_000: no mask.*; expected .*; "):
        scan_pair_folder(folder)
    with pytest.raises(InputError, match=r"no pair '\*' in .*; expected images in A/"):
        scan_pair_folder(folder / "nowhere")


def test_two_images_of_one_name_are_refused(folder):
    shutil.copyfile(folder / "A" / "pair_000.png", folder / "A" / "pair_000.jpg")
    with pytest.raises(ValueError, match=r"pair_000.jpg and pair_000.png in .*A share a name; expected one .*; "):
        scan_pair_folder(folder)


def test_masks_with_roads_keep_them(folder):
    mask = np.zeros((96, 96), np.uint8)
    mask[:10], mask[20:30] = 128, 255
    cv2.imwrite(str(folder / "label" / "pair_000.png"), mask)
    plain, kinds = (
        scan_pair_folder(folder, pattern="pair_000", has_road_truth=has_roads).pairs[0] for has_roads in (False, True)
    )
    assert (plain.facts.building.count, plain.facts.road) == (2, None)
    assert (kinds.facts.building.count, kinds.facts.road.count) == (1, 1)
    cv2.imwrite(str(folder / "label" / "pair_000.png"), mask // 128)
    with pytest.raises(InputError, match=r"pair_000\.png holds 1"):
        scan_pair_folder(folder, pattern="pair_000", has_road_truth=True)


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}])
def test_geotiffs_are_read_as_rasterio_reads_them(tmp_path, options):
    before, after, mask = make_images(n_buildings=2, seed=1)
    for name, bands in (("A", before.transpose(2, 0, 1)), ("B", after.transpose(2, 0, 1)), ("label", mask[None])):
        (tmp_path / name).mkdir()
        profile = {"driver": "GTiff", "count": len(bands), "height": 96, "width": 96, "dtype": "uint8"}
        transform = rasterio.transform.from_origin(600_000, 5_000_000, 0.5, 0.5)
        with rasterio.open(
            tmp_path / name / "place.tif", "w", crs="EPSG:32614", transform=transform, **profile, **options
        ) as file:
            file.write(bands)
    (pair,) = scan_pair_folder(tmp_path).pairs
    np.testing.assert_array_equal(pair.before, before)
    np.testing.assert_array_equal(pair.after, after)
    np.testing.assert_array_equal(pair.mask, mask)


def test_held_out_pairs_stay_on_their_side_when_others_join_them():
    names = {f"tile_{n}" for n in range(300)}
    held = choose_held_out(names, fraction=0.2, path="mine")
    assert 40 < len(held) < 80
    more = choose_held_out(names | {f"other_{n}" for n in range(100)}, fraction=0.2, path="mine")
    assert more & names == held
    assert len(choose_held_out({"a", "b", "c"}, fraction=0.001, path="mine")) == 1


def test_both_sides_of_a_split_have_pairs(folder, tmp_path):
    configs = [FolderSourceConfig(path="pairs"), SyntheticSourceConfig(kind="synthetic", n_pairs=6, crop_size_px=64)]
    loaded = load_sources(configs, data_root=tmp_path, held_out_fraction=0.3)
    names = [{pair.name for pair in source.pairs} for source in (loaded.training[0], *loaded.held_out)]
    assert names[0].isdisjoint(names[1])
    assert len(names[0] | names[1]) == 6
    # Nothing of what is made up is held out.
    assert len(loaded.training[0]) == len(names[0])
    assert 0 < len(loaded.training[1]) <= 6
    one = [FolderSourceConfig(path="pairs", pattern="pair_001")]
    with pytest.raises(ValueError, match=r"1 pair\(s\) in pairs, of which 30% .*; expected pairs on both sides; "):
        load_sources(one, data_root=tmp_path, held_out_fraction=0.3)


def test_a_crop_is_a_tile_unless_pairs_are_smaller(folder, tmp_path):
    write_pairs(tmp_path / "large", n_pairs=1, size_px=300)
    sizes = [
        load_sources([FolderSourceConfig(path=path)], data_root=tmp_path).training[0].crop_size_px
        for path in ("pairs", "large")
    ]
    assert sizes == [96, 256]


def test_pairs_on_the_fly_are_those_made_beforehand():
    made = synthesize_pairs([7, 8], size_px=64, resolution_m=0.5)
    flying = SyntheticPairs(first_seed=7, size_px=64, resolution_m=0.5)
    assert len(flying) > 10**9
    for expected, found in zip(made, flying[:2], strict=True):
        assert found.name == expected.name
        np.testing.assert_array_equal(found.after, expected.after)
    (source,) = load_sources(
        [SyntheticSourceConfig(kind="synthetic", on_the_fly=True, size_px=64, crop_size_px=64)], data_root=None
    ).training
    assert source.draw(5, augmentation=Augmentation(), random=np.random.default_rng(0)).mask.shape == (64, 64)
    with pytest.raises(ValidationError, match="one of n_pairs and on_the_fly"):
        SyntheticSourceConfig(kind="synthetic", crop_size_px=64)


def test_captions_of_a_split_that_is_not_there_name_those_that_are(tmp_path):
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"pairs": [{"filename": "a.png", "split": "train", "captions": ["a house ."]}]}))
    assert read_captions(file, split="train") == {"a": ("a house .",)}
    with pytest.raises(ValueError, match=r"no captions of split 'val' in .*; expected one of: train; "):
        read_captions(file, split="val")
    file.write_text("[]")
    with pytest.raises(ValueError, match=r"captions.json cannot be read .*; expected .*; correct"):
        read_captions(file, split="train")


def write_changechat(folder, *, images):
    turns = [
        ("Have these two images changed?", "Yes"),
        ("How many?", "1 road has changed, and 0 buildings has changed."),
    ]
    conversations = []
    for index, (question, answer) in enumerate(turns):
        marks = "<image> <image> " if index == 0 else ""
        conversations += [{"from": "human", "value": marks + question}, {"from": "gpt", "value": answer}]
    entries = [
        {"id": n, "image": [f"A/{name}", f"B/{name}"], "conversations": conversations[: 4 if n else 2]}
        for n, name in enumerate(images)
    ]
    (folder / "train.json").write_text(json.dumps(entries))


def test_instructions_are_read_with_their_history_and_broken_pairs_left_out(folder, tmp_path):
    write_changechat(tmp_path, images=["pair_000.png", "pair_002.png", "gone.png"])
    (folder / "B" / "pair_000.png").write_bytes(b"no image")
    instructions, skipped = scan_instructions(tmp_path / "train.json", images=folder)
    assert [instruction.before.stem for instruction in instructions] == ["pair_002"] * 2
    assert [line.split(":")[0] for line in skipped] == ["pair_000", "gone"]
    (source,) = load_sources(
        [ChangeChatSourceConfig(kind="changechat", path="train.json", images="pairs")], data_root=tmp_path
    ).training
    asked = source.draw(1, augmentation=Augmentation(), random=np.random.default_rng(0))
    assert asked.question == "q: Have these two images changed? a: Yes  q: How many?"
    assert asked.answer == "1 road has changed, and 0 buildings has changed."
    assert asked.before.shape == (96, 96, 3)
    assert source.list_fixed(max_items=1)[0].kind is PromptKind.ASK
    write_changechat(tmp_path, images=["gone.png"])
    with pytest.raises(ValueError, match=r"nothing to learn in .*train.json \(1 pairs left out.*; expected .*; "):
        scan_instructions(tmp_path / "train.json", images=folder)


def test_both_dates_and_the_mask_are_cut_and_rotated_alike():
    _, image, mask = make_images(n_buildings=4, seed=3)
    both = Augmentation(crop_fraction=0.05, rotation_degrees=15)
    sizes, places = set(), set()
    for seed in range(20):
        random = np.random.default_rng(seed)
        before, after, moved = move_images((image, image, mask), augmentation=both, random=random)
        np.testing.assert_array_equal(before, after)
        # The squares are the brightest there is, before and after.
        is_bright = before.mean(axis=2) > 180
        assert (is_bright == (moved > 0)).mean() > 0.97
        assert set(np.unique(moved)) <= {0, 255}
        sizes.add(before.shape[0])
        places.add(moved.tobytes())
    assert min(sizes) >= 91
    assert max(sizes) <= 96
    assert len(sizes) > 2
    assert len(places) > 10
    still = move_images((image,), augmentation=Augmentation(), random=np.random.default_rng(0))
    assert still[0] is image


BASE = {"sources": [{"path": "pairs"}], "n_steps": 1}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"augmentation": {"colour": 1}}, ("augmentation", "colour")),
        ({"prompts": [{"name": "a", "kind": "what", "text": "b"}]}, ("prompts", 0, "kind")),
        ({"sources": [{"path": "x", "crop_size": 3}]}, ("sources", 0, "folder", "crop_size")),
        ({"sources": [{"kind": "zip", "path": "x"}]}, ("sources", 0)),
        ({"validation": {"figure": "f1", "held_out_fraction": 0.1}}, ("validation", "figure")),
        ({"validation": {}}, ("validation",)),
        ({"learning_rat": 1}, ("learning_rat",)),
    ],
)
def test_wrong_keys_and_values_are_named(values, place):
    with pytest.raises(ValidationError) as caught:
        TrainingConfig.model_validate(BASE | values)
    assert caught.value.errors()[0]["loc"] == place


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"n_epochs": 1}, "n_steps and n_epochs"),
        ({"n_steps": None}, "n_steps and n_epochs"),
        ({"prompts": [{"name": "a", "kind": "ask", "text": "b"}]}, "a prompt of kind ask"),
        ({"prompts": [{"name": n, "kind": "count", "text": n} for n in "ab"]}, "two prompts of one kind"),
        ({"has_clean_answers": True}, "has_clean_answers"),
        (
            {
                "n_steps": None,
                "n_epochs": 1,
                "sources": [{"kind": "synthetic", "on_the_fly": True, "crop_size_px": 64}],
            },
            "never ends",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(values, reason):
    with pytest.raises(ValidationError, match=reason):
        TrainingConfig.model_validate(BASE | values)


def test_every_field_of_every_recipe_is_described():
    for schema in (TrainingConfig.model_json_schema(), MaskTrainingConfig.model_json_schema()):
        for part in (schema, *schema["$defs"].values()):
            for name, field in part.get("properties", {}).items():
                assert "description" in field or name == "kind", name


def test_a_config_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml cannot be read .*; expected .*; correct"):
        load_training_config(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(InputError, match=r"holds list; expected .*; start from"):
        load_training_config(tmp_path / "list.yaml")
