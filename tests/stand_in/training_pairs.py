"""Pairs to train on: a grey place of which every other one gains bright squares."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

IMAGE_SIZE = 96


def make_images(*, n_buildings: int, seed: int, size_px: int = IMAGE_SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a grey place, the same with bright squares, and the mask of them."""
    random = np.random.default_rng(seed)
    before = random.integers(60, 120, (size_px, size_px, 3), dtype=np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    for index in range(n_buildings):
        mask[4 + 30 * (index // 3) :, 4 + 30 * (index % 3) :][:20, :20] = 255
    return before, np.where(mask[..., None] > 0, 230, before).astype(np.uint8), mask


def write_pairs(folder: Path, *, n_pairs: int, size_px: int = IMAGE_SIZE) -> Path:
    """Write pairs of which every other one has changed, by one to three buildings."""
    for index in range(n_pairs):
        n_buildings = 0 if index % 2 else 1 + index // 2 % 3
        images = make_images(n_buildings=n_buildings, seed=index, size_px=size_px)
        for name, image in zip(("A", "B", "label"), images, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"pair_{index:03d}.png"), image)
    return folder
