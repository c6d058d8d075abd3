"""Pairs to train on, and a DeltaVLM so small that a step takes milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from transformers import InstructBlipQFormerConfig, LlamaConfig

from model.configuration import ConvVisionConfig, DeltaVlmConfig, DifferenceConfig
from model.modeling import DeltaVlmForConditionalGeneration
from model.processing import DeltaVlmProcessor, ImageSettings
from model.training.vocabulary import train_tokenizer, wrap_language_tokenizer, wrap_qformer_tokenizer

IMAGE_SIZE = 96
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


def make_images(*, n_buildings: int, seed: int, size_px: int = IMAGE_SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a grey place, the same with bright squares, and the mask of them."""
    random = np.random.default_rng(seed)
    before = random.integers(60, 120, (size_px, size_px, 3), dtype=np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    for index in range(n_buildings):
        mask[4 + 30 * (index // 3) :, 4 + 30 * (index % 3) :][:20, :20] = 255
    return before, np.where(mask[..., None] > 0, 230, before).astype(np.uint8), mask


def write_pairs(folder: Path, *, n_pairs: int, size_px: int = IMAGE_SIZE) -> Path:
    """Write pairs of which every other one has changed, by one to three buildings."""
    for index in range(n_pairs):
        n_buildings = 0 if index % 2 else 1 + index // 2 % 3
        images = make_images(n_buildings=n_buildings, seed=index, size_px=size_px)
        for name, image in zip(("A", "B", "label"), images, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"pair_{index:03d}.png"), image)
    return folder


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
