"""The original's files to a folder that transformers loads: what `deltavlm model convert` calls.

Everything is decided and checked from names and shapes before anything is written; the folder appears when it is whole.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.configuration import DeltaVlmConfig
from model.conversion.csrm_training import TrainingVerdict
from model.conversion.hub import CONFIG_PATTERNS, find_local_path
from model.conversion.inputs import (
    DTYPES,
    ConversionSettings,
    find_vocabulary_names,
    fit_vocabulary,
    judge_checkpoint,
    list_expected_shapes,
    make_config,
    read_inputs,
)
from model.conversion.plan import (
    Place,
    PlannedTensor,
    SourceAccount,
    describe_missing,
    find_missing_parts,
    gather_places,
    plan_tensors,
)
from model.conversion.shards import split_shards, write_shards
from model.conversion.vocabularies import (
    LanguageVocabulary,
    load_language_vocabulary,
    load_qformer_tokenizer,
    load_text_config,
    make_generation_config,
    write_json,
)
from model.errors import InputError, refuse_unwritable
from model.processing import CLIP_IMAGE_SETTINGS, DeltaVlmProcessor

PROVENANCE_FILE = "conversion.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversion:
    """A conversion, decided but not written."""

    config: DeltaVlmConfig
    processor: DeltaVlmProcessor
    plan: tuple[PlannedTensor, ...]
    accounts: tuple[SourceAccount, ...]
    suppressed_ids: tuple[int, ...]
    """Tokens that are never to be generated."""
    csrm: TrainingVerdict


def convert_model(
    settings: ConversionSettings, *, output: Path, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Convert, and tell what was made of what.

    Args:
        settings: The inputs.
        output: Folder to be; must not exist, or be empty.
        on_progress: Called after each file of weights with the number of files written, and of all.

    Returns:
        What also stands in the folder's `PROVENANCE_FILE`.

    Raises:
        InputError: an input is not there or cannot be read, or they do not make one model; or the output is
            there already.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            f"{output} is there already", expected="a new folder", remedy="remove it or name another with --output"
        )
    conversion = prepare_conversion(settings)
    shards = split_shards(conversion.plan, max_bytes=settings.max_shard_bytes)
    with refuse_unwritable(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    _require_space(output.parent, n_bytes=sum(tensor.n_bytes for tensor in conversion.plan))
    # A conversion that is killed leaves only this, which the next one clears away.
    partial = output.parent / f".{output.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    provenance = describe_conversion(conversion, dtype=settings.dtype)
    try:
        with refuse_unwritable(output):
            partial.mkdir()
            write_shards(shards, folder=partial, on_progress=on_progress)
            _write_settings(conversion, folder=partial)
            write_json(partial / PROVENANCE_FILE, provenance)
            partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return provenance


def prepare_conversion(settings: ConversionSettings) -> Conversion:
    """Read the inputs' names, shapes and vocabularies, and decide what becomes of each tensor.

    Raises:
        InputError: as `convert_model`.
    """
    if settings.dtype is not None and settings.dtype not in DTYPES:
        raise InputError(f"dtype {settings.dtype!r}", expected=", ".join(DTYPES), remedy="correct --dtype")
    # 1. Which tensors there are.
    inputs = read_inputs(settings)
    places, accounts = gather_places(inputs.sources)
    language_folder = _require_parts(places, inputs.language_folder, n_vision_layers=settings.vision_layers)
    # 2. Vocabularies, and the sizes of the model.
    text_config, vocabulary = load_text_config(language_folder), load_language_vocabulary(language_folder)
    row_names = find_vocabulary_names(text_config)
    n_added_rows = fit_vocabulary(text_config, vocabulary=vocabulary, place=places.get(f"llm_model.{row_names[0]}"))
    config = make_config(places, text_config=text_config, settings=settings)
    processor = _make_processor(config, vocabulary=vocabulary, settings=settings)
    # 3. A place for each tensor of such a model.
    plan = plan_tensors(
        places,
        expected=list_expected_shapes(config),
        padded={f"language_model.{name}": n_added_rows for name in row_names if n_added_rows},
        dtype=DTYPES[settings.dtype] if settings.dtype else None,
    )
    _set_dtype(config, plan)
    csrm = judge_checkpoint(places)
    config.difference_config.is_trained = csrm.is_trained
    return Conversion(
        config=config,
        processor=processor,
        plan=tuple(plan),
        accounts=tuple(accounts),
        suppressed_ids=(int(vocabulary.tokenizer.pad_token_id),) if n_added_rows else (),
        csrm=csrm,
    )


def describe_conversion(conversion: Conversion, *, dtype: str | None) -> dict[str, Any]:
    """Tell what a model was made of; no paths and no times, so that equal inputs give equal folders."""
    sources = [
        {
            "role": account.role,
            "files": [{"name": name, "bytes": n_bytes} for name, n_bytes in account.files],
            "tensors": account.n_tensors,
            "unused": _count_alike(account.unused),
            "overridden": _count_alike(account.overridden),
        }
        for account in conversion.accounts
    ]
    return {
        "sources": sources,
        "tensors": len(conversion.plan),
        "bytes": sum(tensor.n_bytes for tensor in conversion.plan),
        "dtype": dtype or "as in the sources",
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in conversion.plan)),
        "padding_row": "zeros, never generated" if conversion.suppressed_ids else "as in the sources",
        "csrm": asdict(conversion.csrm),
    }


def _count_alike(keys: tuple[str, ...]) -> dict[str, int]:
    """Count keys that differ by the number of their layer alone."""
    return dict(Counter(re.sub(r"(?<=\.)\d+(?=\.)", "N", key) for key in keys))


def _require_parts(places: Mapping[str, Place], language_folder: Path | None, *, n_vision_layers: int) -> Path:
    """Give the language model's folder, if that and all other parts are there."""
    if missing := find_missing_parts(places, n_vision_layers=n_vision_layers):
        raise InputError(describe_missing(missing), expected="all parts of a model", remedy="give the named files")
    if language_folder is None:
        raise InputError(
            "no config and tokenizer of the language model",
            expected="its folder, whose weights are not needed beside a full state dict",
            remedy="give it with --language-model",
        )
    return language_folder


def _make_processor(
    config: DeltaVlmConfig, *, vocabulary: LanguageVocabulary, settings: ConversionSettings
) -> DeltaVlmProcessor:
    return DeltaVlmProcessor(
        images=replace(CLIP_IMAGE_SETTINGS, image_size=config.vision_config.image_size),
        tokenizer=vocabulary.tokenizer,
        qformer_tokenizer=load_qformer_tokenizer(
            find_local_path(settings.qformer_tokenizer, patterns=CONFIG_PATTERNS, option="--qformer-tokenizer"),
            max_text_tokens=min(settings.max_text_tokens, config.qformer_config.max_position_embeddings),
            n_rows=config.qformer_config.vocab_size,
        ),
    )


def _write_settings(conversion: Conversion, *, folder: Path) -> None:
    conversion.config.save_pretrained(folder)
    conversion.processor.save_pretrained(folder)
    make_generation_config(
        conversion.config.text_config,
        tokenizer=conversion.processor.tokenizer,
        suppressed_ids=list(conversion.suppressed_ids),
    ).save_pretrained(folder)


def _set_dtype(config: DeltaVlmConfig, plan: list[PlannedTensor]) -> None:
    """Name the dtype that most of the model has; transformers knows no other than one for all."""
    n_bytes: Counter[str] = Counter()
    for tensor in plan:
        n_bytes[str(tensor.dtype).removeprefix("torch.")] += tensor.n_bytes
    name = n_bytes.most_common(1)[0][0]
    for part in (config, config.vision_config, config.difference_config, config.qformer_config, config.text_config):
        part.dtype = name
    config.architectures = ["DeltaVlmForConditionalGeneration"]


def _require_space(folder: Path, *, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes * 1.01:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB free",
            expected=f"{n_bytes / 1e9:.1f} GB for the weights",
            remedy="free some, or name another place with --output",
        )
