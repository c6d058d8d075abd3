"""Attention in float32 for models in bfloat16 on a CPU.

torch's attention for bfloat16 on a CPU repacks its operands for every call. For the one row of a decoding step that
takes four times as long as the same attention in float32, which also rounds less; matrix products stay in bfloat16.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

FLOAT32_ATTENTION = "sdpa_float32"
"""Name of this attention for `set_attn_implementation` of transformers' models."""


def attend_in_float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attend as transformers' ``sdpa`` does, but in float32.

    Args:
        module: The attention layer.
        query: Shape (n, heads, queries, head width).
        key: Shape (n, heads or groups of them, keys, head width).
        value: As `key`.
        attention_mask: Added to the scores if it is not bool; shape (n, 1, queries, keys).
        **kwargs: Passed on.

    Returns:
        Shape (n, queries, heads, head width) in the dtype of `query`; and no weights.
    """
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)
    return output.to(query.dtype), None


AttentionInterface.register(FLOAT32_ATTENTION, attend_in_float32)
AttentionMaskInterface.register(FLOAT32_ATTENTION, sdpa_mask)
