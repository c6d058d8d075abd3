"""One prompt put to many pairs: the Q-Former's forward pass without what would be computed again and again.

    keys and values of every pair ──────────────┐            once per pair
    queries ─┬▶ self-attention ─▶ cross-attention ─▶ ...     once per pair and prompt
    prompt  ─┘                                               once per prompt, until it meets the queries of a pair

The result is that of transformers' `InstructBlipQFormerModel`, which training uses. What is left out: keys and values
of the difference features depend on no prompt; up to the first cross-attention nothing depends on a pair; and in the
last layer nobody reads what becomes of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipQFormerAttention,
    InstructBlipQFormerLayer,
    InstructBlipQFormerMultiHeadAttention,
    eager_attention_forward,
)

KeysValues = tuple[Tensor, Tensor]
"""What a cross-attention reads of each pair, each of shape (n, heads, 2 * tokens, head width)."""
PairReading = list[KeysValues | None]
"""What each layer reads of the pairs of a batch; None for layers without cross-attention."""


def project_features(qformer: InstructBlipQFormerModel, difference_features: Tensor) -> PairReading:
    """Compute what the Q-Former's layers read of each pair, whatever the prompt.

    Args:
        qformer: The Q-Former.
        difference_features: Shape (n, 2 * tokens, vision width).

    Returns:
        An entry per layer.
    """
    return [
        _project(layer.crossattention.attention, [difference_features]) if layer.has_cross_attention else None
        for layer in _list_layers(qformer)
    ]


def take_pairs(reading: PairReading, indexes: Tensor) -> PairReading:
    """Give what is read of some pairs alone.

    Args:
        reading: What `project_features` gave.
        indexes: Which pairs, int64 on the device of the reading.
    """
    return [None if each is None else (each[0][indexes], each[1][indexes]) for each in reading]


def query_prompt(
    qformer: InstructBlipQFormerModel,
    query_tokens: Tensor,
    *,
    input_ids: Tensor,
    keys_values: PairReading,
) -> Tensor:
    """Let the queries read one prompt and gather from every pair what it asks for.

    Args:
        qformer: The Q-Former, in evaluation mode.
        query_tokens: Shape (1, queries, width).
        input_ids: The prompt without padding, int64 of shape (1, text).
        keys_values: What `project_features` gave.

    Returns:
        Output of the queries, shape (n, queries, width).
    """
    layers = _list_layers(qformer)
    embedded = qformer.embeddings(input_ids=input_ids, query_embeds=query_tokens)  # 1, queries + text, width
    # Both have one row as long as nothing of any pair has gone into them.
    queries, text = (part.contiguous() for part in _split(embedded, n_queries=query_tokens.shape[1]))
    for layer, read in zip(layers, keys_values, strict=True):
        asked = [queries] if layer is layers[-1] else [queries, text]
        attended = _attend(layer.attention, asked, _project(layer.attention.attention, [queries, text]))
        queries, text = (part.contiguous() for part in _split(attended, n_queries=query_tokens.shape[1]))
        if read is not None:
            queries = _attend(layer.crossattention, [queries], read)  # n, queries, width
        queries = layer.feed_forward_chunk_query(queries)
        if text.shape[1]:
            text = layer.feed_forward_chunk(text)
    return queries


def _list_layers(qformer: InstructBlipQFormerModel) -> list[InstructBlipQFormerLayer]:
    return [cast(InstructBlipQFormerLayer, layer) for layer in qformer.encoder.layer]


def _split(tokens: Tensor, *, n_queries: int) -> tuple[Tensor, Tensor]:
    return tokens[:, :n_queries], tokens[:, n_queries:]


def _project(attention: InstructBlipQFormerMultiHeadAttention, parts: Sequence[Tensor]) -> KeysValues:
    return _project_heads(attention, attention.key, parts), _project_heads(attention, attention.value, parts)


def _project_heads(
    attention: InstructBlipQFormerMultiHeadAttention, linear: nn.Linear, parts: Sequence[Tensor]
) -> Tensor:
    """Project parts of a sequence, each in as many rows as it has: (n, heads, tokens of all parts, head width)."""
    projected = _join([linear(part) for part in parts])
    heads: Tensor = projected.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
    return heads


def _join(parts: Sequence[Tensor]) -> Tensor:
    n_rows = max(part.shape[0] for part in parts)
    return parts[0] if len(parts) == 1 else torch.cat([part.expand(n_rows, -1, -1) for part in parts], dim=1)


def _attend(block: InstructBlipQFormerAttention, asked: Sequence[Tensor], read: KeysValues) -> Tensor:
    """Let parts of a sequence attend to keys and values; give them all, of shape (n, tokens of all parts, width)."""
    attention = block.attention
    keys, values = read
    queries = _project_heads(attention, attention.query, asked)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
    attended, _ = attend(
        attention,
        queries.expand(keys.shape[0], -1, -1, -1),
        keys,
        values,
        None,
        dropout=0.0,
        scaling=attention.scaling,
    )  # n, tokens, heads, head width
    mixed: Tensor = block.output(attended.flatten(2), _join(asked))
    return mixed
