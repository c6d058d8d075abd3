"""The Dask workers of a run: processes on this machine, or a scheduler that runs elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from pipeline.config import ClusterConfig
from pipeline.errors import InputError

# One thread each: several OpenMP pools on shared cores are ten times slower than one. GDAL's threads and
# Zarr's concurrency are per process too.
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
    "ZARR_ASYNC__CONCURRENCY": "4",
    # Failed tasks come home with their reason and are told as rows and counts; the workers need not tell too.
    "DASK_LOGGING__DISTRIBUTED": "critical",
}

ALLOCATOR_ENVIRONMENT = {
    # Dask has its workers give memory back to the system in small pieces, and the model's next layer asks for it again:
    # it ran more than twice as long that way. These are the thresholds that glibc comes to by itself.
    "MALLOC_MMAP_THRESHOLD_": 32 * 1024**2,
    "MALLOC_TRIM_THRESHOLD_": 64 * 1024**2,
}
"""What a worker's C library reads before its first line of Python runs."""

_SETTINGS = {
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ALLOCATOR_ENVIRONMENT.items()},
    # Ctrl-C in a terminal reaches the workers too; the command tells them when to end.
    "distributed.worker.preload": ["flows.signals"],
    # A task that no worker can take must end in an error, not wait for ever; restarts take seconds.
    "distributed.scheduler.no-workers-timeout": "5 minutes",
    # A worker that dies takes the blame onto all tasks it has been given; so it is given one at a time, and a task
    # that two workers died of is given up. `collect_answers` then looks for the tile.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 1,
}


@contextmanager
def open_cluster(config: ClusterConfig) -> Iterator[Client]:
    """Start workers, or connect to those that are there; local ones end with the context.

    Raises:
        InputError: no scheduler answers at the address.
    """
    # Its loggers have handlers and levels of their own, and importing Prefect sets them to INFO.
    for name in ("distributed", "distributed.client", "distributed.nanny", "distributed.scheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if config.address is not None:
        with _connect(config.address) as client:
            yield client
        return
    with (
        dask.config.set(_SETTINGS),
        LocalCluster(
            n_workers=config.n_workers or choose_n_workers(bytes_per_worker=parse_bytes(config.memory_limit)),
            threads_per_worker=1,
            processes=True,
            memory_limit=config.memory_limit,
            host="127.0.0.1",
            # Without an address the scheduler's pages would take port 8787 from whatever else is there.
            dashboard_address=f"127.0.0.1:{config.dashboard_port or 0}",
            scheduler_kwargs={"dashboard": config.dashboard_port is not None},
            silence_logs=logging.CRITICAL,
            env=_WORKER_ENVIRONMENT,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def choose_n_workers(*, bytes_per_worker: int, n_cores: int = CPU_COUNT, memory_bytes: float = MEMORY_LIMIT) -> int:
    """Give one worker per core, as far as each has the memory that it may take."""
    return max(1, min(n_cores, int(memory_bytes // bytes_per_worker)))


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout="10 s")
    except (OSError, ValueError) as problem:
        # OSError also covers the TimeoutError of a host that does not answer at all.
        raise InputError(
            f"cluster.address {address}: no scheduler answers ({problem})",
            expected="the address of a running Dask scheduler, such as tcp://host:8786",
            remedy="start it with `dask scheduler`, or leave cluster.kind at local",
        ) from None
