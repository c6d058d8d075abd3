"""Familiarity: how much a pair looks like those that a model was calibrated on, told from what it sees anyway.

An image is described by what the vision tower makes of it, averaged over the image, and by its contrast and sharpness:
how much detail it has for its contrast, in pixels of the model's input and in pixels twice as wide. Of pixels that are
enlarged, blurred or of another sensor that is less, or more, than at home. How far a description lies from those at
home is measured along the main axes in which these spread, and in one number for all others (probabilistic principal
components, Tipping and Bishop 1999); a pair is as far as the farther of its dates.

All of it lies as plain numbers in `FAMILIARITY_FILE` of the model's folder, which `deltavlm model calibrate` writes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.sealing import seal, unseal

FAMILIARITY_FILE = "familiarity.json"
N_SHARPNESS = 3
"""Numbers that tell contrast and sharpness of an image."""
MEDIAN_FAMILIARITY, FAR_FAMILIARITY = 0.5, 0.05
"""What pairs have that are as far as the middle one at home, and as the one that 97 % at home are nearer than."""

_SIDE_PX = 192
_FLAT, _SMOOTH = 1.0, 0.5
# ^ In levels of grey: below them an image has no contrast, and no detail, whose logarithm would tell anything.
_DIGITS = 4

Floats = npt.NDArray[np.float64]


def describe_images(pairs: npt.NDArray[np.uint8], *, features: npt.NDArray[np.float32]) -> Floats:
    """Describe both images of some pairs.

    Args:
        pairs: uint8 of shape (n, date=2, band=3, y, x).
        features: The vision tower's output, averaged over each image, of shape (n, date=2, width).

    Returns:
        Shape (n, 2, width + `N_SHARPNESS`).
    """
    sharpness = [[measure_sharpness(image[1]) for image in pair] for pair in pairs]
    return np.concatenate([features.astype(np.float64), np.reshape(sharpness, (len(pairs), 2, N_SHARPNESS))], axis=2)


def measure_sharpness(band: npt.NDArray[np.uint8]) -> tuple[float, float, float]:
    """Give contrast, and detail per contrast at two widths of pixels, each as a logarithm.

    Args:
        band: One band, (y, x); green is the sharpest of most cameras.
    """
    is_larger = min(band.shape) > _SIDE_PX
    resized = cv2.resize(band, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA if is_larger else cv2.INTER_LINEAR)
    contrast, *details = (
        float(cv2.meanStdDev(image)[1][0, 0])
        for image in (
            resized,
            cv2.Laplacian(resized, cv2.CV_16S),
            cv2.Laplacian(cv2.resize(resized, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), cv2.CV_16S),
        )
    )
    fine, coarse = (math.log((detail + _SMOOTH) / (contrast + _FLAT)) for detail in details)
    return math.log(contrast + _FLAT), fine, coarse


@dataclass(frozen=True, kw_only=True, eq=False)
class Familiarity:
    """What images at home look like, and how far from that others are."""

    mean: Floats
    """Of the descriptions, of shape (value,)."""
    scale: Floats
    """Their standard deviation, of shape (value,)."""
    axes: Floats
    """Main axes of the descriptions in units of `scale`, of shape (axis, value)."""
    variances: Floats
    """Along the axes, of shape (axis,)."""
    other_variance: float
    """Mean of those along all others."""
    median: float
    """How far the middle pair at home is."""
    far: float
    """How far the one is that 97 % at home are nearer than."""

    def measure_distances(self, descriptions: Floats) -> Floats:
        """Tell how far pairs lie from those at home.

        Args:
            descriptions: What `describe_images` gave, of shape (n, 2, value).

        Returns:
            Shape (n,).
        """
        centred = (descriptions - self.mean) / self.scale
        # Not by BLAS, which rounds a row otherwise beside others.
        along = np.einsum("ndv,av->nda", centred, self.axes)
        beside = (centred**2).sum(axis=-1) - (along**2).sum(axis=-1)
        distances = (along**2 / self.variances).sum(axis=-1) + np.maximum(beside, 0.0) / self.other_variance
        return np.asarray(np.sqrt(distances.max(axis=1)), dtype=np.float64)

    def rate(self, descriptions: Floats) -> list[float]:
        """Give the familiarity of pairs, 0 to 1, by their descriptions."""
        ratios = np.log(np.maximum(self.measure_distances(descriptions), 1e-9) / self.median)
        steepness = math.log(1 / FAR_FAMILIARITY - 1) / math.log(self.far / self.median)
        # tanh does not overflow.
        return [round(float(value), _DIGITS) for value in 0.5 * (1 - np.tanh(0.5 * steepness * ratios))]

    def to_json(self) -> bytes:
        """Give the file's content: plain numbers and a checksum."""
        values: dict[str, Any] = asdict(self)
        for name, value in values.items():
            values[name] = _shorten(value) if isinstance(value, np.ndarray) else _shorten(np.array(value))
        return json.dumps(seal(values), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_folder(cls, folder: str | Path, *, width: int) -> Self | None:
        """Read what lies in a model's folder; None where it has none.

        Args:
            folder: The model's.
            width: Of the vision tower's output.

        Raises:
            InputError: it is damaged, or of another model.
        """
        file = Path(folder) / FAMILIARITY_FILE
        if not file.is_file():
            return None
        try:
            told = {name: np.asarray(value, dtype=np.float64) for name, value in unseal(file.read_bytes()).items()}
            familiarity = cls(
                mean=told["mean"],
                scale=told["scale"],
                axes=told["axes"],
                variances=told["variances"],
                other_variance=float(told["other_variance"]),
                median=float(told["median"]),
                far=float(told["far"]),
            )
            familiarity.check(width=width)
        except (ValueError, TypeError, KeyError) as problem:
            raise InputError(
                f"{file} cannot be used ({problem})",
                expected="what `deltavlm model calibrate` has written for this model",
                remedy="get it again, or delete it and calibrate the model",
            ) from None
        return familiarity

    def check(self, *, width: int) -> None:
        """Refuse what nothing can be rated by.

        Raises:
            ValueError: shapes that do not fit each other or the model, or numbers that measure nothing.
        """
        n_axes, n_values = len(self.variances), width + N_SHARPNESS
        shapes = (self.mean.shape, self.scale.shape, self.axes.shape, self.variances.shape)
        if shapes != ((n_values,), (n_values,), (n_axes, n_values), (n_axes,)):
            raise ValueError(f"shapes {shapes} for a model of width {width}")
        widths = np.concatenate(
            [self.scale, self.variances, [self.other_variance, self.median, self.far - self.median]]
        )
        if not np.isfinite(np.concatenate([self.mean, self.axes.ravel(), widths])).all() or (widths <= 0).any():
            raise ValueError("numbers that measure nothing")


def _shorten(values: Floats) -> Any:
    """Give numbers to six digits, which is more than they mean."""
    texts = np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[np.float64])(values)
    return texts.tolist()
