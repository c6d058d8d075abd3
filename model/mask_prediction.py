"""Change masks of many pairs, batch by batch, at the size that is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from model.interface import ChangeMasks
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor


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
    probabilities = np.empty((len(pairs), len(labels), *size), np.float32)
    for start in range(0, len(pairs), batch_size_tiles):
        pixels = processor.prepare_pairs(pairs[start : start + batch_size_tiles])
        dates = model.encode_dates(pixels.to(model.device, model.dtype))
        masks = model.predict_masks(*dates)  # n, label, y, x at the decoder's size
        resized = F.interpolate(masks, size=size, mode="bilinear", align_corners=False, antialias=True)
        # Rounding must not take a probability beyond 1.
        probabilities[start : start + batch_size_tiles] = resized.clamp(0, 1).cpu().numpy()
    return ChangeMasks(labels=labels, probabilities=probabilities)
