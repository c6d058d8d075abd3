"""A pass over blocks that is killed at random, again and again, beside one that nobody disturbs: are the tables equal?

Not a matter of time: `deltavlm monitor` is killed with its workers and all else that it started, as a power cut would,
at random moments of its work on two blocks of a made region. Then it is let come to its end, and every table of the
region and of its runs is held against those of the undisturbed pass, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
STAND_IN_FOLDER = ROOT / "tests" / "stand_in"
SECONDS_PER_TILE = 0.15
TILE_PX = 16
N_BLOCKS = 2
MAX_START_S = 300.0
MAX_PASS_S = 1200.0
NOW = "2026-07-01"


def write_region(folder: Path, *, name: str) -> Path:
    """Write the region's file; all of them watch the same made scenes."""
    region = {
        "name": "killed",
        "aoi": str(folder / "area.geojson"),
        "source": {"kind": "stac", "search": {"href": str(folder / "archive" / "catalog.json")}},
        "pairing": {"kind": "dates", "before_dates": "2025", "after_dates": "2026"},
        "output": str(folder / name),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX},
        "tiles": {"shard_size_tiles": 1, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in-outlining"},
        "blocks": {"size_km": 0.144, "n_blocks_at_once": N_BLOCKS},
        "cluster": {"n_workers": 2},
        # Whoever is killed this often is given up else.
        "max_attempts": 100,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(region))
    return path


def make_scenes(folder: Path) -> None:
    """Write two dates of two blocks, with a house in the first and one over the border of both."""
    sys.path.insert(0, str(STAND_IN_FOLDER))
    import shapely
    from made_blocks import list_made_blocks, write_archive, write_area

    blocks = list_made_blocks()[1 : 1 + N_BLOCKS]
    left, bottom, right, top = blocks[0].bounds
    houses = [
        shapely.Point(x, y).buffer(22, cap_style="square") for x, y in ((left + 70, bottom + 70), (right - 40, top))
    ]
    years = {"s2025": {"day": "2025-06-01", "blocks": blocks}}
    years["s2026"] = {"day": "2026-06-01", "blocks": blocks, "houses": houses}
    write_archive(folder / "archive", years)
    write_area(folder / "area.geojson", blocks)


def start_pass(region: Path) -> subprocess.Popen[bytes]:
    """Start a pass in a process group of its own; what it says goes into a file beside the region's."""
    log = region.with_suffix(".log").open("ab")
    path = os.pathsep.join([str(ROOT), str(STAND_IN_FOLDER)])
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli.main import main; main()", "monitor", str(region), "--as-of", NOW],
        env=os.environ | {"PYTHONPATH": path, "STAND_IN_SECONDS_PER_TILE": str(SECONDS_PER_TILE)},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish_pass(region: Path) -> float:
    """Make a pass to its end; gives how long it worked, from its first sign of life on."""
    process = start_pass(region)
    is_at_work = wait_for_work(process, folder=region.with_suffix(""), since=time.time())
    begun = time.monotonic()
    if not is_at_work or process.wait(MAX_PASS_S):
        raise SystemExit(read_end(region))
    return time.monotonic() - begun


def wait_for_work(process: subprocess.Popen[bytes], *, folder: Path, since: float) -> bool:
    """Wait until a pass has its workers and has begun to write a run; False where it ends before."""
    end = time.monotonic() + MAX_START_S
    while process.poll() is None:
        if any(is_younger(path, since) for path in folder.glob("blocks/**/*")):
            return True
        if time.monotonic() > end:
            raise SystemExit(f"no pass at work within {MAX_START_S:g} s")
        time.sleep(0.02)
    return False


def read_end(region: Path) -> str:
    """Give the last words of a pass."""
    return region.with_suffix(".log").read_text(errors="replace")[-2000:]


def is_younger(path: Path, since: float) -> bool:
    """Tell whether something was written since a moment; what is gone meanwhile was not."""
    try:
        return path.stat().st_mtime >= since
    except FileNotFoundError:
        return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_tables(folder: Path) -> dict[str, bytes]:
    """Read every table of a region and of its runs."""
    found = (path for path in folder.rglob("*.parquet") if "answers" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def count_done(folder: Path) -> int:
    """Count the blocks whose run is complete."""
    return len(list(folder.glob("blocks/*/pairs/*/run.json")))


def measure(folder: Path, *, n_kills: int, seed: int) -> dict[str, Any]:
    """Make both passes and compare them."""
    make_scenes(folder)
    whole, killed = (write_region(folder, name=name) for name in ("whole", "killed"))
    work_s = finish_pass(whole)
    print(f"An undisturbed pass works for {work_s:.1f} s.", flush=True)
    dice = random.Random(seed)
    moments: list[float] = []
    while len(moments) < n_kills:
        process, begun = start_pass(killed), time.time()
        if not wait_for_work(process, folder=folder / "killed", since=begun):
            raise SystemExit(f"{read_end(killed)}\nThe pass ended before it was at work, after {len(moments)} kills")
        # A part of it goes by until a pass is where the last one was: none comes to its end before the last kill.
        seconds = dice.uniform(0, 2.5 * work_s / n_kills)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
        else:
            raise SystemExit(f"the pass came to its end after {len(moments)} kills; expected {n_kills}")
        moments.append(round(seconds, 2))
        print(
            f"Kill {len(moments)} after {seconds:.2f} s of work; {count_done(folder / 'killed')} blocks done",
            flush=True,
        )
    finish_pass_or_report(killed)
    told, expected = read_tables(folder / "killed"), read_tables(folder / "whole")
    differing = sorted(name for name in told.keys() | expected.keys() if told.get(name) != expected.get(name))
    print(f"{len(expected)} tables, {len(differing)} of them differ {differing}")
    return {
        "work_s": round(work_s, 1),
        "n_kills": len(moments),
        "after_s": moments,
        "n_tables": len(expected),
        "n_differing": len(differing),
    }


def finish_pass_or_report(region: Path) -> None:
    """Make the last pass; it may have nothing but the report to do."""
    process = start_pass(region)
    if process.wait(MAX_PASS_S):
        raise SystemExit(read_end(region))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is done, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often")
    parser.add_argument("--seed", type=int, default=17, help="of the moments")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), n_kills=options.kills, seed=options.seed)
    print(json.dumps({"name": "block_kills", "figures": figures}))
    if figures["n_differing"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
