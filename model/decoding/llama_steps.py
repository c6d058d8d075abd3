"""A Llama's steps without what transformers does around its layers.

A decoding step of a small model on a CPU takes a millisecond or two, and up to half of that prepared it: masks that
mask nothing, angles that are known beforehand, seven small operations for each norm. The arithmetic is that of
transformers' `LlamaForCausalLM`, operation by operation, so that it rounds alike. In the last layer only the last
position of a prefix, the one that is looked at, goes beyond its keys and values; and weights that read the same are
multiplied at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaRMSNorm
from transformers.models.llama.modeling_llama import eager_attention_forward as attend_eagerly

from model.decoding.attention import FLOAT32_ATTENTION
from model.decoding.steps import choose_min_rows, fill_rows_up

STATIC_ROTATIONS = frozenset({"default", "linear", "llama3"})
"""Rotary embeddings whose angles do not depend on how long the sequence becomes."""
CAUSAL_ATTENTIONS = frozenset({"sdpa", FLOAT32_ATTENTION})
"""Attentions that need no mask to look at nothing that comes later."""

MAX_FUSED_WIDTH = 1023
"""Widest model whose weights are put side by side. Three products of width 192 for eight rows took 41 us in bfloat16
and 17 us as one; from 1,024 on there was little to gain, and the copy would unmap the weights from their file."""


def fuse_projections(language_model: PreTrainedModel) -> None:
    """Put the weights of a small Llama's layers that read the same side by side; each layer's own become views of that.

    For inference alone: a model prepared like this is not to be trained or written.
    """
    if type(language_model) is not LlamaForCausalLM or language_model.config.hidden_size > MAX_FUSED_WIDTH:
        return
    for layer in language_model.model.layers:
        attention, mixer = layer.self_attn, layer.mlp
        for owner, linears in (
            (attention, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (mixer, (mixer.gate_proj, mixer.up_proj)),
        ):
            # Layers in int8 have no weights that could be put side by side.
            if any(type(linear) is not nn.Linear or linear.bias is not None for linear in linears):
                continue
            owner.fused_weight = torch.cat([linear.weight.detach() for linear in linears])
            parts = owner.fused_weight.split([linear.out_features for linear in linears])
            for linear, part in zip(linears, parts, strict=True):
                linear.weight = nn.Parameter(part, requires_grad=False)


def project(owner: nn.Module, linears: Sequence[nn.Linear], hidden: Tensor) -> Sequence[Tensor]:
    """Put hidden states through layers that read the same, at once where `fuse_projections` was there."""
    weight = getattr(owner, "fused_weight", None)
    if weight is None:
        return [linear(hidden) for linear in linears]
    parts: Sequence[Tensor] = F.linear(hidden, weight).split([linear.out_features for linear in linears], dim=-1)
    return parts


def can_take_lean_steps(language_model: PreTrainedModel) -> TypeGuard[LlamaForCausalLM]:
    """Tell whether `LlamaSteps` does all that this language model does."""
    if type(language_model) is not LlamaForCausalLM:
        return False
    config = language_model.config
    has_static_rotation = (config.rope_parameters or {}).get("rope_type") in STATIC_ROTATIONS
    return has_static_rotation and config._attn_implementation in CAUSAL_ATTENTIONS


class LlamaSteps:
    """A Llama with its keys and values, fed one position after the other; no row is padded.

    Takes steps as `model.decoding.steps.Steps` does, and gives the same.
    """

    def __init__(self, language_model: LlamaForCausalLM, *, n_positions: int) -> None:
        """Begin with nothing fed.

        Args:
            language_model: The Llama.
            n_positions: Most positions that will be fed, so that angles are computed once and for no others.
        """
        self.language_model = language_model
        self.min_rows = choose_min_rows(language_model.device)
        self.n_rows = 0
        self._length = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        positions = torch.arange(n_positions, device=language_model.device)
        like = language_model.get_input_embeddings().weight
        cos, sin = language_model.model.rotary_emb(like, position_ids=positions[None])  # 1, positions, head width
        # A rotation is x * cos + [-second half of x | first half of x] * sin: the sign may as well stand here.
        first, second = sin.chunk(2, dim=-1)
        self._cos, self._sin = cos, torch.cat([-first, second], dim=-1)

    def take_prefix(self, prefix: Tensor) -> Tensor:
        """Feed the prefix; give float32 logits of shape (n, vocabulary) behind its last position."""
        self.n_rows = prefix.shape[0]
        logits = self._run(prefix)
        if self.n_rows < self.min_rows:
            self.select(torch.arange(self.n_rows, device=prefix.device))
        return logits

    def take_tokens(self, token: Tensor) -> Tensor:
        """Feed one token per row, int64 of shape (n,); give logits as `take_prefix`."""
        token = fill_rows_up(token, n_rows=self.min_rows)
        return self._run(self.language_model.get_input_embeddings()(token)[:, None])

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; int64 of shape (m,)."""
        self.n_rows = len(rows)
        rows = fill_rows_up(rows, n_rows=self.min_rows)
        self._keys = [keys.index_select(0, rows) for keys in self._keys]
        self._values = [values.index_select(0, rows) for values in self._values]

    def _run(self, hidden: Tensor) -> Tensor:
        model = self.language_model.model
        span = slice(self._length, self._length + hidden.shape[1])
        self._length = span.stop
        rotation = self._cos[:, span, None], self._sin[:, span, None]  # 1, positions, 1, head width
        for index, layer in enumerate(model.layers):
            keeps_last = index + 1 == len(model.layers) and hidden.shape[1] > 1
            hidden = self._pass_layer(layer, index, hidden, rotation=rotation, keeps_last=keeps_last)
        logits: Tensor = self.language_model.lm_head(normalise(hidden, model.norm)[:, -1])
        return logits[: self.n_rows].float()

    def _pass_layer(
        self, layer: LlamaDecoderLayer, index: int, hidden: Tensor, *, rotation: tuple[Tensor, Tensor], keeps_last: bool
    ) -> Tensor:
        """Take hidden states of shape (n, positions, width) through a layer; the last position alone if so asked."""
        attention, n_rows = layer.self_attn, hidden.shape[0]
        normed = normalise(hidden, layer.input_layernorm)
        if keeps_last:
            keys, values = attention.k_proj(normed), attention.v_proj(normed)
            # Few rows of one position, or rows that do not lie side by side, would be multiplied by other instructions.
            normed, hidden = (
                fill_rows_up(part[:, -1:].contiguous(), n_rows=self.min_rows) for part in (normed, hidden)
            )
            queries = attention.q_proj(normed)[:n_rows]
        else:
            queries, keys, values = project(attention, (attention.q_proj, attention.k_proj, attention.v_proj), normed)
        keys, values = self._remember(
            index, rotate(_split_heads(attention, keys), rotation), _split_heads(attention, values)
        )
        if keeps_last:
            rotation = rotation[0][:, -1:], rotation[1][:, -1:]
        attended = _attend(attention, rotate(_split_heads(attention, queries), rotation), keys, values)
        hidden = hidden + attention.o_proj(fill_rows_up(attended, n_rows=hidden.shape[0]))
        mixer = layer.mlp
        gate, up = project(mixer, (mixer.gate_proj, mixer.up_proj), normalise(hidden, layer.post_attention_layernorm))
        mixed: Tensor = hidden + mixer.down_proj(mixer.act_fn(gate) * up)
        return mixed

    def _remember(self, index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append a layer's keys and values, each of shape (n, positions, heads or groups, head width)."""
        if index == len(self._keys):
            self._keys.append(keys)
            self._values.append(values)
        else:
            self._keys[index] = torch.cat([self._keys[index], keys], dim=1)
            self._values[index] = torch.cat([self._values[index], values], dim=1)
        return self._keys[index], self._values[index]


def _attend(attention: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend; all of shape (n, positions, heads or groups, head width), the result (n, positions, width)."""
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, attend_eagerly)
    heads = (part.transpose(1, 2) for part in (queries, keys, values))
    attended, _ = attend(attention, *heads, None, dropout=0.0, scaling=attention.scaling)
    mixed: Tensor = attended.flatten(2)
    return mixed


def _split_heads(attention: LlamaAttention, projected: Tensor) -> Tensor:
    heads: Tensor = projected.unflatten(-1, (-1, attention.head_dim))  # n, positions, heads, head width
    return heads


def normalise(hidden: Tensor, norm: LlamaRMSNorm) -> Tensor:
    """Scale to a root mean square of one, in float32, then by the norm's weights; as `LlamaRMSNorm`."""
    scaled = F.rms_norm(hidden.float(), hidden.shape[-1:], eps=norm.variance_epsilon)
    return norm.weight * scaled.to(hidden.dtype)


def rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of channels by the angle of its position (Su et al., arXiv 2104.09864).

    Args:
        heads: Shape (n, positions, heads, head width).
        rotation: Cosines, and sines with the sign of the rotation, of shape (1, positions, 1, head width) each.
    """
    cos, sin = rotation
    return heads * cos + heads.roll(heads.shape[-1] // 2, dims=-1) * sin
