"""What was measured of a model is stored, read again, and said in numbers that mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.certainty import (
    CERTAINTY_FILE,
    BareYes,
    Certainty,
    CountFit,
    CountStep,
    OutlineFit,
    describe_outlines,
    read_certainty,
)
from model.errors import InputError
from model.registry import identify_model

CERTAINTY = Certainty(
    outlines=(
        OutlineFit(kind="road", means=(1, 2, 3), scales=(1, 2, 3), weights=(0.5, 0.0, 1.0), bias=0.2, n_outlines=60),
    ),
    counts=(CountFit(kind="building", steps=(CountStep(up_to=None, below=0.5, above=1, n_tiles=25),)),),
    bare_yes=BareYes(probability=0.5, n_tiles=12),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_certainty(tmp_path) is None
    (tmp_path / CERTAINTY_FILE).write_text(json.dumps(CERTAINTY.to_dict()))

    assert read_certainty(tmp_path) == CERTAINTY
    assert (CERTAINTY.find_outlines("building"), CERTAINTY.find_counts("road")) == (None, None)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"outlines": 1, "counts": [], "bare_yes": null}', "[" * 100_000])
def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / CERTAINTY_FILE).write_text(text)

    with pytest.raises(InputError, match="deltavlm model calibrate"):
        read_certainty(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"counts": [{"kind": "road", "steps": []}]},
        {"counts": [{"kind": "road", "steps": [{"up_to": 3, "below": 0, "above": 0, "n_tiles": 1}]}]},
        {"outlines": [{**CERTAINTY.to_dict()["outlines"][0], "means": [0]}]},
        {"outlines": [{**CERTAINTY.to_dict()["outlines"][0], "scales": [1, 0, 1]}]},
    ],
)
def test_what_does_not_fit_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"last step|coefficients|scale"):
        Certainty.from_dict(CERTAINTY.to_dict() | damage)


def test_probabilities_are_those_of_a_logistic_model_and_not_known_without_a_yes() -> None:
    (fit,) = CERTAINTY.outlines
    features = describe_outlines(peaks=[0.9, 1.0, 0.9], tile_shares=[0.01, 1e-6, 0.01], yes=[0.8, 0.8, np.nan])

    odds = 0.5 * (np.log(9) - 1) + (np.log(4) - 3) / 3 + 0.2
    estimated = fit.estimate(features)
    assert estimated[0] == pytest.approx(1 / (1 + np.exp(-odds)))
    assert estimated[0] < estimated[1] < 1
    assert np.isnan(estimated[2])


def test_intervals_are_whole_numbers_from_zero_around_the_count() -> None:
    (fit,) = CERTAINTY.counts

    low, high = fit.bound([0, 1, 5, 40])

    assert low.tolist() == [0, 0, 2, 20]
    assert high.tolist() == [1, 2, 10, 80]


def test_the_model_that_ships_has_been_measured() -> None:
    certainty = identify_model("deltavlm-tiny").certainty

    assert certainty is not None
    assert certainty.find_outlines("building") is not None
    assert certainty.find_counts("building") is not None
    assert certainty.find_outlines("road") is None
