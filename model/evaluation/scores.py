"""Yes and no, counts and cells against the truth: the paper's metrics and what no skill would reach.

An answer that cannot be parsed counts as "nothing changed", and is counted in `parseable_fraction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from model.evaluation.cases import AnsweredCase
from model.evaluation.measures import Baseline, Combine, Floats, Measure, f1, mean, root_mean, share
from model.interface import CELL_NAMES
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate

Bools = npt.NDArray[np.bool_]

KINDS = ("building", "road")
"""Kinds of objects that are counted and located."""
EMPTY_RULE = "nothing, everywhere"
"""What the always-empty baseline answers to be counted and located."""


def measure_classify(answered: Sequence[AnsweredCase], *, prefix: str) -> list[Measure]:
    """Score yes and no, yes being the positive; the baseline gives the more frequent of the two everywhere."""
    truth = np.array([isinstance(a.case.truth, ParsedClassify) and a.case.truth.is_changed for a in answered], bool)
    says = np.array([a.says_changed for a in answered], bool)
    majority = bool(truth.mean() > 0.5) if len(truth) else False
    return _measure_all(
        _compare_flags(truth, says),
        _compare_flags(truth, np.full_like(truth, majority)),
        {"accuracy": mean(3, 4), "precision": share(0, 1), "recall": share(0, 2), "f1": f1(0, 1, 2)},
        prefix=prefix,
        scenes=[a.scene for a in answered],
        rule=f"{'Yes' if majority else 'No'}, everywhere",
    )


def _compare_flags(truth: Bools, says: Bools) -> Floats:
    return np.stack([truth & says, says, truth, truth == says, np.ones_like(truth)], axis=1).astype(float)


def measure_counts(answered: Sequence[AnsweredCase], *, prefix: str) -> list[Measure]:
    """Score counts of each kind that the truth tells of, over all rows and over those that hold some."""
    measures = []
    for kind in KINDS:
        known = [
            (a, count)
            for a in answered
            if isinstance(a.case.truth, ParsedCount) and (count := read_count(a.case.truth, kind)) is not None
        ]
        truth = np.array([count for _, count in known], float)
        said = np.array(
            [(isinstance(a.meaning, ParsedCount) and read_count(a.meaning, kind)) or 0 for a, _ in known], float
        )
        measures += _measure_all(
            _compare_counts(truth, said),
            _compare_counts(truth, np.zeros_like(truth)),
            {
                "mae": mean(0, 2),
                "rmse": root_mean(1, 2),
                "changed_only.mae": mean(3, 5),
                "changed_only.rmse": root_mean(4, 5),
                "changed_only.mean_count": mean(6, 5),
            },
            prefix=f"{prefix}.{kind}",
            scenes=[a.scene for a, _ in known],
            rule=EMPTY_RULE,
        )
    return measures


def read_count(meaning: ParsedCount, kind: str) -> int | None:
    """Give the count of a kind; None where the words do not speak of it."""
    return meaning.building_count if kind == "building" else meaning.road_count


def _compare_counts(truth: Floats, said: Floats) -> Floats:
    error, holds_some = np.abs(truth - said), (truth > 0).astype(float)
    columns = [error, error**2, np.ones_like(error), error * holds_some, error**2 * holds_some, holds_some, truth]
    return np.stack(columns, axis=1)


def measure_cells(answered: Sequence[AnsweredCase], *, prefix: str) -> list[Measure]:
    """Score cells of each kind that the truth tells of.

    Precision, recall and F1 are over all cells of all rows together. Jaccard is the mean over rows of cells that are in
    both over cells that are in either, and subset accuracy the share of rows with every cell right. The original takes
    scikit-learn's defaults: where nothing is named and nothing is true, Jaccard scores 0 and subset accuracy 1. The
    figures that end in ``_nonempty`` leave those rows out.
    """
    measures = []
    for kind in KINDS:
        known = [
            (a, cells)
            for a in answered
            if isinstance(a.case.truth, ParsedLocate) and (cells := read_cells(a.case.truth, kind)) is not None
        ]
        truth = encode_cells([cells for _, cells in known])
        said = encode_cells(
            [(isinstance(a.meaning, ParsedLocate) and read_cells(a.meaning, kind)) or () for a, _ in known]
        )
        measures += _measure_all(
            _compare_cells(truth, said),
            _compare_cells(truth, np.zeros_like(truth)),
            {
                "precision": share(0, 1),
                "recall": share(0, 2),
                "f1": f1(0, 1, 2),
                "jaccard": mean(3, 5),
                "jaccard_nonempty": mean(3, 6),
                "subset_accuracy": mean(4, 5),
                "subset_accuracy_nonempty": mean(7, 6),
            },
            prefix=f"{prefix}.{kind}",
            scenes=[a.scene for a, _ in known],
            rule=EMPTY_RULE,
        )
    return measures


def read_cells(meaning: ParsedLocate, kind: str) -> tuple[str, ...] | None:
    """Give the cells of a kind; None where the words do not speak of it."""
    return meaning.building_cells if kind == "building" else meaning.road_cells


def encode_cells(cells: Sequence[Sequence[str]]) -> Bools:
    """Give which cells are named, of shape (row, cell), in the order of `CELL_NAMES`."""
    return np.array([[name in named for name in CELL_NAMES] for named in cells], bool).reshape(-1, len(CELL_NAMES))


def _compare_cells(truth: Bools, said: Bools) -> Floats:
    right, either = (truth & said).sum(axis=1), (truth | said).sum(axis=1)
    is_equal, holds_some = (truth == said).all(axis=1), either > 0
    jaccard = np.divide(right, either, out=np.zeros(len(truth)), where=holds_some)
    columns = [right, said.sum(axis=1), truth.sum(axis=1), jaccard, is_equal, np.ones_like(right), holds_some]
    return np.stack([*columns, is_equal & holds_some], axis=1).astype(float)


def measure_parseable(answered: Sequence[AnsweredCase], *, prefix: str) -> list[Measure]:
    """Give the share of answers whose words have a meaning."""
    parts = np.array([[a.meaning is not None, 1] for a in answered], float).reshape(-1, 2)
    scenes = tuple(a.scene for a in answered)
    return [Measure(name=f"{prefix}.parseable_fraction", parts=parts, scenes=scenes, combine=mean(0, 1))]


def _measure_all(
    parts: Floats,
    baseline_parts: Floats,
    combines: dict[str, Combine],
    *,
    prefix: str,
    scenes: Sequence[str],
    rule: str,
) -> list[Measure]:
    return [
        Measure(
            name=f"{prefix}.{name}",
            parts=parts,
            scenes=tuple(scenes),
            combine=combine,
            baseline=Baseline(value=_sum_up(baseline_parts, combine), rule=rule),
        )
        for name, combine in combines.items()
    ]


def _sum_up(parts: Floats, combine: Callable[[Floats], Floats]) -> float | None:
    value = float(combine(parts.sum(axis=0)))
    return value if np.isfinite(value) else None
