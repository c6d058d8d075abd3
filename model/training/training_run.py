"""One training with its folders: what it was told, where it stands, and what came of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from model.errors import InputError, refuse_unwritable
from model.sealing import seal, unseal
from model.training.checkpoints import list_checkpoints
from model.training.progress import TrainingProgress
from model.training.recipe import PairTrainingConfig
from model.whole_files import write_whole

RECIPE_FILE, RESULT_FILE = "recipe.json", "result.json"
HARMLESS_KEYS = frozenset({"n_loader_workers", "n_checkpoints_kept", "snapshot_every_steps"})
"""Keys that may change while a training is interrupted: they do not change what comes of it."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What came of a training."""

    folder: Path
    """Of the model, in transformers' layout."""
    n_steps: int
    """Steps that were taken."""
    best_step: int | None
    """Step whose weights were kept; None without validation, where it is the last."""
    loss: float | None
    """Mean training loss at the end, over the steps since the last log line but one."""
    n_items: int
    """Pairs, or instructions, that were trained on, without those made on the fly."""
    n_validation_items: int
    """Tiles, or instructions, that were validated on."""
    validation_before: Mapping[str, float] = field(default_factory=dict)
    """Figures before the first step."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """Figures of the weights that were kept."""
    pairs_per_s: float | None = None
    """Over all devices, without validation and checkpoints; None where no step was taken."""
    compute_fraction: float | None = None
    """Part of the steps' time that was not spent on waiting for data; None where no step was taken."""
    skipped: tuple[str, ...] = ()
    """One line per pair that was left out: its name and why."""
    notes: tuple[str, ...] = ()
    """What people should know before they use the model."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        values = asdict(self)
        model = str(values.pop("folder"))
        return {"model": model, **values, "skipped": list(self.skipped), "notes": list(self.notes)}


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Where a training reads and writes."""

    config: PairTrainingConfig
    """What it was told."""
    output: Path
    """Folder of the model to be."""
    data_root: Path
    """Where the paths of the config's sources start."""
    on_progress: Callable[[TrainingProgress], None] | None = None
    """Is told of every step, in the main process."""
    starts_over: bool = False
    """Whether to drop what an earlier training has left there."""

    @property
    def folder(self) -> Path:
        """Folder of checkpoints, logs and recipe, beside that of the model."""
        return self.output.with_name(f"{self.output.name}-training")

    @property
    def processor_folder(self) -> Path:
        """Where the processor is kept, so that going on has the same vocabulary."""
        return self.folder / "processor"


def is_main_process() -> bool:
    """Tell whether this is the first of the processes that torchrun or accelerate started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def list_own_checkpoints(run: TrainingRun) -> list[tuple[int, Path]]:
    """List the whole checkpoints to go on from by their steps, the latest last; none where it starts over."""
    # Of several processes the main one drops the old ones, when others may have looked already.
    return [] if run.starts_over else list_checkpoints(run.folder)


def open_run(run: TrainingRun) -> TrainingResult | None:
    """Make the folders of a training ready, or find out that it is done.

    Returns:
        The result of a training by the same recipe that is complete; else None.

    Raises:
        InputError: the folder holds a training by another recipe.
    """
    # Bars of others would write over the one of the training.
    transformers_logging.disable_progress_bar()
    told = json.loads(json.dumps(run.config.model_dump(mode="json") | {"data": str(run.data_root.resolve())}))
    recipe_file = run.folder / RECIPE_FILE
    # A training that has not come to its first checkpoint has nothing to go on with: a wrong recipe may be corrected.
    has_something = bool(list_checkpoints(run.folder)) or (run.folder / RESULT_FILE).is_file()
    if not run.starts_over and has_something and recipe_file.is_file():
        former = json.loads(recipe_file.read_text(encoding="utf-8"))
        names = sorted(told.keys() | former.keys())
        other = [n for n in names if n not in HARMLESS_KEYS and told.get(n) != former.get(n)]
        if other:
            raise InputError(
                f"{run.folder} holds a training by another recipe ({', '.join(other)} differ)",
                expected="the same, to go on with it",
                remedy="name another output, or start over",
            )
        return read_result(run)
    if is_main_process():
        shutil.rmtree(run.folder, ignore_errors=True)
        with refuse_unwritable(run.folder):
            run.folder.mkdir(parents=True)
            write_whole(recipe_file, json.dumps(told, indent=2).encode() + b"\n")
    return None


def read_result(run: TrainingRun) -> TrainingResult | None:
    """Read what came of a training; None where it is not complete, damaged, or its model is gone."""
    file = run.folder / RESULT_FILE
    if not file.is_file() or not (run.output / "config.json").is_file():
        return None
    try:
        values = unseal(file.read_bytes())
        values |= {name: tuple(values[name]) for name in ("skipped", "notes")}
        return TrainingResult(folder=Path(values.pop("model")), **values)
    except (ValueError, KeyError, TypeError):
        return None


def write_result(run: TrainingRun, result: TrainingResult) -> None:
    """Write what came of a training: it is complete then."""
    write_whole(run.folder / RESULT_FILE, json.dumps(seal(result.to_dict()), indent=2).encode() + b"\n")
