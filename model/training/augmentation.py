"""The random crops, turns and lights that pairs are trained under; both dates always move together."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from model.images import CHANGED_VALUE
from model.pairs.captions import judge_ground
from model.pairs.folders import LabelledPair, crop_pair
from model.pairs.turning import turn_caption
from model.training.degradation import degrade

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Augmentation:
    """How strongly training varies what it sees; part of a training's config."""

    colour_shift: float = Field(
        default=0.12,
        ge=0,
        description="Greatest change of a channel's gain, and of brightness, as a fraction of full scale; drawn per "
        "date.",
    )
    gamma_range: tuple[float, float] = Field(
        default=(0.75, 1.35), description="Exponents that brightness is bent by; drawn per date."
    )
    unchanged_fraction: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="How often one date is shown twice under two lights, so that light alone is no change.",
    )
    removal_fraction: float = Field(
        default=0.1, ge=0, le=1, description="How often the dates are swapped, so that what was built is removed."
    )
    shift_px: int = Field(default=2, ge=0, description="Greatest misregistration between the dates.")
    has_turns: bool = Field(
        default=True,
        description="Whether pairs are flipped and turned by multiples of 90 degrees, and their captions along.",
    )
    degraded_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How often a date is shown as other sensors, haze, noise and compression would; drawn per date.",
    )
    crop_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Greatest part of a side that is cut off, drawn per pair; 0.05 in the paper.",
    )
    rotation_degrees: float = Field(
        default=0.0,
        ge=0,
        le=45,
        description="Greatest rotation to either side, drawn per pair; what it uncovers is mirrored. 15 in the paper.",
    )


def draw_sample(
    pair: LabelledPair, *, size_px: int, augmentation: Augmentation, random: np.random.Generator
) -> LabelledPair:
    """Crop, flip, turn and re-light a pair at random.

    Captions speak of what came and what went, so that a pair that has them keeps its dates; the places that they name
    go along when it is turned.
    """
    height, width = pair.mask.shape
    top, left = int(random.integers(0, height - size_px + 1)), int(random.integers(0, width - size_px + 1))
    sample = crop_pair(pair, top=top, left=left, size_px=size_px)
    turns, is_flipped = int(random.integers(0, 4)), bool(random.random() < 0.5)
    if augmentation.has_turns:
        sample = _turn(sample, turns=turns, is_flipped=is_flipped)
    if not sample.captions:
        draw = random.random()
        if draw < augmentation.unchanged_fraction:
            shown = sample.before if random.random() < 0.5 else sample.after
            # The other date may hold buildings too: seen twice, nothing changed, and that is known of roads as well.
            sample = replace(sample, before=shown, after=shown, mask=np.zeros_like(sample.mask), has_road_truth=True)
        elif draw < augmentation.unchanged_fraction + augmentation.removal_fraction:
            sample = replace(sample, before=sample.after, after=sample.before, is_removal=not sample.is_removal)
    # By the colours as they were taken: the light that comes next bends them.
    ground = sample.after if sample.is_removal else sample.before
    cover = judge_ground(ground, changed=sample.mask == CHANGED_VALUE)
    before, after, mask = move_images(
        (sample.before, sample.after, sample.mask), augmentation=augmentation, random=random
    )
    before, after = light_dates(before, after, augmentation=augmentation, random=random)
    return replace(sample, before=before, after=after, mask=mask, cover=cover)


def light_dates(
    before: Image, after: Image, *, augmentation: Augmentation, random: np.random.Generator
) -> tuple[Image, Image]:
    """Shift the later date a little against the earlier one, and give each a light of its own."""
    shift = tuple(int(v) for v in random.integers(-augmentation.shift_px, augmentation.shift_px + 1, 2))
    lit = [relight(image, augmentation=augmentation, random=random) for image in (before, _shift(after, shift))]
    if augmentation.degraded_fraction:
        is_degraded = random.random(2) < augmentation.degraded_fraction
        lit = [degrade(image, random=random) if poor else image for image, poor in zip(lit, is_degraded, strict=True)]
    return lit[0], lit[1]


def move_images(
    images: tuple[Image, ...], *, augmentation: Augmentation, random: np.random.Generator
) -> tuple[Image, ...]:
    """Cut off a random margin and rotate by a random angle: the same for every image of a pair, masks included.

    Args:
        images: RGB of shape (y, x, 3), interpolated between pixels, or masks of shape (y, x), which keep their values.
        augmentation: How far.
        random: Decides.
    """
    if not augmentation.crop_fraction and not augmentation.rotation_degrees:
        return images
    height, width = images[0].shape[:2]
    kept = 1 - random.uniform(0, augmentation.crop_fraction)
    rows, cols = max(1, round(height * kept)), max(1, round(width * kept))
    top, left = int(random.integers(0, height - rows + 1)), int(random.integers(0, width - cols + 1))
    angle = random.uniform(-augmentation.rotation_degrees, augmentation.rotation_degrees)
    matrix = cv2.getRotationMatrix2D(((cols - 1) / 2, (rows - 1) / 2), angle, 1.0)

    def move(image: Image) -> Image:
        flags = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
        part = np.ascontiguousarray(image[top : top + rows, left : left + cols])
        if not augmentation.rotation_degrees:
            return part
        moved = cv2.warpAffine(part, matrix, (cols, rows), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(moved, np.uint8)

    return tuple(move(image) for image in images)


def _turn(pair: LabelledPair, *, turns: int, is_flipped: bool) -> LabelledPair:
    turned = [turn_caption(text, turns=turns, is_flipped=is_flipped) for text in pair.captions]
    captions = tuple(text for text in turned if text is not None)
    if pair.captions and not captions:
        return pair

    def turn(image: Image) -> Image:
        turned = np.rot90(image, turns)
        return np.ascontiguousarray(turned[:, ::-1] if is_flipped else turned)

    return replace(pair, before=turn(pair.before), after=turn(pair.after), mask=turn(pair.mask), captions=captions)


def _shift(image: Image, shift_px: tuple[int, ...]) -> Image:
    rows = np.clip(np.arange(image.shape[0]) + shift_px[0], 0, image.shape[0] - 1)
    cols = np.clip(np.arange(image.shape[1]) + shift_px[1], 0, image.shape[1] - 1)
    return image[rows][:, cols]


def relight(image: Image, *, augmentation: Augmentation, random: np.random.Generator) -> Image:
    """Bend the tone curve of each channel of a uint8 image: gamma, gain and offset drawn at random."""
    gamma = float(np.exp(random.uniform(*np.log(augmentation.gamma_range))))
    gains = 1 + random.uniform(-augmentation.colour_shift, augmentation.colour_shift, 3)
    offsets = random.uniform(-augmentation.colour_shift, augmentation.colour_shift) / 2
    levels = (np.arange(256) / 255) ** gamma
    curves = np.clip((levels[:, None] * gains + offsets) * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, curves.reshape(256, 1, 3)), np.uint8)
