"""Crops and augmentations must keep image, mask and what is said of them together."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from model.errors import InputError
from model.images import CHANGED_VALUE
from model.pairs.folders import LabelledPair, cut_tiles, scan_pair_folder
from model.training.augmentation import Augmentation, draw_sample, relight

NO_LIGHT = Augmentation(
    colour_shift=0.0, gamma_range=(1.0, 1.0), unchanged_fraction=0.0, removal_fraction=0.0, shift_px=0
)


def make_pair(size_px: int = 64) -> LabelledPair:
    """Paint buildings of the mask white into the after image, on a ground that is the same on both dates."""
    random = np.random.default_rng(1)
    before = random.integers(0, 100, (size_px, size_px, 3), dtype=np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[5:20, 30:50] = CHANGED_VALUE
    after = np.where(mask[..., None] > 0, 255, before).astype(np.uint8)
    return LabelledPair(name="made", before=before, after=after, mask=mask, has_road_truth=False)


@pytest.mark.parametrize("seed", range(8))
def test_a_sample_stays_registered(seed):
    sample = draw_sample(make_pair(), size_px=48, augmentation=NO_LIGHT, random=np.random.default_rng(seed))
    expected = np.where(sample.mask[..., None] > 0, 255, sample.before)
    np.testing.assert_array_equal(sample.after, expected)
    assert sample.mask.shape == (48, 48)


def test_unchanged_and_removed_samples_say_so():
    random = np.random.default_rng(0)
    unchanged = draw_sample(
        make_pair(), size_px=64, augmentation=replace(NO_LIGHT, unchanged_fraction=1.0), random=random
    )
    np.testing.assert_array_equal(unchanged.before, unchanged.after)
    assert not unchanged.facts.is_changed
    assert unchanged.has_road_truth
    removed = draw_sample(make_pair(), size_px=64, augmentation=replace(NO_LIGHT, removal_fraction=1.0), random=random)
    assert removed.facts.is_removal
    assert (removed.before[removed.mask > 0] == 255).all()


def test_captioned_pairs_keep_their_dates():
    pair = replace(make_pair(), captions=("a house is built in the top right corner .",))
    wild = replace(NO_LIGHT, unchanged_fraction=0.5, removal_fraction=0.5, has_turns=False)
    sample = draw_sample(pair, size_px=64, augmentation=wild, random=np.random.default_rng(3))
    np.testing.assert_array_equal(sample.after, pair.after)
    np.testing.assert_array_equal(sample.mask, pair.mask)


def test_captions_turn_with_their_pair_and_words_that_cannot_keep_it_upright():
    pair = replace(make_pair(), captions=("a house is built at the right .", "a house is built above the road ."))
    still = replace(NO_LIGHT, unchanged_fraction=0, removal_fraction=0, has_turns=True)
    drawn = [draw_sample(pair, size_px=64, augmentation=still, random=np.random.default_rng(k)) for k in range(30)]
    sides = {sample.captions[0].split()[-2] for sample in drawn}
    assert sides == {"top", "left", "bottom", "right"}
    assert {len(sample.captions) for sample in drawn} == {1, 2}
    upright = replace(pair, captions=pair.captions[1:])
    for k in range(10):
        sample = draw_sample(upright, size_px=64, augmentation=still, random=np.random.default_rng(k))
        assert sample.captions == upright.captions


def test_tiles_cover_a_pair_row_by_row():
    pair = make_pair(100)
    tiles = list(cut_tiles(pair, size_px=32))
    assert [tile.name for tile in tiles[:4]] == ["made_0_0", "made_0_32", "made_0_64", "made_32_0"]
    assert len(tiles) == 9
    np.testing.assert_array_equal(tiles[5].after, pair.after[32:64, 64:96])


def test_light_bends_tones_and_keeps_order():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, -1, 1), 3, axis=2)
    lit = relight(ramp, augmentation=Augmentation(), random=np.random.default_rng(2)).astype(int)
    assert (np.diff(lit, axis=1) >= 0).all()
    assert (lit != ramp).any()


def test_folders_are_read_and_gaps_left_out(tmp_path, caplog):
    pair = make_pair()
    for name in ("one", "two"):
        for folder, image in (("A", pair.before), ("B", pair.after), ("label", pair.mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            if (name, folder) != ("two", "label"):
                rgb = image[..., ::-1] if image.ndim == 3 else image // CHANGED_VALUE
                cv2.imwrite(str(tmp_path / folder / f"{name}.png"), rgb)
    (read,) = scan_pair_folder(tmp_path).pairs
    np.testing.assert_array_equal(read.after, pair.after)
    np.testing.assert_array_equal(read.mask, pair.mask)
    assert "two left out: no mask" in caplog.text
    with pytest.raises(InputError, match="no pair 'nothing\\*'"):
        scan_pair_folder(tmp_path, pattern="nothing*")
