"""The original's files at small sizes: made weights under its names, and base models split off a full state dict."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.conversion.inputs import ConversionSettings
from model.conversion.names import join_qkv_bias, rename_key

WORDS = ("please", "describe", "the", "changes", "roads", "buildings", "yes", "no", "have", "changed")


@dataclass(frozen=True, kw_only=True)
class OriginalFiles:
    """Where the original's files lie, and what its whole model holds."""

    checkpoint: Path
    vision: Path
    language_model: Path
    qformer_tokenizer: Path
    state: Mapping[str, Tensor]
    """Full state dict without the mask branch; the language model's last row is the one for padding."""


def rename_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a state dict of the original, or a part of one, under our names.

    Raises:
        KeyError: a key that the original does not have, or half of a bias without the other.
    """
    renamed = {}
    for key, tensor in state.items():
        name = rename_key(key)
        if name is None or name in renamed:
            continue
        stem = key.removesuffix("q_bias").removesuffix("v_bias")
        renamed[name] = tensor if stem == key else join_qkv_bias(state[f"{stem}q_bias"], state[f"{stem}v_bias"])
    return renamed


def settle(files: OriginalFiles, **changes: Any) -> ConversionSettings:
    """Give the settings that convert small files of the original."""
    settings = ConversionSettings(
        checkpoint=str(files.checkpoint),
        vision=str(files.vision),
        language_model=str(files.language_model),
        qformer_tokenizer=str(files.qformer_tokenizer),
        vision_layers=3,
        vision_heads=4,
        qformer_heads=4,
    )
    return replace(settings, **changes)


def make_state(*, seed: int = 0, width: int = 32, n_layers: int = 3, text_width: int = 16, n_words: int = 0) -> dict:
    """Make random weights under the original's names: 3 x 3 patches of 4 px, Q-Former of width 24 with two layers."""
    shapes: dict[str, tuple[int, ...]] = {
        "query_tokens": (1, 4, 24),
        "temp": (),
        "visual_encoder.cls_token": (1, 1, width),
        "visual_encoder.pos_embed": (1, 10, width),
        "visual_encoder.patch_embed.proj.weight": (width, 3, 4, 4),
        "visual_encoder.patch_embed.proj.bias": (width,),
    }
    for index in range(n_layers):
        block = f"visual_encoder.blocks.{index}."
        shapes |= {f"{block}{norm}.{part}": (width,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
        shapes |= {f"{block}attn.q_bias": (width,), f"{block}attn.v_bias": (width,)}
        shapes |= {f"{block}attn.qkv.weight": (3 * width, width)}
        shapes |= _linear(f"{block}attn.proj", width, width)
        shapes |= _linear(f"{block}mlp.fc1", width, 48) | _linear(f"{block}mlp.fc2", 48, width)
    shapes |= {"ln_vision.weight": (width,), "ln_vision.bias": (width,)}
    shapes |= _qformer_shapes(width)
    shapes |= _llama_shapes(text_width, n_words=n_words)
    shapes |= _linear("llm_proj", 24, text_width)
    shapes |= {"context1.weight": (width, width), "gate1.weight": (width, width)}
    shapes |= _linear("context2", width, width) | _linear("gate2", width, width) | _linear("context3", 3 * width, width)
    shapes |= _linear("vision_proj", 24, 8) | _linear("text_proj", 24, 8)
    generator = torch.Generator().manual_seed(seed)
    state = {key: torch.randn(shape, generator=generator) * 0.2 for key, shape in shapes.items()}
    state["Qformer.bert.embeddings.position_ids"] = torch.arange(128)[None]
    state["llm_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return state


def write_original_files(
    folder: Path,
    state: Mapping[str, Tensor],
    *,
    llm_config: Mapping[str, Any],
    llama_tokenizer: Path,
    bert_tokenizer: Path,
    checkpoint: Path | None = None,
    has_pad_row: bool = False,
    has_pickled_llm: bool = False,
    vision_dtype: torch.dtype = torch.float32,
    n_extra_blocks: int = 1,
) -> OriginalFiles:
    """Split a full state dict into the files that users of the original have."""
    state = {key: tensor for key, tensor in state.items() if not key.startswith("mask_decoder.")}
    if checkpoint is None:
        checkpoint = folder / "checkpoint_best.pth"
        frozen = re.compile(r"visual_encoder\..*|llm_model\.(?!.*inv_freq).*")  # buffers are saved, frozen or not
        kept = {key: tensor for key, tensor in state.items() if not frozen.fullmatch(key)}
        torch.save({"model": kept, "optimizer": {"state": {}, "param_groups": []}, "epoch": 0}, checkpoint)
    vision = _take(state, "visual_encoder.")
    last = max(int(key.split(".")[1]) for key in vision if key.startswith("blocks."))
    for extra in range(n_extra_blocks):
        block = {key: tensor for key, tensor in vision.items() if key.startswith(f"blocks.{last}.")}
        vision |= {key.replace(f".{last}.", f".{last + 1 + extra}.", 1): tensor for key, tensor in block.items()}
    vision |= {"norm.weight": torch.ones(4), "head.weight": torch.ones(4, 4), "head.bias": torch.ones(4)}
    torch.save({key: tensor.to(vision_dtype) for key, tensor in vision.items()}, folder / "eva_vit_g.pth")
    llm = {key: tensor.half() for key, tensor in _take(state, "llm_model.").items() if "inv_freq" not in key}
    if not has_pad_row:
        llm |= {key: tensor[:-1] for key, tensor in llm.items() if "embed_tokens" in key or "lm_head" in key}
    language_model = write_language_model(
        folder / "vicuna-7b", llm, config=llm_config, tokenizer=llama_tokenizer, is_pickled=has_pickled_llm
    )
    return OriginalFiles(
        checkpoint=checkpoint,
        vision=folder / "eva_vit_g.pth",
        language_model=language_model,
        qformer_tokenizer=bert_tokenizer,
        state=state,
    )


def write_language_model(
    folder: Path, weights: Mapping[str, Tensor], *, config: Mapping[str, Any], tokenizer: Path, is_pickled: bool = False
) -> Path:
    """Write a language model's folder as it comes: config, tokenizer, two shards with their index."""
    shutil.copytree(tokenizer, folder)
    n_rows = weights["model.embed_tokens.weight"].shape[0]
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": n_rows}))
    names = sorted(weights)
    stem, suffix = ("pytorch_model", "bin") if is_pickled else ("model", "safetensors")
    weight_map = {}
    for index, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        file = f"{stem}-{index + 1:05d}-of-00002.{suffix}"
        tensors = {name: weights[name].contiguous() for name in part}
        if is_pickled:
            torch.save(tensors, folder / file)
        else:
            save_file(tensors, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_tokenizers(folder: Path) -> tuple[Path, Path, int]:
    """Make the files of a small Llama tokenizer without a token for padding and of a BERT one.

    Returns:
        Both folders, and the number of the former's tokens.
    """
    from transformers import LlamaTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz", "\u2581", ".", "?", ","]
    vocabulary = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *letters])}
    llama = LlamaTokenizer(vocab=vocabulary, merges=[], pad_token=None, add_bos_token=True)
    llama.save_pretrained(folder / "llama")
    (folder / "bert").mkdir(parents=True)
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "bert" / "vocab.txt").write_text("\n".join(entries) + "\n")
    return folder / "llama", folder / "bert", len(llama)


def make_llm_config(*, width: int = 16) -> dict[str, Any]:
    """Give the config.json of a small Llama, as Vicuna's is."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }


def _take(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _linear(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _qformer_shapes(vision_width: int) -> dict[str, tuple[int, ...]]:
    embeddings, width = "Qformer.bert.embeddings.", 24
    shapes: dict[str, tuple[int, ...]] = {
        f"{embeddings}word_embeddings.weight": (len(WORDS) + 6, width),
        f"{embeddings}position_embeddings.weight": (128, width),
    }
    shapes |= _norm(f"{embeddings}LayerNorm", width)
    for index in range(2):
        layer = f"Qformer.bert.encoder.layer.{index}."
        for attention, key_width in (
            ("attention", width),
            *((("crossattention", vision_width),) if index == 0 else ()),
        ):
            shapes |= _linear(f"{layer}{attention}.self.query", width, width)
            shapes |= _linear(f"{layer}{attention}.self.key", key_width, width)
            shapes |= _linear(f"{layer}{attention}.self.value", key_width, width)
            shapes |= _linear(f"{layer}{attention}.output.dense", width, width)
            shapes |= _norm(f"{layer}{attention}.output.LayerNorm", width)
        for suffix in ("", "_query"):
            shapes |= _linear(f"{layer}intermediate{suffix}.dense", width, 40)
            shapes |= _linear(f"{layer}output{suffix}.dense", 40, width)
            shapes |= _norm(f"{layer}output{suffix}.LayerNorm", width)
    return shapes


def _llama_shapes(width: int, *, n_words: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"llm_model.model.embed_tokens.weight": (n_words, width)}
    for index in range(2):
        layer = f"llm_model.model.layers.{index}."
        shapes |= {f"{layer}self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{layer}mlp.{part}_proj.weight": (24, width) for part in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj.weight": (width, 24)}
        shapes |= {f"{layer}{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    return shapes | {"llm_model.model.norm.weight": (width,), "llm_model.lm_head.weight": (n_words, width)}
