"""A cluster of one worker per GPU; skipped where there is no GPU or no dask-cuda."""

import os

import pytest
import torch

from flows.cluster import open_cluster
from pipeline.config.cluster import ClusterConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def see_gpu() -> tuple[str, str, int]:
    from torch import cuda

    return os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0], str(cuda.get_device_properties(0).uuid), os.getpid()


def test_every_worker_has_a_gpu_of_its_own():
    pytest.importorskip("dask_cuda", reason="dask-cuda is not installed: pip install 'deltavlm-monitor[cuda]'")

    with open_cluster(ClusterConfig(kind="cuda"), device="cuda") as client:
        seen = list(client.run(see_gpu).values())
        threads = set(client.nthreads().values())

    assert len(seen) == torch.cuda.device_count()
    assert len({number for number, _, _ in seen}) == len({uuid for _, uuid, _ in seen}) == len(seen)
    assert threads == {1}
