"""Change masks of many pairs, batch by batch, at the size that is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

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
    labels = tuple(model.get_mask_decoder().config.labels)
    size = size_px or (pairs.shape[-2], pairs.shape[-1])
    parts = [np.empty((0, len(labels), *size), np.float32)]
    for start in range(0, len(pairs), batch_size_tiles):
        pixels = processor.prepare_pairs(pairs[start : start + batch_size_tiles])
        parts.append(decode_masks(model, *model.encode_dates(pixels.to(model.device, model.dtype)), size_px=size))
    return ChangeMasks(labels=labels, probabilities=np.concatenate(parts))


@torch.inference_mode()
def predict_aspects(
    model: DeltaVlmForConditionalGeneration,
    processor: DeltaVlmProcessor,
    pairs: npt.NDArray[np.uint8],
    *,
    size_px: tuple[int, int] | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Tell of each pixel of each pair what the mask branch knows beside where something changed.

    Args:
        model: Has a mask branch, and is in eval mode.
        processor: Prepares the pixels for it.
        pairs: uint8 RGB of shape (tile, date=2, band=3, y, x); before first.
        size_px: Height and width; left out, those of the tiles.

    Returns:
        Probabilities by aspect, each of shape (tile, y, x); empty for a model that tells none.
    """
    config = model.get_mask_decoder().config
    tokens = model.encode_dates(processor.prepare_pairs(pairs).to(model.device, model.dtype))
    decoded = _decode(model, *tokens, size_px=size_px or (pairs.shape[-2], pairs.shape[-1]))
    return {aspect: decoded[:, len(config.labels) + index] for index, aspect in enumerate(config.aspects)}


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
        Probabilities of shape (n, label, y, x).
    """
    n_labels = 0 if model.mask_decoder is None else len(model.mask_decoder.config.labels)
    if not len(before):
        return np.empty((0, n_labels, *size_px), np.float32)
    return _decode(model, before, after, size_px=size_px)[:, :n_labels]


def _decode(
    model: DeltaVlmForConditionalGeneration, before: Tensor, after: Tensor, *, size_px: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Decode labels and aspects: probabilities of shape (n, label + aspect, y, x)."""
    n_pairs = len(before)
    if before.device.type == "cpu" and n_pairs < MIN_PAIRS_ON_CPU:
        before, after = (tokens.repeat(MIN_PAIRS_ON_CPU, 1, 1) for tokens in (before, after))
    masks = model.predict_masks(before, after)[:n_pairs]  # n, label + aspect, y, x at the decoder's size
    resized = F.interpolate(masks, size=size_px, mode="bilinear", align_corners=False, antialias=True)
    # Rounding must not take a probability beyond 1.
    return np.asarray(resized.clamp(0, 1).cpu().numpy(), dtype=np.float32)
