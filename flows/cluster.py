"""The Dask workers of a run: processes on this machine, a scheduler that runs elsewhere, or any cluster class."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, SpecCluster, Status
from distributed.deploy.cluster import Cluster
from distributed.security import Security
from distributed.system import MEMORY_LIMIT
from tornado.ioloop import PeriodicCallback

from flows.cluster_security import check_encrypted, keep_own_scratch, make_security, read_security
from flows.fork_server import START_ENVIRONMENT, WORKER_ENVIRONMENT, can_fork, start_fork_server
from model.errors import InputError
from model.extras import require_extra
from model.inspection import read_memory_bytes
from model.registry import find_model_source
from pipeline.config.cluster import ClusterConfig
from pipeline.config.run import RunConfig
from pipeline.workers.memory import (
    WorkerNeed,
    check_n_workers,
    choose_n_workers,
    count_gpus,
    decide_memory_limit,
    measure_need,
)
from pipeline.workers.models import keep_models

_SETTINGS = {
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in START_ENVIRONMENT.items()},
    # Ctrl-C in a terminal reaches the workers too; the command tells them when to end.
    "distributed.worker.preload": ["flows.signals"],
    # A worker that dies takes the blame onto all tasks it has been given; so it is given one beside the one it is
    # computing, and a task that two workers died of is given up. `collect_answers` then looks for the tile.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.worker-ttl": "600 s",
    # ^ A worker that joins late says nothing while it loads a large model, and is not to be given up for that.
    # A worker's web server, which Dask always starts, has nothing to show: anyone on the machine may ask it.
    "distributed.worker.http.routes": [],
    # Nothing of ours is Dask's to spill: a worker's memory is the weights, the libraries and the batches in hand. A
    # worker that is paused for them would never go on, so only one far beyond its need is ended.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
}
CLUSTER_METHODS = ("get_client", "scale", "adapt", "close")
"""What a cluster class must offer."""
_OTHER_PACKAGES = frozenset({"dask_gateway"})
"""Those whose cluster classes offer it and are none of distributed's."""
SECONDS_BETWEEN_LOOKS = 2.0
"""How often lost workers are looked for."""
_START_TRIES = 3
_START_ERRORS = (ImportError, OSError, RuntimeError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class _SharedCluster:
    """Workers that the runs of one context have in common."""

    config: ClusterConfig
    address: str
    security: Security | None


_shared_cluster: ContextVar[_SharedCluster | None] = ContextVar("shared_cluster", default=None)


@contextmanager
def open_run_cluster(config: RunConfig) -> Iterator[Client]:
    """Open the cluster of a run, with workers that have room for its model and batches.

    Inside `share_run_cluster` no workers are started: the run gets a client of its own to those that are shared, as a
    run's model goes with its client.

    Raises:
        InputError: as `open_cluster`.
    """
    shared = _shared_cluster.get()
    if shared is not None and shared.config == config.cluster:
        with _connect(shared.address, security=shared.security) as client:
            yield client
        return
    need, has_weights = measure_need(config), find_model_source(config.model.name) is None
    with open_cluster(config.cluster, need=need, device=config.model.device, has_weights=has_weights) as client:
        yield client


@contextmanager
def share_run_cluster(config: RunConfig) -> Iterator[None]:
    """Start the cluster of a run once, for all runs with the same settings of cluster inside the context.

    What the workers load they keep for all of these runs.

    Raises:
        InputError: as `open_cluster`.
    """
    with open_run_cluster(config) as client:
        address = str(client.scheduler_info(n_workers=0)["address"])
        shared = _SharedCluster(config=config.cluster, address=address, security=client.security)
        token = _shared_cluster.set(shared)
        try:
            with keep_models(client):
                yield
        finally:
            _shared_cluster.reset(token)


def check_cluster(config: ClusterConfig) -> None:
    """Refuse, before anything is read, written or started for it, a cluster that cannot be one or that all may use.

    Raises:
        InputError: its class or package is none, its certificates cannot be used, or it would talk without TLS.
    """
    if config.kind == "address":
        check_encrypted(str(config.address), config=config)
        read_security(config)
    elif config.kind == "class":
        _settle_class(config)
    elif config.kind == "cuda":
        _import_cuda_cluster()


@contextmanager
def open_cluster(
    config: ClusterConfig, *, need: WorkerNeed | None = None, device: str = "auto", has_weights: bool = False
) -> Iterator[Client]:
    """Start workers, or connect to those that are there; what is started here ends with the context.

    Args:
        config: Which workers.
        need: Memory that each of this machine's workers needs; left out, what one with a small model needs.
        device: Where the model will be, as `ModelConfig.device`.
        has_weights: Whether workers started here are to have imported what weights need.

    Raises:
        InputError: they cannot be started or reached, no worker comes, or their memory cannot hold the weights.
    """
    # Its loggers have handlers and levels of their own, and importing Prefect sets them to INFO.
    for name in ("distributed", "distributed.client", "distributed.nanny", "distributed.scheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    check_cluster(config)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(choose_dask_settings(config)))
        if config.kind == "local" and can_fork(device=device, n_gpus=count_gpus()):
            start_fork_server(has_weights=has_weights)
            stack.enter_context(dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}))
        if config.kind == "address":
            client = stack.enter_context(_connect(str(config.address), security=read_security(config)))
        else:
            stack.enter_context(keep_own_scratch())
            cluster = _start(config, need=need or WorkerNeed(), device=device)
            stack.callback(_close, cluster)
            check_encrypted(str(cluster.scheduler_address), config=config)
            stack.enter_context(_replace_lost_workers(cluster))
            client = stack.enter_context(cluster.get_client())
        _wait_for_worker(client, config)
        yield client


def choose_dask_settings(config: ClusterConfig) -> dict[str, Any]:
    """Give Dask's own settings for a scheduler and workers that this process starts."""
    return (
        _SETTINGS
        # A task that no worker can take must end in an error, not wait for ever.
        | {"distributed.scheduler.no-workers-timeout": f"{config.no_workers_timeout_s} s"}
        # Pages with the tasks and their logs are there for whoever asked for a dashboard.
        | ({"distributed.scheduler.http.routes": []} if config.dashboard_port is None else {})
    )


def _start(config: ClusterConfig, *, need: WorkerNeed, device: str) -> Any:
    source = {"local": "cluster.kind: local", "cuda": "cluster.kind: cuda"}.get(
        config.kind, f"cluster.class_path {config.class_path}"
    )
    if config.kind == "class":
        cluster_class, arguments = _settle_class(config)
    else:
        cluster_class = LocalCluster if config.kind == "local" else _import_cuda_cluster()
        # dask-cuda's is one of this machine too.
        security = make_security(config, cluster_class=LocalCluster)
        arguments = choose_local_arguments(config, need=need, device=device, security=security)
    try:
        cluster = _try_to_start(cluster_class, arguments)
        if config.adaptive is not None:
            cluster.adapt(minimum=config.adaptive.minimum, maximum=config.adaptive.maximum)
        elif config.kind == "class" and config.n_workers is not None:
            cluster.scale(config.n_workers)
    except _START_ERRORS as problem:
        raise InputError(
            f"{source} cannot be started ({type(problem).__name__}: {problem})",
            expected="a Dask cluster that starts with these settings",
            remedy="correct the keys of cluster, or start it by hand and use cluster.kind: address",
        ) from None
    return cluster


def _settle_class(config: ClusterConfig) -> tuple[Any, dict[str, Any]]:
    """Find a cluster class and its arguments; one of distributed's kind has to be given certificates to talk TLS."""
    cluster_class = find_cluster_class(str(config.class_path))
    security = make_security(config, cluster_class=cluster_class)
    arguments = fill_in_arguments(cluster_class, config.arguments, config=config, security=security)
    if issubclass(cluster_class, SpecCluster) and not arguments.get("security"):
        # Others know by themselves what they talk; they are asked for their scheduler's address once it has one.
        check_encrypted("tcp://", config=config)
    return cluster_class, arguments


def _try_to_start(cluster_class: Any, arguments: Mapping[str, Any]) -> Any:
    """Start a cluster, and again where a worker died meanwhile: Dask replaces one only once the cluster has started."""
    for _ in range(_START_TRIES - 1):
        try:
            return cluster_class(**arguments)
        except RuntimeError:
            continue
    return cluster_class(**arguments)


def _close(cluster: Any) -> None:
    """End a cluster that was started here, also one of whose workers has died a moment ago: nobody needs it any more.

    Its nanny then waits for the end of a process that it has yet to start, and distributed asserts that it has.
    """
    try:
        cluster.close()
    except AssertionError:
        if not isinstance(cluster, SpecCluster):
            raise
        # A worker ends when its nanny says so, which these will not.
        for pid in [pid for nanny in cluster.workers.values() if (pid := getattr(nanny, "pid", None))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cluster.workers.clear()
        cluster.status = Status.failed
        cluster.close()


@contextmanager
def _replace_lost_workers(cluster: Any) -> Iterator[None]:
    """Have workers that went away replaced; a cluster class does so only when it is told its size again."""

    def look() -> None:
        if len(cluster.observed) < len(cluster.plan):
            cluster.scale(len(cluster.plan))

    if not isinstance(cluster, SpecCluster):
        # Others, such as those of Kubernetes, have somebody else who counts.
        yield
        return
    loop: Any = cluster.loop
    watch = PeriodicCallback(look, SECONDS_BETWEEN_LOOKS * 1000)
    loop.add_callback(watch.start)
    try:
        yield
    finally:
        loop.add_callback(watch.stop)


def choose_local_arguments(
    config: ClusterConfig, *, need: WorkerNeed, device: str, security: Security | None
) -> dict[str, Any]:
    """Give the arguments of a cluster on this machine: one thread per worker, on the loopback unless told otherwise.

    Raises:
        InputError: the memory limit is below what the weights need, or they are too many for this machine.
    """
    memory_bytes = min(MEMORY_LIMIT, read_memory_bytes())
    limit_bytes = decide_memory_limit(config.memory_limit, need=need, memory_bytes=memory_bytes)
    check_n_workers(config, need=need, memory_bytes=memory_bytes)
    n_workers = config.n_workers if config.adaptive is None else config.adaptive.minimum
    if n_workers is None and config.kind == "local":
        n_gpus = 0 if device == "cpu" else count_gpus()
        n_workers = choose_n_workers(
            bytes_per_worker=limit_bytes, n_cores=CPU_COUNT, memory_bytes=memory_bytes, n_gpus=n_gpus
        )
    return {
        # dask-cuda starts one worker per GPU where it is told no number.
        **({} if n_workers is None else {"n_workers": n_workers}),
        "threads_per_worker": 1,
        "memory_limit": limit_bytes,
        "host": config.host,
        # Without an address the scheduler's pages would take port 8787 from whatever else is there.
        "dashboard_address": f"127.0.0.1:{config.dashboard_port or 0}",
        "scheduler_kwargs": {"dashboard": config.dashboard_port is not None},
        "silence_logs": logging.CRITICAL,
        **({} if security is None else {"security": security, "protocol": "tls"}),
        # Over what this process was started with; dask-cuda puts an environment of its own in this place.
        # What this one has come to since the server that they are forked from was started, they are told too.
        **({"processes": True, "env": {**os.environ, **WORKER_ENVIRONMENT}} if config.kind == "local" else {}),
    }


def find_cluster_class(class_path: str) -> Any:
    """Import a cluster class by its path.

    Raises:
        InputError: its package is not installed, or it is no cluster class.
    """
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as problem:
        raise InputError(
            f"cluster.class_path {class_path}: {problem}",
            expected="a class of an installed package, such as dask_jobqueue.SLURMCluster",
            remedy=f"pip install {module.partition('.')[0].replace('_', '-') or 'its package'}, or correct the path",
        ) from None
    is_class = isinstance(found, type) and all(callable(getattr(found, name, None)) for name in CLUSTER_METHODS)
    if not is_class or not (issubclass(found, Cluster) or found.__module__.partition(".")[0] in _OTHER_PACKAGES):
        raise InputError(
            f"cluster.class_path {class_path} is no cluster class",
            expected=f"a class made from distributed.deploy.Cluster, with the methods {', '.join(CLUSTER_METHODS)}",
            remedy="name one, such as dask_kubernetes.operator.KubeCluster",
        )
    return found


def fill_in_arguments(
    cluster_class: Any, arguments: Mapping[str, Any], *, config: ClusterConfig, security: Security | None
) -> dict[str, Any]:
    """Add to a class's arguments what the config says elsewhere, and a dashboard that is not open to all."""
    filled = dict(arguments)
    if security is not None:
        filled.setdefault("security", security)
    if "dashboard_address" in inspect.signature(cluster_class).parameters:
        port = config.dashboard_port
        filled.setdefault("dashboard_address", None if port is None else f"127.0.0.1:{port}")
    return filled


def _import_cuda_cluster() -> Any:
    require_extra(
        "cuda", use="cluster.kind: cuda", otherwise="for one GPU, set cluster.kind: local and model.device: cuda"
    )
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as problem:
        raise InputError(
            f"cluster.kind: cuda, and dask-cuda cannot be imported ({problem})",
            expected="dask-cuda with the CUDA libraries that it was built for",
            remedy="install it anew for this machine's CUDA, or set cluster.kind: local and model.device: cuda",
        ) from None
    return LocalCUDACluster


def _connect(address: str, *, security: Security | None) -> Client:
    try:
        return Client(address, timeout="10 s", security=security)
    except (OSError, ValueError, RuntimeError, TypeError) as problem:
        # OSError also covers the TimeoutError of a host that does not answer at all, and TLS that is refused.
        raise InputError(
            f"cluster.address {address}: no scheduler answers ({problem})",
            expected="the address of a running Dask scheduler, such as tcp://host:8786, and cluster.security where it "
            "asks for TLS",
            remedy="start it with `dask scheduler`, or leave cluster.kind at local",
        ) from None


def _wait_for_worker(client: Client, config: ClusterConfig) -> None:
    try:
        client.wait_for_workers(1, timeout=config.no_workers_timeout_s)
    except TimeoutError:
        raise InputError(
            f"cluster of kind {config.kind}: no worker in {config.no_workers_timeout_s:g} s",
            expected="at least one worker",
            remedy="look at the logs of its workers or its queue, or raise cluster.no_workers_timeout_s",
        ) from None
