"""Trains a DeltaVLM to answer: from image pairs with masks, from instructions, or from both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from model.extras import require_extra
from model.modeling import DeltaVlmForConditionalGeneration
from model.pairs.captions import CaptionPool
from model.processing import DeltaVlmProcessor
from model.training.collation import InstructionCollator
from model.training.dataset import InstructionStream, Source, count_items
from model.training.language_models import LanguageModel, load_language_model
from model.training.model_building import build_model, build_processor, read_image_size
from model.training.progress import TrainingProgress
from model.training.recipe import TrainingConfig
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
from model.training.training_model import TrainingModel
from model.training.training_run import TrainingResult, TrainingRun, is_main_process, list_own_checkpoints, open_run

STALE_MASKS = (
    "The mask branch was left as it was, while what it reads has changed: train it again, with a config of kind mask."
)


def train(
    config: TrainingConfig,
    *,
    output: Path,
    data_root: Path,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    starts_over: bool = False,
) -> TrainingResult:
    """Train a model from its config and write it in transformers' layout.

    A training that was interrupted goes on from its last checkpoint, and ends with the same weights as one that was
    not; one that is complete is not run again.

    Args:
        config: What to train on, and how.
        output: Folder of the model; checkpoints and logs go beside it, into the folder with ``-training`` behind.
        data_root: Where the folders of real pairs are.
        on_progress: Is told of every step.
        starts_over: Whether to drop what an earlier training has left there.

    Raises:
        InputError: a source, a model or a file of the config is not there; one of them is damaged or does not fit, or
            `output` has a training by another recipe.
        CheckpointError: the disk is full.
        InputError: the extra train is missing.
    """
    require_extra("train", use="a training")
    run = TrainingRun(
        config=config, output=output, data_root=data_root, on_progress=on_progress, starts_over=starts_over
    )
    if (done := open_run(run)) is not None:
        return done
    torch.manual_seed(config.seed)
    loaded = load_all_sources(config.sources, validation=config.validation, data_root=data_root)
    n_steps = find_length(run, count_steps(config, n_items=count_items(loaded.training)))
    arguments = build_arguments(run, n_steps=n_steps)
    language = load_language_model(config.language_model) if config.language_model is not None else None
    captions = CaptionPool.from_file(data_root / config.caption_pool) if config.caption_pool is not None else None
    stream = build_stream(
        config,
        loaded.training,
        n_prompts=config.prompts_per_pair,
        n_samples=n_steps * config.batch_size_pairs,
        captions=captions,
    )
    watching = build_stream(config, loaded.training, n_prompts=len(config.prompts), captions=captions)
    processor = prepare_processor(run, config, stream, arguments=arguments, language=language)
    model = build_model(config, processor, language=language)
    training_model, notes = prepare_model(model, config)
    setup = Setup(
        training_model=training_model,
        model=model,
        processor=processor,
        stream=stream,
        validation=hold_fixed(watching, loaded.held_out, config=config),
        collator=InstructionCollator(
            processor,
            has_clean_answers=config.has_clean_answers,
            max_prompt_tokens=config.max_prompt_tokens,
            max_answer_tokens=config.max_answer_tokens,
        ),
        arguments=arguments,
        # Another language model is searched in its own way.
        generation_config=find_generation_config(config.initial_weights) if language is None else None,
        skipped=loaded.skipped,
        notes=notes,
    )
    return run_training(run, setup)


def build_stream(
    config: TrainingConfig,
    sources: Sequence[Source[Any]],
    *,
    n_prompts: int,
    n_samples: int | None = None,
    captions: CaptionPool | None = None,
) -> InstructionStream:
    """Put the samples of all sources into one stream, as the config says."""
    return InstructionStream(
        sources,
        prompts=[prompt.to_prompt() for prompt in config.prompts],
        image_size=read_image_size(config),
        prompts_per_pair=n_prompts,
        augmentation=config.augmentation,
        seed=config.seed,
        n_samples=n_samples,
        is_in_epochs=config.n_epochs is not None,
        captions=captions,
        borrows_captions=config.borrows_captions,
        has_questions=config.has_questions,
    )


def prepare_processor(
    run: TrainingRun,
    config: TrainingConfig,
    stream: InstructionStream,
    *,
    arguments: TrainingArguments,
    language: LanguageModel | None,
) -> DeltaVlmProcessor:
    """Make the processor once, and let every process, and every start after a kill, read the same."""
    with arguments.main_process_first(local=False, desc="vocabulary"):
        if is_main_process() and not list_own_checkpoints(run):
            build_processor(config, stream, language=language).save_pretrained(run.processor_folder)
        return DeltaVlmProcessor.from_pretrained(run.processor_folder)


def prepare_model(
    model: DeltaVlmForConditionalGeneration, config: TrainingConfig
) -> tuple[TrainingModel, tuple[str, ...]]:
    """Choose what learns, and say in the model's config what training reaches.

    Returns:
        The model to train, and notes on what it leaves behind.
    """
    training_model = TrainingModel(
        model,
        text_loss_weight=config.text_loss_weight,
        answers_weigh_alike=config.answers_weigh_alike,
        auxiliary_loss_weight=config.auxiliary_loss_weight,
        trained_parts=config.trained_parts,
        frozen_parts=config.frozen_parts,
    )
    if not any(parameter.requires_grad for parameter in model.language_model.parameters()):
        model.language_model.to(getattr(torch, config.language_model_dtype))
    is_difference_trained = all(parameter.requires_grad for parameter in model.difference.parameters())
    if is_difference_trained:
        model.config.difference_config.is_trained = True
    seen = [*model.vision_model.parameters(), *model.difference.parameters()]
    is_stale = model.mask_decoder is not None and any(parameter.requires_grad for parameter in seen)
    return training_model, (STALE_MASKS,) if is_stale else ()
