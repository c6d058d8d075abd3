"""Measure the model that ships and write the figures and pictures of its card anew: `make card`.

Everything is measured by `deltavlm model evaluate`. The real imagery that this needs is not part of this repository, so
it is done where that is at hand (`DELTAVLM_SHARED`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from made_scenes import command_line
from PIL import Image

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CARD = ROOT / "model" / "weights" / "deltavlm-tiny" / "README.md"
DATA = Path(os.environ.get("DELTAVLM_SHARED", ROOT.parent / "shared")) / "data"
BEGIN, END = "<!-- figures, written by docs/model_card.py -->", "<!-- end of figures -->"

PANELS = DATA / "levir_panels"
CUT = ("--tile-size-px", "128", "--captions", str(PANELS / "captions_inferred_val.json"), "--swap-test")
SETS: Mapping[str, tuple[Path | None, tuple[str, ...]]] = {
    "`512_val_032` to `063`": (
        PANELS,
        ("--pattern", "512_val_03[2-9],512_val_0[4-6]?", "--unseen-questions", "60", *CUT),
    ),
    "`512_val_000` to `031`": (PANELS, ("--pattern", "512_val_0[0-2]?,512_val_03[01]", *CUT)),
    "`256_val`": (PANELS, ("--pattern", "256_val_*", "--swap-test")),
    "LEVIR-CC val": (DATA / "fixtures" / "levir_cc", ("--split", "val", "--swap-test")),
    "synthetic": (None, ("--swap-test",)),
}
"""Where each column's pairs are; None: they are drawn here."""
MADE = ("--n-tiles", "256", "--seed", "900000", "--change-level", "0.5")
REPORTED, DRAWN = "`512_val_032` to `063`", "synthetic"

ROWS = {
    "n_tiles": "tiles",
    "classify.accuracy": "changed or not: accuracy",
    "classify.precision": "precision",
    "classify.recall": "recall",
    "classify.ece": "calibration error (ECE)",
    "locate.building.f1": "building cells: F1",
    "locate.building.subset_accuracy_nonempty": "building cells: all right, where any",
    "count.building.mae": "building count: MAE",
    "count.building.changed_only.mae": "building count: MAE where any",
    "count.building.in_interval": "building count: the interval holds the truth (meant: 0.8)",
    "locate.road.f1": "road cells: F1",
    "count.road.mae": "road count: MAE",
    "describe.bleu4": "captions: BLEU-4",
    "describe.cider": "captions: CIDEr",
    "describe.lookup.cider": "CIDEr of a table of sentences by yes or no and count",
    "describe.meteor": "captions: METEOR",
    "describe.rouge_l": "captions: ROUGE-L",
    "describe.changed_only.bleu4": "captions of changed pairs: BLEU-4",
    "describe.changed_only.cider": "captions of changed pairs: CIDEr",
    "describe.lookup.changed_only.cider": "CIDEr of that table on changed pairs",
    "describe.changed_only.n_distinct": "different sentences on changed pairs",
    "describe.changed_only.details_named": "trees, places, numbers: named where two people do",
    "swap.removed_fraction": "dates swapped, told as removed",
    "swap.unswapped_removed_fraction": "dates as they are, told as removed",
    "mask.building.iou": "masks of buildings: IoU",
    "mask.road.iou": "masks of roads: IoU",
    "object.building.f1": "single buildings at an IoU of 0.3: F1",
    "outline.building.right": "outlines of buildings that share a pixel with a true change",
    "outline.building.ece": "their probability: calibration error",
    "outline.building.auc": "their probability: AUC",
    "outline.building.right_if_sure": "right among those of 0.5 and more",
    "outline.building.sure_if_right": "of 0.5 and more among the right ones",
    "direction.building.built": "right outlines told as built",
    "direction.building.removed": "right outlines told as removed, dates swapped",
    "classify.bare_yes.right": "a yes beside which nothing is counted or placed is right",
    "unseen.right": "1,200 questions in unseen words: right or rightly declined",
    "unseen.wrong_and_sure": "wrong with a confidence over 0.8",
    "answers.parseable_fraction": "answers that could be parsed",
}
COUNTS = {"n_tiles", "describe.changed_only.n_distinct"}


def main() -> None:
    """Measure, and write."""
    if not PANELS.is_dir():
        sys.exit(f"no panels at {PANELS}; set DELTAVLM_SHARED to the folder that holds data/")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        subprocess.run(command_line("data", "synthesize", str(scratch / "made"), *MADE), check=True)
        outputs = {column: scratch / str(number) for number, column in enumerate(SETS)}
        found = {
            column: evaluate(data or scratch / "made", *arguments, output=outputs[column])
            for column, (data, arguments) in SETS.items()
        }
        write_figures(found)
        for picture in ("reliability", "counts"):
            shutil.copy(outputs[REPORTED] / f"{picture}.png", DOCS / f"{picture}.png")
        Image.open(outputs[DRAWN] / "failures.png").convert("RGB").save(DOCS / "failures.jpg", quality=85)


def evaluate(data: Path, *arguments: str, output: Path) -> dict[str, Any]:
    """Run `deltavlm model evaluate`; gives its figures by name."""
    command = command_line("model", "evaluate", "--json", "--data", str(data), "--output", str(output), *arguments)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def write_figures(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a table of figures between its marks in the card."""
    text = CARD.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    CARD.write_text(f"{head}{BEGIN}\n{write_table(found)}\n{END}{tail}", encoding="utf-8")


def write_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a row per figure that any of the sets has, and a column per set."""
    lines = [f"| figure | {' | '.join(found)} |", f"|---{'|---' * len(found)}|"]
    for name, label in ROWS.items():
        cells = [write_cell(name, figures) for figures in found.values()]
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cell or '-' for cell in cells)} |")
    return "\n".join(lines)


def write_cell(name: str, figures: Mapping[str, Any]) -> str:
    """Write a figure, its interval and what an answer without looking reaches; empty where there is none."""
    value, low, high, baseline = (figures.get(f"{name}{part}") for part in ("", ".low", ".high", ".baseline"))
    if value is None:
        return ""
    if name in COUNTS:
        return str(round(value))
    interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return f"{value:.3f}{interval}{'' if baseline is None else f'; {baseline:.3f}'}"


if __name__ == "__main__":
    main()
