"""A report of many tiles takes no more memory than one of a million of them may take up per tile.

The benchmark of reports makes it, and is seen to run and to tell its figures by the way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

BYTES_PER_TILE = 1_100
"""2 GB for a million tiles, less what is taken up whatever their number."""
FIXED_BYTES = 900e6
"""The programs (300 MB), what their allocators take ahead, the page and its pictures, outlines: 720 to 782 MB were seen
of 25,600 tiles, 749 MB of 102,400."""


@pytest.mark.timeout(600)
def test_memory_per_tile_is_bounded(repository: Path, tmp_path: Path) -> None:
    # More tiles than the page has pictures or answers of.
    n_tiles = 160**2
    command = [sys.executable, str(repository / "benchmarks" / "report_scale.py")]

    done = subprocess.run(
        [*command, "--tiles", str(n_tiles), "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["name"], told["figures"]["n_tiles"]) == ("report_scale", n_tiles)
    assert 0 < told["figures"]["peak_mb"] * 1e6 < FIXED_BYTES + BYTES_PER_TILE * n_tiles
    report = tmp_path / "run" / "report"
    assert pq.read_metadata(report / "tiles.parquet").num_rows == n_tiles
    assert (report / "index.html").stat().st_size < 5e6
