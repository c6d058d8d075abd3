"""The process that this machine's workers are forked from: it imports once what each of them needs.

A worker that is started by itself imports torch and all else anew, which took longer than a small run's tiles.
Python's fork server is one process beside this one that does nothing but import, and holds no thread, lock or socket
that a fork would leave half done; so it can start long before the workers, while the client still looks at the scenes.
Workers that come in the place of lost ones, and those of later runs of this process, are there at once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver

# One thread each: several OpenMP pools on shared cores are ten times slower than one. GDAL's threads and
# Zarr's concurrency are per process too.
WORKER_ENVIRONMENT = {
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
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
}
"""What a worker's C library reads before its first line of Python runs."""
START_ENVIRONMENT = WORKER_ENVIRONMENT | ALLOCATOR_ENVIRONMENT
"""What processes that become workers are started with."""
_SERVER_ENVIRONMENT = START_ENVIRONMENT | {
    # Else what lies in the working folder under a library's name would be imported in its place.
    "PYTHONSAFEPATH": "1",
    # Arrow brings an allocator with a thread of its own, which is not even the one that it uses.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

_FIRST_PRELOAD, _LAST_PRELOAD = "flows.waiting_collector", "flows.frozen_imports"
_PRELOADS = ("flows.signals", "pipeline.answers.batch", "pipeline.tiles.write")
_LATE_PRELOADS = (
    "distributed.nanny",
    "pipeline.workers.models",
    "scipy.ndimage",
    "skimage.measure",
    "skimage.segmentation",
)
# ^ What those would import only once they need it.
_WEIGHTS_PRELOAD = "model.answering"


def can_fork(*, device: str, n_gpus: int) -> bool:
    """Tell whether workers may be forked here: CUDA does not survive that, and macOS's own libraries do not like it."""
    return sys.platform == "linux" and (device == "cpu" or not n_gpus)


def list_preloads(*, has_weights: bool) -> list[str]:
    """List the modules that the server imports, in their order; Python passes over one that is not there.

    Args:
        has_weights: As of `start_fork_server`.
    """
    weights = [_WEIGHTS_PRELOAD] if has_weights else []
    return [_FIRST_PRELOAD, *_PRELOADS, *_LATE_PRELOADS, *weights, _LAST_PRELOAD]


def start_fork_server(*, has_weights: bool) -> None:
    """Start the server, unless it runs; it imports in its own time, and ends with this process.

    Args:
        has_weights: Whether the workers hold weights themselves, so that they need torch.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(list_preloads(has_weights=has_weights))
    former = {name: os.environ.get(name) for name in _SERVER_ENVIRONMENT}
    os.environ.update(_SERVER_ENVIRONMENT)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
