"""What a conversion starts from: files found, their tensors listed, and the sizes of the model that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from model.configuration import DeltaVlmConfig
from model.conversion.checkpoints import (
    PICKLE_SUFFIXES,
    WeightFile,
    find_weight_files,
    load_pickle,
    open_tensors,
    read_weight_file,
)
from model.conversion.csrm_training import CSRM_WEIGHTS, TrainingVerdict, judge_csrm_training
from model.conversion.hub import CONFIG_PATTERNS, find_local_path
from model.conversion.names import UNUSED_KEYS, infer_config, infer_mask_config, rename_key
from model.conversion.plan import ORIGINAL_VISION_LAYERS, Place, WeightSource, describe_missing, make_vision_source
from model.conversion.vocabularies import LanguageVocabulary, load_text_config
from model.errors import InputError
from model.modeling import DeltaVlmForConditionalGeneration

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WEIGHT_PATTERNS = ("*.safetensors", "*.pth", "*.pt", "*.bin", "*.index.json")
BUFFERS = re.compile(r".*\.(position_ids|inv_freq|rpi)")
"""Keys of the original that no optimizer knows."""


@dataclass(frozen=True, kw_only=True)
class ConversionSettings:
    """What is converted. Each input is a path, or the name of a repository on the Hugging Face hub."""

    checkpoint: str
    """The original's checkpoint with what it trained, or a full state dict of it."""
    vision: str | None = None
    """EVA ViT-g's own file."""
    language_model: str | None = None
    """Folder of the language model: config, tokenizer, and weights where the checkpoint has none of it."""
    qformer_tokenizer: str = "bert-base-uncased"
    """Folder or file of the Q-Former's vocabulary."""
    mask_checkpoint: str | None = None
    """A checkpoint of the mask branch alone."""
    vision_layers: int = ORIGINAL_VISION_LAYERS
    """Blocks of the vision file that are used; what it has beyond them is left out."""
    vision_heads: int | None = None
    """Attention heads of the vision tower; None for the original's width per head."""
    qformer_heads: int | None = None
    """Attention heads of the Q-Former; None for the original's width per head."""
    max_text_tokens: int = 128
    """Longest prompt that the Q-Former reads."""
    mask_size_px: int = 256
    """Side of the mask branch's output, which no weight tells."""
    dtype: str | None = None
    """Of the weights, one of `DTYPES`; None keeps each tensor's own."""
    max_shard_bytes: int = 1_000_000_000
    """Largest file of weights, which is also the most that is in memory at once."""


@dataclass(frozen=True, kw_only=True)
class ConversionInputs:
    """The inputs, found and listed."""

    sources: tuple[WeightSource, ...]
    """Those with weights; the first that holds a key counts."""
    language_folder: Path | None
    """Folder with the language model's config and tokenizer."""


def read_inputs(settings: ConversionSettings) -> ConversionInputs:
    """Find the inputs, downloading those that are named as on the hub, and list their tensors.

    Raises:
        InputError: an input is not there; a file of weights cannot be read.
    """
    sources = []
    checkpoint = WeightSource(role="checkpoint", files=_read_files(settings.checkpoint, option="CHECKPOINT"))
    if settings.mask_checkpoint is not None:
        mask_files = _read_files(settings.mask_checkpoint, option="--mask-checkpoint")
        sources.append(WeightSource(role="mask_checkpoint", files=_require_mask_alone(mask_files)))
    sources.append(checkpoint)
    if settings.vision is not None:
        vision_files = _read_files(settings.vision, option="--vision")
        sources.append(make_vision_source(vision_files, n_layers=settings.vision_layers))
    language_folder = None
    if settings.language_model is not None:
        keys = [key for file in checkpoint.files for key in file.tensors if not UNUSED_KEYS.fullmatch(key)]
        is_whole = any(key.startswith("llm_model.") for key in keys)
        # ^ Then a download of the language model's weights would be for nothing.
        patterns = CONFIG_PATTERNS if is_whole else (*CONFIG_PATTERNS, *WEIGHT_PATTERNS)
        language_folder = find_local_path(settings.language_model, patterns=patterns, option="--language-model")
        sources.append(_read_language_source(language_folder))
    return ConversionInputs(sources=tuple(sources), language_folder=language_folder)


def find_vocabulary_names(text_config: Any) -> list[str]:
    """Name the language model's parameters that have a row per token, that of its input embedding first."""
    model, tied = _build_language_model(text_config)
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return [
        name
        for part in parts
        if part is not None
        for own, _ in part.named_parameters(recurse=False)
        if (name := f"{names[id(part)]}.{own}") not in tied
    ]


def fit_vocabulary(text_config: Any, *, vocabulary: LanguageVocabulary, place: Place | None) -> int:
    """Let the config of the language model count a row for each token.

    Args:
        text_config: Whose `vocab_size` is set.
        vocabulary: Its tokenizer.
        place: Its input embedding.

    Returns:
        How many rows of zeros the weights need: one where they know nothing of the token for padding, else none.

    Raises:
        InputError: tokenizer and weights do not belong together.
    """
    n_words = len(vocabulary.tokenizer)
    n_rows = place.facts.shape[0] if place is not None else text_config.vocab_size
    n_added = 1 if vocabulary.has_new_pad and n_rows == n_words - 1 else 0
    if n_rows + n_added < n_words:
        raise InputError(
            f"the language model's tokenizer has {n_words} tokens, its embedding {n_rows} rows",
            expected="a row for each, but for [PAD]",
            remedy="give --language-model the folder that belongs to the weights",
        )
    text_config.vocab_size = n_rows + n_added
    return n_added


def make_config(places: Mapping[str, Place], *, text_config: Any, settings: ConversionSettings) -> DeltaVlmConfig:
    """Read the sizes of the model off the shapes.

    Raises:
        InputError: a parameter that tells a size is missing or has no such shape, or heads do not fit.
    """
    shapes = {key: place.facts.shape for key, place in places.items()}
    try:
        return infer_config(
            shapes,
            text_config=text_config,
            vision_heads=settings.vision_heads,
            qformer_heads=settings.qformer_heads,
            mask_config=infer_mask_config(shapes, output_size_px=settings.mask_size_px),
        )
    except KeyError as problem:
        name = rename_key(problem.args[0]) or problem.args[0]
        raise InputError(
            describe_missing([name]), expected="all parts of a model", remedy="give the named files"
        ) from None


def list_expected_shapes(config: DeltaVlmConfig) -> dict[str, tuple[int, ...]]:
    """Give the shape of each tensor of a model, without building it in memory; tied ones are stored once."""
    with torch.device("meta"):
        model = DeltaVlmForConditionalGeneration(config)
    tied = model.all_tied_weights_keys
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}


def judge_checkpoint(places: Mapping[str, Place]) -> TrainingVerdict:
    """Tell whether the difference perception was trained, from the file that holds it."""
    path = places[CSRM_WEIGHTS[0]].path
    weights: dict[str, Tensor] = {}
    for own_path in {places[key].path for key in CSRM_WEIGHTS}:
        with open_tensors(own_path) as get_tensor:
            weights |= {key: get_tensor(key).clone() for key in CSRM_WEIGHTS if places[key].path == own_path}
    optimizer = None
    if path.suffix in PICKLE_SUFFIXES:
        payload = load_pickle(path)
        optimizer = payload.get("optimizer") if isinstance(payload, Mapping) else None
    facts = read_weight_file(path).tensors
    trained_keys = [(key, fact.shape) for key, fact in facts.items() if not BUFFERS.fullmatch(key)]
    return judge_csrm_training(weights, optimizer=optimizer, trained_keys=trained_keys)


def _read_files(name: str, *, option: str) -> tuple[WeightFile, ...]:
    path = find_local_path(name, patterns=WEIGHT_PATTERNS, option=option)
    files = find_weight_files(path)
    if not files:
        raise InputError(f"{option}: no weights in {path}", expected="a file of weights", remedy="name the file itself")
    return tuple(read_weight_file(file) for file in files)


def _read_language_source(folder: Path) -> WeightSource:
    _, tied = _build_language_model(load_text_config(folder))
    files = tuple(read_weight_file(file) for file in find_weight_files(folder))
    return WeightSource(
        role="language_model",
        files=files,
        prefix="llm_model.",
        is_unused=lambda key: key.removeprefix("llm_model.") in tied,
    )


def _require_mask_alone(files: tuple[WeightFile, ...]) -> tuple[WeightFile, ...]:
    for file in files:
        for key in file.tensors:
            if not key.startswith("mask_decoder.") and not UNUSED_KEYS.fullmatch(key):
                raise InputError(
                    f"{file.path} holds {key}",
                    expected="mask_decoder.* alone",
                    remedy="give a checkpoint that holds more as CHECKPOINT",
                )
    return files


def _build_language_model(text_config: Any) -> tuple[Any, Mapping[str, str]]:
    if type(text_config) not in AutoModelForCausalLM._model_mapping:
        raise InputError(
            f"no causal language model of type {text_config.model_type}",
            expected="one such as llama",
            remedy="give another folder with --language-model",
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text_config)
    return model, model.all_tied_weights_keys
