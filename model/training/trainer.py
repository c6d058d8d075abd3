"""Trains a small DeltaVLM from image pairs and masks, with transformers' Trainer."""

from __future__ import annotations

import copy
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import (
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

from model.configuration import build_tiny_config
from model.interface import CELL_NAMES, Prompt, PromptKind
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import EFFICIENTNET_LITE_IMAGE_SETTINGS, DeltaVlmProcessor
from model.training.dataset import InstructionCollator, InstructionStream, PairSource
from model.training.heads import DifferenceHead, QueryHead, fact_loss
from model.training.initialisation import place_queries
from model.training.pairs import Augmentation, LabelledPair, read_captions, read_pair_folder, synthesize_pairs
from model.training.recipe import FolderSourceConfig, PairTrainingConfig, TrainingConfig
from model.training.vocabulary import train_tokenizer, wrap_language_tokenizer, wrap_qformer_tokenizer
from model.vision import TRUNK_STRIDE_PX, import_trunk_weights

logger = logging.getLogger(__name__)


class TrainingModel(nn.Module):
    """A DeltaVLM between auxiliary heads; one loss."""

    def __init__(
        self, model: DeltaVlmForConditionalGeneration, *, text_loss_weight: float, frozen_parts: Sequence[str] = ()
    ) -> None:
        super().__init__()
        config = model.config
        self.model = model
        self.text_loss_weight = text_loss_weight
        self.frozen = [model.get_submodule(name) for name in frozen_parts]
        for part in self.frozen:
            part.requires_grad_(requires_grad=False)
        tokens_per_side = config.vision_config.image_size // TRUNK_STRIDE_PX
        self.difference_head = DifferenceHead(width=config.vision_config.hidden_size, tokens_per_side=tokens_per_side)
        self.query_head = QueryHead(width=config.qformer_config.hidden_size)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; frozen parts keep their statistics and drop nothing."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(
        self, fact_targets: Tensor, fact_known: Tensor, pair_index: Tensor, **inputs: Tensor
    ) -> dict[str, Tensor]:
        """Give the loss and its three parts."""
        output = self.model(**inputs, pair_index=pair_index)
        difference = fact_loss(self.difference_head(output.difference_features).float(), fact_targets, fact_known)
        query = fact_loss(
            self.query_head(output.query_output).float(), fact_targets[pair_index], fact_known[pair_index]
        )
        loss = self.text_loss_weight * output.loss + difference + query
        return {"loss": loss, "text": output.loss, "difference": difference, "query": query}


class PartsTrainer(Trainer):
    """A Trainer that also logs the parts of the loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False
        self.parts: list[dict[str, float]] = []

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **kwargs: Any) -> Any:
        """Remember each part of the loss until the next log line."""
        outputs = model(**inputs)
        self.parts.append({name: float(value.detach()) for name, value in outputs.items() if name != "loss"})
        return (outputs["loss"], outputs) if kwargs.get("return_outputs") else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each part since the last log line."""
        if self.parts and "loss" in logs:
            means = {k: round(sum(p[k] for p in self.parts) / len(self.parts), 4) for k in self.parts[0]}
            logs = {**logs, **means}
            self.parts = []
        super().log(logs, *args, **kwargs)


class SnapshotCallback(TrainerCallback):
    """Writes the shippable model now and then, so that it can be evaluated while training goes on."""

    def __init__(self, model: DeltaVlmForConditionalGeneration, *, folder: Path, every_steps: int) -> None:
        self.model, self.folder, self.every_steps = model, folder, every_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Write at every multiple of `every_steps`."""
        if state.global_step % self.every_steps == 0:
            save_weights(self.model, self.folder)


def save_weights(model: DeltaVlmForConditionalGeneration, folder: Path) -> None:
    """Write config and weights, rounded to float16: half the size, at an error below what training leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as name:
        copy.deepcopy(model).half().save_pretrained(name)
        # File by file under its final name: who loads the model meanwhile never meets half a file.
        for file in Path(name).iterdir():
            file.replace(folder / file.name)


def load_sources(config: PairTrainingConfig, *, data_root: Path) -> list[PairSource]:
    """Read or make the pairs of every source."""
    loaded = []
    for source in config.sources:
        pairs: list[LabelledPair]
        if isinstance(source, FolderSourceConfig):
            folder = data_root / source.path
            captions = read_captions(folder / source.captions, split=source.captions_split) if source.captions else None
            pairs = read_pair_folder(folder, pattern=source.pattern, captions=captions)
        else:
            seeds = range(source.first_seed, source.first_seed + source.n_pairs)
            pairs = synthesize_pairs(seeds, size_px=source.size_px, resolution_m=source.resolution_m)
        logger.info("%s: %d pairs", source.kind, len(pairs))
        loaded.append(
            PairSource(
                pairs=pairs,
                crop_size_px=source.crop_size_px,
                weight=source.weight,
                scale_range=source.scale_range,
            )
        )
    return loaded


def collect_texts(stream: InstructionStream, *, n_samples: int = 1500) -> Iterator[str]:
    """Give the texts that the vocabulary is learned from: prompts, answers, and every count up to 99 many times."""
    samples = iter(stream)
    for _ in range(n_samples):
        for prompt, answer in next(samples).turns:
            yield prompt
            yield prompt.lower()
            yield answer.text
    # A number or a cell name is to be one token, whether or not a sentence starts with it.
    numbers = [f"{n} {n}" for n in range(100)]
    cells = [f"['{name}', '{name}']" for name in CELL_NAMES]
    for _ in range(200):
        yield from numbers
        yield from cells


def build_processor(stream: InstructionStream, *, vocab_size: int, extra_texts: list[str]) -> DeltaVlmProcessor:
    """Learn the vocabulary and put the processor of the small model together."""
    tokenizer = train_tokenizer([*collect_texts(stream), *extra_texts], vocab_size=vocab_size)
    return DeltaVlmProcessor(
        images=EFFICIENTNET_LITE_IMAGE_SETTINGS,
        tokenizer=wrap_language_tokenizer(tokenizer),
        qformer_tokenizer=wrap_qformer_tokenizer(tokenizer),
    )


def build_model(config: TrainingConfig, processor: DeltaVlmProcessor) -> DeltaVlmForConditionalGeneration:
    """Make a small model for this vocabulary: fresh with a pretrained trunk, or going on from former weights."""
    tokenizer = processor.tokenizer
    special = {name: int(getattr(tokenizer, name)) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if config.initial_weights is not None:
        return DeltaVlmForConditionalGeneration.from_pretrained(config.initial_weights, dtype=torch.float32)
    model = DeltaVlmForConditionalGeneration(build_tiny_config(vocab_size=len(tokenizer), **special))
    place_queries(model)
    if config.trunk_weights is not None:
        state = torch.load(config.trunk_weights, weights_only=True, map_location="cpu")
        import_trunk_weights(model.vision_model, state)
    return model


def build_optimizer(model: TrainingModel, config: TrainingConfig) -> torch.optim.AdamW:
    """Give each part its learning rate; norms, biases and embeddings of position are not decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        fraction = 1.0
        if ".vision_model.trunk." in f".{name}":
            fraction = config.trunk_learning_rate_fraction
        elif "qformer" in name or "language" in name or "query_tokens" in name:
            fraction = config.language_learning_rate_fraction
        decay = config.weight_decay if parameter.ndim > 1 and "embedding" not in name else 0.0
        groups.setdefault((fraction, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": config.learning_rate * fraction, "weight_decay": decay}
            for (fraction, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.98),
    )


def build_stream(config: TrainingConfig, sources: Sequence[PairSource]) -> InstructionStream:
    """Put the samples of all sources into one stream, as the config says."""
    return InstructionStream(
        sources,
        prompts=[Prompt(name=p["name"], kind=PromptKind(p["kind"]), text=p["text"]) for p in config.prompts],
        image_size=EFFICIENTNET_LITE_IMAGE_SETTINGS.image_size,
        prompts_per_pair=config.prompts_per_pair,
        augmentation=Augmentation(**config.augmentation),
        seed=config.seed,
    )


def build_arguments(config: PairTrainingConfig, *, folder: Path) -> TrainingArguments:
    """Say in transformers' words how long, how large and how precise the training is."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=config.n_steps,
        per_device_train_batch_size=config.batch_size_pairs,
        max_grad_norm=1.0,
        bf16=config.use_bfloat16,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        seed=config.seed,
        dataloader_num_workers=0,
    )


def train(config: TrainingConfig, *, output: Path, data_root: Path) -> Path:
    """Train a small model from its config and write it in transformers' layout.

    Args:
        config: What to train on, and how.
        output: Folder of the model; logs go beside it.
        data_root: Where the folders of real pairs are.

    Returns:
        The model's folder.
    """
    torch.manual_seed(config.seed)
    sources = load_sources(config, data_root=data_root)
    stream = build_stream(config, sources)
    if config.initial_weights is not None:
        processor = DeltaVlmProcessor.from_pretrained(config.initial_weights)
    else:
        captions = [caption for source in sources for pair in source.pairs for caption in pair.captions]
        processor = build_processor(stream, vocab_size=config.vocab_size, extra_texts=captions)
    processor.save_pretrained(output)
    model = build_model(config, processor)
    training_model = TrainingModel(model, text_loss_weight=config.text_loss_weight, frozen_parts=config.frozen_parts)
    return run_training(
        training_model,
        model=model,
        stream=stream,
        collator=InstructionCollator(processor),
        optimizer=build_optimizer(training_model, config),
        config=config,
        output=output,
    )


def run_training(
    training_model: nn.Module,
    *,
    model: DeltaVlmForConditionalGeneration,
    stream: IterableDataset[Any],
    collator: Callable[[Any], dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    config: PairTrainingConfig,
    output: Path,
) -> Path:
    """Run the steps of a training and write the model, now and then and in the end.

    Args:
        training_model: What gives the loss and its parts.
        model: What is written.
        stream: Endless samples.
        collator: Puts samples into the arguments of `training_model`.
        optimizer: Of the parameters to train.
        config: How many steps, of how many pairs.
        output: Folder of the model; logs go beside it.
    """
    log_folder = output.with_name(output.name + "-training")
    trainer = PartsTrainer(
        model=training_model,
        args=build_arguments(config, folder=log_folder),
        train_dataset=stream,
        data_collator=collator,
        optimizers=(optimizer, get_cosine_schedule_with_warmup(optimizer, config.warm_up_steps, config.n_steps)),
        callbacks=[SnapshotCallback(model, folder=output, every_steps=100)],
    )
    trainer.train()
    save_weights(model, output)
    (log_folder / "log.json").write_text(json.dumps(trainer.state.log_history))
    return output
