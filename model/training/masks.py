"""Trains the mask branch of a model that answers already; all else of the model stays as it is, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.configuration import DeltaVlmConfig, MaskDecoderConfig
from model.errors import InputError
from model.extras import require_extra
from model.mask_decoder import ChangeMaskDecoder, mask_loss
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.folders import LabelledPair, separate_labels
from model.processing import DeltaVlmProcessor
from model.registry import find_model_folder
from model.training.aspects import aspect_loss, extend_decoder, trace_aspects
from model.training.augmentation import Augmentation
from model.training.dataset import SampleStream, Source, count_items, stack_dates
from model.training.fused_tower import FusedTower
from model.training.progress import TrainingProgress
from model.training.recipe import MaskTrainingConfig
from model.training.running import (
    Setup,
    build_arguments,
    count_steps,
    find_generation_config,
    find_length,
    hold_fixed,
    run_training,
)
from model.training.sources import load_all_sources
from model.training.training_model import PartlyTrained
from model.training.training_run import TrainingResult, TrainingRun, open_run


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskSample:
    """One pair and its truth per label."""

    pair: npt.NDArray[np.uint8]
    """uint8 of shape (date=2, band=3, y, x) at the model's input size."""
    masks: npt.NDArray[np.bool_]
    """Whether a pixel changed, of shape (label, y, x) at the size of the decoder's masks."""
    is_known: npt.NDArray[np.bool_]
    """Whether the truth tells of a label at all, of shape (label,)."""
    aspects: npt.NDArray[np.bool_]
    """Truth of what is told beside the labels, of shape (aspect, y, x)."""
    is_aspect_known: npt.NDArray[np.bool_]
    """Where it is known, of the same shape."""


class MaskStream(SampleStream[LabelledPair, MaskSample]):
    """Seeded samples with a mask per label."""

    def __init__(
        self,
        sources: Sequence[Source[LabelledPair]],
        *,
        image_size: int,
        decoder: MaskDecoderConfig,
        augmentation: Augmentation,
        seed: int,
        n_samples: int | None = None,
        is_in_epochs: bool = False,
    ) -> None:
        super().__init__(sources, augmentation=augmentation, seed=seed, n_samples=n_samples, is_in_epochs=is_in_epochs)
        self.image_size = image_size
        self.labels, self.mask_size_px = decoder.labels, decoder.output_size_px
        self.aspects = decoder.aspects

    def make_sample(self, drawn: LabelledPair, *, random: np.random.Generator) -> MaskSample:  # noqa: ARG002
        """Separate what is known of a drawn pair by label."""
        masks, is_known = separate_labels(drawn, labels=self.labels)
        aspects, is_aspect_known = trace_aspects(drawn, aspects=self.aspects, side_px=self.mask_size_px)
        return MaskSample(
            pair=stack_dates(drawn.before, drawn.after, side_px=self.image_size),
            masks=resize_masks(masks, side_px=self.mask_size_px),
            is_known=is_known,
            aspects=aspects,
            is_aspect_known=is_aspect_known,
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
            "aspects": torch.from_numpy(np.stack([sample.aspects for sample in samples])),
            "is_aspect_known": torch.from_numpy(np.stack([sample.is_aspect_known for sample in samples])),
        }


class MaskTrainingModel(PartlyTrained):
    """A DeltaVLM of which only the mask decoder learns, or what is told beside the masks alone; one loss."""

    def __init__(
        self, model: DeltaVlmForConditionalGeneration, *, positive_weight: float, keeps_masks: bool = False
    ) -> None:
        super().__init__()
        if model.mask_decoder is None:
            raise ValueError("this model has no mask branch; expected one with a mask_config; add it first")
        self.model = model.requires_grad_(requires_grad=False)
        if keeps_masks and model.mask_decoder.aspects is None:
            raise ValueError("this mask branch tells nothing beside its masks; expected one with aspects; extend it")
        learning = model.mask_decoder.aspects if keeps_masks else model.mask_decoder
        cast(nn.Module, learning).requires_grad_()
        self.keeps_masks = keeps_masks
        self.tower = FusedTower(model.vision_model)
        self.positive_weight = positive_weight

    @property
    def decoder(self) -> ChangeMaskDecoder:
        """What learns."""
        return self.model.get_mask_decoder()

    def forward(
        self, pixel_values: Tensor, masks: Tensor, is_known: Tensor, aspects: Tensor, is_aspect_known: Tensor
    ) -> dict[str, Tensor]:
        """Give the loss over all that learns, and that of each label that does by its name.

        Args:
            pixel_values: Normalised pixels of shape (n, date=2, band=3, y, x).
            masks: bool of shape (n, label, y, x).
            is_known: bool of shape (n, label).
            aspects: bool of shape (n, aspect, y, x).
            is_aspect_known: bool of the same shape.
        """
        with torch.no_grad():
            with self.tower.stand_in(self.model):
                dates = self.model.encode_dates(pixel_values)
            features = self.model.mask_features(*dates)
        told = self.decoder.config.aspects
        if self.keeps_masks:
            logits = self.decoder.tell_aspects(features).float()
            return {"loss": aspect_loss(logits, aspects, is_aspect_known, aspects=told)}
        labels = self.decoder.config.labels
        logits = self.decoder(features).float()

        def compare(part: slice) -> Tensor:
            return mask_loss(
                logits[:, part], masks[:, part], known=is_known[:, part], positive_weight=self.positive_weight
            )

        loss = compare(slice(len(labels)))
        if told:
            loss = loss + aspect_loss(logits[:, len(labels) :], aspects, is_aspect_known, aspects=told)
        return {"loss": loss, **{label: compare(slice(i, i + 1)) for i, label in enumerate(labels)}}


def prepare_mask_decoder(model: DeltaVlmForConditionalGeneration, config: MaskTrainingConfig) -> None:
    """Give a model a fresh mask branch, or leave it the one that it has, as the config says, with aspects."""
    if config.keeps_decoder and model.mask_decoder is not None:
        extend_decoder(model, config.decoder.model_dump())
    else:
        add_mask_decoder(model, config.decoder.model_dump())


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


def train_masks(
    config: MaskTrainingConfig,
    *,
    output: Path,
    data_root: Path,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    starts_over: bool = False,
) -> TrainingResult:
    """Train the mask branch of a model and write the whole model in transformers' layout.

    It goes on where it was interrupted, as `model.training.trainer.train` does.

    Args:
        config: What to train on, and how.
        output: Folder of the model; checkpoints and logs go beside it, into the folder with ``-training`` behind.
        data_root: Where the folders of real pairs are.
        on_progress: Is told of every step.
        starts_over: Whether to drop what an earlier training has left there.

    Raises:
        InputError: a source or the model is not there; the config names no model to go on from, or a label that has no
            truth.
        CheckpointError: the disk is full.
        InputError: the extra train is missing.
    """
    require_extra("train", use="a training")
    if config.initial_weights is None:
        raise InputError(
            "no model whose mask branch to train, neither by initial_weights nor by --initial-weights",
            expected="one that answers already",
            remedy="name its folder",
        )
    run = TrainingRun(
        config=config, output=output, data_root=data_root, on_progress=on_progress, starts_over=starts_over
    )
    folder = find_model_folder(config.initial_weights)
    if (done := open_run(run)) is not None:
        return done
    torch.manual_seed(config.seed)
    processor = DeltaVlmProcessor.from_pretrained(folder)
    model = DeltaVlmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    prepare_mask_decoder(model, config)
    loaded = load_all_sources(config.sources, validation=config.validation, data_root=data_root)
    n_steps = find_length(run, count_steps(config, n_items=count_items(loaded.training)))
    stream = MaskStream(
        loaded.training,
        image_size=processor.images.image_size,
        decoder=model.config.mask_config,
        augmentation=config.augmentation,
        seed=config.seed,
        n_samples=n_steps * config.batch_size_pairs,
        is_in_epochs=config.n_epochs is not None,
    )
    setup = Setup(
        training_model=MaskTrainingModel(model, positive_weight=config.positive_weight, keeps_masks=config.keeps_masks),
        model=model,
        processor=processor,
        stream=stream,
        validation=hold_fixed(stream, loaded.held_out, config=config),
        collator=MaskCollator(processor),
        arguments=build_arguments(run, n_steps=n_steps),
        generation_config=find_generation_config(config.initial_weights),
        skipped=loaded.skipped,
    )
    return run_training(run, setup)
