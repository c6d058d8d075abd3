"""Image pairs with change masks, and the random crops and lights they are trained under."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.training.instructions import BUILDING_CHANGED, ROAD_CHANGED, ChangeFacts, measure_mask
from model.training.synthesis import synthesize_pair

logger = logging.getLogger(__name__)

MASK_VALUES = {"building": (BUILDING_CHANGED,), "road": (ROAD_CHANGED,), "change": (ROAD_CHANGED, BUILDING_CHANGED)}
"""Which values of a pair's mask a label of the decoder stands for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPair:
    """Two images of one place and what changed between them."""

    name: str
    before: npt.NDArray[np.uint8]
    """RGB of shape (y, x, band=3)."""
    after: npt.NDArray[np.uint8]
    """RGB of shape (y, x, band=3)."""
    mask: npt.NDArray[np.uint8]
    """Shape (y, x); 0 unchanged, 128 road, 255 building."""
    has_road_truth: bool
    """Whether the mask covers roads; LEVIR-CD's do not."""
    is_removal: bool = False
    """Whether the objects of the mask went rather than came."""
    captions: tuple[str, ...] = ()
    """What people wrote about this pair."""

    @property
    def facts(self) -> ChangeFacts:
        """What the mask says."""
        return measure_mask(self.mask, has_road_truth=self.has_road_truth, is_removal=self.is_removal)


def read_pair_folder(
    folder: Path, *, pattern: str = "*", captions: dict[str, tuple[str, ...]] | None = None
) -> list[LabelledPair]:
    """Read a folder with ``A/``, ``B/`` and ``label/`` (buildings only, any non-zero value), sorted by name.

    Args:
        folder: Holds the three folders; images of a pair share their stem.
        pattern: Which stems to take.
        captions: Sentences by stem.

    Raises:
        FileNotFoundError: no complete pair matches, or an image cannot be read.
    """
    pairs = []
    for before in sorted((folder / "A").glob(f"{pattern}.*")):
        label = _find_sibling(before, "label")
        after = _find_sibling(before, "B")
        if label is None or after is None:
            logger.warning("%s left out: no %s of this name", before, "label" if label is None else "other date")
            continue
        mask = cv2.imread(str(label), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise FileNotFoundError(f"{label} cannot be read; expected a PNG or JPEG image")
        pairs.append(
            LabelledPair(
                name=before.stem,
                before=read_rgb(before),
                after=read_rgb(after),
                mask=np.where(mask > 0, BUILDING_CHANGED, 0).astype(np.uint8),
                has_road_truth=False,
                captions=(captions or {}).get(before.stem, ()),
            )
        )
    if not pairs:
        raise FileNotFoundError(f"no pair {pattern!r} in {folder}; expected images in A/, B/ and label/ of one stem")
    return pairs


def read_captions(file: Path, *, split: str) -> dict[str, tuple[str, ...]]:
    """Read the sentences of one split of a ``captions.json`` as in LEVIR-CC rebuilds, by stem."""
    entries = json.loads(file.read_text(encoding="utf-8"))["pairs"]
    return {Path(e["filename"]).stem: tuple(e["captions"]) for e in entries if e["split"] == split}


def read_rgb(file: Path) -> npt.NDArray[np.uint8]:
    """Read an image as RGB of shape (y, x, 3).

    Raises:
        FileNotFoundError: not there or not an image.
    """
    image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise FileNotFoundError(f"{file} cannot be read; expected a PNG or JPEG image")
    return image.astype(np.uint8, copy=False)


def _find_sibling(before: Path, folder: str) -> Path | None:
    return next(iter(sorted((before.parent.parent / folder).glob(f"{before.stem}.*"))), None)


def synthesize_pairs(seeds: Sequence[int], *, size_px: int, resolution_m: float) -> list[LabelledPair]:
    """Make synthetic pairs, whose truth covers roads too."""
    pairs = []
    for seed in seeds:
        made = synthesize_pair(seed, height_px=size_px, width_px=size_px, resolution_m=resolution_m)
        pairs.append(
            LabelledPair(
                name=f"synthetic_{seed}",
                before=made.before,
                after=made.after,
                mask=made.change_mask,
                has_road_truth=True,
            )
        )
    return pairs


def separate_labels(
    pair: LabelledPair, *, labels: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Split a pair's mask by label.

    Returns:
        Whether a pixel changed, of shape (label, y, x), and whether the truth tells of a label, of shape (label,).
        LEVIR masks tell nothing of roads; ``change`` is whatever the mask holds.

    Raises:
        ValueError: a label that no value of masks stands for.
    """
    if unknown := [label for label in labels if label not in MASK_VALUES]:
        raise ValueError(f"no truth for the label {', '.join(unknown)}; expected {', '.join(MASK_VALUES)}")
    masks = np.stack([np.isin(pair.mask, MASK_VALUES[label]) for label in labels])
    return masks, np.array([label != "road" or pair.has_road_truth for label in labels])


def cut_tiles(pair: LabelledPair, *, size_px: int) -> Iterator[LabelledPair]:
    """Cut a pair into whole tiles, row-major; what is left at the right and bottom edge is dropped."""
    height, width = pair.mask.shape
    for top in range(0, height - size_px + 1, size_px):
        for left in range(0, width - size_px + 1, size_px):
            yield _crop(pair, top=top, left=left, size_px=size_px)


def _crop(pair: LabelledPair, *, top: int, left: int, size_px: int) -> LabelledPair:
    part = (slice(top, top + size_px), slice(left, left + size_px))
    is_whole = pair.mask.shape == (size_px, size_px)
    return replace(
        pair,
        name=pair.name if is_whole else f"{pair.name}_{top}_{left}",
        before=pair.before[part],
        after=pair.after[part],
        mask=pair.mask[part],
        captions=pair.captions if is_whole else (),
    )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How strongly training varies what it sees."""

    colour_shift: float = 0.12
    """Greatest change of a channel's gain, and of brightness, as a fraction of full scale; drawn per date."""
    gamma_range: tuple[float, float] = (0.75, 1.35)
    """Exponents that brightness is bent by; drawn per date."""
    unchanged_fraction: float = 0.1
    """How often one date is shown twice under two lights, so that light alone is no change."""
    removal_fraction: float = 0.1
    """How often the dates are swapped, so that what was built is removed."""
    shift_px: int = 2
    """Greatest misregistration between the dates."""


def draw_sample(
    pair: LabelledPair, *, size_px: int, augmentation: Augmentation, random: np.random.Generator
) -> LabelledPair:
    """Crop, flip, turn and re-light a pair at random.

    Captions name places, so a pair that has them keeps its orientation and its dates.
    """
    height, width = pair.mask.shape
    top, left = int(random.integers(0, height - size_px + 1)), int(random.integers(0, width - size_px + 1))
    sample = _crop(pair, top=top, left=left, size_px=size_px)
    if not sample.captions:
        sample = _turn(sample, turns=int(random.integers(0, 4)), is_flipped=bool(random.random() < 0.5))
        draw = random.random()
        if draw < augmentation.unchanged_fraction:
            shown = sample.before if random.random() < 0.5 else sample.after
            # The other date may hold buildings too: seen twice, nothing changed, and that is known of roads as well.
            sample = replace(sample, before=shown, after=shown, mask=np.zeros_like(sample.mask), has_road_truth=True)
        elif draw < augmentation.unchanged_fraction + augmentation.removal_fraction:
            sample = replace(sample, before=sample.after, after=sample.before, is_removal=True)
    shift = tuple(int(v) for v in random.integers(-augmentation.shift_px, augmentation.shift_px + 1, 2))
    return replace(
        sample,
        before=relight(sample.before, augmentation=augmentation, random=random),
        after=relight(_shift(sample.after, shift), augmentation=augmentation, random=random),
    )


def _turn(pair: LabelledPair, *, turns: int, is_flipped: bool) -> LabelledPair:
    def turn(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        turned = np.rot90(image, turns)
        return np.ascontiguousarray(turned[:, ::-1] if is_flipped else turned)

    return replace(pair, before=turn(pair.before), after=turn(pair.after), mask=turn(pair.mask))


def _shift(image: npt.NDArray[np.uint8], shift_px: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    rows = np.clip(np.arange(image.shape[0]) + shift_px[0], 0, image.shape[0] - 1)
    cols = np.clip(np.arange(image.shape[1]) + shift_px[1], 0, image.shape[1] - 1)
    return image[rows][:, cols]


def relight(
    image: npt.NDArray[np.uint8], *, augmentation: Augmentation, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Bend the tone curve of each channel of a uint8 image: gamma, gain and offset drawn at random."""
    gamma = float(np.exp(random.uniform(*np.log(augmentation.gamma_range))))
    gains = 1 + random.uniform(-augmentation.colour_shift, augmentation.colour_shift, 3)
    offsets = random.uniform(-augmentation.colour_shift, augmentation.colour_shift) / 2
    levels = (np.arange(256) / 255) ** gamma
    curves = np.clip((levels[:, None] * gains + offsets) * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, curves.reshape(256, 1, 3)), np.uint8)
