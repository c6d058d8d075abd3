"""What a model's folder tells about itself, from its headers and JSON files alone: no weight is loaded, nor torch."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from model.errors import InputError

SEARCH_FIELDS = (
    "num_beams",
    "beam_scoring",
    "repetition_penalty",
    "length_penalty",
    "max_length",
    "decoder_start_token_id",
    "suppress_tokens",
    "confidence_temperature",
    "yes_bias",
)
"""Settings of ``generation_config.json`` that change answers or what confidence they have."""


def inspect_model(folder: Path) -> dict[str, Any]:
    """Gather the sizes, kinds, settings and origin of a model.

    Args:
        folder: As `model.registry.find_model_folder` gives it.

    Returns:
        What JSON can hold; `warnings` lists what people should know before they trust the answers.

    Raises:
        InputError: a file of it cannot be read, or it is of another architecture.
    """
    config = _read_json(folder / "config.json")
    if config.get("model_type", "deltavlm") != "deltavlm":
        raise InputError(
            f"config.json in {folder}: model type {config.get('model_type')!r}",
            expected="one of model type 'deltavlm'",
            remedy="give the folder of a DeltaVLM, such as `deltavlm model convert` writes",
        )
    generation = _read_json(folder / "generation_config.json")
    conversion = _read_json(folder / "conversion.json")
    files = sorted(folder.glob("*.safetensors"))
    return {
        "bytes": sum(file.stat().st_size for file in files),
        "files": len(files),
        "parameters": count_parameters(files),
        "dtypes": count_dtypes(files),
        "image_size_px": _read_json(folder / "preprocessor_config.json").get("image_size"),
        **describe_parts(config),
        "generation": {name: generation[name] for name in SEARCH_FIELDS if generation.get(name) is not None},
        "difference_is_trained": (config.get("difference_config") or {}).get("is_trained"),
        "conversion": conversion or None,
        "warnings": list_warnings(config, conversion=conversion),
    }


def describe_parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Name the kinds and sizes of a model's parts, given the content of its ``config.json``."""
    vision, text, mask = (config.get(f"{part}_config") or {} for part in ("vision", "text", "mask"))
    return {
        "vision": {
            "kind": vision.get("model_type"),
            "layers": vision.get("num_hidden_layers"),
            "width": vision.get("hidden_size"),
        },
        "queries": config.get("num_query_tokens"),
        "language_model": {
            "family": text.get("model_type"),
            "layers": text.get("num_hidden_layers"),
            "width": text.get("hidden_size"),
            "tokens": text.get("vocab_size"),
        },
        "masks": {"labels": mask.get("labels"), "size_px": mask.get("output_size_px")} if mask else None,
    }


def list_warnings(config: Mapping[str, Any], *, conversion: Mapping[str, Any]) -> list[str]:
    """Say what makes a model's answers less than they seem.

    Args:
        config: Content of its ``config.json``.
        conversion: Content of its ``conversion.json``; empty where there is none.
    """
    if (config.get("difference_config") or {}).get("is_trained") is not False:
        return []
    evidence = (conversion.get("csrm") or {}).get("evidence", "its config says so")
    return [
        f"The difference perception (CSRM) was never trained ({evidence}). The original's released training skips it "
        "while its generation applies it, so that answers pass through random weights there and cannot tell before "
        "from after. Train it, or take weights that were trained with it."
    ]


def count_parameters(files: list[Path]) -> dict[str, int]:
    """Count the parameters of each part of a model from the headers of its weights.

    Raises:
        InputError: a header cannot be read.
    """
    counts: Counter[str] = Counter()
    for name, shape, _ in _list_tensors(files):
        counts[name.split(".")[0]] += prod(shape)
    return dict(sorted(counts.items()))


def count_dtypes(files: list[Path]) -> dict[str, int]:
    """Count the parameters of each dtype, named as safetensors does, from the headers of a model's weights.

    Raises:
        InputError: a header cannot be read.
    """
    counts: Counter[str] = Counter()
    for _, shape, dtype in _list_tensors(files):
        counts[dtype] += prod(shape)
    return dict(sorted(counts.items()))


def _list_tensors(files: list[Path]) -> list[tuple[str, list[int], str]]:
    tensors = []
    for file in files:
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - this is no mapping
                    part = opened.get_slice(name)
                    tensors.append((name, part.get_shape(), part.get_dtype()))
        except (SafetensorError, OSError) as problem:
            raise InputError(
                f"{file} cannot be read: {problem}",
                expected="a whole file of weights",
                remedy="fetch it again or convert anew",
            ) from None
    return tensors


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{file} cannot be read: {problem}", expected="a JSON object", remedy="fetch it again or convert anew"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{file} holds {type(content).__name__}", expected="a JSON object", remedy="fetch it again or convert anew"
        )
    return content


LIBRARIES_BYTES = 1024**3
"""A process that has loaded all libraries and the small model, and has not begun: 0.6 GiB were measured."""

_BYTES_EACH = {"float32": 4, "bfloat16": 2}
INT8 = "int8"
"""Precision of a model whose linear layers are in int8 and whose rest is in float32."""
_INT8_LAYERS = re.compile(r"(language_model|vision_model)\..*\blayers\.\d+\..*\.weight")
_FUSED_VISION = "deltavlm_conv_vision"
# ^ Its batch norms are fused in float32, so all is held that wide for a moment, whatever precision follows.


@dataclass(frozen=True, kw_only=True)
class WeightSizes:
    """Memory that weights take on the machine's side, in bytes."""

    held_bytes: int = 0
    """While the model answers, at the least."""
    loading_bytes: int = 0
    """While it is loaded, at the most: its files are mapped as the copy of them is made."""


def is_int8_layer(name: str, *, n_dims: int) -> bool:
    """Tell whether a tensor of this name is held in int8 where that is asked for.

    These are the weights of the linear layers within the language model's and the vision tower's transformer layers:
    nearly all of a large model. What turns tokens into embeddings and hidden states into tokens is not among them.
    """
    return n_dims == 2 and _INT8_LAYERS.fullmatch(name) is not None


def measure_weights(path: str, *, device: str, dtype: str) -> WeightSizes:
    """Tell what a worker needs for a model's weights.

    Args:
        path: Folder of the model; empty for one that is served or brought by another package.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; on a GPU no weights stay on the machine's side.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``int8``; what ``auto`` will be is not known here, so that the
            least counts it as the narrow one and the most as the wide one.

    Raises:
        InputError: a header cannot be read.
    """
    files = sorted(Path(path).glob("*.safetensors")) if path else []
    if not files:
        return WeightSizes()
    mapped_bytes = sum(file.stat().st_size for file in files)
    if device.startswith("cuda"):
        return WeightSizes(loading_bytes=mapped_bytes)
    if dtype == INT8:
        return _measure_int8(files)
    n_parameters = sum(count_dtypes(files).values())
    is_fused = json.loads((Path(path) / "config.json").read_text()).get("vision_config", {}).get("model_type")
    widest = _BYTES_EACH["float32" if is_fused == _FUSED_VISION else dtype.replace("auto", "float32")]
    return WeightSizes(
        held_bytes=n_parameters * _BYTES_EACH[dtype.replace("auto", "bfloat16")],
        loading_bytes=mapped_bytes + n_parameters * widest,
    )


def _measure_int8(files: list[Path]) -> WeightSizes:
    tensors = _list_tensors(files)
    layers = [prod(shape) for name, shape, _ in tensors if is_int8_layer(name, n_dims=len(shape))]
    rest_bytes = _BYTES_EACH["float32"] * (sum(prod(shape) for _, shape, _ in tensors) - sum(layers))
    # The files of the rest are mapped first, then each layer passes through float32, its whole numbers and its packing.
    passing_bytes = max(rest_bytes, 4 * _BYTES_EACH["float32"] * max(layers, default=0))
    return WeightSizes(held_bytes=sum(layers) + rest_bytes, loading_bytes=sum(layers) + rest_bytes + passing_bytes)


def fit_dtype(path: str, *, dtype: str, is_free: bool, memory_bytes: float, place: str = "this machine") -> str:
    """Give the precision in which a model's weights fit into memory.

    Args:
        path: Folder of the model.
        dtype: ``float32``, ``bfloat16`` or ``int8``, the one to be preferred.
        is_free: Whether the narrower one will do as well.
        memory_bytes: What there is for weights and libraries.
        place: Whose memory that is, in words.

    Raises:
        InputError: they fit in none, or a header cannot be read.
    """
    needs = {}
    for each in (dtype, "bfloat16") if is_free else (dtype,):
        needs[each] = measure_weights(path, device="cpu", dtype=each).held_bytes + LIBRARIES_BYTES
        if needs[each] <= memory_bytes:
            return each
    words = " and ".join(f"{need / 1024**3:.1f} GiB in {each}" for each, need in needs.items())
    narrower = "" if INT8 in needs else "on an x86 CPU take model.quantize int8, "
    narrower += "" if needs.keys() & {"bfloat16", INT8} else "take dtype bfloat16, "
    raise InputError(
        f"{place} has {memory_bytes / 1024**3:.1f} GiB of memory; the model in {path} takes {words}",
        expected="room for its weights and 1 GiB of libraries",
        remedy=f"{narrower}take a machine with more memory, or a smaller model",
    )


_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIPS = Path("/proc/self/cgroup")
_LIMIT_NAMES = ("memory.max", "memory.high")
_OLD_LIMIT_NAME = "memory.limit_in_bytes"
# ^ Of the second and the first kind of control groups.


def read_memory_bytes(*, cgroups: Path = _CGROUPS, memberships: Path = _MEMBERSHIPS) -> int:
    """Give the memory that this process may take: the machine's, or less where a container, job or service is told so.

    Args:
        cgroups: Where control groups are.
        memberships: File that tells which of them this process is in.
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _list_limits(cgroups, memberships=memberships):
        with suppress(OSError, ValueError):
            # Where there is no limit, the file says `max`.
            memory_bytes = min(memory_bytes, int(file.read_text()))
    return memory_bytes


def _list_limits(cgroups: Path, *, memberships: Path) -> Iterator[Path]:
    """List the files with limits of the groups that this process is in, and of all those around them."""
    with suppress(OSError):
        for line in memberships.read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            root = cgroups / "memory" if "memory" in controllers.split(",") else cgroups
            if controllers and root == cgroups:
                continue
            names = (_OLD_LIMIT_NAME,) if controllers else _LIMIT_NAMES
            group = root / place.lstrip("/")
            yield from (each / name for each in (group, *group.parents) if each.is_relative_to(root) for name in names)
    # A container may not see the path to its own group, and takes that for the root.
    yield from (cgroups / name for name in (*_LIMIT_NAMES, f"memory/{_OLD_LIMIT_NAME}"))
