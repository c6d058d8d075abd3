"""From probabilities per pixel to single buildings, and to what became of them."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt
import scipy
import skimage

CHANGED_FROM = 0.5
MIN_REMOVED = 0.65
"""What changed is said to be gone from this mean probability on, and built from one minus this down."""


class Direction(StrEnum):
    """What became of the ground."""

    BUILT = "built"
    REMOVED = "removed"
    ALTERED = "altered"


def split_touching(probabilities: npt.NDArray[np.float32], borders: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Tell buildings apart that touch each other in a mask.

    What is building and no border are the cores of the buildings; they grow over the border until they meet.

    Args:
        probabilities: That a pixel is of a changed building, of shape (y, x).
        borders: That it lies between two of them, of the same shape.

    Returns:
        Number of the building that each pixel belongs to, 0 for none, of the same shape.
    """
    is_building = probabilities >= CHANGED_FROM
    whole, n_whole = scipy.ndimage.label(is_building)
    cores, n_cores = scipy.ndimage.label(is_building & (borders < CHANGED_FROM))
    # What is border all over is a building all the same.
    lost = np.setdiff1d(np.arange(1, n_whole + 1), np.unique(whole[cores > 0]))
    for number, label in enumerate(lost, start=n_cores + 1):
        cores[whole == label] = number
    return np.asarray(
        skimage.segmentation.watershed(borders - probabilities, markers=cores, mask=is_building), np.int32
    )


def tell_direction(removed: npt.NDArray[np.float32], *, changed: npt.NDArray[np.bool_]) -> Direction | None:
    """Tell what became of the ground of one outline.

    Args:
        removed: Probability that what changed at a pixel went, of shape (y, x).
        changed: The pixels of the outline.

    Returns:
        None where the outline has no pixel.
    """
    return name_direction(float(removed[changed].mean())) if changed.any() else None


def name_direction(removed: float) -> Direction:
    """Tell what became of some ground from the mean probability that what changed there went."""
    if removed >= MIN_REMOVED:
        return Direction.REMOVED
    return Direction.BUILT if removed <= 1 - MIN_REMOVED else Direction.ALTERED
