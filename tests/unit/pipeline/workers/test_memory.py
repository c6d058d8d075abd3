"""How much memory a worker is given, from the sizes of the weights and the batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.errors import InputError
from model.inspection import WeightSizes, measure_weights
from pipeline.config.run import load_config
from pipeline.workers.memory import WorkerNeed, choose_n_workers, decide_memory_limit, measure_need

GIB = 1024**3
MIB = 1024**2


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A million parameters in float16."""
    save_file({"a": np.zeros((1000, 500), np.float16), "b": np.zeros(500_000, np.float16)}, tmp_path / "m.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"model_type": "instructblip_vision_model"}}))
    return tmp_path


@pytest.mark.parametrize(
    ("device", "dtype", "held", "copied"),
    [
        ("cpu", "float32", 4e6, 4e6),
        ("cpu", "bfloat16", 2e6, 2e6),
        ("auto", "auto", 2e6, 4e6),
        ("cuda", "bfloat16", 0, 0),
        ("cuda:1", "auto", 0, 0),
    ],
)
def test_weights_count_as_they_are_held(
    device: str, dtype: str, held: float, copied: float, model_folder: Path
) -> None:
    sizes = measure_weights(str(model_folder), device=device, dtype=dtype)

    file_bytes = (model_folder / "m.safetensors").stat().st_size
    assert (sizes.held_bytes, sizes.loading_bytes) == (held, file_bytes + copied)


def test_model_that_is_fused_passes_through_float32(model_folder: Path) -> None:
    (model_folder / "config.json").write_text(json.dumps({"vision_config": {"model_type": "deltavlm_conv_vision"}}))

    sizes = measure_weights(str(model_folder), device="cpu", dtype="bfloat16")

    assert sizes.loading_bytes - (model_folder / "m.safetensors").stat().st_size == 4e6


def test_served_model_weighs_nothing() -> None:
    assert measure_weights("", device="auto", dtype="auto").loading_bytes == 0


def test_small_model_gets_what_it_always_got() -> None:
    config = load_config(values={"before": "b.tif", "after": "a.tif", "output": "run"})

    ample = measure_need(config).ample_bytes

    assert 4 * GIB < ample < 4.25 * GIB


def test_model_of_15_gb_gets_room_beside_its_weights() -> None:
    need = WorkerNeed(batch_bytes=100 * MIB, weights=WeightSizes(held_bytes=15 * GIB, loading_bytes=30 * GIB))

    assert decide_memory_limit(None, need=need, memory_bytes=128 * GIB) == 34 * GIB + 400 * MIB
    # With less it is tried, as not all is needed at once.
    assert decide_memory_limit(None, need=need, memory_bytes=24 * GIB) == 24 * GIB


@pytest.mark.parametrize(
    ("asked", "memory_gib", "expected"),
    [
        ("4GiB", 128, r"cluster\.memory_limit: 4.00 GiB.*at least 16.00 GiB: 15.00 GiB of weights"),
        (None, 12, r"this machine's memory: 12.00 GiB"),
        ("64GiB", 12, r"this machine's memory: 12.00 GiB"),
    ],
)
def test_limit_below_the_weights_is_refused(asked: str | None, memory_gib: int, expected: str) -> None:
    need = WorkerNeed(weights=WeightSizes(held_bytes=15 * GIB, loading_bytes=30 * GIB))

    with pytest.raises(InputError, match=expected):
        decide_memory_limit(asked, need=need, memory_bytes=memory_gib * GIB)


@pytest.mark.parametrize(
    ("n_cores", "memory_gib", "n_gpus", "expected"),
    [(2, 24, 0, 2), (64, 16, 0, 4), (8, 7, 0, 1), (8, 1, 0, 1), (1, 64, 0, 1), (4, 16.5, 0, 4), (64, 512, 1, 1)],
)
def test_one_worker_per_core_as_far_as_memory_goes(n_cores: int, memory_gib: float, n_gpus: int, expected: int) -> None:
    n_workers = choose_n_workers(
        bytes_per_worker=4 * GIB, n_cores=n_cores, memory_bytes=memory_gib * GIB, n_gpus=n_gpus
    )
    assert n_workers == expected


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    values = {"before": "b.tif", "after": "a.tif", "output": "run", "model": {"name": str(tmp_path)}}

    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        measure_need(load_config(values=values))
