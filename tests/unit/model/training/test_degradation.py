"""Every effect keeps form and type, changes what is seen, and is the same again from the same seed."""

import numpy as np
import pytest

from model.training.augmentation import Augmentation, light_dates
from model.training.degradation import EFFECTS, degrade

IMAGE = np.random.default_rng(0).integers(0, 255, (96, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
def test_effects_change_pixels_alone(effect):
    seen = effect(IMAGE, np.random.default_rng(3))
    assert seen.shape == IMAGE.shape
    assert seen.dtype == np.uint8
    assert not np.array_equal(seen, IMAGE)
    assert np.array_equal(seen, effect(IMAGE, np.random.default_rng(3)))


def test_dates_are_degraded_each_for_itself():
    still = Augmentation(colour_shift=0, gamma_range=(1, 1), shift_px=0)
    before, after = light_dates(IMAGE, IMAGE, augmentation=still, random=np.random.default_rng(0))
    assert np.array_equal(before, after)
    always = Augmentation(colour_shift=0, gamma_range=(1, 1), shift_px=0, degraded_fraction=1)
    before, after = light_dates(IMAGE, IMAGE, augmentation=always, random=np.random.default_rng(0))
    assert not np.array_equal(before, after)


def test_some_images_stay_as_they_are():
    random = np.random.default_rng(5)
    unchanged = sum(np.array_equal(degrade(IMAGE, random=random), IMAGE) for _ in range(200))
    assert 0 < unchanged < 40
