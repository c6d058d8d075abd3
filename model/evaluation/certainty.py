"""Measures how far a model's outlines, counts and bare yeses can be relied on, and how good that measurement is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.certainty import (
    COUNT_LEVEL,
    BareYes,
    Certainty,
    CountFit,
    CountStep,
    OutlineFit,
    bound_counts,
    describe_outlines,
)
from model.evaluation.calibration import measure_calibration
from model.evaluation.cases import AnsweredCase, AnsweredTile
from model.evaluation.measures import Combine, Floats, Measure, mean
from model.evaluation.outlines import FoundOutline
from model.evaluation.scores import KINDS, read_cells, read_count
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate

MIN_EXAMPLES = 50
"""Least outlines, or tiles with a count, of a kind that something is fitted to."""
MIN_OF_EACH = 10
"""Least right and least wrong ones among the outlines, and least bare yeses."""
MIN_TILES_PER_STEP = 25
"""Least tiles that an interval of counts is chosen by."""

_RIDGE = 1.0
# ^ Pulls standardised weights towards 0: a few outlines do not make a law.
_NEWTON_STEPS = 30
_LEAST_SCALE = 1e-3
# ^ Of a column that is the same for all.
_LEVEL_STEP = 0.025
# ^ Intervals that hold the truth about equally often are told apart by their length.
_AUC_BINS = 1000
SURE_FROM = 0.5
"""From where on an outline is kept, as ``report.min_confidence`` has it."""


def fit_certainty(tiles: Sequence[AnsweredTile], *, outlines: Sequence[FoundOutline]) -> Certainty:
    """Fit all that there are examples enough for.

    Args:
        tiles: What was answered about pairs that the model did not learn from.
        outlines: What its masks show of them.
    """
    by_kind = {kind: [one for one in outlines if one.kind == kind and np.isfinite(one.yes)] for kind in KINDS}
    counted = {kind: _list_counts(tiles, kind=kind) for kind in KINDS}
    bare = _list_bare(tiles)
    return Certainty(
        outlines=tuple(
            fit_outlines(found, kind=kind)
            for kind, found in by_kind.items()
            if len(found) >= MIN_EXAMPLES
            and MIN_OF_EACH <= sum(one.is_right for one in found) <= len(found) - MIN_OF_EACH
        ),
        counts=tuple(
            fit_counts([said for said, _, _ in rows], [true for _, true, _ in rows], kind=kind)
            for kind, rows in counted.items()
            if len(rows) >= MIN_EXAMPLES
        ),
        bare_yes=BareYes(probability=round((sum(r for r, _ in bare) + 1) / (len(bare) + 2), 4), n_tiles=len(bare))
        if len(bare) >= MIN_OF_EACH
        else None,
    )


def fit_outlines(outlines: Sequence[FoundOutline], *, kind: str) -> OutlineFit:
    """Fit a logistic model of whether outlines meet the truth, by Newton's method with a ridge.

    Args:
        outlines: Right ones and wrong ones.
        kind: What they are of.
    """
    features, truth = _describe(outlines), np.array([one.is_right for one in outlines], float)
    means, scales = features.mean(axis=0), np.maximum(features.std(axis=0), _LEAST_SCALE)
    inputs = np.column_stack([(features - means) / scales, np.ones(len(truth))])
    ridge = np.diag([_RIDGE] * len(means) + [1e-9])
    weights = np.append(np.zeros(len(means)), np.log(truth.mean() / (1 - truth.mean())))
    for _ in range(_NEWTON_STEPS):
        estimated = 0.5 * (1 + np.tanh(0.5 * inputs @ weights))
        gradient = inputs.T @ (estimated - truth) + ridge @ weights
        weights -= np.linalg.solve((inputs * (estimated * (1 - estimated))[:, None]).T @ inputs + ridge, gradient)
    rounded = [tuple(round(float(value), 4) for value in values) for values in (means, scales, weights[:-1])]
    return OutlineFit(
        kind=kind,
        means=rounded[0],
        scales=rounded[1],
        weights=rounded[2],
        bias=round(float(weights[-1]), 4),
        n_outlines=len(outlines),
    )


def _describe(outlines: Sequence[FoundOutline]) -> Floats:
    return describe_outlines(
        peaks=[one.peak for one in outlines],
        tile_shares=[one.tile_share for one in outlines],
        yes=[one.yes for one in outlines],
    )


def fit_counts(said: npt.ArrayLike, true: npt.ArrayLike, *, kind: str) -> CountFit:
    """Choose intervals for counts: for those of about one size the shortest that holds the truth often enough.

    Args:
        said: The model's counts in tiles that it calls changed.
        true: The true ones.
        kind: What is counted.
    """
    counts, truth = np.asarray(said, np.int64), np.asarray(true, np.int64)
    ends: list[int] = []
    for count in np.unique(counts).tolist():
        if ((counts > (ends[-1] if ends else -1)) & (counts <= count)).sum() >= MIN_TILES_PER_STEP:
            ends.append(count)
    # What is left of the largest counts goes with the step before.
    uppers = [*ends[:-1], None]
    steps, lower = [], -1
    for upper in uppers:
        is_in = (counts > lower) & (counts <= (np.inf if upper is None else upper))
        below, above = _choose_interval(counts[is_in], truth[is_in])
        steps.append(CountStep(up_to=upper, below=below, above=above, n_tiles=int(is_in.sum())))
        lower = upper if upper is not None else lower
    return CountFit(kind=kind, steps=tuple(steps))


def _choose_interval(counts: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Choose how far an interval goes down and up; of those that hold about `COUNT_LEVEL` the shortest."""
    ratios = np.unique(np.append(np.round((truth - counts) / np.maximum(counts, 1), 4), 0.0))
    best, chosen = (np.inf, np.inf), (0.0, 0.0)
    for below in -ratios[ratios <= 0]:
        for above in ratios[ratios >= 0]:
            low, high = bound_counts(counts, below=below, above=above)
            held = ((truth >= low) & (truth <= high)).mean()
            rank = (float(abs(held - COUNT_LEVEL) // _LEVEL_STEP), float((high - low).mean()))
            if rank < best:
                best, chosen = rank, (float(below) + 0.0, float(above))
    return chosen


def _list_counts(tiles: Sequence[AnsweredTile], *, kind: str) -> list[tuple[int, int, str]]:
    """List the model's counts, the true ones and the scenes of tiles that it calls changed."""
    rows = []
    for tile in tiles:
        if not any(one.says_changed for one in tile.answered):
            continue
        for one in tile.answered:
            said, true = one.meaning, one.case.truth
            if isinstance(said, ParsedCount) and isinstance(true, ParsedCount):
                counts = read_count(said, kind), read_count(true, kind)
                if counts[0] is not None and counts[1] is not None:
                    rows.append((counts[0], counts[1], tile.scene))
    return rows


def _list_bare(tiles: Sequence[AnsweredTile]) -> list[tuple[bool, str]]:
    """Tell of each yes beside which nothing is counted and no place is named whether it is right, and its scene."""
    return [
        (one.meaning == one.case.truth, tile.scene)
        for tile in tiles
        if is_bare(tile.answered)
        for one in tile.answered
        if one.says_changed
    ]


def is_bare(answered: Sequence[AnsweredCase]) -> bool:
    """Tell whether a tile is called changed while all that it was asked for besides, counts or cells, is none."""
    told: list[object] = []
    for one in answered:
        meaning = one.meaning
        if isinstance(meaning, ParsedCount):
            told += [read_count(meaning, kind) for kind in KINDS]
        elif isinstance(meaning, ParsedLocate):
            told += [read_cells(meaning, kind) for kind in KINDS]
        elif isinstance(meaning, ParsedClassify) and not meaning.is_changed:
            return False
    known = [value for value in told if value is not None]
    return any(one.says_changed for one in answered) and bool(known) and not any(known)


def measure_certainty(
    tiles: Sequence[AnsweredTile], *, outlines: Sequence[FoundOutline], certainty: Certainty | None
) -> list[Measure]:
    """Measure how many outlines and bare yeses are right, and whether what was stored of that holds here.

    Args:
        tiles: What was answered.
        outlines: What the model's masks show.
        certainty: What is stored with the model; None: nothing is.
    """
    measures = []
    for kind in KINDS:
        measures += _measure_outlines([one for one in outlines if one.kind == kind], kind=kind, certainty=certainty)
        fit = None if certainty is None else certainty.find_counts(kind)
        rows = _list_counts(tiles, kind=kind)
        if fit is not None and rows:
            low, high = fit.bound([said for said, _, _ in rows])
            is_held = np.array([true for _, true, _ in rows])
            is_held = (low <= is_held) & (is_held <= high)
            scenes = tuple(scene for _, _, scene in rows)
            measures.append(_average(f"count.{kind}.in_interval", is_held, scenes=scenes))
            measures.append(_average(f"count.{kind}.interval_length", high - low, scenes=scenes))
    bare = _list_bare(tiles)
    scenes = tuple(scene for _, scene in bare)
    measures += [_average("classify.bare_yes.right", [is_right for is_right, _ in bare], scenes=scenes)] if bare else []
    return measures


def _measure_outlines(outlines: Sequence[FoundOutline], *, kind: str, certainty: Certainty | None) -> list[Measure]:
    if not outlines:
        return []
    scenes, is_right = tuple(one.scene for one in outlines), np.array([one.is_right for one in outlines])
    measures = [_average(f"outline.{kind}.right", is_right, scenes=scenes)]
    fit = None if certainty is None else certainty.find_outlines(kind)
    if fit is None:
        return measures
    estimated = fit.estimate(_describe(outlines))
    is_known, is_sure = np.isfinite(estimated), estimated >= SURE_FROM
    known = tuple(scene for scene, flag in zip(scenes, is_known, strict=True) if flag)
    measures += measure_calibration(estimated[is_known], is_right[is_known], prefix=f"outline.{kind}", scenes=known)
    measures.append(
        Measure(
            name=f"outline.{kind}.auc",
            parts=_bin_by_truth(estimated[is_known], is_right[is_known]),
            scenes=known,
            combine=_combine_auc,
        )
    )
    parts = np.column_stack([is_sure & is_right, is_sure, is_right]).astype(float)
    for name, whole in (("right_if_sure", 1), ("sure_if_right", 2)):
        combine: Combine = mean(0, whole)
        measures.append(Measure(name=f"outline.{kind}.{name}", parts=parts, scenes=scenes, combine=combine))
    return measures


def _average(name: str, values: npt.ArrayLike, *, scenes: tuple[str, ...]) -> Measure:
    column = np.asarray(values, float)
    return Measure(name=name, parts=np.column_stack([column, np.ones_like(column)]), scenes=scenes, combine=mean(0, 1))


def _bin_by_truth(estimated: Floats, is_right: npt.NDArray[np.bool_]) -> Floats:
    """Count, per row, by estimate and truth: shape (row, 2 * bins), wrong ones first."""
    parts = np.zeros((len(estimated), 2 * _AUC_BINS))
    places = np.minimum((estimated * _AUC_BINS).astype(int), _AUC_BINS - 1)
    parts[np.arange(len(estimated)), places + _AUC_BINS * is_right] = 1
    return parts


def _combine_auc(sums: Floats) -> Floats:
    """Give how often a right one has a higher estimate than a wrong one, equal ones counting half."""
    wrong, right = np.split(sums, 2, axis=-1)
    below = np.cumsum(wrong, axis=-1) - wrong
    n_pairs = wrong.sum(axis=-1) * right.sum(axis=-1)
    auc: Floats = np.full(n_pairs.shape, np.nan)
    np.divide((right * (below + wrong / 2)).sum(axis=-1), n_pairs, out=auc, where=n_pairs > 0)
    return auc
