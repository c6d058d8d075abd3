"""Values to bytes: which limits, the same for both dates, and what a pixel becomes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from shapely.geometry import box
from skimage.exposure import rescale_intensity

from model.errors import InputError
from pipeline.config.scene import StretchConfig
from pipeline.scenes.scene import Asset, BandSource, Scene, ScenePart
from pipeline.scenes.stretch import Stretch, decide_stretch, needs_samples, stretch_band

FOOTPRINT = box(0, 0, 1, 1)
ASSET = Asset(
    uri="x.tif", checksum="0", crs="EPSG:32614", transform=(1, 0, 0, 0, -1, 0), width=4, height=4, footprint=FOOTPRINT
)


def make_source(dtype: str = "uint16", **changes: Any) -> BandSource:
    return BandSource(asset=ASSET, band=1, dtype=dtype, **changes)


def make_scene(dtype: str, **changes: Any) -> Scene:
    red, green, blue = [make_source(dtype, **changes)] * 3
    part = ScenePart(red=red, green=green, blue=blue, footprint=FOOTPRINT)
    return Scene(scene_id="x", datetime=None, parts=(part,), footprint=FOOTPRINT)


BYTES, WORDS = make_scene("uint8"), make_scene("uint16")


def decide(before: Scene, after: Scene, samples: Any = None, **settings: Any) -> Stretch:
    config = StretchConfig(**settings)
    assert needs_samples(before, after, config=config) == (samples is not None)
    return decide_stretch(before, after, config=config, samples=samples)


def test_bytes_stay_as_they_are_whatever_is_set() -> None:
    nothing = Stretch(before=None, after=None)
    assert decide(BYTES, BYTES) == decide(BYTES, BYTES, limits=(0, 10)) == nothing
    assert nothing.describe() is None


def test_bytes_with_a_scale_are_values() -> None:
    scaled = make_scene("uint8", scale=0.1)
    assert decide(scaled, scaled, limits=(0, 10)).before == ((0, 10),) * 3


def test_percentiles_are_of_both_dates_together() -> None:
    before = [np.arange(0, 51, dtype=np.float32) * factor for factor in (1, 2, 3)]
    after = [np.arange(51, 101, dtype=np.float32) * factor for factor in (1, 2, 3)]
    stretch = decide(WORDS, WORDS, (before, after), percentiles=(2, 98))
    assert stretch.before == stretch.after == ((2, 98), (4, 196), (6, 294))
    assert stretch.describe() == (
        "values of both dates are stretched to 0 to 255: red 2 to 98, green 4 to 196, blue 6 to 294"
    )
    assert Stretch.from_dict(json.loads(json.dumps(stretch.to_dict()))) == stretch


def test_percentiles_per_date() -> None:
    samples = [np.linspace(0, 100, 101, dtype=np.float32)] * 3, [np.linspace(0, 1000, 101, dtype=np.float32)] * 3
    stretch = decide(WORDS, WORDS, samples, per_date=True, percentiles=(10, 90))
    assert (stretch.before, stretch.after) == (((10, 90),) * 3, ((100, 900),) * 3)
    assert decide(BYTES, WORDS, samples, per_date=True, percentiles=(10, 90)) == Stretch(
        before=None, after=((100, 900),) * 3
    )


def test_limits_hold_per_band_and_for_what_is_no_byte() -> None:
    pairs = ((0, 1), (0, 2), (0, 3))
    assert decide(BYTES, WORDS, limits=pairs) == Stretch(before=None, after=pairs)
    assert decide(WORDS, WORDS, limits=(5, 9)).after == ((5, 9),) * 3


def test_bytes_beside_values_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"after holds bytes to be shown, before holds uint16.*x\.tif.*limits.*per_date"
    ):
        needs_samples(WORDS, BYTES, config=StretchConfig())


def test_no_valid_pixel_gives_no_limits() -> None:
    nothing = [np.empty(0, np.float32)] * 3
    with pytest.raises(InputError, match=r"not one valid pixel of both dates.*tiles\.stretch\.limits"):
        decide(WORDS, WORDS, (nothing, nothing))


def test_a_band_of_one_value_has_some_range() -> None:
    flat = [np.full(9, 500, np.float32)] * 3
    ((low, high), _, _) = decide(WORDS, WORDS, (flat, flat)).before or ()
    assert low == 500 < high


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_bytes_agree_with_scikit_image(dtype: str) -> None:
    rng = np.random.default_rng(0)
    stored = (rng.integers(0, 250, (50, 60)) if dtype == "uint8" else rng.integers(0, 30_000, (50, 60))).astype(dtype)
    source = make_source(dtype, scale=0.5, offset=-20.0)
    low, high = (10.0, 80.0) if dtype == "uint8" else (300.0, 9_000.0)
    expected = rescale_intensity(stored.astype(float) * 0.5 - 20, in_range=(low, high), out_range=(0, 255))
    shown = stretch_band(stored, source=source, limits=(low, high))
    assert shown.dtype == np.uint8
    # A half is rounded to one side or the other.
    assert np.abs(shown - expected).max() <= 0.5 + 1e-3
    assert {0, 255} <= set(shown.ravel().tolist())


def test_what_is_no_number_becomes_nothing() -> None:
    stored = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert stretch_band(stored, source=make_source("float32"), limits=(0, 2)).tolist() == [0, 255, 0, 128]
