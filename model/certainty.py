"""How far a model's findings can be relied on, as measured on pairs that it did not learn from.

Three things that no answer tells by itself: how probable it is that an outline meets a real change, between which
numbers the true count lies, and what a yes is worth beside which nothing is counted, placed or outlined.
``deltavlm model calibrate`` measures them and puts them beside the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from model.errors import InputError

CERTAINTY_FILE = "certainty.json"
"""Name of the file in a model's folder."""

COUNT_LEVEL = 0.8
"""Part of the tiles whose true count an interval is to hold."""

Floats = npt.NDArray[np.float64]

_CLOSEST_TO_CERTAIN = 1e-4
# ^ Masks are kept to four digits.


def describe_outlines(*, peaks: npt.ArrayLike, tile_shares: npt.ArrayLike, yes: npt.ArrayLike) -> Floats:
    """Give what the probability of outlines is told by, of shape (outline, 3).

    Args:
        peaks: Highest probability that the mask gives a pixel of each.
        tile_shares: Area of each as part of a tile's: 1 is as large as a tile.
        yes: Probability with which the model calls the ground changed; of an outline over several tiles the mean,
            weighted by its area in each.
    """
    shares = np.asarray(tile_shares, np.float64)
    return np.stack([_log_odds(peaks), np.log(np.maximum(shares, 1e-9)), _log_odds(yes)], axis=-1)


def _log_odds(probabilities: npt.ArrayLike) -> Floats:
    clipped = np.clip(np.asarray(probabilities, np.float64), _CLOSEST_TO_CERTAIN, 1 - _CLOSEST_TO_CERTAIN)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


@dataclass(frozen=True, kw_only=True)
class OutlineFit:
    """A logistic model of whether an outline of one kind meets a real change of that kind."""

    kind: str
    """What changed, such as building."""
    means: tuple[float, ...]
    """Mean of each column of `describe_outlines` over the outlines that it was fitted to."""
    scales: tuple[float, ...]
    """Likewise the standard deviations."""
    weights: tuple[float, ...]
    """What each column weighs once its mean is taken away and it is divided by its scale."""
    bias: float
    n_outlines: int
    """How many it was fitted to."""

    def estimate(self, features: Floats) -> Floats:
        """Give the probability of each row of `describe_outlines`; NaN where something is not known."""
        odds = (features - np.array(self.means)) / np.array(self.scales) @ np.array(self.weights) + self.bias
        return np.asarray(0.5 * (1 + np.tanh(0.5 * odds)))


@dataclass(frozen=True, kw_only=True)
class CountStep:
    """How far true counts lie from counts of about one size."""

    up_to: int | None
    """Largest count that it holds for; None: any."""
    below: float
    """How far down the interval goes, as part of the count, of 1 where that is 0."""
    above: float
    """Likewise up."""
    n_tiles: int
    """How many tiles it was measured on."""


@dataclass(frozen=True, kw_only=True)
class CountFit:
    """Intervals for the counts of one kind in tiles that the model calls changed."""

    kind: str
    """What is counted, such as building."""
    steps: tuple[CountStep, ...]
    """By count, ascending; the last has no end."""

    def bound(self, counts: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Give the lowest and the highest number of each count's interval."""
        told = np.asarray(counts, np.int64)
        ends = np.array([np.inf if step.up_to is None else step.up_to for step in self.steps])
        places = np.searchsorted(ends, told)
        below, above = np.array([(step.below, step.above) for step in self.steps])[places].T
        return bound_counts(told, below=below, above=above)


def bound_counts(
    counts: npt.NDArray[np.int64], *, below: npt.ArrayLike, above: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give intervals around counts that reach so many times each of them down and up, in whole numbers from 0."""
    sizes = np.maximum(counts, 1)
    low, high = counts - np.asarray(below) * sizes, counts + np.asarray(above) * sizes
    return np.maximum(np.rint(low), 0).astype(np.int64), np.rint(high).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class BareYes:
    """What a yes is worth beside which nothing is counted and no place is named."""

    probability: float
    """Part of such tiles that did change."""
    n_tiles: int
    """How many there were."""


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """All that was measured of one model; what was not measured is not there."""

    outlines: tuple[OutlineFit, ...] = ()
    counts: tuple[CountFit, ...] = ()
    bare_yes: BareYes | None = None

    def find_outlines(self, kind: str) -> OutlineFit | None:
        """Give what was measured of outlines of a kind; None where nothing was."""
        return next((fit for fit in self.outlines if fit.kind == kind), None)

    def find_counts(self, kind: str) -> CountFit | None:
        """Give what was measured of counts of a kind; None where nothing was."""
        return next((fit for fit in self.counts if fit.kind == kind), None)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take what `to_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            bare = values["bare_yes"]
            certainty = cls(
                outlines=tuple(OutlineFit(**{**fit, **_read_columns(fit)}) for fit in values["outlines"]),
                counts=tuple(
                    CountFit(kind=fit["kind"], steps=tuple(CountStep(**step) for step in fit["steps"]))
                    for fit in values["counts"]
                ),
                bare_yes=None if bare is None else BareYes(**bare),
            )
        except (KeyError, TypeError) as problem:
            raise ValueError(f"{type(problem).__name__} {problem}") from None
        if any(not fit.steps or fit.steps[-1].up_to is not None for fit in certainty.counts):
            raise ValueError("counts whose last step has an end")
        return certainty


def _read_columns(fit: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    columns = {name: tuple(float(value) for value in fit[name]) for name in ("means", "scales", "weights")}
    if any(len(values) != describe_outlines(peaks=0.5, tile_shares=1, yes=0.5).size for values in columns.values()):
        raise ValueError("outlines with another number of coefficients")
    if min(columns["scales"]) <= 0:
        raise ValueError("outlines with a scale that is not above 0")
    return columns


def read_certainty(folder: Path) -> Certainty | None:
    """Read what was measured of the model in a folder; None where nothing was.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / CERTAINTY_FILE
    if not file.is_file():
        return None
    try:
        return Certainty.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as problem:
        raise InputError(
            f"{file} cannot be read ({str(problem)[:200]})",
            expected="what `deltavlm model calibrate` writes",
            remedy="run that again, or remove the file: then nothing is told of how sure changes and counts are",
        ) from None
