"""Stores with a model's weights what was measured of them: how sure a yes or no is, an outline, a count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.certainty import CERTAINTY_FILE, Certainty
from model.decoding.steps import GENERATION_FILE
from model.errors import InputError, refuse_unwritable
from model.evaluation.calibration import expected_calibration_error, fit_scaling
from model.evaluation.cases import AnsweredCase
from model.evaluation.evaluation import list_yes_probabilities, read_confidences
from model.registry import SHIPPED_MODELS
from model.whole_files import write_whole

TEMPERATURE_KEY, BIAS_KEY = "confidence_temperature", "yes_bias"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was stored, and what it was fitted to."""

    model: str
    """Folder of the model."""
    n_answers: int
    """Yes or no answers that it was fitted to."""
    confidence_temperature: float
    yes_bias: float
    """Both as `model.decoding.steps.SearchSettings` explains them."""
    former_temperature: float
    former_bias: float
    former_accuracy: float
    """Share of these answers that were right with what was stored before."""
    former_ece: float
    """Their expected calibration error then; between 0 and 1."""

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return asdict(self)


def check_calibratable(name: str) -> Path:
    """Give the folder of a model that can be written to.

    Raises:
        InputError: the name is not that of a folder with a model.
    """
    folder = Path(name)
    if name in SHIPPED_MODELS or not (folder / "config.json").is_file():
        raise InputError(
            f"{name} is no folder with a model",
            expected="one that can be written to, such as training leaves",
            remedy="give its path",
        )
    return folder


def store_scaling(folder: Path, answered: Sequence[AnsweredCase]) -> Calibration:
    """Write the scaling that fits a model's answers into its ``generation_config.json``; the weights stay.

    The answers were given with what is stored there, so the fitted scaling comes on top of it.

    Args:
        folder: Of the model.
        answered: Its yes and no about pairs that it did not learn from.

    Raises:
        InputError: the answers have no confidence or their truths are all alike, or the file cannot be read.
    """
    probability, is_yes = list_yes_probabilities(answered)
    if not probability:
        raise InputError(
            "no yes or no with a confidence",
            expected="pairs whose change is known, and a model that tells probabilities",
            remedy="give other pairs",
        )
    fitted = fit_scaling(probability, is_yes)
    file = folder / GENERATION_FILE
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError):
        raise InputError(
            f"{file} is no JSON", expected="transformers' settings", remedy="correct or remove the file"
        ) from None
    temperature, bias = float(values.get(TEMPERATURE_KEY, 1.0)), float(values.get(BIAS_KEY, 0.0))
    values[TEMPERATURE_KEY] = round(temperature * fitted.temperature, 4)
    values[BIAS_KEY] = round(bias + temperature * fitted.bias, 4)
    with refuse_unwritable(file, remedy="make room, or copy the model to where it can be written"):
        write_whole(file, json.dumps(values, indent=2).encode() + b"\n")
    _, confidence, is_right = read_confidences(answered)
    return Calibration(
        model=str(folder),
        n_answers=len(probability),
        confidence_temperature=values[TEMPERATURE_KEY],
        yes_bias=values[BIAS_KEY],
        former_temperature=temperature,
        former_bias=bias,
        former_accuracy=sum(is_right) / len(is_right),
        former_ece=expected_calibration_error(confidence, is_right),
    )


def store_certainty(folder: Path, certainty: Certainty) -> None:
    """Write how far a model's outlines and counts can be relied on beside its weights.

    Raises:
        InputError: it cannot be written.
    """
    file = folder / CERTAINTY_FILE
    with refuse_unwritable(file, remedy="make room, or copy the model to where it can be written"):
        write_whole(file, json.dumps(certainty.to_dict(), indent=1).encode() + b"\n")
