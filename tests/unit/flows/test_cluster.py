"""What a cluster is started with, decided before anything starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dask.utils import parse_bytes

from flows import cluster
from flows.cluster import (
    check_cluster,
    choose_dask_settings,
    choose_local_arguments,
    find_cluster_class,
    open_cluster,
)
from flows.cluster_security import check_encrypted
from model.errors import InputError
from pipeline.config.cluster import ClusterConfig
from pipeline.workers.memory import WorkerNeed, count_gpus


def local_arguments(need: WorkerNeed | None = None, **settings: Any) -> dict[str, Any]:
    return choose_local_arguments(ClusterConfig(**settings), need=need or WorkerNeed(), device="cpu", security=None)


def test_workers_of_this_machine_have_one_thread_and_listen_on_the_loopback() -> None:
    arguments = local_arguments(n_workers=3)

    assert (arguments["n_workers"], arguments["threads_per_worker"], arguments["host"]) == (3, 1, "127.0.0.1")
    assert arguments["dashboard_address"].startswith("127.0.0.1:")
    assert arguments["scheduler_kwargs"] == {"dashboard": False}


def test_adaptive_cluster_starts_with_its_minimum() -> None:
    assert local_arguments(adaptive={"minimum": 2, "maximum": 5})["n_workers"] == 2


def test_cuda_cluster_is_told_no_number_so_that_it_starts_one_worker_per_gpu() -> None:
    arguments = local_arguments(kind="cuda")

    assert "n_workers" not in arguments
    assert "processes" not in arguments
    assert arguments["threads_per_worker"] == 1


def test_asked_memory_limit_is_what_workers_get() -> None:
    assert local_arguments(memory_limit="2GiB")["memory_limit"] == parse_bytes("2GiB")


def test_silence_and_absence_are_told_to_dask_in_seconds() -> None:
    settings = choose_dask_settings(ClusterConfig(no_workers_timeout_s=7))

    assert settings["distributed.scheduler.no-workers-timeout"] == "7.0 s"
    assert settings["distributed.scheduler.worker-ttl"] == "600 s"
    assert settings["distributed.worker.memory.pause"] is False


@pytest.mark.parametrize(
    ("names", "visible", "expected"),
    [
        ([], None, 0),
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], None, 2),
        (["nvidia0", "nvidia1"], "1", 1),
        (["nvidia0", "nvidia1"], "", 0),
        (["nvidia0", "nvidia1"], "-1", 0),
        (["nvidia0", "nvidia1"], "NoDevFiles", 0),
        (["nvidia0", "nvidia1"], "1,-1,0", 1),
        (["nvidia0", "nvidia1"], "0,7,1", 1),
        (["nvidia0", "nvidia1"], "0, 1", 2),
        (["nvidia0", "nvidia1"], "GPU-8f2c,GPU-11ab", 2),
    ],
)
def test_gpus_are_counted_by_their_devices(
    names: list[str], visible: str | None, expected: int, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()

    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert count_gpus(environment, devices=tmp_path) == expected


def test_gpu_takes_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "count_gpus", lambda: 4)

    arguments = choose_local_arguments(ClusterConfig(), need=WorkerNeed(), device="auto", security=None)

    assert arguments["n_workers"] == 1


@pytest.mark.parametrize(
    ("class_path", "expected"),
    [
        ("dask_nowhere.Cluster", "pip install dask-nowhere"),
        ("distributed.NoCluster", "NoCluster"),
        ("subprocess.Popen", "no cluster class"),
        ("os.system", "no cluster class"),
        ("LocalCluster", "cluster.class_path LocalCluster"),
        ("distributed.Client", "no cluster class"),
        ("unittest.mock.Mock", "no cluster class"),
    ],
)
def test_path_that_leads_to_no_cluster_is_named(class_path: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        find_cluster_class(class_path)


class _Pretender:
    """Has every method of a cluster and is none."""

    def __init__(self, **arguments: Any) -> None:
        raise AssertionError("it was started")

    get_client = scale = adapt = close = __init__


def test_class_that_only_looks_like_a_cluster_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.Pretender", _Pretender, raising=False)
    config = ClusterConfig(kind="class", class_path="distributed.Pretender", allow_unencrypted=True)

    with pytest.raises(InputError, match=r"no cluster class.*distributed\.deploy\.Cluster"), open_cluster(config):
        pass


@pytest.mark.parametrize("security", [None, False])
def test_cluster_class_that_nobody_gave_certificates_is_not_started(
    security: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr("distributed.SpecCluster.__init__", refuse)
    config = ClusterConfig(kind="class", class_path="distributed.SpecCluster", arguments={"security": security})

    with pytest.raises(InputError, match=r"without TLS.*cluster\.allow_unencrypted"), open_cluster(config):
        pass
    check_cluster(config.model_copy(update={"allow_unencrypted": True}))
    check_cluster(config.model_copy(update={"arguments": {"security": True}}))


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("tcp://[::1]:8786", True),
        ("localhost:8786", True),
        ("tls://head:8786", True),
        ("gateway://head:8786/x", True),
        ("tcp://head:8786", False),
        ("head:8786", False),
        ("ws://10.0.0.1:8786", False),
        ("tcp://0.0.0.0:8786", False),
    ],
)
def test_scheduler_that_others_reach_without_tls_is_refused(address: str, is_taken: bool) -> None:
    config = ClusterConfig(kind="address", address=address)

    if is_taken:
        check_encrypted(address, config=config)
    else:
        with pytest.raises(InputError, match=r"without TLS.*cluster\.allow_unencrypted"):
            check_encrypted(address, config=config)
    check_encrypted(address, config=config.model_copy(update={"allow_unencrypted": True}))


def test_cuda_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dask_cuda", None)

    with (
        pytest.raises(InputError, match=r"pip install 'deltavlm-monitor\[cuda\]'"),
        open_cluster(ClusterConfig(kind="cuda")),
    ):
        pass


def test_cuda_cluster_is_called_as_any_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    class LocalCUDACluster:
        def __init__(self, **arguments: Any) -> None:
            calls.append(arguments)
            raise RuntimeError("no GPU on this machine")

    monkeypatch.setitem(__import__("sys").modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=LocalCUDACluster))

    with (
        pytest.raises(InputError, match=r"cluster\.kind: cuda cannot be started.*no GPU"),
        open_cluster(ClusterConfig(kind="cuda", n_workers=2)),
    ):
        pass

    assert calls[0]["n_workers"] == 2
    assert calls[0]["host"] == "127.0.0.1"


def test_cluster_whose_worker_dies_at_the_start_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    n_starts = 0

    class DyingCluster(SimpleNamespace):
        def __init__(self, **_: Any) -> None:
            nonlocal n_starts
            n_starts += 1
            # What Dask says of a nanny whose worker was killed before it had begun.
            raise RuntimeError("Nanny failed to start.") if n_starts < 3 else TypeError("the third is another matter")

    monkeypatch.setattr(cluster, "LocalCluster", DyingCluster)

    with pytest.raises(InputError, match="the third is another matter"), open_cluster(ClusterConfig(n_workers=1)):
        pass

    assert n_starts == 3
