"""Benchmarks run in their smallest form and tell their figures; how large those are is not asked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.timeout(540)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tile_writing", ["--kind", "same CRS"]),
        ("empty_ground", []),
        ("peers", []),
        # Ten processes, none of which takes its time from the model.
        ("run", ["--model", "stand-in"]),
        ("composites", []),
        ("block_planning", []),
        ("linear_layers", []),
    ],
)
def test_a_benchmark_runs_and_tells_its_figures(repository: Path, name: str, options: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / f"{name}.py"), "--quick", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["name"] == name
    assert told["figures"]
    kinds = [kind for kind in told["figures"].values() if isinstance(kind, dict)]
    assert all(np.all(np.array(figure) >= 0) and np.any(figure) for kind in kinds for figure in kind.values())
