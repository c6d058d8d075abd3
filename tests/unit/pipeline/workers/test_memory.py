"""How much memory a worker is given, from the sizes of the weights and the batches."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from model.errors import InputError
from model.inspection import WeightSizes, fit_dtype, measure_weights, read_memory_bytes
from pipeline.config.cluster import ClusterConfig
from pipeline.config.run import load_config
from pipeline.runs.check import check_config
from pipeline.runs.inputs import check_inputs
from pipeline.workers.memory import (
    WorkerNeed,
    advise_precision,
    check_memory,
    check_n_workers,
    choose_n_workers,
    decide_memory_limit,
    measure_need,
)

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


def test_layers_in_int8_take_a_byte_each(tmp_path: Path) -> None:
    tensors = {
        "language_model.model.layers.0.mlp.up_proj.weight": np.zeros((1000, 500), np.float16),
        "vision_model.encoder.layers.12.mlp.fc1.weight": np.zeros((300, 100), np.float16),
        "language_model.model.layers.0.input_layernorm.weight": np.zeros(500, np.float16),
        "language_model.model.embed_tokens.weight": np.zeros((40, 100), np.float16),
        "language_model.lm_head.weight": np.zeros((40, 100), np.float16),
        "qformer.encoder.layer.0.output.dense.weight": np.zeros((20, 10), np.float16),
        "vision_model.trunk.1.layers.0.1.weight": np.zeros((5, 4, 3, 3), np.float16),
    }
    save_file(tensors, tmp_path / "model.safetensors")

    sizes = measure_weights(str(tmp_path), device="cpu", dtype="int8")

    assert sizes.held_bytes == 530_000 + 4 * (500 + 4000 + 4000 + 200 + 180)
    # Files of 1.1 MB are mapped a layer at a time; the largest layer passes through float32.
    assert sizes.loading_bytes == sizes.held_bytes + 4 * 4 * 500_000


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


def write_mixed(folder: Path, *, n_narrow: int, n_wide: int) -> str:
    """Write a model as `deltavlm model convert` does of the original: float16 beside float32."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "deltavlm"}')
    save_file({"narrow": np.zeros(n_narrow, np.float16)}, folder / "model-1.safetensors")
    save_file({"wide": np.zeros(n_wide, np.float32)}, folder / "model-2.safetensors")
    return str(folder)


# Of 300,000 numbers: 1.2 MB in float32, 0.6 MB in bfloat16.
FLOAT32_NEED, BFLOAT16_NEED = GIB + 1_200_000, GIB + 600_000


@pytest.mark.parametrize(
    ("preferred", "is_free", "memory_bytes", "fitting"),
    [
        ("float32", True, FLOAT32_NEED, "float32"),
        ("float32", True, FLOAT32_NEED - 1, "bfloat16"),
        ("float32", True, BFLOAT16_NEED, "bfloat16"),
        ("bfloat16", True, 2 * FLOAT32_NEED, "bfloat16"),
        ("float32", False, FLOAT32_NEED, "float32"),
    ],
)
def test_auto_takes_what_fits(tmp_path: Path, preferred: str, is_free: bool, memory_bytes: int, fitting: str) -> None:
    folder = write_mixed(tmp_path / "m", n_narrow=200_000, n_wide=100_000)

    assert fit_dtype(folder, dtype=preferred, is_free=is_free, memory_bytes=memory_bytes) == fitting


@pytest.mark.parametrize(
    ("is_free", "memory_bytes", "found"),
    [
        (True, BFLOAT16_NEED - 1, "GiB in float32 and .* GiB in bfloat16"),
        (False, FLOAT32_NEED - 1, "GiB in float32; .*take dtype bfloat16"),
    ],
)
def test_what_fits_nowhere_is_refused_in_words(tmp_path: Path, is_free: bool, memory_bytes: int, found: str) -> None:
    folder = write_mixed(tmp_path / "m", n_narrow=200_000, n_wide=100_000)

    with pytest.raises(InputError, match=f"this machine has 1.0 GiB of memory; .*{found}"):
        fit_dtype(folder, dtype="float32", is_free=is_free, memory_bytes=memory_bytes)


@pytest.mark.parametrize(
    ("memory_bytes", "assignments", "is_advised"),
    [
        (FLOAT32_NEED, [], False),
        (FLOAT32_NEED - 1, [], True),
        (FLOAT32_NEED - 1, ["model.quantize=int8"], False),
        (FLOAT32_NEED, ["model.dtype=bfloat16"], True),
        (FLOAT32_NEED - 1, ["model.dtype=float32"], False),
        (FLOAT32_NEED - 1, ["cluster={kind: address, address: 'tcp://far:1'}"], False),
        (GIB + 400_000, [], False),
    ],
)
@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_int8_is_advised_where_it_alone_is_quick_and_fits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory_bytes: int,
    assignments: list[str],
    is_advised: bool,
    has_bfloat16: bool,
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    layers = {"language_model.model.layers.0.mlp.up_proj.weight": np.zeros((500, 500), np.float16)}
    save_file({**layers, "rest": np.zeros(50_000, np.float16)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr("pipeline.workers.memory.read_memory_bytes", lambda: memory_bytes)
    monkeypatch.setattr("pipeline.workers.memory.count_gpus", lambda: 0)
    monkeypatch.setattr("model.loading.has_cpu_bfloat16", lambda: has_bfloat16)
    values = {"before": "b.tif", "after": "a.tif", "output": "run", "model": {"name": str(folder)}}

    advice = advise_precision(load_config(values=values, assignments=assignments))

    assert (advice is not None) == (is_advised and not has_bfloat16)


def test_a_check_tells_before_a_cluster_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mixed(tmp_path / "m", n_narrow=200_000, n_wide=100_000)
    values = {"before": "b.tif", "after": "a.tif", "output": str(tmp_path / "run"), "model": {"name": folder}}

    assert check_config(None, values=values).figures["worker_memory_bytes_at_least"] == BFLOAT16_NEED
    monkeypatch.setattr("pipeline.workers.memory.read_memory_bytes", lambda: GIB)
    problems = check_config(None, values=values).problems

    assert any("this machine's memory: 1.00 GiB for a worker" in problem for problem in problems)
    with pytest.raises(InputError, match="this machine's memory"):
        check_inputs(load_config(values=values))


def test_memory_is_what_the_tightest_group_around_a_process_has(tmp_path: Path) -> None:
    groups, told = tmp_path / "cgroup", tmp_path / "told"
    second, first = groups / "system.slice" / "job.scope", groups / "memory" / "slurm" / "job_7" / "step_0"
    for folder in (second, first):
        folder.mkdir(parents=True)
    (second / "memory.max").write_text("max\n")
    (second.parent / "memory.high").write_text(f"{3 * GIB}\n")
    (first.parent / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")

    told.write_text("0::/system.slice/job.scope\n")
    assert read_memory_bytes(cgroups=groups, memberships=told) == 3 * GIB
    told.write_text("5:devices:/slurm/job_7\n4:memory,hugetlb:/slurm/job_7/step_0\n0::/\n")
    assert read_memory_bytes(cgroups=groups, memberships=told) == 2 * GIB
    # In a container that does not see its own path.
    (groups / "memory.max").write_text(f"{GIB}\n")
    told.write_text("0::/../docker/8f2c\n")
    assert read_memory_bytes(cgroups=groups, memberships=told) == GIB


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"n_workers": 1}, None),
        ({"n_workers": 2}, r"cluster\.n_workers: 2 workers with 14.90 GiB of weights each.*at most 1"),
        ({"adaptive": {"minimum": 1, "maximum": 3}}, r"cluster\.adaptive\.maximum: 3 workers"),
        ({}, None),
    ],
)
def test_workers_for_whose_weights_there_is_no_room_are_refused(settings: dict[str, Any], problem: str | None) -> None:
    need = WorkerNeed(weights=WeightSizes(held_bytes=16_000_000_000, loading_bytes=32_000_000_000))
    with pytest.raises(InputError, match=problem) if problem else nullcontext():
        check_n_workers(ClusterConfig(**settings), need=need, memory_bytes=24 * GIB)


def test_int8_of_what_another_package_brings_is_refused_before_a_cluster_starts() -> None:
    scenes = {"before": {"uri": "a.tif"}, "after": {"uri": "b.tif"}, "output": "out"}
    config = load_config(None, values=scenes, assignments=["model.name=stand-in", "model.quantize=int8"])
    with pytest.raises(InputError, match="int8 for model 'stand-in'"):
        check_memory(config)
