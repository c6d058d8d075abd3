"""Pieces of a mask: which pixels belong together, how their outline runs, and what the model gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rasterio.features
import scipy
import shapely
import skimage

from model.instances import split_touching

THRESHOLD = 0.5
"""Least probability that counts as changed, as `ChangeMasks` says."""

Probabilities = npt.NDArray[np.float32]
Slices = tuple[slice, slice]
Labels = npt.NDArray[np.int32]
"""Number of the piece that each pixel belongs to, 0 for none, in the order of the pieces' first pixels."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPiece:
    """What the pixels of a piece are given."""

    row: int
    """Row in which it begins."""
    col: int
    """Column of its first pixel in that row."""
    n_pixels: int
    """How many there are."""
    mean: float
    """Mean probability of change."""
    peak: float
    """Highest probability of change."""
    removed: float | None
    """Mean probability that what changed went; None where nobody tells."""


def label_pieces(seen: Probabilities, *, borders: Probabilities | None, owned: Slices) -> Labels:
    """Number the pieces on the ground that a tile owns: what is connected by edges, or single buildings.

    Args:
        seen: Probability of change of all that the model saw, (y, x).
        borders: That a pixel lies between two buildings, likewise; None: buildings that touch are one piece.
        owned: The tile's own ground in it.
    """
    if borders is None:
        return np.asarray(scipy.ndimage.label(seen[owned] >= THRESHOLD)[0], np.int32)
    # Split by all that was seen and cut afterwards: a building's core may lie with a neighbour, and what is cut off
    # one may be in parts here.
    instances = split_touching(seen, borders)[owned]
    labels = skimage.measure.label(instances, background=0, connectivity=1)
    numbers, firsts = np.unique(labels, return_index=True)
    ranks = np.zeros(numbers.max() + 1, np.int32)
    is_piece = numbers > 0
    ranks[numbers[is_piece][np.argsort(firsts[is_piece])]] = np.arange(1, is_piece.sum() + 1)
    return np.asarray(ranks[labels], np.int32)


def measure_pieces(
    labels: Labels, *, probabilities: Probabilities, removed: Probabilities | None
) -> Iterator[MeasuredPiece]:
    """Measure each piece, in their order.

    Args:
        labels: The pieces.
        probabilities: Probability of change, of the same shape.
        removed: Likewise that what changed went; None where nobody tells.
    """
    numbers, firsts = np.unique(labels, return_index=True)
    firsts, numbers = firsts[numbers > 0], numbers[numbers > 0]
    rows, cols = np.divmod(firsts, labels.shape[1])
    sizes = np.bincount(labels.ravel())[1:]
    means = scipy.ndimage.mean(probabilities.astype(np.float64), labels, numbers)
    peaks = scipy.ndimage.maximum(probabilities, labels, numbers)
    told = None if removed is None else scipy.ndimage.mean(removed.astype(np.float64), labels, numbers)
    for at, (row, col, size, mean, peak) in enumerate(zip(rows, cols, sizes, means, peaks, strict=True)):
        yield MeasuredPiece(
            row=int(row),
            col=int(col),
            n_pixels=int(size),
            # What a model computes in another batch may differ in the last digits.
            mean=round(float(mean), 4),
            peak=round(float(peak), 4),
            removed=None if told is None else round(float(told[at]), 4),
        )


def draw_pieces(labels: Labels, *, tolerance_px: float) -> npt.NDArray[np.object_]:
    """Draw each piece as a polygon in pixels, simplified inside the array and as it is along its edges.

    What two pieces share is simplified once: they neither overlap nor come apart.
    """
    drawn = list(rasterio.features.shapes(labels, connectivity=4))
    numbers = np.array([int(value) for _, value in drawn])
    polygons = np.array([shapely.geometry.shape(shape) for shape, _ in drawn], dtype=object)
    # Together with what did not change they cover the whole array, so that its edges are the coverage's boundary.
    simplified = shapely.coverage_simplify(polygons, tolerance_px, simplify_boundary=False)
    is_piece = numbers > 0
    pieces: npt.NDArray[np.object_] = simplified[is_piece][np.argsort(numbers[is_piece])]
    return pieces
