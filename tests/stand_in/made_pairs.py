"""Pairs of small pictures with masks whose contents are known, laid out as data sets are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from model.interface import CELL_NAMES

SIZE_PX = 96


def make_mask(**squares: tuple[int, int]) -> np.ndarray:
    """Put so many separate 8 x 8 squares of a value into each named cell (``top_left=(count, value)``)."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for name, (n_squares, value) in squares.items():
        row, col = divmod(CELL_NAMES.index(name.replace("_", "-")), 3)
        for index in range(n_squares):
            top, left = row * 32 + 1 + (index // 3) * 10, col * 32 + 1 + (index % 3) * 10
            mask[top : top + 8, left : left + 8] = value
    return mask


def write_pair(folder: Path, stem: str, *, mask: np.ndarray | None, suffix: str = ".png", size_px: int = SIZE_PX):
    """Write both dates and the mask below a folder with A/, B/ and label/."""
    for name, value in (("A", 60), ("B", 180)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size_px, size_px), (value, 90, 40)).save(folder / name / f"{stem}{suffix}")
    if mask is not None:
        (folder / "label").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "label" / f"{stem}.png")


def write_captions(file: Path, *entries: tuple[str, str, int, tuple[str, ...]]):
    pairs = [{"filename": n, "split": s, "changeflag": f, "captions": list(c)} for n, s, f, c in entries]
    file.write_text(json.dumps({"pairs": pairs}))
