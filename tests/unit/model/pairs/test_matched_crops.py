"""Crops that people wrote about are cut out of their panels, flipped as the captions speak of them."""

import json

import cv2
import numpy as np
import pytest

from model.pairs.matched_crops import MatchLimits, read_matched_crops


@pytest.fixture
def folder(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 200
    mask = np.zeros((64, 64), np.uint8)
    mask[4:10, 4:10] = 255
    for name, pixels in (("A", image), ("B", image), ("label", mask)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "512_train_000.png"), pixels)
    crops = [
        {"levir_cc_name": "train_000001.png", "box_px": [0, 0, 32, 32], "share": 1.0},
        {"levir_cc_name": "train_000002.png", "box_px": [32, 0, 64, 24], "share": 0.75},
        {"levir_cc_name": "train_000003.png", "box_px": [0, 32, 32, 40], "share": 0.25},
    ]
    match = {"panel": "512_train_000.jpg", "margin": 5.0, "flip_rows_first": False, "flip_columns_first": True}
    (tmp_path / "matches.json").write_text(json.dumps([match | {"crops": crops}]))
    images = [
        {"filename": f"train_{k:06d}.png", "split": "train", "changeflag": k % 2, "sentences": [{"raw": f" text {k} "}]}
        for k in (1, 2, 3)
    ]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images}))
    return tmp_path


def read(folder, **limits):
    return read_matched_crops(
        folder,
        matches=folder / "matches.json",
        captions=folder / "captions.json",
        limits=MatchLimits(**{"min_margin": 4, "min_share": 0.7} | limits),
    )


def test_crops_are_square_and_lie_where_the_flipped_panel_shows_them(folder):
    first, second = read(folder)
    assert first.mask.shape == second.mask.shape == (32, 32)
    assert first.before.mean() > 190
    assert second.before.mean() < 10
    assert first.mask.max() == 0
    assert second.mask[:, 22:28].any()
    assert (first.captions, first.is_flagged, first.name) == (("text 1",), True, "train_000001")
    assert second.is_flagged is False


def test_crops_can_be_taken_by_their_flag(folder):
    assert [pair.name for pair in read(folder, is_changed=False)] == ["train_000002"]


def test_where_no_crop_is_left_limits_are_named(folder):
    with pytest.raises(ValueError, match=r"no crop of .* margin of 9 .*; expected .*; lower min_margin"):
        read(folder, min_margin=9)
