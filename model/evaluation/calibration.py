"""Whether a confidence of 0.9 means nine right answers in ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.evaluation.measures import Combine, Floats, Measure

N_BINS = 15
"""Equal bins of confidence, as in Guo et al. 2017, On Calibration of Modern Neural Networks."""
TEMPERATURE_RANGE = (0.05, 20.0)
"""Where a temperature is searched."""
_CLOSEST_TO_CERTAIN = 1e-7
# ^ float32 gives probabilities of 1, whose logit is infinite.
_BISECTIONS = 60
_NEWTON_STEPS = 30


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Answers of about one confidence."""

    low: float
    high: float
    """Upper edge; the answers of the last bin may equal it."""
    n_answers: int
    mean_confidence: float | None
    """None where the bin is empty."""
    accuracy: float | None
    """Share of right answers; None where the bin is empty."""


def bin_answers(confidence: npt.ArrayLike, is_right: npt.ArrayLike, *, n_bins: int = N_BINS) -> Floats:
    """Sort answers into equal bins of confidence.

    Args:
        confidence: Between 0 and 1, of shape (answer,).
        is_right: Whether each answer is, of shape (answer,).
        n_bins: How many.

    Returns:
        Shape (answer, 3 * n_bins): for each bin one if the answer is in it, then its confidence, then one if it is
        right.

    Raises:
        ValueError: other shapes, or a confidence that is no number between 0 and 1.
    """
    confidence, is_right = np.asarray(confidence, float), np.asarray(is_right, bool)
    if confidence.shape != is_right.shape or confidence.ndim != 1:
        raise ValueError(
            f"confidences of shape {confidence.shape} and truths of {is_right.shape}; expected one of each per answer; "
            "give both of the same answers"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence that is not between 0 and 1; expected probabilities; leave out those not given")
    index = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    is_in_bin = np.eye(n_bins)[index]
    return np.concatenate([is_in_bin, is_in_bin * confidence[:, None], is_in_bin * is_right[:, None]], axis=1)


def combine_calibration_error(sums: Floats) -> Floats:
    """Give the calibration error of sums of `bin_answers`: the mean gap of confidence and accuracy over answers."""
    n_answers, confidence, right = np.split(sums, 3, axis=-1)
    whole: Floats = n_answers.sum(axis=-1)
    gaps = np.abs(confidence - right).sum(axis=-1)
    means: Floats = np.full(whole.shape, np.nan)
    np.divide(gaps, whole, out=means, where=whole > 0)
    return means


def expected_calibration_error(confidence: npt.ArrayLike, is_right: npt.ArrayLike, *, n_bins: int = N_BINS) -> float:
    """Give the expected calibration error: 0 where every confidence is the share of right answers; NaN without answers.

    Args:
        confidence: Between 0 and 1, of shape (answer,).
        is_right: Whether each answer is, of shape (answer,).
        n_bins: Equal bins of confidence.

    Raises:
        InputError: as `bin_answers`.
    """
    return float(combine_calibration_error(bin_answers(confidence, is_right, n_bins=n_bins).sum(axis=0)))


def measure_calibration(
    confidence: npt.ArrayLike, is_right: npt.ArrayLike, *, prefix: str, scenes: Sequence[str]
) -> list[Measure]:
    """Measure the calibration error; of a few answers in each bin it is too large, and so is its interval."""
    combine: Combine = combine_calibration_error
    parts = bin_answers(confidence, is_right)
    return [Measure(name=f"{prefix}.ece", parts=parts, scenes=tuple(scenes), combine=combine)]


def list_reliability(
    confidence: npt.ArrayLike, is_right: npt.ArrayLike, *, n_bins: int = N_BINS
) -> list[ReliabilityBin]:
    """Give accuracy by confidence, a row for each bin."""
    n_answers, confidences, right = np.split(bin_answers(confidence, is_right, n_bins=n_bins).sum(axis=0), 3)
    return [
        ReliabilityBin(
            low=k / n_bins,
            high=(k + 1) / n_bins,
            n_answers=int(n_answers[k]),
            mean_confidence=float(confidences[k] / n_answers[k]) if n_answers[k] else None,
            accuracy=float(right[k] / n_answers[k]) if n_answers[k] else None,
        )
        for k in range(n_bins)
    ]


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Platt's scaling: a calibrated probability is ``sigmoid((logit(p) + bias) / temperature)``."""

    temperature: float
    """Above 1: the model was too sure."""
    bias: float
    """Above 0: it said no too often; some answers change sides."""


def fit_scaling(yes_probability: npt.ArrayLike, is_yes: npt.ArrayLike) -> Scaling:
    """Give the scaling that makes yes-probabilities fit the truth best, by Newton's method on the log-likelihood.

    Platt (1999), Probabilistic Outputs for Support Vector Machines, with his smoothed targets, which keep the fit
    finite where all answers are right.

    Args:
        yes_probability: Of shape (answer,).
        is_yes: The truth, of shape (answer,).

    Raises:
        ValueError: no yes or no no among the truths, other shapes, or a probability that is no number between 0 and 1.
    """
    probability, truth = _check_probabilities(yes_probability, is_yes)
    n_yes = truth.sum()
    n_no = len(truth) - n_yes
    if not n_yes or not n_no:
        raise InputError(
            f"{n_yes:.0f} times yes and {n_no:.0f} times no in the truth",
            expected="both",
            remedy="give pairs of both kinds",
        )
    logit = np.log(probability) - np.log1p(-probability)
    target = np.where(truth > 0, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    inputs = np.stack([logit, np.ones_like(logit)], axis=1)
    # Platt's start: the share of yes, whatever the model says.
    weights = np.array([0.0, math.log((n_yes + 1) / (n_no + 1))])
    for _ in range(_NEWTON_STEPS):
        calibrated = 0.5 * (1 + np.tanh(0.5 * inputs @ weights))
        gradient = inputs.T @ (calibrated - target)
        curvature = (inputs * (calibrated * (1 - calibrated))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # Far from its end a whole step may go too far.
        while _measure_loss(inputs @ (weights - step), target) > _measure_loss(inputs @ weights, target) + 1e-9:
            step = step / 2
        weights = weights - step
    scale = min(max(float(weights[0]), 1 / TEMPERATURE_RANGE[1]), 1 / TEMPERATURE_RANGE[0])
    return Scaling(temperature=1 / scale, bias=float(weights[1]) / scale)


def _measure_loss(log_odds: Floats, target: Floats) -> float:
    """Give the negative log-likelihood of targets between 0 and 1."""
    return float((np.logaddexp(0, log_odds) - target * log_odds).sum())


def _check_probabilities(yes_probability: npt.ArrayLike, is_yes: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Give probabilities, none of them quite 0 or 1, and truths, of shape (answer,) each."""
    probability, truth = np.asarray(yes_probability, float), np.asarray(is_yes, float)
    if probability.shape != truth.shape or probability.ndim != 1 or not len(probability):
        raise ValueError(
            f"probabilities of shape {probability.shape} and truths of {truth.shape}; expected one of each per answer, "
            "and at least one; give both of the same answers"
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a probability that is not between 0 and 1; expected probabilities; leave the others out")
    return probability.clip(_CLOSEST_TO_CERTAIN, 1 - _CLOSEST_TO_CERTAIN), truth


def fit_temperature(yes_probability: npt.ArrayLike, is_yes: npt.ArrayLike) -> float:
    """Give the temperature that makes yes-probabilities fit the truth best: least negative log-likelihood.

    A calibrated probability is ``sigmoid(logit(p) / temperature)``: above 1 the model was too sure, below 1 not sure
    enough; no answer changes sides. The loss is convex in ``1 / temperature``, so its slope there, which only rises, is
    bisected for where it crosses 0.

    Args:
        yes_probability: Of shape (answer,).
        is_yes: The truth, of shape (answer,).

    Returns:
        Within `TEMPERATURE_RANGE`; at its end where ever more or less sure would ever be better.

    Raises:
        ValueError: no answers, other shapes, or a probability that is no number between 0 and 1.
    """
    probability, truth = _check_probabilities(yes_probability, is_yes)
    logit = np.log(probability) - np.log1p(-probability)

    def slope(inverse: float) -> float:
        # expit by tanh, which does not overflow
        return float((logit * (0.5 * (1 + np.tanh(0.5 * inverse * logit)) - truth)).sum())

    low, high = 1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) <= 0 else (low, middle)
    return 2 / (low + high)
