"""Planned tensors to safetensors files in transformers' layout, one file's worth in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.conversion.checkpoints import open_tensors
from model.conversion.names import join_qkv_bias
from model.conversion.plan import Place, PlannedTensor
from model.conversion.vocabularies import write_json


def split_shards(plan: Sequence[PlannedTensor], *, max_bytes: int) -> list[list[PlannedTensor]]:
    """Cut a plan, in its order, into files of at most `max_bytes`; a tensor larger than that gets a file to itself."""
    shards: list[list[PlannedTensor]] = []
    n_bytes = 0
    for tensor in plan:
        if not shards or n_bytes + tensor.n_bytes > max_bytes:
            shards.append([])
            n_bytes = 0
        shards[-1].append(tensor)
        n_bytes += tensor.n_bytes
    return shards


def write_shards(
    shards: Sequence[Sequence[PlannedTensor]], *, folder: Path, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the files of a model's weights, and their index where there is more than one.

    Args:
        shards: What goes into each file.
        folder: An existing folder.
        on_progress: Called after each file with the number of files written, and of all.
    """
    names = [f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors" for index in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for index, (name, shard) in enumerate(zip(names, shards, strict=True)):
        save_file(read_tensors(shard), folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # safetensors makes files that nobody else may read
        if on_progress is not None:
            on_progress(index + 1, len(shards))
    if len(shards) > 1:
        places = {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        size = sum(tensor.n_bytes for shard in shards for tensor in shard)
        write_json(
            folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": dict(places)}
        )


def read_tensors(shard: Sequence[PlannedTensor]) -> dict[str, Tensor]:
    """Read the tensors of one file, by name; each source is open only while its part is copied."""
    wanted: dict[Path, list[tuple[Place, torch.dtype]]] = {}
    for tensor in shard:
        for place in tensor.places:
            wanted.setdefault(place.path, []).append((place, tensor.dtype))
    parts: dict[tuple[Path, str], Tensor] = {}
    for path, places in wanted.items():
        with open_tensors(path) as get_tensor:
            for place, dtype in places:
                parts[path, place.key] = get_tensor(place.key).to(dtype, copy=True).contiguous()
    tensors = {}
    for tensor in shard:
        found = [parts.pop((place.path, place.key)) for place in tensor.places]
        whole = join_qkv_bias(*found) if len(found) == 2 else found[0]
        if tensor.n_added_rows:
            whole = torch.cat([whole, whole.new_zeros(tensor.n_added_rows, *whole.shape[1:])])
        tensors[tensor.name] = whole
    return tensors
