"""How long ``deltavlm --help`` takes; the bar is one second."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR_S = 1.0
N_RUNS = 7


def measure_help() -> list[float]:
    """Time whole processes, in seconds."""
    command = [str(Path(sys.executable).with_name("deltavlm")), "--help"]
    seconds = []
    for _ in range(N_RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print a table, then one JSON line."""
    seconds = measure_help()
    median_s = statistics.median(seconds)
    print(f"deltavlm --help, {N_RUNS} runs: median {median_s:.2f} s, from {min(seconds):.2f} to {max(seconds):.2f} s")
    figures = {"median_s": round(median_s, 3), "min_s": round(min(seconds), 3), "max_s": round(max(seconds), 3)}
    print(json.dumps({"name": "command_line", "figures": figures, "bar": BAR_S, "holds": median_s < BAR_S}))


if __name__ == "__main__":
    main()
