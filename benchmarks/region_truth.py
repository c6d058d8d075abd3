"""What weekly passes over a made region tell, beside the truth: changes found and missed, nothing twice at a border.

The commands that it runs are those that a person would type; `make demo-region` is this, kept in runs/demo-region.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from pipeline.training_data.truth_events import TruthComparison, compare_with_truth

CONFIG = Path(__file__).parents[1] / "configs" / "regions" / "made-archive.yaml"
MAKE = "data synthesize made --archive --seed 6 --change-level 0.5"
PASSES = ("2026-06-04", "2026-06-11", "2026-06-18")
"""The day after each scene of the second year."""


def run_command(words: Sequence[str], *, folder: Path) -> dict[str, Any]:
    """Run a command in a folder as a person would, and give what its last line says."""
    print(f"$ deltavlm {shlex.join(words)}", flush=True)
    command = [str(Path(sys.executable).with_name("deltavlm")), *words, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def compare(folder: Path) -> dict[str, TruthComparison]:
    """Hold what the region knows now against the truth, by kind."""
    report = folder / "regions" / "made-archive" / "report"
    seen = pd.concat([gpd.read_parquet(path).to_crs("EPSG:4326") for path in report.glob("seen/*/*.parquet")])
    return {
        kind: compare_with_truth(
            gpd.read_parquet(report / "events.parquet"),
            truth=gpd.read_parquet(folder / "made" / "truth.parquet"),
            seen=seen,
            area=gpd.read_file(folder / "made" / "area.geojson").geometry,
            kind=kind,
        )
        for kind in ("building", "road")
    }


def tell(compared: TruthComparison, *, kind: str) -> str:
    """Say it in a line."""
    return (
        f"    {kind}: of {compared.n_changed} that came or went {compared.n_found} found, {compared.n_touched} in part,"
        f" {compared.n_missed} missed, {compared.n_unseen} under clouds; of {compared.n_events} events"
        f" {compared.n_made_up} made up, {compared.n_twice} told twice; {compared.told_m2:,.0f} m2 told,"
        f" {compared.common_m2:,.0f} of the {compared.changed_m2:,.0f} m2 that changed"
    )


def watch(folder: Path, *, passes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Make the archive and the passes; print what each tells."""
    run_command(shlex.split(MAKE), folder=folder)
    figures = {}
    for day in passes:
        told = run_command(["monitor", str(CONFIG), "--as-of", day], folder=folder)
        compared = compare(folder)
        statuses = ", ".join(f"{block['block_id']} {block['status']}" for block in told["blocks"])
        print(f"    {len(told['blocks'])} blocks: {statuses}")
        print(f"    {told['events']['new']} events new, {told['events']['altered']} altered")
        for kind, each in compared.items():
            print(tell(each, kind=kind), flush=True)
        figures |= {f"{day} {kind}": asdict(each) for kind, each in compared.items() if each.n_changed}
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is done, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the archive and the region are kept; left out, nowhere")
    parser.add_argument("--quick", action="store_true", help="the first pass alone, to see that it runs")
    options = parser.parse_args(arguments)
    passes = PASSES[:1] if options.quick else PASSES
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        figures = watch(folder, passes=passes)
        if options.folder is not None:
            page = options.folder / "regions" / "made-archive" / "report" / "index.html"
            print(f"The region's page: {page}")
    print(json.dumps({"name": "region_truth", "figures": figures}))


if __name__ == "__main__":
    main()
