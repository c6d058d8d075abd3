"""Where the time of a run goes: a synthetic pair through the six verbs on the local cluster, twice.

The first run does all the work, the second must find it done. The bar is their ratio, taken side by side: a repeated
run of 256 tiles has to be at least three times quicker, workers' start included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BAR_RATIO = 3.0


def run_command(*arguments: str) -> tuple[dict[str, Any], float]:
    """Run the command line; give its last line of stdout, and the seconds that the process took."""
    start = time.perf_counter()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("deltavlm")), *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - start


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-px", type=int, default=4096, help="side of the pair in pixels of 0.5 m")
    size_px = parser.parse_args().size_px
    with tempfile.TemporaryDirectory() as folder:
        scenes, run = Path(folder, "scenes"), Path(folder, "run")
        run_command("data", "synthesize", str(scenes), "--seed", "11", "--size-px", str(size_px))
        arguments = ("run", str(scenes / "before.tif"), str(scenes / "after.tif"), "--output", str(run))
        _, first_s = run_command(*arguments)
        stages = json.loads((run / "run.json").read_text())["stages"]
        _, second_s = run_command(*arguments)
    print(f"{'stage':<18} {'done':>6} {'seconds of work':>16}")
    for stage in stages:
        print(f"{stage['stage']:<18} {stage['done']:>6} {stage['seconds']:>16.2f}")
    n_tiles = next(stage["total"] for stage in stages if stage["stage"] == "write_tiles")
    print(f"{n_tiles} tiles: first run {first_s:.1f} s, second run {second_s:.1f} s, on {os.cpu_count()} cores")
    ratio = first_s / second_s
    figures = {
        "n_tiles": n_tiles,
        "first_s": round(first_s, 2),
        "second_s": round(second_s, 2),
        "ratio": round(ratio, 2),
    }
    print(json.dumps({"name": "pair", "figures": figures, "bar": BAR_RATIO, "holds": ratio >= BAR_RATIO}))


if __name__ == "__main__":
    main()
