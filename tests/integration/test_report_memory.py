"""A report's memory grows with its tiles no faster than a report of a million of them may take up."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

BYTES_PER_TILE = 1_700
"""2 GB for a million tiles, less what the programs themselves take up."""


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
    return max(stage["peak_mb"] for stage in benchmark.measure_report(folder, n_tiles=n_tiles))


@pytest.mark.timeout(600)
def test_memory_per_tile_is_bounded(benchmark: ModuleType, tmp_path: Path) -> None:
    # Both have more tiles than the files beside the page tell of, so that they differ in nothing but the tiles.
    few, many = 152**2, 232**2

    few_mb = measure(benchmark, tmp_path / "few", n_tiles=few)
    many_mb = measure(benchmark, tmp_path / "many", n_tiles=many)

    assert (many_mb - few_mb) * 1e6 < BYTES_PER_TILE * (many - few)
    report = tmp_path / "many" / "run" / "report"
    assert pq.read_metadata(report / "tiles.parquet").num_rows == many
    assert (report / "index.html").stat().st_size < 5e6
