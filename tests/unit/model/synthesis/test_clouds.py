"""Clouds of made scenes: as many as asked for, told by the classes, with edges that the classes miss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from model.synthesis.clouds import BARE, CLOUD, DENSE_CLOUD, HAZE_PX, SHADOW, VEGETATION, Sky, draw_sky

SIZE = 160


@pytest.fixture(scope="module")
def sky() -> Sky:
    return draw_sky(np.random.default_rng(3), height_px=SIZE, width_px=SIZE, cloud_share=0.3)


def test_equal_seeds_give_equal_skies_of_the_share_that_was_asked_for(sky: Sky) -> None:
    again = draw_sky(np.random.default_rng(3), height_px=SIZE, width_px=SIZE, cloud_share=0.3)
    np.testing.assert_array_equal(again.opacity, sky.opacity)
    assert sky.is_cloudy.mean() == pytest.approx(0.3, abs=0.001)
    # In few pieces rather than as noise.
    assert 1 <= ndimage.label(sky.is_cloudy)[1] < 60


def test_classes_tell_clouds_shadows_and_what_grows(sky: Sky) -> None:
    ground = np.full((SIZE, SIZE, 3), (90, 80, 70), np.uint8)
    ground[: SIZE // 2, :, 1] = 120
    classes = sky.classify(ground)
    assert set(np.unique(classes)) == {SHADOW, VEGETATION, BARE, CLOUD, DENSE_CLOUD}
    np.testing.assert_array_equal(np.isin(classes, (CLOUD, DENSE_CLOUD)), sky.is_cloudy)
    clear = ~(sky.is_cloudy | sky.is_shaded)
    assert set(np.unique(classes[: SIZE // 2][clear[: SIZE // 2]])) == {VEGETATION}


def test_ground_is_as_it_was_beyond_the_haze_and_white_or_dark_within(sky: Sky) -> None:
    ground = np.full((SIZE, SIZE, 3), 90, np.uint8)
    seen = sky.cover(ground)
    far = ndimage.distance_transform_edt(~(sky.is_cloudy | sky.is_shaded))
    assert (seen[far > HAZE_PX * 2**0.5] == 90).all()
    # The classes miss the edges.
    assert (seen[(far > 0) & (far < 2)] != 90).any()
    assert seen[ndimage.binary_erosion(sky.is_cloudy, iterations=HAZE_PX)].min() > 240
    assert seen[sky.is_shaded].min() < 60
