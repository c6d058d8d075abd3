"""What hides the ground, by the class bands of each archive."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config.scene import SceneSettings
from pipeline.scenes.classes import choose_hidden

CLEAR, CLOUD, SHADOW, SNOW = 21824, 22280, 23888, 30048
"""Of Landsat's QA_PIXEL: land, and the others with high confidence."""


@pytest.mark.parametrize(
    ("name", "values", "settings", "expected"),
    [
        ("T14RPV_SCL_20m.jp2", [0, 3, 4, 8, 9, 10, 11], {}, [0, 1, 0, 1, 1, 1, 0]),
        ("T14RPV_SCL_20m.jp2", [3, 4, 11], {"snow_hides": True}, [1, 0, 1]),
        ("LC08_02_T1_QA_PIXEL.TIF", [CLEAR, CLOUD, SHADOW, SNOW], {}, [0, 1, 1, 0]),
        ("LC08_02_T1_QA_PIXEL.TIF", [CLEAR, CLOUD, SNOW], {"snow_hides": True}, [0, 1, 1]),
        # Cirrus, which is reserved there; cloud, beside one, shadow, snow, water with much aerosol.
        ("HLS.L30.T14RPV.v2.0.Fmask.tif", [1, 2, 4, 8, 16, 0b11100000], {}, [0, 1, 1, 1, 0, 0]),
        ("HLS.L30.T14RPV.v2.0.Fmask.tif", [2, 16], {"snow_hides": True}, [1, 1]),
        # What somebody has named counts as it stands, whatever the band is called.
        ("LC08_02_T1_QA_PIXEL.TIF", [CLEAR, CLOUD, SHADOW], {"cloud_classes": [CLOUD]}, [0, 1, 0]),
        ("LC08_02_T1_QA_PIXEL.TIF", [CLEAR, CLOUD, SNOW], {"cloud_classes": [], "snow_hides": True}, [0, 0, 1]),
        ("classes.tif", [7, 11], {"cloud_classes": [7]}, [1, 0]),
    ],
)
def test_what_hides_the_ground(name: str, values: list[int], settings: dict[str, object], expected: list[int]) -> None:
    hidden = choose_hidden([name, ""], settings=SceneSettings.model_validate(settings))

    found = hidden.find(np.array(values, np.uint16))

    assert found.astype(int).tolist() == expected
    assert bool(hidden)
    assert not choose_hidden([name], settings=SceneSettings(cloud_classes=()))
