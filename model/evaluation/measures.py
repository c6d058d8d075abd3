"""Figures with intervals: what every tile adds to sums, and what is made of the sums.

A figure such as an F1 or a corpus BLEU is no mean over tiles, but it is a function of sums over tiles. So all are kept
as the rows that are summed and the function that combines the sums, and one bootstrap serves them all.

Tiles of one scene resemble each other. What is drawn again is therefore the scene, with all of its tiles: the
percentile bootstrap over clusters (Davison and Hinkley 1997, Bootstrap Methods and their Application, 3.8 and 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Combine = Callable[[Floats], Floats]
"""From sums of shape (..., part) to figures of shape (...); NaN where they have no meaning."""

CONFIDENCE_LEVEL = 0.95
_DRAWS_AT_ONCE = 100
# ^ bounds the memory: (draw, scene) at a time


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What an answer without looking would reach."""

    value: float | None
    """The figure of that answer; None where it has none."""
    rule: str
    """What is answered everywhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A figure before it is a number."""

    name: str
    """Dotted, such as ``locate.building.f1``."""
    parts: Floats
    """What each row adds to the sums, of shape (row, part); a row is a tile, or a question about one."""
    scenes: tuple[str, ...]
    """The scene that each row comes from."""
    combine: Combine
    baseline: Baseline | None = None
    is_interval_known: bool = True
    """False where the figure is known for all rows together and for no others."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How good something is, what that is worth, and what it takes no skill to reach."""

    name: str
    """Dotted, such as ``locate.building.f1``."""
    value: float | None
    """A fraction, or in counts for errors of counts; None where there is no truth to tell."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    n_rows: int = 0
    """Tiles, or questions about tiles, that it was measured on."""
    baseline: Baseline | None = None


@dataclass(frozen=True, kw_only=True)
class BootstrapSettings:
    """How often scenes are drawn again, and from which seed."""

    n_draws: int = 1000
    seed: int = 0


def estimate_figures(measures: Sequence[Measure], *, settings: BootstrapSettings) -> list[Figure]:
    """Give the figure of each measure with its interval; all intervals come from the same draws of scenes.

    Args:
        measures: Their rows need not be of the same tiles; a scene without rows adds nothing.
        settings: Of the bootstrap.
    """
    scenes = sorted({scene for measure in measures for scene in measure.scenes})
    sums = [sum_scenes(measure, scenes=scenes) for measure in measures]
    random = np.random.default_rng(settings.seed)
    drawn: list[list[Floats]] = [[] for _ in measures]
    for start in range(0, settings.n_draws if len(scenes) > 1 else 0, _DRAWS_AT_ONCE):
        n_draws = min(_DRAWS_AT_ONCE, settings.n_draws - start)
        counts = random.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), size=n_draws).astype(float)
        for measure, of_scenes, values in zip(measures, sums, drawn, strict=True):
            if measure.is_interval_known:
                values.append(measure.combine(counts @ of_scenes))
    return [
        _make_figure(measure, np.concatenate(values) if values else np.empty(0))
        for measure, values in zip(measures, drawn, strict=True)
    ]


def sum_scenes(measure: Measure, *, scenes: Sequence[str]) -> Floats:
    """Sum the rows of each scene: shape (scene, part)."""
    position = {scene: index for index, scene in enumerate(scenes)}
    sums = np.zeros((len(scenes), measure.parts.shape[1]))
    np.add.at(sums, [position[scene] for scene in measure.scenes], measure.parts)
    return sums


def _make_figure(measure: Measure, drawn: Floats) -> Figure:
    value = float(measure.combine(measure.parts.sum(axis=0))) if len(measure.parts) else np.nan
    drawn = drawn[np.isfinite(drawn)]
    # ^ A draw may hold no tile that the figure is about.
    tail = 50 * (1 - CONFIDENCE_LEVEL)
    low, high = np.percentile(drawn, [tail, 100 - tail]).tolist() if len(drawn) else (None, None)
    is_known = bool(np.isfinite(value))
    return Figure(
        name=measure.name,
        value=value if is_known else None,
        low=low if is_known else None,
        high=high if is_known else None,
        n_rows=len(measure.parts),
        baseline=measure.baseline if is_known else None,
    )


def share(part: int, whole: int) -> Combine:
    """Divide one sum by another; 0 where the whole is 0, as for the precision of who names nothing."""

    def combine(sums: Floats) -> Floats:
        return np.divide(sums[..., part], sums[..., whole], out=np.zeros(sums.shape[:-1]), where=sums[..., whole] > 0)

    return combine


def mean(part: int, count: int) -> Combine:
    """Divide a sum by how many rows added to it; NaN where there are none."""

    def combine(sums: Floats) -> Floats:
        means: Floats = np.full(sums.shape[:-1], np.nan)
        np.divide(sums[..., part], sums[..., count], out=means, where=sums[..., count] > 0)
        return means

    return combine


def root_mean(part: int, count: int) -> Combine:
    """Give the square root of the mean of a sum of squares."""
    of_squares = mean(part, count)

    def combine(sums: Floats) -> Floats:
        root: Floats = np.sqrt(of_squares(sums))
        return root

    return combine


def f1(right: int, said: int, true: int) -> Combine:
    """Give the harmonic mean of precision and recall from how much was right, said and true."""

    def combine(sums: Floats) -> Floats:
        whole = sums[..., said] + sums[..., true]
        return np.divide(2 * sums[..., right], whole, out=np.zeros(sums.shape[:-1]), where=whole > 0)

    return combine
