"""Calibration error by hand, and temperatures beside the minimum that scipy 1.17.1 finds."""

import numpy as np
import pytest

from model.evaluation.calibration import (
    TEMPERATURE_RANGE,
    expected_calibration_error,
    fit_scaling,
    fit_temperature,
    list_reliability,
)


def test_the_error_is_the_mean_gap_of_confidence_and_accuracy():
    # Two bins of 15: three answers around 0.9 of which one is right, one of 0.5 that is wrong.
    confidence, is_right = [0.88, 0.9, 0.92, 0.5], [True, False, False, False]
    expected = 3 / 4 * abs(0.9 - 1 / 3) + 1 / 4 * 0.5
    assert expected_calibration_error(confidence, is_right) == pytest.approx(expected)
    # In one bin all are together.
    assert expected_calibration_error(confidence, is_right, n_bins=1) == pytest.approx(0.8 - 0.25)


def test_the_calibrated_have_no_error_and_the_certain_belong_to_the_last_bin():
    assert expected_calibration_error(np.full(4, 0.75), [True, True, True, False]) == 0
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1
    assert np.isnan(expected_calibration_error([], []))


def test_bins_tell_what_is_in_them():
    bins = list_reliability([0.96, 1.0, 0.5], [True, False, True], n_bins=10)
    assert [b.n_answers for b in bins] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert bins[9].mean_confidence == pytest.approx(0.98)
    assert (bins[9].accuracy, bins[5].accuracy, bins[0].accuracy) == (0.5, 1.0, None)


@pytest.mark.parametrize("wrong", [[1.2, 0.5], [float("nan"), 0.5], [-0.1, 0.5]])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="between 0 and 1; expected probabilities; leave"):
        expected_calibration_error(wrong, [True, False])
    with pytest.raises(ValueError, match="between 0 and 1; expected probabilities; leave"):
        fit_temperature(wrong, [True, False])
    with pytest.raises(ValueError, match="one of each per answer"):
        expected_calibration_error([0.5], [True, False])


def test_the_temperature_is_where_the_likelihood_is_greatest():
    random = np.random.default_rng(7)
    # ^ continues where the arrays of test_evaluation_scores.py end
    for shape in ((40, 9), (40, 9), (40, 9), (50,), (50,)):
        random.random(shape)
    probability = random.random(200)
    is_yes = random.random(200) < 1 / (1 + np.exp(-np.log(probability / (1 - probability)) / 2.5))
    assert fit_temperature(probability, is_yes) == pytest.approx(2.592431729831588, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_sharpened_by_a_temperature_give_it_back(temperature):
    # As often yes as the true probabilities say: 1 of 5, 1 of 2, 9 of 10.
    true = np.array([0.2] * 5 + [0.5] * 2 + [0.9] * 10)
    is_yes = np.array([True] + [False] * 4 + [True, False] + [True] * 9 + [False])
    given = 1 / (1 + np.exp(-np.log(true / (1 - true)) * temperature))
    assert fit_temperature(given, is_yes) == pytest.approx(temperature, rel=1e-6)


def test_the_search_stays_in_its_range():
    low, high = TEMPERATURE_RANGE
    assert fit_temperature([0.9, 0.1, 1.0], [True, False, True]) == pytest.approx(low, rel=1e-6)
    assert fit_temperature([0.9, 0.1, 1.0], [False, True, False]) == pytest.approx(high, rel=1e-6)
    with pytest.raises(ValueError, match="at least one"):
        fit_temperature([], [])


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, 0.0), (1.0, 0.8), (0.6, -1.2)])
def test_probabilities_bent_by_a_scaling_give_it_back(temperature, bias):
    random = np.random.default_rng(0)
    logit = random.normal(0, 1.5, 120_000)
    is_yes = random.random(len(logit)) < 1 / (1 + np.exp(-logit))
    # What the model says, so that ((said + bias) / temperature) is the true log-odds.
    said = logit * temperature - bias
    found = fit_scaling(1 / (1 + np.exp(-said)), is_yes)
    assert found.temperature == pytest.approx(temperature, rel=0.04)
    assert found.bias == pytest.approx(bias, abs=0.06)


def test_answers_that_are_all_right_keep_the_scaling_finite():
    found = fit_scaling([0.9, 0.8, 0.2, 0.1], [True, True, False, False])
    assert 0.05 <= found.temperature <= 20
    assert abs(found.bias) < 0.1


def test_a_scaling_needs_truths_of_both_kinds():
    with pytest.raises(ValueError, match="2 times yes and 0 times no in the truth; expected both; give pairs"):
        fit_scaling([0.9, 0.8], [True, True])
