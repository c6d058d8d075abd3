"""What masks can tell of a change beside where it is: whether it went, and where one building ends beside another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from model.images import CHANGED_VALUE
from model.mask_decoder import ChangeMaskDecoder
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.folders import LabelledPair

BORDER_REACH = 0.02
"""A pixel is border where two buildings lie within this part of a tile's side: 2.6 m of 128 m."""
BORDER_WEIGHT = 5.0
"""Weight of border pixels in the loss: there are few."""


def find_borders(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Find the ground between buildings that stand close to each other, in a mask of shape (y, x)."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    reach = max(1, round(BORDER_REACH * min(mask.shape)))
    window = np.ones((2 * reach + 1,) * 2, np.uint8)
    numbers = labels.astype(np.float32)
    nobody = float(numbers.max()) + 1
    highest = cv2.dilate(numbers, window)
    lowest = cv2.erode(np.where(mask, numbers, nobody).astype(np.float32), window)
    return np.asarray((lowest < nobody) & (highest != lowest), bool)


def trace_aspects(
    pair: LabelledPair, *, aspects: Sequence[str], side_px: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Draw the truth of each aspect.

    Returns:
        The truth, and where it is known, both of shape (aspect, side_px, side_px).
    """
    changed = pair.mask > 0
    drawn = {
        "removed": (np.full(changed.shape, pair.is_removal), changed),
        "border": (find_borders(pair.mask == CHANGED_VALUE), np.ones_like(changed)),
    }
    layers = [layer for part in (0, 1) for layer in (drawn[aspect][part] for aspect in aspects)]
    size = (side_px, side_px)
    resized = [cv2.resize(layer.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) for layer in layers]
    stacked = np.array(resized, bool).reshape(2, len(aspects), *size)
    return stacked[0], stacked[1]


def aspect_loss(logits: Tensor, truth: Tensor, known: Tensor, *, aspects: Sequence[str]) -> Tensor:
    """Add up the cross-entropy of each aspect over the pixels where it is known.

    Args:
        logits: Shape (n, aspect, y, x).
        truth: bool of the same shape.
        known: bool of the same shape.
        aspects: Their names.
    """
    weights = logits.new_tensor([BORDER_WEIGHT if aspect == "border" else 1.0 for aspect in aspects])
    losses = F.binary_cross_entropy_with_logits(
        logits, truth.to(logits.dtype), pos_weight=weights[:, None, None], reduction="none"
    )
    sums, counts = (losses * known).sum(dim=(0, 2, 3)), known.sum(dim=(0, 2, 3)).clamp(min=1)
    return (sums / counts).sum()


def extend_decoder(model: DeltaVlmForConditionalGeneration, fields: Mapping[str, Any]) -> None:
    """Let a mask branch tell the aspects that are named; its masks stay as they were, and so does all if none are.

    Args:
        model: Changed in place, as is its config.
        fields: Those of `MaskDecoderConfig`, of which the aspects and the sizes of what tells them count.
    """
    decoder = model.get_mask_decoder()
    config = decoder.config
    if tuple(fields["aspects"]) in {(), tuple(config.aspects)}:
        return
    for name in ("aspects", "aspect_hidden_size", "n_aspect_stages"):
        setattr(config, name, fields[name])
    extended = ChangeMaskDecoder(config)
    former = {name: value for name, value in decoder.state_dict().items() if not name.startswith("aspects.")}
    extended.load_state_dict(former, strict=False)
    model.mask_decoder = extended
