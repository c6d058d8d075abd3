"""What one worker needs of its machine's memory: libraries, batches in hand and the model's weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from model.errors import InputError
from model.inspection import INT8, LIBRARIES_BYTES, WeightSizes, measure_weights, read_memory_bytes
from model.registry import find_model_folder, find_model_source, resolve_dtype
from pipeline.config.cluster import ClusterConfig
from pipeline.config.run import RunConfig

_GIB = 1024**3
WORKING_BYTES = 3 * _GIB
"""Room for what a model computes with and for rasters while they are warped, of tiles of the usual size."""
BATCHES_IN_HAND = 4
"""One batch being computed and the next one read, each once more while it is put together."""
_BYTES_PER_PIXEL = 6
# ^ Two dates of three bands of uint8.


@dataclass(frozen=True, kw_only=True)
class WorkerNeed:
    """Memory of one worker, in bytes."""

    batch_bytes: int = 0
    """Pixels of one batch."""
    weights: WeightSizes = field(default_factory=WeightSizes)
    """Of its model."""

    @property
    def least_bytes(self) -> int:
        """With less than this a worker cannot even begin."""
        return LIBRARIES_BYTES + self.weights.held_bytes

    @property
    def ample_bytes(self) -> int:
        """With this a worker never comes near its limit unless something is wrong."""
        return LIBRARIES_BYTES + WORKING_BYTES + BATCHES_IN_HAND * self.batch_bytes + self.weights.loading_bytes


def measure_need(config: RunConfig) -> WorkerNeed:
    """Tell what each worker of a run needs.

    Raises:
        InputError: the model's files cannot be read.
    """
    model, side_px = config.model, config.tiles.shard_size_tiles * config.grid.tile_size_px
    try:
        path = "" if find_model_source(model.name) is not None else str(find_model_folder(model.name))
        device = "cuda" if model.device == "auto" and count_gpus() else model.device
        weights = measure_weights(path, device=device, dtype=model.precision)
    except InputError as problem:
        raise problem.about("model.name: ") from None
    return WorkerNeed(batch_bytes=side_px**2 * _BYTES_PER_PIXEL, weights=weights)


def check_memory(config: RunConfig) -> int:
    """Give the memory that a worker of a run needs at the least, in bytes, and refuse a machine that has less.

    Workers that are started elsewhere look at their own memory.

    Raises:
        InputError: this machine's memory, or what a worker may take of it, cannot hold the weights, or it lacks the GPU
            or the instructions that are asked for.
    """
    need, cluster = measure_need(config), config.cluster
    if cluster.kind in ("local", "cuda"):
        memory_bytes = read_memory_bytes()
        decide_memory_limit(cluster.memory_limit, need=need, memory_bytes=memory_bytes)
        check_n_workers(cluster, need=need, memory_bytes=memory_bytes)
        if cluster.kind == "local" and (config.model.device.startswith("cuda") or config.model.precision == INT8):
            # What is asked for by name may not be had here; to find that out takes torch.
            resolve_dtype(
                config.model.name,
                device=config.model.device,
                dtype=config.model.precision,
                memory_bytes=memory_bytes,
            )
    return need.least_bytes


def advise_precision(config: RunConfig) -> str | None:
    """Say that int8 suits this machine better than what the config asks for; None: it does not, or the config has it.

    Raises:
        InputError: the model's files cannot be read.
    """
    model = config.model
    is_here = config.cluster.kind == "local" and model.device in ("auto", "cpu") and not count_gpus()
    if model.precision not in ("auto", "bfloat16") or not is_here or find_model_source(model.name) is not None:
        return None
    # Not before it is asked for: it brings torch.
    from model.int8_layers import has_cpu_int8
    from model.loading import has_cpu_bfloat16

    room_bytes = read_memory_bytes() - LIBRARIES_BYTES
    held_bytes = {
        dtype: measure_weights(str(find_model_folder(model.name)), device="cpu", dtype=dtype).held_bytes
        for dtype in ("float32", "bfloat16", INT8)
    }
    is_roomy = model.precision == "auto" and held_bytes["float32"] <= room_bytes
    if is_roomy or held_bytes[INT8] > room_bytes or has_cpu_bfloat16() or not has_cpu_int8():
        return None
    need = {dtype: f"{held / _GIB:.1f} GiB in {dtype}" for dtype, held in held_bytes.items()}
    return (
        f"set model.quantize to int8: this CPU multiplies bfloat16 many times slower; weights take {need['float32']}, "
        f"{need['bfloat16']} and {need[INT8]}"
    )


def decide_memory_limit(asked: str | None, *, need: WorkerNeed, memory_bytes: float) -> int:
    """Give the memory limit of each worker on a machine, in bytes.

    Args:
        asked: What the config says, such as ``8GiB``.
        need: What a worker needs.
        memory_bytes: What the machine has.

    Raises:
        InputError: it is not enough to hold the weights.
    """
    # Only workers need Dask, and a finished run has none.
    from dask.utils import format_bytes, parse_bytes

    wanted = need.ample_bytes if asked is None else parse_bytes(asked)
    limit = int(min(wanted, memory_bytes))
    if limit < need.least_bytes:
        source = "cluster.memory_limit" if asked is not None and limit == wanted else "this machine's memory"
        raise InputError(
            f"{source}: {format_bytes(limit)} for a worker",
            expected=f"at least {format_bytes(need.least_bytes)}: {format_bytes(need.weights.held_bytes)} of weights "
            f"and {format_bytes(LIBRARIES_BYTES)} of libraries",
            remedy=("" if asked is None else "raise cluster.memory_limit or leave it out, or ")
            + "take a smaller model, model.dtype: bfloat16 (a half of float32), model.quantize: int8 (a quarter, x86 "
            "CPUs alone) or a GPU",
        )
    return limit


def check_n_workers(cluster: ClusterConfig, *, need: WorkerNeed, memory_bytes: float) -> None:
    """Refuse more workers of this machine than it can hold the weights of: each has them for itself.

    Args:
        cluster: Which workers.
        need: What one of them needs.
        memory_bytes: What the machine has.

    Raises:
        InputError: there are to be more.
    """
    from dask.utils import format_bytes

    key, n_workers = "n_workers", cluster.n_workers
    if cluster.adaptive is not None:
        key, n_workers = "adaptive.maximum", cluster.adaptive.maximum
    held_bytes = need.weights.held_bytes
    if n_workers is None or n_workers * held_bytes + LIBRARIES_BYTES <= memory_bytes:
        return
    n_most = max(1, int((memory_bytes - LIBRARIES_BYTES) // held_bytes))
    raise InputError(
        f"cluster.{key}: {n_workers} workers with {format_bytes(held_bytes)} of weights each, on a machine of "
        f"{format_bytes(int(memory_bytes))}",
        expected=f"at most {n_most}",
        remedy="lower it or leave it out, or take a smaller model, model.dtype: bfloat16 or model.quantize: int8 (x86 "
        "CPUs alone)",
    )


def choose_n_workers(*, bytes_per_worker: int, n_cores: int, memory_bytes: float, n_gpus: int = 0) -> int:
    """Give one worker per core, as far as each has the memory that it may take; where there is a GPU, one worker.

    Several workers on one GPU would each load the weights there; `cluster.kind: cuda` gives each worker its own GPU.
    """
    return 1 if n_gpus else max(1, min(n_cores, int(memory_bytes // bytes_per_worker)))


def count_gpus(environment: Mapping[str, str] = os.environ, *, devices: Path = Path("/dev")) -> int:
    """Count the CUDA devices that a process may use, without loading a library for it.

    Of those that ``CUDA_VISIBLE_DEVICES`` names CUDA takes what stands before the first one that is not there, so that
    ``-1`` and an empty text leave none.
    """
    n_devices = sum(1 for path in devices.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return n_devices
    names = [name.strip() for name in visible.split(",")]
    named = takewhile(lambda name: name.startswith(("GPU-", "MIG-")) or _is_index(name, n_devices=n_devices), names)
    return min(n_devices, len(set(named)))


def _is_index(name: str, *, n_devices: int) -> bool:
    return name.isascii() and name.isdigit() and int(name) < n_devices
