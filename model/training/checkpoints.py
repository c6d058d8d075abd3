"""Checkpoints that a training can go on from: whole ones only, whatever happened while they were written."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from model.errors import InputError
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor

WHOLE_MARK: Final = "complete"
"""File that is written into a checkpoint when all else of it is there."""


FULL_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Numbers of errors of the system: no space, no quota, a file too large, a broken disk, one that was made read-only."""
FULL_DISK_WORDS: Final = (
    "pytorchstreamwriter",
    "file write failed",
    "unexpected pos",
    "no space left",
    "file too large",
)
"""What torch and safetensors write, in lower case, for a file that they could not write."""


class CheckpointError(InputError):
    """A checkpoint or a model could not be written; the message says what is left to go on from."""


def name_checkpoint(folder: Path, *, step: int) -> Path:
    """Give the folder of a step's checkpoint, as transformers names it."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """List the whole checkpoints of a training by their steps, the latest last."""
    found = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if step.isdecimal() and (path / WHOLE_MARK).is_file():
            found.append((int(step), path))
    return sorted(found)


def clear_partial_checkpoints(folder: Path) -> None:
    """Remove what a training that was killed while it wrote a checkpoint has left of it."""
    whole = {path for _, path in list_checkpoints(folder)}
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)


def find_stop(checkpoint: Path, *, patience: int | None) -> int | None:
    """Tell at which step a training had come to its early stop when this checkpoint was written; None if it had not.

    Args:
        checkpoint: Folder of the checkpoint.
        patience: How many checkpoints in a row may be no better than the best.
    """
    state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    stopping = (state.get("stateful_callbacks") or {}).get("EarlyStoppingCallback") or {}
    counter = (stopping.get("attributes") or {}).get("early_stopping_patience_counter", 0)
    return int(state["global_step"]) if patience is not None and counter >= patience else None


@contextmanager
def explain_full_disk(what: str, *, folder: Path, checkpoints: Path, has_halves: bool = False) -> Iterator[None]:
    """Say clearly why something could not be written, and what there is to go on from.

    Args:
        what: What it is, for the message.
        folder: Where it goes.
        checkpoints: Folder of the training's checkpoints.
        has_halves: Whether `folder` holds nothing but halves then, and is removed.

    Raises:
        CheckpointError: it could not be written.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, RuntimeError, SafetensorError) as problem:
        # torch and safetensors have errors of their own for a full disk; other faults of theirs pass unchanged.
        if not is_writing_fault(problem):
            raise
        if has_halves:
            shutil.rmtree(folder, ignore_errors=True)
        whole = list_checkpoints(checkpoints)
        left = f"goes on from step {whole[-1][0]}" if whole else "starts anew, as there is no checkpoint yet"
        free_mb = shutil.disk_usage(checkpoints).free / 1e6
        raise CheckpointError(
            f"{what} cannot be written to {folder} ({_first_line(problem)}; {free_mb:.0f} MB are free)",
            expected="room on the disk",
            remedy=f"free some, or lower n_checkpoints_kept, and give the same command again: it {left}",
        ) from problem


def is_writing_fault(problem: BaseException) -> bool:
    """Tell whether an error of a library is about a file that could not be written."""
    if isinstance(problem, OSError):
        return problem.errno in FULL_DISK_ERRORS
    return any(words in str(problem).lower() for words in FULL_DISK_WORDS)


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return lines[0][:200]


def save_weights(model: DeltaVlmForConditionalGeneration, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write config and weights, rounded to float16: half the size, at an error below what training leaves.

    Args:
        model: Stays as it is.
        folder: Of the model; made if it is not there.
        dtype: What floating-point weights are rounded to.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as name:
        model.save_pretrained(name, state_dict=round_weights(model.state_dict(), dtype=dtype))
        config_file = Path(name) / "config.json"
        config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
        config["dtype"] = str(dtype).removeprefix("torch.")
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        # File by file under its final name: who loads the model meanwhile never meets half a file.
        for file in Path(name).iterdir():
            file.replace(folder / file.name)


def round_weights(state: Mapping[str, Tensor], *, dtype: torch.dtype) -> dict[str, Tensor]:
    """Round floating-point tensors; those that share their memory still do."""
    rounded: dict[tuple[int, torch.Size], Tensor] = {}
    for tensor in state.values():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in rounded:
            rounded[place] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return {name: rounded[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}


def save_model(
    model: DeltaVlmForConditionalGeneration,
    processor: DeltaVlmProcessor,
    folder: Path,
    *,
    dtype: torch.dtype,
    files: Sequence[Path],
    checkpoints: Path,
) -> None:
    """Write everything that answering needs into a model's folder.

    Args:
        model: Stays as it is.
        processor: Goes beside it.
        folder: Of the model; made if it is not there.
        dtype: What floating-point weights are rounded to.
        files: To be copied into the folder.
        checkpoints: Folder of the training's checkpoints, for the message where the disk is full.

    Raises:
        CheckpointError: the disk is full.
    """
    with explain_full_disk("the model", folder=folder, checkpoints=checkpoints):
        save_weights(model, folder, dtype=dtype)
        processor.save_pretrained(folder)
        for file in files:
            shutil.copyfile(file, folder / file.name)
