"""The files of an evaluation: what was asked and said, the figures, a table and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from model.errors import refuse_unwritable
from model.evaluation.calibration import list_reliability
from model.evaluation.cases import AnsweredTile, Skipped
from model.evaluation.evaluation import Evaluation, read_confidences, select_cases
from model.evaluation.failures import Failure
from model.evaluation.paper import load_paper_figures
from model.evaluation.plots import write_plots
from model.evaluation.table import describe_figures, write_markdown
from model.interface import PromptKind
from model.questions.direction import read_direction
from model.whole_files import write_whole


def check_output(folder: Path) -> None:
    """Make the folder of an evaluation, before hours go into one that cannot be written.

    Raises:
        InputError: it cannot be made or written to.
    """
    with refuse_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def write_evaluation(
    evaluation: Evaluation,
    folder: Path,
    *,
    skipped: Sequence[Skipped],
    notes: Sequence[str] = (),
    failures: Sequence[Failure] = (),
    inputs: Mapping[str, Any],
) -> list[Path]:
    """Write an evaluation: ``answers.jsonl``, ``table.md``, pictures, and last ``evaluation.json``.

    Args:
        evaluation: What was measured.
        folder: Where it goes; it is there.
        skipped: What could not be evaluated.
        notes: What people should know of the data.
        failures: The worst answers, to be shown.
        inputs: What was given to evaluate, for the record.

    Returns:
        The files.
    """
    answers, table, record = (folder / name for name in ("answers.jsonl", "table.md", "evaluation.json"))
    # Written last, it speaks of the others: one of a former evaluation must not stand beside other files.
    record.unlink(missing_ok=True)
    lines = (json.dumps(line, allow_nan=False).encode() + b"\n" for line in list_answers(evaluation.tiles))
    write_whole(answers, b"".join(lines))
    write_whole(table, write_markdown(evaluation).encode())
    pictures = write_plots(evaluation, folder, failures=failures)
    _, confidence, is_right = read_confidences(select_cases(evaluation.tiles, PromptKind.CLASSIFY))
    facts = {
        "model_id": evaluation.model_id,
        "inputs": {name: str(value) if isinstance(value, Path) else value for name, value in inputs.items()},
        "n_tiles": len(evaluation.tiles),
        "n_scenes": evaluation.n_scenes,
        "seconds": evaluation.seconds,
        "notes": [*evaluation.notes, *notes],
        "skipped": [asdict(one) for one in skipped],
        "figures": describe_figures(evaluation.figures),
        "paper": load_paper_figures().source,
        "temperature": evaluation.temperature,
        "reliability": [asdict(b) for b in list_reliability(confidence, is_right)],
    }
    write_whole(record, json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n")
    return [answers, table, *pictures, record]


def list_answers(tiles: Sequence[AnsweredTile]) -> Iterator[dict[str, Any]]:
    """Give every answer beside what is true, as plain values; those of the swap test come last of a tile."""
    for tile in tiles:
        for answered in tile.answered:
            case, meaning = answered.case, answered.meaning
            yield {
                "tile": tile.name,
                "scene": tile.scene,
                "id": case.id,
                "kind": case.prompt.kind.value,
                "is_in_dialogue": case.is_in_dialogue,
                "prompt": case.prompt.text,
                "answer": answered.answer.text,
                "confidence": _give_number(answered.answer.confidence),
                "meaning": None if meaning is None or case.truth is None else asdict(meaning),
                "truth": None if case.truth is None else asdict(case.truth),
                "references": case.references,
                "is_changed": case.is_changed,
                "is_swapped": False,
            }
        if tile.swap is not None:
            for answer, is_swapped in ((tile.swap.plain, False), (tile.swap.swapped, True)):
                yield {
                    "tile": tile.name,
                    "scene": tile.scene,
                    "id": f"{tile.name}.{'swapped' if is_swapped else 'unswapped'}",
                    "kind": PromptKind.DESCRIBE.value,
                    "answer": answer.text,
                    "confidence": _give_number(answer.confidence),
                    "direction": read_direction(answer.text).value,
                    "is_swapped": is_swapped,
                }


def _give_number(confidence: float) -> float | None:
    """Give a confidence, or None where the model gives none."""
    return confidence if math.isfinite(confidence) else None
