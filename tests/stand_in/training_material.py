"""A DeltaVLM so small that a step takes milliseconds, and the values of a training of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from training_pairs import IMAGE_SIZE
from transformers import InstructBlipQFormerConfig, LlamaConfig

from model.configuration import ConvVisionConfig, DeltaVlmConfig, DifferenceConfig
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor, ImageSettings
from model.training.vocabulary import train_tokenizer, wrap_language_tokenizer, wrap_qformer_tokenizer

CLASSIFY = {"name": "changed", "kind": "classify", "text": "Have these two images changed?"}
COUNT = {"name": "count", "kind": "count", "text": "How many roads and buildings have changed?"}
TEXTS = [
    CLASSIFY["text"],
    COUNT["text"],
    "Yes",
    "No",
    "0 roads has changed, and 1 building has changed.",
    "There are no changes in roads or buildings between the two images.",
    "roads: ['top-left', 'center-center']. buildings: [].",
    "several houses are built in the top left corner .",
]


def make_processor() -> DeltaVlmProcessor:
    """Make a processor with a small vocabulary."""
    tokenizer = train_tokenizer([*TEXTS, *map(str.lower, TEXTS)] * 20, vocab_size=400)
    return DeltaVlmProcessor(
        images=ImageSettings(image_size=IMAGE_SIZE, image_mean=(0.5,) * 3, image_std=(0.5,) * 3),
        tokenizer=wrap_language_tokenizer(tokenizer),
        qformer_tokenizer=wrap_qformer_tokenizer(tokenizer),
    )


def write_small_model(folder: Path) -> Path:
    """Write a DeltaVLM with random weights of width 48."""
    processor = make_processor()
    tokenizer = processor.tokenizer
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    config = DeltaVlmConfig(
        vision_config=ConvVisionConfig(
            image_size=IMAGE_SIZE, hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
        ),
        difference_config=DifferenceConfig(dropout=0.1),
        qformer_config=InstructBlipQFormerConfig(
            num_hidden_layers=2, pad_token_id=tokenizer.pad_token_id, hidden_dropout_prob=0.05, **sizes
        ),
        text_config=LlamaConfig(
            num_hidden_layers=1,
            max_position_embeddings=256,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
            **sizes,
        ),
        num_query_tokens=10,
    )
    processor.save_pretrained(folder)
    DeltaVlmForConditionalGeneration(config).save_pretrained(folder)
    return folder


def make_values(*, model: Path, **values: Any) -> dict[str, Any]:
    """Give the values of a short training of a small model on the folder ``pairs``."""
    return {
        "sources": [{"path": "pairs"}],
        "initial_weights": str(model),
        "prompts": [CLASSIFY, COUNT],
        "n_steps": 4,
        "warm_up_steps": 1,
        "batch_size_pairs": 2,
        "prompts_per_pair": 1,
        "learning_rate": 1e-3,
        "n_loader_workers": 0,
        "use_bfloat16": False,
        "saved_dtype": "float32",
        **values,
    }
