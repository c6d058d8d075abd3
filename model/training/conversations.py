"""ChangeChat instructions as a source of training: images from their files, one question and its answer each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.changechat.reading import read_changechat
from model.changechat.schema import Instruction
from model.errors import InputError
from model.images import make_pair, read_image
from model.training.augmentation import Augmentation, light_dates, move_images
from model.training.dataset import AskedPair, spread_indices

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InstructionSource:
    """Instructions that belong together, and how often they are drawn; images are read when they are."""

    instructions: Sequence[Instruction]
    weight: float
    """Relative frequency."""

    def __len__(self) -> int:
        return len(self.instructions)

    def draw(self, index: int, *, augmentation: Augmentation, random: np.random.Generator) -> AskedPair:
        """Show the pair of an instruction, cut, rotated and lit at random.

        Answers name places and what came or went, so that the pair is neither turned nor are its dates swapped.
        """
        asked = _read_asked(self.instructions[index])
        before, after = move_images((asked.before, asked.after), augmentation=augmentation, random=random)
        before, after = light_dates(before, after, augmentation=augmentation, random=random)
        return AskedPair(before=before, after=after, kind=asked.kind, question=asked.question, answer=asked.answer)

    def list_fixed(self, *, max_items: int) -> list[AskedPair]:
        """Give instructions as they are, spread over the source."""
        return [_read_asked(self.instructions[index]) for index in spread_indices(len(self), n_taken=max_items)]


def _read_asked(instruction: Instruction) -> AskedPair:
    return AskedPair(
        before=read_image(instruction.before),
        after=read_image(instruction.after),
        kind=instruction.answer_kind,
        question=instruction.prompt_text,
        answer=instruction.answer,
    )


def scan_instructions(file: Path, *, images: Path) -> tuple[list[Instruction], list[str]]:
    """Read a ChangeChat file and leave out what is about pairs whose images cannot be used.

    Every pair is opened once, so that a broken one is found now and not in the middle of an epoch.

    Args:
        file: JSON in one of ChangeChat-105k's forms.
        images: Folder that its image paths are relative to.

    Returns:
        The instructions, and one line for each pair that was left out.

    Raises:
        InputError: there is no such file, or it is no ChangeChat file, or nothing is left of it.
    """
    instructions = read_changechat(file, images=images)
    reasons: dict[tuple[Path, Path], str | None] = {}
    for instruction in instructions:
        files = (instruction.before, instruction.after)
        if files not in reasons:
            reasons[files] = _find_fault(*files)
    skipped = [f"{before.stem}: {reason}" for (before, _), reason in reasons.items() if reason is not None]
    kept = [instruction for instruction in instructions if reasons[instruction.before, instruction.after] is None]
    if not kept:
        found = f"{len(skipped)} pairs left out, the first is {skipped[0]}" if skipped else "no entry"
        raise InputError(
            f"nothing to learn in {file} ({found})",
            expected="entries whose images can be read",
            remedy="correct the file, or the folder that its paths are relative to",
        )
    for line in skipped:
        logger.warning("%s left out", line)
    return kept, skipped


def _find_fault(before: Path, after: Path) -> str | None:
    try:
        make_pair(before, after)
    except InputError as problem:
        return problem.found
    return None
