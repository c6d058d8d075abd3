"""Runs the steps of a training, of whatever kind, and writes what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_utils import EvalPrediction

from model.errors import InputError
from model.loading import has_cpu_bfloat16
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor
from model.registry import find_model_folder
from model.training.checkpoints import clear_partial_checkpoints, explain_full_disk, find_stop, save_model
from model.training.dataset import FixedSamples, SampleStream, count_items
from model.training.optimization import build_optimizer
from model.training.parts_trainer import AverageCallback, LastStepCallback, PartsTrainer, SnapshotCallback
from model.training.progress import ProgressCallback, clean_figures
from model.training.recipe import PairTrainingConfig, TrainingConfig
from model.training.training_model import PartlyTrained, summarise_answers
from model.training.training_run import TrainingResult, TrainingRun, is_main_process, list_own_checkpoints, write_result


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that a training's steps need."""

    training_model: PartlyTrained
    """Gives the loss and its parts."""
    model: DeltaVlmForConditionalGeneration
    """What is written."""
    processor: DeltaVlmProcessor
    """What is written beside it."""
    stream: SampleStream[Any, Any]
    """What is learned, as long as all steps together."""
    validation: Dataset[Any] | None
    """What training is watched on."""
    collator: Callable[[Any], dict[str, Tensor]]
    """Puts samples into the arguments of the training model."""
    arguments: TrainingArguments
    """How long, how large and how precise the training is, in transformers' words."""
    generation_config: Path | None = None
    """Settings of the search for answers, to go with the model."""
    skipped: tuple[str, ...] = ()
    """Pairs that were left out."""
    notes: tuple[str, ...] = ()
    """What people should know before they use the model."""


def count_steps(config: PairTrainingConfig, *, n_items: int) -> int:
    """Count the steps of a training over so many items."""
    if config.n_steps is not None:
        return config.n_steps
    return math.ceil(n_items * (config.n_epochs or 1) / config.batch_size_pairs)


def build_arguments(run: TrainingRun, *, n_steps: int) -> TrainingArguments:
    """Say in transformers' words how long, how large and how precise a training is.

    Raises:
        InputError: the pairs of a step cannot be shared out evenly.
    """
    config, has_cuda = run.config, torch.cuda.is_available()
    every = config.checkpoint_every_steps or math.ceil(n_steps / 10)
    has_bfloat16 = torch.cuda.is_bf16_supported() if has_cuda else has_cpu_bfloat16()
    arguments = TrainingArguments(
        output_dir=str(run.folder),
        max_steps=n_steps,
        gradient_accumulation_steps=config.accumulation_steps,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        warmup_steps=config.warm_up_steps,
        bf16=has_bfloat16 if config.use_bfloat16 is None else config.use_bfloat16,
        use_cpu=not has_cuda,
        # Every parameter that learns is reached, if only by a gradient of zeros, as in the Q-Former's last layer.
        ddp_find_unused_parameters=False,
        activation_checkpointing=isinstance(config, TrainingConfig) and config.has_activation_checkpointing,
        logging_steps=min(10, every),
        # A loss that is none should be seen.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=every,
        restore_callback_states_from_checkpoint=True,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=config.seed,
        # The stream is shuffled as it is; batches go to processes and workers by their number.
        train_sampling_strategy="sequential",
        dataloader_num_workers=config.n_loader_workers,
        dataloader_pin_memory=has_cuda,
        **_describe_validation(run, every_steps=every),
    )
    return _share_out(config, arguments)


def _describe_validation(run: TrainingRun, *, every_steps: int) -> dict[str, Any]:
    validation = run.config.validation
    if validation is None:
        return {"eval_strategy": "no"}
    return {
        "eval_strategy": "steps",
        "eval_steps": every_steps,
        "eval_on_start": not list_own_checkpoints(run),
        "load_best_model_at_end": True,
        "metric_for_best_model": validation.figure,
        "greater_is_better": validation.figure in {"token_accuracy", "exact_fraction"},
    }


def _share_out(config: PairTrainingConfig, arguments: TrainingArguments) -> TrainingArguments:
    """Share the pairs of a step out to devices, and to the parts that each of them computes them in."""
    if arguments.n_gpu > 1:
        # One process on several GPUs would split batches whose rows point to each other; transformers does the same
        # for models that lie on several GPUs.
        arguments._n_gpu = 1
    n_shares = config.accumulation_steps * arguments.world_size
    if config.batch_size_pairs % n_shares:
        raise InputError(
            f"batch_size_pairs {config.batch_size_pairs} on {arguments.world_size} processes with accumulation_steps "
            f"{config.accumulation_steps}",
            expected=f"a multiple of {n_shares}",
            remedy="change one of them",
        )
    arguments.per_device_train_batch_size = config.batch_size_pairs // n_shares
    arguments.per_device_eval_batch_size = config.batch_size_pairs // n_shares
    return arguments


def find_generation_config(initial_weights: str | None) -> Path | None:
    """Find the settings of the search for answers that go with former weights; None where there are none of either."""
    if initial_weights is None:
        return None
    file = find_model_folder(initial_weights) / "generation_config.json"
    return file if file.is_file() else None


def hold_fixed(
    stream: SampleStream[Any, Any], sources: Sequence[Any], *, config: PairTrainingConfig
) -> FixedSamples[Any, Any] | None:
    """Put what a training is validated on together; None where there is nothing."""
    if config.validation is None:
        return None
    items = [item for source in sources for item in source.list_fixed(max_items=config.validation.max_tiles)]
    return FixedSamples(items, stream=stream)


def run_training(run: TrainingRun, setup: Setup) -> TrainingResult:
    """Run the steps of a training, from its last checkpoint where there is one, and write the model.

    Raises:
        CheckpointError: the disk is full.
    """
    with setup.arguments.main_process_first(local=False, desc="checkpoints"):
        if is_main_process():
            clear_partial_checkpoints(run.folder)
    whole = list_own_checkpoints(run)
    trainer = _make_trainer(run, setup, first_step=whole[-1][0] if whole else 0)
    # Checkpoints speak for themselves; the logs are written too.
    with explain_full_disk("the log", folder=run.folder, checkpoints=run.folder):
        trainer.train(resume_from_checkpoint=str(whole[-1][1]) if whole else None)
    result = _summarise(run, setup, trainer)
    if is_main_process():
        _save(run, setup)
        write_result(run, result)
    return result


def _save(run: TrainingRun, setup: Setup) -> None:
    dtype: torch.dtype = getattr(torch, run.config.saved_dtype)
    files = [setup.generation_config] if setup.generation_config is not None else []
    with setup.training_model.averaged():
        save_model(setup.model, setup.processor, run.output, dtype=dtype, files=files, checkpoints=run.folder)


def find_length(run: TrainingRun, n_steps: int) -> int:
    """Tell how many steps a training takes in all: fewer than it might where its last checkpoint is its early stop."""
    whole = list_own_checkpoints(run)
    patience = run.config.validation.patience if run.config.validation is not None else None
    return (find_stop(whole[-1][1], patience=patience) if whole else None) or n_steps


def _make_trainer(run: TrainingRun, setup: Setup, *, first_step: int) -> PartsTrainer:
    config = run.config
    setup.training_model.start_average(config.averaging_decay)
    # First of all, so that whatever else a step ends with sees the average with that step in it.
    callbacks: list[TrainerCallback] = [AverageCallback(setup.training_model), LastStepCallback()]
    if is_main_process():
        # Comes with the extra train; everything else here can be imported without it.
        from torch.utils.tensorboard import SummaryWriter

        # What a killed training has logged after its last checkpoint is dropped.
        writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=first_step + 1 if first_step else None)
        callbacks.append(TensorBoardCallback(writer))
    if config.validation is not None and config.validation.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=config.validation.patience))
    if config.snapshot_every_steps is not None:
        callbacks.append(SnapshotCallback(partial(_save, run, setup), every_steps=config.snapshot_every_steps))
    if run.on_progress is not None:
        callbacks.append(ProgressCallback(run.on_progress))
    return PartsTrainer(
        model=setup.training_model,
        args=setup.arguments,
        train_dataset=setup.stream,
        eval_dataset=setup.validation,
        data_collator=setup.collator,
        optimizers=(build_optimizer(setup.training_model, config), None),
        compute_metrics=_measure if isinstance(config, TrainingConfig) else None,
        callbacks=callbacks,
        n_pairs_per_step=config.batch_size_pairs,
        n_checkpoints_kept=config.n_checkpoints_kept,
    )


def _measure(prediction: EvalPrediction) -> dict[str, float]:
    return summarise_answers(np.asarray(prediction.predictions))


def _summarise(run: TrainingRun, setup: Setup, trainer: PartsTrainer) -> TrainingResult:
    history: Sequence[Mapping[str, Any]] = trainer.state.log_history
    validations = {int(entry["step"]): clean_figures(entry) for entry in history if "eval_loss" in entry}
    losses = [entry["loss"] for entry in history if "loss" in entry]
    best_step = trainer.state.best_global_step or None
    before, kept = validations.get(0, {}), validations.get(best_step or -1, {})
    trainer.clock.take()
    clock = trainer.clock
    seconds = clock.total_wait_s + clock.total_compute_s
    notes = list(setup.notes)
    figure = run.config.validation.figure if run.config.validation is not None else None
    if figure is not None and before and kept:
        is_worse = (before[figure] - kept[figure]) * (1 if trainer.args.greater_is_better else -1) > 0
        if is_worse:
            notes.append(
                f"The model was better before: {figure} {before[figure]:.4f} on the validation pairs, now "
                f"{kept[figure]:.4f}."
            )
    return TrainingResult(
        folder=run.output,
        n_steps=trainer.state.global_step,
        best_step=best_step,
        loss=losses[-1] if losses else None,
        n_items=count_items(setup.stream.sources),
        n_validation_items=0 if setup.validation is None else len(setup.validation),  # type: ignore[arg-type]
        validation_before=before,
        validation=kept,
        pairs_per_s=round(run.config.batch_size_pairs * clock.total_steps / seconds, 2) if seconds else None,
        compute_fraction=round(clock.total_compute_s / seconds, 4) if seconds else None,
        skipped=setup.skipped,
        notes=tuple(notes),
    )
