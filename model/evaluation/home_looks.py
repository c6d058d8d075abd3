"""Learns what pairs at home look like, and stores it with a model's weights, for familiarity to be told by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.errors import InputError, refuse_unwritable
from model.evaluation.cases import EvaluationTile
from model.familiarity import FAMILIARITY_FILE, Familiarity, Floats
from model.whole_files import write_whole

MIN_PAIRS = 100
"""Fewest pairs that tell what pairs look like."""

_N_AXES = 32
_N_FOLDS = 5
_NEARER = 0.97
_PAIRS_AT_ONCE = 32


class DescribingModel(Protocol):
    """A model with weights of its own, of whose pairs it can tell what familiarity is told by."""

    def describe_pairs(self, pairs: npt.NDArray[np.uint8], /) -> Floats:
        """Describe pairs, as `model.familiarity.describe_images` says."""
        ...


def describe_tiles(model: DescribingModel, tiles: Iterable[EvaluationTile]) -> tuple[Floats, list[str]]:
    """Describe tiles as `model.familiarity.describe_images` does.

    Returns:
        Descriptions of shape (n, 2, value), and the scene that each tile was cut from.
    """
    parts, scenes = [], []
    # Pairs of one size at a time: only they make an array.
    for _, alike in groupby(tiles, key=lambda tile: tile.pixels.shape):
        for some in _take(alike, _PAIRS_AT_ONCE):
            parts.append(model.describe_pairs(np.stack([tile.pixels for tile in some])))
            scenes += [tile.scene for tile in some]
    return np.concatenate(parts or [np.empty((0, 2, 0))]), scenes


def _take(tiles: Iterator[EvaluationTile], n_tiles: int) -> Iterator[list[EvaluationTile]]:
    while some := list(islice(tiles, n_tiles)):
        yield some


def store_familiarity(folder: Path, descriptions: Floats, *, scenes: Sequence[str]) -> bool:
    """Write what familiarity is told by into a model's folder; gives whether there are pairs enough for it.

    Args:
        folder: Of the model.
        descriptions: Of pairs at home that it did not learn from, as `describe_tiles` gives them.
        scenes: What each was cut from.

    Raises:
        InputError: the folder cannot be written to.
    """
    if len(descriptions) < MIN_PAIRS or len(set(scenes)) < _N_FOLDS:
        return False
    file = folder / FAMILIARITY_FILE
    with refuse_unwritable(file, remedy="make room, or copy the model to where it can be written"):
        write_whole(file, fit_familiarity(descriptions, scenes=scenes).to_json())
    return True


def fit_familiarity(descriptions: Floats, *, scenes: Sequence[str]) -> Familiarity:
    """Learn from pairs at home what they look like.

    How far they are from each other is measured by scenes that the axes were not taken from: those that they were taken
    from would seem nearer than new ones are.

    Args:
        descriptions: Of shape (n, 2, value).
        scenes: What each pair was cut from.
    """
    numbers = {scene: number for number, scene in enumerate(sorted(set(scenes)))}
    folds = np.array([numbers[scene] % _N_FOLDS for scene in scenes])
    distances = np.empty(len(descriptions))
    for fold in range(_N_FOLDS):
        distances[folds == fold] = _fit_axes(descriptions[folds != fold]).measure_distances(descriptions[folds == fold])
    median, far = np.quantile(distances, [0.5, _NEARER]).tolist()
    if not far > median:
        raise InputError("pairs that are all alike", expected="pairs of several places", remedy="give other pairs")
    return replace(_fit_axes(descriptions), median=median, far=far)


def _fit_axes(descriptions: Floats) -> Familiarity:
    images = descriptions.reshape(-1, descriptions.shape[-1])
    mean, scale = images.mean(axis=0), images.std(axis=0)
    # What is the same at home is far where it is not.
    scale = np.maximum(scale, 1e-3 * max(float(scale.max()), 1e-6))
    centred = (images - mean) / scale
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    n_axes = min(_N_AXES, len(variances) - 1)
    return Familiarity(
        mean=mean,
        scale=scale,
        axes=axes.T[::-1][:n_axes],
        variances=np.maximum(variances[::-1][:n_axes], 1e-6),
        other_variance=max(float(variances[::-1][n_axes:].mean()), 1e-6),
        median=1.0,
        far=2.0,
    )
