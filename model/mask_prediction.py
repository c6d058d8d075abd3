"""Change masks of many pairs, batch by batch, at the size that is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from model.configuration import MaskDecoderConfig
from model.interface import ChangeMasks
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor

MIN_PAIRS_ON_CPU = 2
"""A single pair is rounded otherwise than each of several; so that its mask does not depend on its batch, it is decoded
beside itself."""


@torch.inference_mode()
def predict_change_masks(
    model: DeltaVlmForConditionalGeneration,
    processor: DeltaVlmProcessor,
    pairs: npt.NDArray[np.uint8],
    *,
    size_px: tuple[int, int] | None = None,
    batch_size_tiles: int = 64,
) -> ChangeMasks:
    """Outline what changed in each pair.

    Args:
        model: Has a mask branch, and is in eval mode.
        processor: Prepares the pixels for it.
        pairs: uint8 RGB of shape (tile, date=2, band=3, y, x); before first.
        size_px: Height and width of the masks; left out, those of the tiles. The decoder's masks are resized to it
            bilinearly, and averaged where they shrink.
        batch_size_tiles: Most pairs that go through the model at once.

    Raises:
        ValueError: the model has no mask branch, or the pairs are of another dtype or shape.
    """
    size = size_px or (pairs.shape[-2], pairs.shape[-1])
    parts = [np.empty((0, count_layers(model), *size), np.float32)]
    for start in range(0, len(pairs), batch_size_tiles):
        pixels = processor.prepare_pairs(pairs[start : start + batch_size_tiles])
        parts.append(decode_masks(model, *model.encode_dates(pixels.to(model.device, model.dtype)), size_px=size))
    return name_masks(model.get_mask_decoder().config, np.concatenate(parts))


def count_layers(model: DeltaVlmForConditionalGeneration) -> int:
    """Count what a model decodes per pixel, labels and aspects; 0 without a mask branch."""
    config = None if model.mask_decoder is None else model.mask_decoder.config
    return 0 if config is None else len(config.labels) + len(config.aspects)


def name_masks(config: MaskDecoderConfig | None, decoded: npt.NDArray[np.float32]) -> ChangeMasks:
    """Name the layers that `decode_masks` gave; None is the config of a model without a mask branch."""
    labels = () if config is None else tuple(config.labels)
    aspects = () if config is None else config.aspects
    return ChangeMasks(
        labels=labels,
        probabilities=decoded[:, : len(labels)],
        aspects={name: decoded[:, index] for index, name in enumerate(aspects, start=len(labels))},
    )


@torch.inference_mode()
def decode_masks(
    model: DeltaVlmForConditionalGeneration, before: Tensor, after: Tensor, *, size_px: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Decode the masks of pairs whose dates are encoded already.

    Args:
        model: Is in eval mode, and has a mask branch unless there are no pairs.
        before: Tokens of the before images, as `encode_dates` gives them.
        after: The same of the after images.
        size_px: Height and width of the masks.

    Returns:
        Probabilities of shape (n, label + aspect, y, x), labels first.
    """
    n_pairs = len(before)
    if not n_pairs:
        return np.empty((0, count_layers(model), *size_px), np.float32)
    if before.device.type == "cpu" and n_pairs < MIN_PAIRS_ON_CPU:
        before, after = (tokens.repeat(MIN_PAIRS_ON_CPU, 1, 1) for tokens in (before, after))
    masks = model.predict_masks(before, after)[:n_pairs]  # n, label + aspect, y, x at the decoder's size
    resized = F.interpolate(masks, size=size_px, mode="bilinear", align_corners=False, antialias=True)
    # Rounding must not take a probability beyond 1.
    return np.asarray(resized.clamp(0, 1).cpu().numpy(), dtype=np.float32)
