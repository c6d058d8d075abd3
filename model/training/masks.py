"""Trains the mask branch of a model that answers already; all else of the model stays as it is, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from model.configuration import DeltaVlmConfig, MaskDecoderConfig
from model.mask_decoder import ChangeMaskDecoder, mask_loss
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor
from model.training.dataset import PairSource, draw_samples, stack_dates
from model.training.pairs import Augmentation, separate_labels
from model.training.recipe import MaskTrainingConfig
from model.training.trainer import load_sources, run_training


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskSample:
    """One pair and its truth per label."""

    pair: npt.NDArray[np.uint8]
    """uint8 of shape (date=2, band=3, y, x) at the model's input size."""
    masks: npt.NDArray[np.bool_]
    """Whether a pixel changed, of shape (label, y, x) at the size of the decoder's masks."""
    is_known: npt.NDArray[np.bool_]
    """Whether the truth tells of a label at all, of shape (label,)."""


class MaskStream(IterableDataset[MaskSample]):
    """An endless, seeded stream of samples."""

    def __init__(
        self,
        sources: Sequence[PairSource],
        *,
        image_size: int,
        decoder: MaskDecoderConfig,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.sources = sources
        self.image_size = image_size
        self.labels, self.mask_size_px = decoder.labels, decoder.output_size_px
        self.augmentation = augmentation
        self.seed = seed

    def __iter__(self) -> Iterator[MaskSample]:
        """Start the stream anew."""
        random = np.random.default_rng(self.seed)
        for drawn in draw_samples(self.sources, augmentation=self.augmentation, random=random):
            masks, is_known = separate_labels(drawn, labels=self.labels)
            yield MaskSample(
                pair=stack_dates(drawn, side_px=self.image_size),
                masks=resize_masks(masks, side_px=self.mask_size_px),
                is_known=is_known,
            )


def resize_masks(masks: npt.NDArray[np.bool_], *, side_px: int) -> npt.NDArray[np.bool_]:
    """Resize masks of shape (label, y, x) to a square by the nearest pixel, centres on centres."""
    size = (side_px, side_px)
    resized = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    return np.stack(resized).astype(bool)


class MaskCollator:
    """Puts samples into the tensors that `MaskTrainingModel.forward` takes."""

    def __init__(self, processor: DeltaVlmProcessor) -> None:
        self.processor = processor

    def __call__(self, samples: Sequence[MaskSample]) -> dict[str, Tensor]:
        """Collate."""
        return {
            "pixel_values": self.processor.prepare_pairs(np.stack([sample.pair for sample in samples])),
            "masks": torch.from_numpy(np.stack([sample.masks for sample in samples])),
            "is_known": torch.from_numpy(np.stack([sample.is_known for sample in samples])),
        }


class MaskTrainingModel(nn.Module):
    """A DeltaVLM of which only the mask decoder learns; one loss."""

    def __init__(self, model: DeltaVlmForConditionalGeneration, *, positive_weight: float) -> None:
        super().__init__()
        if model.mask_decoder is None:
            raise ValueError("this model has no mask branch; expected one with a mask_config")
        self.model = model.requires_grad_(requires_grad=False)
        self.decoder = model.mask_decoder.requires_grad_()
        self.positive_weight = positive_weight

    def train(self, mode: bool = True) -> Self:
        """Switch to training; all but the decoder keeps its statistics and drops nothing."""
        super().train(mode)
        self.model.eval()
        self.decoder.train(mode)
        return self

    def forward(self, pixel_values: Tensor, masks: Tensor, is_known: Tensor) -> dict[str, Tensor]:
        """Give the loss over all labels, and that of each by its name.

        Args:
            pixel_values: Normalised pixels of shape (n, date=2, band=3, y, x).
            masks: bool of shape (n, label, y, x).
            is_known: bool of shape (n, label).
        """
        with torch.no_grad():
            features = self.model.mask_features(*self.model.encode_dates(pixel_values))
        logits = self.decoder(features).float()

        def compare(part: slice) -> Tensor:
            return mask_loss(
                logits[:, part], masks[:, part], known=is_known[:, part], positive_weight=self.positive_weight
            )

        labels = self.decoder.config.labels
        return {"loss": compare(slice(None)), **{label: compare(slice(i, i + 1)) for i, label in enumerate(labels)}}


def add_mask_decoder(model: DeltaVlmForConditionalGeneration, fields: Mapping[str, Any]) -> None:
    """Give a model a fresh mask branch in place of the one it may have.

    Args:
        model: Changed in place, as is its config.
        fields: Those of `MaskDecoderConfig`.
    """
    values = model.config.to_dict()
    values["mask_config"] = dict(fields)
    # Built anew, so that the sizes that must agree with the rest do.
    model.config.mask_config = DeltaVlmConfig(**values).mask_config
    model.mask_decoder = ChangeMaskDecoder(model.config.mask_config)


def build_optimizer(model: MaskTrainingModel, config: MaskTrainingConfig) -> torch.optim.AdamW:
    """Decay the matrices and filters of the decoder; norms and biases are not decayed."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def train_masks(config: MaskTrainingConfig, *, output: Path, data_root: Path) -> Path:
    """Train the mask branch of a model and write the whole model in transformers' layout.

    Args:
        config: What to train on, and how.
        output: Folder of the model; logs go beside it.
        data_root: Where the folders of real pairs are.

    Returns:
        The model's folder.

    Raises:
        ValueError: the config names no model to go on from, or a label that has no truth.
    """
    if config.initial_weights is None:
        raise ValueError("no model whose mask branch to train; expected initial_weights, or --initial-weights MODEL")
    torch.manual_seed(config.seed)
    processor = DeltaVlmProcessor.from_pretrained(config.initial_weights)
    model = DeltaVlmForConditionalGeneration.from_pretrained(config.initial_weights, dtype=torch.float32)
    add_mask_decoder(model, config.decoder)
    stream = MaskStream(
        load_sources(config, data_root=data_root),
        image_size=processor.images.image_size,
        decoder=model.config.mask_config,
        augmentation=Augmentation(**config.augmentation),
        seed=config.seed,
    )
    training_model = MaskTrainingModel(model, positive_weight=config.positive_weight)
    processor.save_pretrained(output)
    return run_training(
        training_model,
        model=model,
        stream=stream,
        collator=MaskCollator(processor),
        optimizer=build_optimizer(training_model, config),
        config=config,
        output=output,
    )
