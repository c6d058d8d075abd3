"""Stores with a model's weights what makes its confidence in a yes or no mean how often it is right."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.decoding import GENERATION_FILE
from model.evaluation.evaluation import Evaluation
from model.interface import SHIPPED_MODELS

TEMPERATURE_KEY = "confidence_temperature"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A temperature before and after it was fitted."""

    model: str
    """Folder of the model."""
    n_answers: int
    """Yes or no answers that it was fitted to."""
    former_temperature: float
    temperature: float
    ece: float
    """Expected calibration error of these answers before; between 0 and 1."""

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return asdict(self)


def check_calibratable(name: str) -> Path:
    """Give the folder of a model that can be written to.

    Raises:
        FileNotFoundError: the name is not that of a folder with a model.
    """
    folder = Path(name)
    if name in SHIPPED_MODELS or not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{name} is no folder with a model; expected one that can be written to, such as training leaves; "
            "give its path"
        )
    return folder


def store_temperature(folder: Path, evaluation: Evaluation) -> Calibration:
    """Write the temperature that fits an evaluation's answers into a model's ``generation_config.json``.

    The answers were given with the temperature that is stored there, so the fitted one comes on top of it.

    Args:
        folder: Of the model, without its weights being touched.
        evaluation: Of that model, on pairs that it did not learn from.

    Raises:
        ValueError: the evaluation has no yes or no with a confidence, or the file cannot be read.
    """
    if evaluation.temperature is None:
        raise ValueError(
            "no yes or no with a confidence; expected pairs whose change is known, and a model that tells "
            "probabilities; give other pairs"
        )
    file = folder / GENERATION_FILE
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        raise ValueError(f"{file} is no JSON; expected transformers' settings; correct or remove the file") from None
    former = float(values.get(TEMPERATURE_KEY, 1.0))
    values[TEMPERATURE_KEY] = round(former * evaluation.temperature, 4)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(file)
    return Calibration(
        model=str(folder),
        n_answers=len(evaluation.tiles),
        former_temperature=former,
        temperature=values[TEMPERATURE_KEY],
        ece=evaluation.value("classify.ece"),
    )
