"""A start from which a small model learns where things are.

The Q-Former's queries are shared by all images and its cross-attention knows no positions, so from a random start it
takes far longer to find out that a query can look at a place than to learn what to look for. Here the first nine
queries start as the places of the 3 x 3 cells: each holds the position waves of its cell's centre, cross-attention
compares waves with waves, and the difference perception passes tokens and their difference on. Everything stays
trainable.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.errors import InputError
from model.interface import CELL_NAMES
from model.modeling import DeltaVlmForConditionalGeneration
from model.vision import make_position_waves

CELLS_PER_SIDE = 3
# Sharp enough that a query sees mostly its own cell, and soft enough that it can learn to see more.
ATTENTION_SHARPNESS = 1.5


@torch.no_grad()
def place_queries(model: DeltaVlmForConditionalGeneration) -> None:
    """Set the start in place.

    Args:
        model: A fresh model whose Q-Former is as wide as its vision tower and has at least nine queries.

    Raises:
        InputError: the widths differ or there are too few queries.
    """
    width = model.config.qformer_config.hidden_size
    n_cells = len(CELL_NAMES)
    if width != model.config.vision_config.hidden_size or model.config.num_query_tokens < n_cells:
        raise InputError(
            f"Q-Former of width {width} with {model.config.num_query_tokens} queries on a vision tower of width "
            f"{model.config.vision_config.hidden_size}",
            expected=f"equal widths and at least {n_cells} queries",
            remedy="start from a model of such sizes",
        )
    # Centres of three cells lie where the centres of three tokens would: one set of waves serves both.
    model.query_tokens[:, :n_cells] = make_position_waves(side=CELLS_PER_SIDE, width=width)
    for layer in model.qformer.encoder.layer:
        if layer.has_cross_attention:
            attention = layer.crossattention
            set_identity(attention.attention.query, scale=ATTENTION_SHARPNESS)
            set_identity(attention.attention.key, scale=ATTENTION_SHARPNESS)
            set_identity(attention.attention.value, scale=1.0)
            set_identity(attention.output.dense, scale=1.0)
    tokens, difference, _ = model.difference.context3.weight.chunk(3, dim=1)
    tokens += torch.eye(width)
    difference += torch.eye(width)


def set_identity(layer: nn.Linear, *, scale: float) -> None:
    """Let a square layer start as a multiple of the identity on top of its random weights."""
    weight: Tensor = layer.weight
    weight += scale * torch.eye(weight.shape[0])
