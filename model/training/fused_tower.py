"""A vision tower that does not learn sees the same in half the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from transformers.modeling_utils import PreTrainedModel

from model.modeling import DeltaVlmForConditionalGeneration
from model.vision import ConvVisionModel


class FusedTower:
    """A copy of a vision tower for answering alone, with its batch norms fused where it has any.

    It is no module of the training, so that neither checkpoints nor the finished model know of it.
    """

    def __init__(self, tower: PreTrainedModel) -> None:
        self._tower = tower
        if isinstance(tower, ConvVisionModel):
            fused = deepcopy(tower).eval()
            fused.requires_grad_(requires_grad=False)
            fused.fuse_norms()
            self._tower = fused

    @contextmanager
    def stand_in(self, model: DeltaVlmForConditionalGeneration) -> Iterator[None]:
        """Let it see for a model until the end of the block."""
        own = model.vision_model
        self._tower.to(own.device)
        model.vision_model = self._tower
        try:
            yield
        finally:
            model.vision_model = own
