"""The original's parameters under our names: which key becomes which, and the sizes that their shapes tell.

The original (hanlinwu/DeltaVLM) names its parts after LAVIS: `visual_encoder` (EVA ViT), `ln_vision`, `Qformer.bert`,
`llm_model`, `llm_proj`, and the difference perception's `context1` to `gate2` at the top level. Only here do its
words `A` and `B` stand for before and after.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig

from model.configuration import DeltaVlmConfig, MaskDecoderConfig
from model.errors import InputError

VISION_HEAD_WIDTH = 88
"""Width of an attention head of EVA ViT-g, which no shape tells."""
QFORMER_HEAD_WIDTH = 64
"""Width of an attention head of the original's Q-Former, a BERT."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape by the original's key."""

_RENAMINGS: tuple[tuple[str, str], ...] = (
    (r"visual_encoder\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed", "vision_model.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"visual_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
    (r"ln_vision\.", "vision_model.post_layernorm."),
    (r"Qformer\.bert\.embeddings\.LayerNorm\.", "qformer.embeddings.layernorm."),
    (r"Qformer\.bert\.embeddings\.", "qformer.embeddings."),
    (
        r"Qformer\.bert\.encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.",
        r"qformer.encoder.layer.\1.\2.attention.",
    ),
    (r"Qformer\.bert\.encoder\.", "qformer.encoder."),
    (r"query_tokens", "query_tokens"),
    (r"(context[123]|gate[12])\.", r"difference.\1."),
    (r"llm_proj\.", "language_projection."),
    (r"llm_model\.", "language_model."),
    (r"mask_decoder\.", "mask_decoder."),
)
"""Beginnings of the original's keys, and what they become; the first that fits counts."""

_QKV_BIAS_PART = re.compile(r"visual_encoder\.blocks\.(\d+)\.attn\.([qv])_bias")

UNUSED_KEYS = re.compile(
    r"temp|(vision|text)_proj\.(weight|bias)"  # Heads of BLIP-2's contrastive training: nothing reads them.
    r"|Qformer\.bert\.embeddings\.position_ids"  # Buffers, made anew from the config.
    r"|llm_model\.model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"
)
"""Keys of the original that hold nothing to convert."""


def rename_key(key: str) -> str | None:
    """Give our name of a key of the original.

    Returns:
        The name; None for a key of `UNUSED_KEYS`. Both halves of a block's bias, `q_bias` and `v_bias`, get the name
        of the whole, which `join_qkv_bias` puts together.

    Raises:
        KeyError: the original has no such key.
    """
    if UNUSED_KEYS.fullmatch(key):
        return None
    if part := _QKV_BIAS_PART.fullmatch(key):
        return f"vision_model.encoder.layers.{part[1]}.self_attn.qkv.bias"
    for pattern, replacement in _RENAMINGS:
        if re.match(pattern, key):
            return re.sub(pattern, replacement, key, count=1)
    raise KeyError(key)


def join_qkv_bias(q_bias: Tensor, v_bias: Tensor) -> Tensor:
    """Put the biases of queries and values, each of shape (width,), around zeros for the keys, which have none."""
    return torch.cat([q_bias, torch.zeros_like(v_bias), v_bias])


def infer_config(
    shapes: Shapes,
    *,
    text_config: Any,
    vision_heads: int | None = None,
    qformer_heads: int | None = None,
    mask_config: MaskDecoderConfig | None = None,
) -> DeltaVlmConfig:
    """Read the sizes of a model off the shapes of the original's parameters.

    Args:
        shapes: Of vision tower, Q-Former, queries and difference perception; more is ignored.
        text_config: Config of the language model, with the row for padding already counted in `vocab_size`.
        vision_heads: Attention heads of the vision tower; left out, one per `VISION_HEAD_WIDTH`.
        qformer_heads: Attention heads of the Q-Former; left out, one per `QFORMER_HEAD_WIDTH`.
        mask_config: Of the mask branch, as `infer_mask_config` gives it; left out, there is none.

    Raises:
        KeyError: a parameter that tells a size is missing.
        InputError: no whole number of heads fits a width.
    """
    return DeltaVlmConfig(
        vision_config=_infer_vision_config(shapes, n_heads=vision_heads),
        qformer_config=_infer_qformer_config(shapes, n_heads=qformer_heads),
        text_config=text_config,
        mask_config=mask_config,
        num_query_tokens=shapes["query_tokens"][1],
    )


def infer_mask_config(shapes: Shapes, *, output_size_px: int) -> MaskDecoderConfig | None:
    """Read the sizes of the mask branch off the shapes of the original's parameters; None where there are none.

    Args:
        shapes: Of `mask_decoder`; more is ignored.
        output_size_px: Side of its masks, which no shape tells.

    Raises:
        KeyError: a parameter that tells a size is missing.
    """
    if not any(key.startswith("mask_decoder.") for key in shapes):
        return None
    hidden_size = shapes["mask_decoder.lfu.basis"][0]
    n_stages = _count_layers(shapes, r"mask_decoder\.stages\.(\d+)\.")
    last_width = shapes[f"mask_decoder.stages.{n_stages - 1}.up.0.weight"][1]
    n_labels = shapes["mask_decoder.head.3.weight"][0]
    attention = {}
    if (offsets := shapes.get("mask_decoder.stages.0.attn.rpb")) is not None:
        attention = {"num_attention_heads": offsets[1], "window_size": (round(offsets[0] ** 0.5) + 1) // 2}
    return MaskDecoderConfig(
        hidden_size=hidden_size,
        min_hidden_size=last_width,
        n_stages=n_stages,
        has_attention=bool(attention),
        output_size_px=output_size_px,
        labels=("change",) if n_labels == 1 else tuple(f"change_{index}" for index in range(n_labels)),
        **attention,
    )


def _infer_vision_config(shapes: Shapes, *, n_heads: int | None) -> InstructBlipVisionConfig:
    width, _, patch_size, _ = shapes["visual_encoder.patch_embed.proj.weight"]
    n_patches = shapes["visual_encoder.pos_embed"][1] - 1
    return InstructBlipVisionConfig(
        hidden_size=width,
        intermediate_size=shapes["visual_encoder.blocks.0.mlp.fc1.weight"][0],
        num_hidden_layers=_count_layers(shapes, r"visual_encoder\.blocks\.(\d+)\."),
        num_attention_heads=_count_heads(width, given=n_heads, head_width=VISION_HEAD_WIDTH, part="vision"),
        image_size=round(n_patches**0.5) * patch_size,
        patch_size=patch_size,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        qkv_bias=True,
    )


def _infer_qformer_config(shapes: Shapes, *, n_heads: int | None) -> InstructBlipQFormerConfig:
    vocab_size, width = shapes["Qformer.bert.embeddings.word_embeddings.weight"]
    return InstructBlipQFormerConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=_count_layers(shapes, r"Qformer\.bert\.encoder\.layer\.(\d+)\."),
        num_attention_heads=_count_heads(width, given=n_heads, head_width=QFORMER_HEAD_WIDTH, part="qformer"),
        intermediate_size=shapes["Qformer.bert.encoder.layer.0.intermediate.dense.weight"][0],
        max_position_embeddings=shapes["Qformer.bert.embeddings.position_embeddings.weight"][0],
        cross_attention_frequency=2,
        layer_norm_eps=1e-12,
        pad_token_id=0,
    )


def _count_layers(shapes: Shapes, pattern: str) -> int:
    return 1 + max(int(found[1]) for key in shapes if (found := re.match(pattern, key)))


def _count_heads(width: int, *, given: int | None, head_width: int, part: str) -> int:
    n_heads = given or width // head_width
    if n_heads == 0 or width % n_heads or (given is None and width % head_width):
        sought = f"{given} heads" if given else f"heads of the original's width {head_width}"
        raise InputError(
            f"{part} part of width {width}: {sought} do not fit",
            expected="a number of heads that divides the width",
            remedy=f"give the true one with --{part}-heads",
        )
    return n_heads
