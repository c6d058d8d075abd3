"""Which parameters learn how fast, and which decay."""

from __future__ import annotations

import torch
from torch import nn

from model.training.recipe import PairTrainingConfig, TrainingConfig


def build_optimizer(model: nn.Module, config: PairTrainingConfig) -> torch.optim.AdamW:
    """Give each part its learning rate; norms, biases and embeddings are not decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 and "embedding" not in name else 0.0
            groups.setdefault((find_rate_fraction(name, config), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": config.learning_rate * fraction, "weight_decay": decay}
            for (fraction, decay), parameters in groups.items()
        ],
        betas=(0.9, config.adam_beta2),
    )


def find_rate_fraction(name: str, config: PairTrainingConfig) -> float:
    """Tell a parameter's part of the learning rate by its name."""
    if not isinstance(config, TrainingConfig):
        return 1.0
    if ".vision_model.trunk." in f".{name}":
        return config.trunk_learning_rate_fraction
    if "qformer" in name or "language" in name or "query_tokens" in name:
        return config.language_learning_rate_fraction
    return 1.0
