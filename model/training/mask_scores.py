"""How well predicted masks outline what changed, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.interface import CELL_NAMES, ChangeMasks
from model.training.pairs import LabelledPair, separate_labels

CHANGED_PROBABILITY = 0.5
"""From where on a pixel counts as changed."""


@dataclass(frozen=True, kw_only=True)
class MaskScores:
    """Scores of the masks of one label, over all pixels of all tiles together."""

    iou: float
    """Pixels that are changed in both truth and prediction, over those that are in either; 0 where none is."""
    f1: float
    """Harmonic mean of precision and recall; 0 where nothing was right."""
    precision: float
    """Share of the pixels predicted as changed that did change."""
    recall: float
    """Share of the changed pixels that were predicted."""
    cells_iou: float
    """IoU of the cells that the text answers name, painted as a mask: what the masks must beat to be of use."""
    changed_fraction: float
    """Share of all pixels that did change."""


def score_masks(
    masks: ChangeMasks, tiles: Sequence[LabelledPair], *, named_cells: Sequence[dict[str, Sequence[str]]]
) -> dict[str, MaskScores | None]:
    """Score predicted masks, tile by tile in the same order.

    Args:
        masks: At the size of the tiles.
        tiles: Pairs of one size with their masks.
        named_cells: For each tile the cells that its text answer names, by label; none for a label that is missing.

    Returns:
        Scores by label; None where the truth of any tile does not tell of it.
    """
    separated = [separate_labels(tile, labels=masks.labels) for tile in tiles]
    scores: dict[str, MaskScores | None] = {}
    for index, label in enumerate(masks.labels):
        if not all(is_known[index] for _, is_known in separated):
            scores[label] = None
            continue
        truth = np.stack([changed[index] for changed, _ in separated])
        cells = np.stack([paint_cells(named.get(label, ()), shape=truth.shape[1:]) for named in named_cells])
        scores[label] = score_label(masks.probabilities[:, index] >= CHANGED_PROBABILITY, truth, cells=cells)
    return scores


def score_label(
    predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], *, cells: npt.NDArray[np.bool_]
) -> MaskScores:
    """Score the masks of one label, beside those painted from named cells; all of shape (tile, y, x)."""
    n_right, n_predicted, n_true = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return MaskScores(
        iou=_divide(n_right, n_predicted + n_true - n_right),
        f1=_divide(2 * n_right, n_predicted + n_true),
        precision=_divide(n_right, n_predicted),
        recall=_divide(n_right, n_true),
        cells_iou=_divide(int((cells & truth).sum()), int((cells | truth).sum())),
        changed_fraction=_divide(n_true, truth.size),
    )


def paint_cells(names: Sequence[str], *, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Give a mask of shape (y, x) that is true within the named cells of 3 x 3."""
    height, width = shape
    mask = np.zeros((height, width), bool)
    for name in names:
        row, col = divmod(CELL_NAMES.index(name), 3)
        mask[height * row // 3 : height * (row + 1) // 3, width * col // 3 : width * (col + 1) // 3] = True
    return mask


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
