from __future__ import annotations

import pytest

from flows.cluster import choose_n_workers

GIB = 1024**3


@pytest.mark.parametrize(
    ("n_cores", "memory_gib", "expected"), [(2, 24, 2), (64, 16, 4), (8, 7, 1), (8, 1, 1), (1, 64, 1), (4, 16.5, 4)]
)
def test_one_worker_per_core_as_far_as_memory_goes(n_cores: int, memory_gib: float, expected: int) -> None:
    assert choose_n_workers(bytes_per_worker=4 * GIB, n_cores=n_cores, memory_bytes=memory_gib * GIB) == expected
