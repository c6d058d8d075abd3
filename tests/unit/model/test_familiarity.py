"""What pairs at home look like is learned, stored as plain numbers, and others are far from it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.home_looks import MIN_PAIRS, fit_familiarity, store_familiarity
from model.familiarity import (
    FAMILIARITY_FILE,
    N_SHARPNESS,
    Familiarity,
    Floats,
    describe_images,
    measure_sharpness,
)
from model.home import UNFAMILIAR

WIDTH = 12


def make_descriptions(n_pairs: int, *, seed: int, shift: float = 0.0) -> tuple[Floats, list[str]]:
    """Make descriptions that spread along few axes, four pairs to a scene."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(4, WIDTH + N_SHARPNESS))
    images = rng.normal(size=(n_pairs, 2, 4)) @ mixing + 0.1 * rng.normal(size=(n_pairs, 2, WIDTH + N_SHARPNESS))
    return images + shift, [f"scene_{number // 4}" for number in range(n_pairs)]


def test_three_in_a_hundred_at_home_are_unfamiliar_and_nearly_all_elsewhere() -> None:
    familiarity = fit_familiarity(make_descriptions(2000, seed=1)[0], scenes=make_descriptions(2000, seed=1)[1])
    home = np.array(familiarity.rate(make_descriptions(2000, seed=2)[0]))
    elsewhere = np.array(familiarity.rate(make_descriptions(200, seed=3, shift=3.0)[0]))

    assert 0.02 < (home < UNFAMILIAR).mean() < 0.04
    assert 0.45 < np.median(home) < 0.55
    assert (elsewhere < UNFAMILIAR).mean() > 0.9
    assert 0 <= min(*home, *elsewhere) <= max(*home, *elsewhere) <= 1


def test_a_pair_is_as_far_as_the_farther_of_its_dates_whatever_stands_beside_it() -> None:
    descriptions, scenes = make_descriptions(400, seed=1)
    familiarity = fit_familiarity(descriptions, scenes=scenes)
    some = descriptions[:5].copy()
    some[1, 1] += 5.0

    assert familiarity.rate(some)[1] < UNFAMILIAR
    assert familiarity.rate(some[:, ::-1]) == familiarity.rate(some)
    assert [familiarity.rate(some[at : at + 1])[0] for at in range(5)] == familiarity.rate(some)


def test_what_is_stored_rates_as_what_was_learned(tmp_path: Path) -> None:
    descriptions, scenes = make_descriptions(400, seed=1)
    assert store_familiarity(tmp_path, descriptions, scenes=scenes)

    restored = Familiarity.from_folder(tmp_path, width=WIDTH)

    assert restored is not None
    learned = fit_familiarity(descriptions, scenes=scenes)
    assert restored.rate(descriptions) == pytest.approx(learned.rate(descriptions), abs=5e-3)


def test_too_few_pairs_store_nothing(tmp_path: Path) -> None:
    descriptions, scenes = make_descriptions(MIN_PAIRS - 1, seed=1)

    assert not store_familiarity(tmp_path, descriptions, scenes=scenes)
    assert Familiarity.from_folder(tmp_path, width=WIDTH) is None


@pytest.mark.parametrize("what", ["digit", "missing", "width", "negative", "text", "cut"])
def test_what_is_damaged_or_of_another_model_is_refused(tmp_path: Path, what: str) -> None:
    descriptions, scenes = make_descriptions(400, seed=1)
    store_familiarity(tmp_path, descriptions, scenes=scenes)
    file = tmp_path / FAMILIARITY_FILE
    data = file.read_bytes()
    values = {name: value for name, value in json.loads(data).items() if name != "sha256"}
    file.write_bytes(
        {
            "digit": data.replace(b'"median":', b'"median":1'),
            "missing": json.dumps({name: value for name, value in values.items() if name != "axes"}).encode(),
            "width": data,
            "negative": json.dumps(values | {"scale": [-1.0] * len(values["scale"])}).encode(),
            "text": json.dumps(values | {"median": "far"}).encode(),
            "cut": data[:200],
        }[what]
    )

    with pytest.raises(InputError, match=FAMILIARITY_FILE):
        Familiarity.from_folder(tmp_path, width=WIDTH + (what == "width"))


def test_enlarged_and_blurred_pixels_have_less_detail_for_their_contrast() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (256, 256)).astype(np.uint8)
    small = cv2.resize(sharp, (64, 64), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)

    (_, fine, coarse), others = measure_sharpness(sharp), [measure_sharpness(image) for image in (enlarged, blurred)]

    assert all(other[1] < fine - 0.5 and other[2] < coarse for other in others)
    assert measure_sharpness(np.zeros((96, 96), np.uint8)) == (
        0.0,
        pytest.approx(np.log(0.5)),
        pytest.approx(np.log(0.5)),
    )


def test_a_description_has_the_features_and_the_sharpness_of_each_date() -> None:
    pairs = np.random.default_rng(0).integers(0, 256, (3, 2, 3, 128, 128)).astype(np.uint8)
    features = np.arange(3 * 2 * WIDTH, dtype=np.float32).reshape(3, 2, WIDTH)

    described = describe_images(pairs, features=features)

    assert described.shape == (3, 2, WIDTH + N_SHARPNESS)
    np.testing.assert_array_equal(described[..., :WIDTH], features)
    assert tuple(described[2, 1, WIDTH:]) == measure_sharpness(pairs[2, 1, 1])
