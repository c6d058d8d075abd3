"""How well predicted masks outline what changed, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from model.evaluation.measures import Baseline, Measure, f1, share
from model.interface import CELL_NAMES, ChangeMasks
from model.pairs.folders import LabelledPair, separate_labels

CHANGED_PROBABILITY = 0.5
"""From where on a pixel counts as changed."""


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """How many pixels of one tile a mask of one label meets and misses."""

    n_right: int
    """Changed in both truth and prediction."""
    n_predicted: int
    """Changed in the prediction."""
    n_true: int
    """Changed in the truth."""
    n_either: int
    """Changed in either."""
    n_cells_right: int
    """Changed in the truth and within the cells that the text answer names."""
    n_cells_either: int
    """Changed in the truth or within those cells."""
    n_pixels: int
    """All of the tile."""


def count_pixels(
    masks: ChangeMasks, tiles: Sequence[LabelledPair], *, named_cells: Sequence[Mapping[str, Sequence[str]]]
) -> list[dict[str, PixelCounts | None]]:
    """Compare predicted masks with the truth.

    Args:
        masks: At the size of the tiles.
        tiles: Pairs of one size with their masks, in the same order.
        named_cells: For each tile the cells that its text answer names, by label; none for a label that is missing.

    Returns:
        For each tile counts by label; None where its truth does not tell of the label.
    """
    counted = []
    for index, (tile, named) in enumerate(zip(tiles, named_cells, strict=True)):
        truths, is_known = separate_labels(tile, labels=masks.labels)
        predicted = masks.probabilities[index] >= CHANGED_PROBABILITY
        counted.append(
            {
                label: count_label(
                    predicted[k], truths[k], cells=paint_cells(named.get(label, ()), shape=tile.mask.shape)
                )
                if is_known[k]
                else None
                for k, label in enumerate(masks.labels)
            }
        )
    return counted


def count_label(
    predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], *, cells: npt.NDArray[np.bool_]
) -> PixelCounts:
    """Count the pixels of one mask, beside one painted from named cells; all of shape (y, x)."""
    return PixelCounts(
        n_right=int((predicted & truth).sum()),
        n_predicted=int(predicted.sum()),
        n_true=int(truth.sum()),
        n_either=int((predicted | truth).sum()),
        n_cells_right=int((cells & truth).sum()),
        n_cells_either=int((cells | truth).sum()),
        n_pixels=truth.size,
    )


def measure_masks(label: str, counts: Sequence[PixelCounts], *, scenes: Sequence[str]) -> list[Measure]:
    """Score the masks of one label over all pixels of all tiles together; 0 where nothing is there to be right about.

    The baseline of the IoU is that of the cells that the text answers name: what masks must beat to be of use.
    """
    parts = np.array([astuple(count) for count in counts], float).reshape(-1, 7)
    right, predicted, true, either, cells_right, cells_either, pixels = range(7)
    cells_iou = float(share(cells_right, cells_either)(parts.sum(axis=0)))
    made = {
        "iou": share(right, either),
        "f1": f1(right, predicted, true),
        "precision": share(right, predicted),
        "recall": share(right, true),
        "cells_iou": share(cells_right, cells_either),
        "changed_fraction": share(true, pixels),
    }
    baselines = {"iou": Baseline(value=cells_iou, rule="the named cells, painted")}
    return [
        Measure(
            name=f"mask.{label}.{name}",
            parts=parts,
            scenes=tuple(scenes),
            combine=combine,
            baseline=baselines.get(name),
        )
        for name, combine in made.items()
    ]


def paint_cells(names: Sequence[str], *, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Give a mask of shape (y, x) that is true within the named cells of 3 x 3."""
    height, width = shape
    mask = np.zeros((height, width), bool)
    for name in names:
        row, col = divmod(CELL_NAMES.index(name), 3)
        mask[height * row // 3 : height * (row + 1) // 3, width * col // 3 : width * (col + 1) // 3] = True
    return mask
