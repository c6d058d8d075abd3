"""A report of many tiles takes no more memory than one of a million of them may take up per tile."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

BYTES_PER_TILE = 1_100
"""2 GB for a million tiles, less what is taken up whatever their number."""
FIXED_BYTES = 900e6
"""The programs (300 MB), what their allocators take ahead, the page and its pictures, outlines: 720 to 782 MB were seen
of 25,600 tiles, 749 MB of 102,400."""


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("report_scale", repository / "benchmarks" / "report_scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def measure(benchmark: Any, folder: Path, *, n_tiles: int) -> int:
    """Make a run of so many tiles; gives the largest memory in MB of the process that reports on it."""
    folder.mkdir()
    benchmark.paint_scenes(folder)
    benchmark.make_folder(benchmark.prepare_run(folder, n_tiles=n_tiles))
    return max(stage["peak_mb"] for stage in benchmark.measure_apart("report", folder, n_tiles=n_tiles))


@pytest.mark.timeout(600)
def test_memory_per_tile_is_bounded(benchmark: ModuleType, tmp_path: Path) -> None:
    # More tiles than the page has pictures or answers of.
    n_tiles = 160**2

    peak_mb = measure(benchmark, tmp_path / "made", n_tiles=n_tiles)

    assert peak_mb * 1e6 < FIXED_BYTES + BYTES_PER_TILE * n_tiles
    report = tmp_path / "made" / "run" / "report"
    assert pq.read_metadata(report / "tiles.parquet").num_rows == n_tiles
    assert (report / "index.html").stat().st_size < 5e6
