"""What a stratified random sample says of all tiles: ratios of totals with their standard errors.

The estimators of Olofsson et al. 2014 (Good practices for estimating area and assessing accuracy of land change,
doi 10.1016/j.rse.2014.02.015): overall, user's and producer's accuracy and areas are all ratios of two totals, so
one function gives them (Stehman 2014, doi 10.1080/01431161.2014.930207, section 3, of which the former's equations 1 to
11 are the case in which strata are the classes of the map). A tile counts by its ground, which is less at an edge; with
equal tiles the terms are theirs. They leave the finite population out; here it counts: a stratum of which every tile
was looked at is known, and has no error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Z_95 = 1.96
"""Standard errors on either side of an estimate that an interval of 95 % takes in, as the paper has it."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and how far it may be off."""

    value: float
    standard_error: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval."""
        return Z_95 * self.standard_error

    def scale(self, factor: float) -> Estimate:
        """Give the estimate of so many times the figure."""
        return Estimate(value=factor * self.value, standard_error=abs(factor) * self.standard_error)

    def to_dict(self, *, highest: float = math.inf) -> dict[str, float]:
        """Give plain values; no interval reaches below nothing or above the highest there can be."""
        low, high = self.value - self.half_width, self.value + self.half_width
        return {
            "value": self.value,
            "standard_error": self.standard_error,
            "low": max(low, 0.0),
            "high": min(high, highest),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Tiles that were looked at, and the strata they stand for."""

    strata: IntArray
    """Position of each tile's stratum."""
    sizes: FloatArray
    """What each tile counts: its ground, or one."""
    weights: FloatArray
    """Part of the whole that each stratum is, by the same measure; they add up to one."""
    n_tiles: FloatArray
    """Tiles there are in each stratum; infinite: the finite population is left out."""

    @cached_property
    def n_reviewed(self) -> IntArray:
        """Tiles per stratum that were looked at."""
        return np.bincount(self.strata, minlength=len(self.weights))

    @cached_property
    def _mean_sizes(self) -> FloatArray:
        return np.bincount(self.strata, weights=self.sizes, minlength=len(self.weights)) / np.maximum(
            self.n_reviewed, 1
        )

    @property
    def is_sufficient(self) -> bool:
        """Whether each stratum has two tiles, or all that there are."""
        return bool((self.n_reviewed >= np.minimum(self.n_tiles, 2)).all())

    def average(self, values: FloatArray) -> FloatArray:
        """Give the mean of a value per tile in each stratum, by what the tiles count."""
        sums = np.bincount(self.strata, weights=self.sizes * values, minlength=len(self.weights))
        return np.asarray(sums / np.maximum(self._mean_sizes * self.n_reviewed, np.finfo(np.float64).tiny))

    def estimate_mean(self, values: FloatArray) -> Estimate:
        """Estimate the mean of a value over all tiles."""
        found = self.estimate_ratio(values, np.ones_like(values))
        return found if found is not None else Estimate(value=0.0, standard_error=0.0)

    def estimate_ratio(self, numerator: FloatArray, denominator: FloatArray) -> Estimate | None:
        """Estimate the ratio of two totals; None where there is nothing to divide by.

        Args:
            numerator: A value per tile, per unit of what the tile counts.
            denominator: Another.
        """
        whole = float(self.weights @ self.average(denominator))
        if whole <= 0:
            return None
        ratio = float(self.weights @ self.average(numerator)) / whole
        residuals = numerator - ratio * denominator
        off = self.sizes / self._mean_sizes[self.strata] * (residuals - self.average(residuals)[self.strata])
        n = np.maximum(self.n_reviewed, 1)
        variances = np.bincount(self.strata, weights=off**2, minlength=len(n)) / np.maximum(n - 1, 1)
        # A stratum that was looked at altogether is known.
        left = np.clip(1 - self.n_reviewed / self.n_tiles, 0.0, 1.0)
        variance = float((self.weights**2 * left * variances / n).sum()) / whole**2
        return Estimate(value=ratio, standard_error=math.sqrt(variance))


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassAccuracy:
    """Accuracy of a map of classes; per class in the order of the classes, None where no tile is of it."""

    overall: Estimate
    users: tuple[Estimate | None, ...]
    producers: tuple[Estimate | None, ...]
    fractions: tuple[Estimate, ...]
    """Part of the whole that is of each class in truth."""
    counts: IntArray
    """Tiles looked at, (told class, true class)."""
    cells: FloatArray
    """Part of the whole, (told class, true class)."""


def assess_classes(design: Design, *, told: IntArray, true: IntArray, n_classes: int) -> ClassAccuracy:
    """Assess what a map tells of the class of tiles.

    Args:
        design: The tiles that were looked at.
        told: Position of each tile's class on the map.
        true: Position of its class as people saw it.
        n_classes: Classes there are.
    """
    is_told = [(told == each).astype(np.float64) for each in range(n_classes)]
    is_true = [(true == each).astype(np.float64) for each in range(n_classes)]
    is_both = [one * other for one, other in zip(is_told, is_true, strict=True)]
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (told, true), 1)
    cells = [[float(design.weights @ design.average(one * other)) for other in is_true] for one in is_told]
    return ClassAccuracy(
        overall=design.estimate_mean((told == true).astype(np.float64)),
        users=tuple(design.estimate_ratio(*each) for each in zip(is_both, is_told, strict=True)),
        producers=tuple(design.estimate_ratio(*each) for each in zip(is_both, is_true, strict=True)),
        fractions=tuple(design.estimate_mean(each) for each in is_true),
        counts=counts,
        cells=np.array(cells),
    )
