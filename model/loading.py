"""A model's weights from its folder onto a device, in the precision to answer in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.utils import logging as transformers_logging

from model.configuration import ConvVisionConfig, DeltaVlmConfig
from model.decoding.attention import FLOAT32_ATTENTION
from model.decoding.llama_steps import fuse_projections
from model.errors import InputError
from model.inspection import INT8, count_parameters, read_memory_bytes
from model.int8_layers import check_int8, empty_linears, fill_linears
from model.model_folders import check_model_folder, check_sizes
from model.modeling import DeltaVlmForConditionalGeneration

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """Find the device of this name; ``auto`` is CUDA where there is one.

    Raises:
        InputError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r} on a machine with {torch.cuda.device_count()} CUDA devices",
            expected="one that is there",
            remedy="use auto or cpu",
        )
    return device


def choose_dtype(name: str, *, device: torch.device) -> torch.dtype:
    """Find the precision of this name; ``auto`` is bfloat16 on CUDA and on CPUs with instructions for it, else float32.

    With ``int8`` that is what all but the linear layers is held in, float32.

    Raises:
        InputError: another precision, or int8 on a device that it is not for.
    """
    if name == INT8:
        check_int8(device)
        return torch.float32
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" or has_cpu_bfloat16() else "float32"
    if name not in DTYPES:
        raise InputError(f"dtype {name!r}", expected=f"auto, {' or '.join(DTYPES)}", remedy="correct model.dtype")
    return DTYPES[name]


def has_cpu_bfloat16() -> bool:
    """Tell whether this machine's CPU multiplies matrices of bfloat16 by instructions of its own."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def measure_room(device: torch.device, *, memory_bytes: float | None = None) -> tuple[float, str]:
    """Tell how much memory weights may take on a device, and whose it is, in words.

    Args:
        device: The device.
        memory_bytes: What this process may take of the machine's memory; left out, what the machine has.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1]), f"the GPU {device}"
    return memory_bytes or read_memory_bytes(), "this machine"


class _EmptyDeltaVlm(DeltaVlmForConditionalGeneration):
    """A model whose linear layers are still to be given their weights."""

    def __init__(self, config: DeltaVlmConfig) -> None:
        super().__init__(config)
        empty_linears(self)


def load_weights(
    folder: str, *, device: torch.device, dtype: torch.dtype, is_int8: bool = False
) -> DeltaVlmForConditionalGeneration:
    """Load a model onto a device, ready to answer; its files are mapped into memory, not read into it first.

    Args:
        folder: Folder of the model.
        device: Where it goes.
        dtype: Its precision.
        is_int8: Whether linear layers are held in int8; each goes there as it is read.

    Raises:
        InputError: the files are damaged or do not fit the config.
    """
    config, files = read_config(folder), sorted(Path(folder).glob("*.safetensors"))
    with torch.device("meta"):
        n_described = sum(p.numel() for p in DeltaVlmForConditionalGeneration(config).parameters())
    n_stored = sum(count_parameters(files).values())
    check_sizes(Path(folder), n_described=n_described, n_stored=n_stored)
    has_norms = isinstance(config.vision_config, ConvVisionConfig)
    model, report = _read_weights(
        _EmptyDeltaVlm if is_int8 else DeltaVlmForConditionalGeneration,
        folder,
        config=config,
        device=device,
        # Batch norms are fused in float32, whatever precision follows.
        dtype=torch.float32 if has_norms else dtype,
    )
    if is_int8:
        names = fill_linears(model, files)
        report["unexpected_keys"] -= names["filled"] | names["mismatched"]
        report["missing_keys"] |= names["missing"]
        report["mismatched_keys"] |= names["mismatched"]
    _refuse_misfits(report, folder=folder)
    if has_norms:
        model.eval().vision_model.fuse_norms()
        # The mask branch stays in float32, as transformers leaves it where nothing is fused; so do the angles of a
        # language model's positions, which are no parameters.
        for name, parameter in model.named_parameters():
            if not name.startswith("mask_decoder."):
                parameter.data = parameter.data.to(dtype)
    if device.type == "cpu" and dtype is torch.bfloat16:
        model.language_model.set_attn_implementation(FLOAT32_ATTENTION)
    fuse_projections(model.language_model)
    return model


def _read_weights(
    kind: type[DeltaVlmForConditionalGeneration],
    folder: str,
    *,
    config: DeltaVlmConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[DeltaVlmForConditionalGeneration, dict[str, set[Any]]]:
    """Give the model, and the names of weights that do not fit it by what is wrong with them."""
    verbosity = transformers_logging.get_verbosity()
    # What it would print about weights that do not fit, the error of `_refuse_misfits` says in one line.
    transformers_logging.set_verbosity_error()
    try:
        loaded: Any = kind.from_pretrained(
            folder,
            dtype=dtype,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            device_map={"": device},
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as problem:
        # safetensors, transformers and torch each have errors of their own for a damaged file.
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise InputError(
            f"weights in {folder} cannot be loaded ({lines[0][:300]})",
            expected="the model that config.json describes",
            remedy="get the files again or convert them again",
        ) from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    model, report = loaded
    return model, report


def _refuse_misfits(report: Mapping[str, set[Any]], *, folder: str) -> None:
    wrong = [
        f"{len(report[name])} {name.replace('_', ' ')}: {sorted(map(str, report[name]))[0]}"
        for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if report[name]
    ]
    if wrong:
        raise InputError(
            f"weights in {folder} do not fit its config.json ({'; '.join(wrong)})",
            expected="the weights that it describes",
            remedy="get the files again or convert them again",
        )


def read_config(folder: str) -> DeltaVlmConfig:
    """Read the config of a model.

    Raises:
        InputError: it is damaged or describes another architecture.
    """
    check_model_folder(Path(folder))
    try:
        model_type = PreTrainedConfig.get_config_dict(folder, local_files_only=True)[0].get("model_type")
        # Another architecture's fields would be ignored, and what is left is a model of full size.
        if model_type == DeltaVlmConfig.model_type:
            return DeltaVlmConfig.from_pretrained(folder, local_files_only=True)
        problem = f"model type {model_type!r}"
    except (ValueError, TypeError, KeyError, AttributeError, OSError, OverflowError, StrictDataclassError) as error:
        problem = " ".join(str(error).split())[:300]
    raise InputError(
        f"config.json in {folder}: {problem}",
        expected=f"one of model type {DeltaVlmConfig.model_type!r}",
        remedy="give the folder of a DeltaVLM, such as `deltavlm model convert` writes",
    )
