"""How quick the report's page is at a hundred thousand tiles: from opening it to the first click, and to each filter.

The report of a made run is written by script: changes come in clusters, about one tile in ten has one, and the page
gets all of them. Chromium then opens it from its file, and the page's own clock tells how long each step takes until
its frame is drawn. Every figure is the median of some tries.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

BAR_READY_S = 3.0
BAR_FILTER_S = 0.2
TRIES = 5
TILE_SIZE_PX = 256

MEASURE = """async () => {
  const start = performance.now();
  await (async (page) => { ACTION })(window.deltavlmPage);
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  return performance.now() - start;
}"""
"""Runs in the page: does something, and tells in ms when the frame after it has been drawn."""

ACTIONS = {
    "filter_by_text_s": """
        page.form.elements.text.value = page.form.elements.text.value ? "" : "houses river";
        page.form.dispatchEvent(new Event("input"));""",
    "filter_by_confidence_s": """
        page.form.elements.confidence.value = page.form.elements.confidence.value === "0" ? "80" : "0";
        page.form.dispatchEvent(new Event("input"));""",
    "move_whole_map_s": "page.map.map.panBy([40, 20], { animate: false });",
    "zoom_in_s": "page.map.map.setZoom(page.map.map.getZoom() + 0.3, { animate: false });",
    "open_tile_s": """
        const shown = new Promise((resolve) => page.root.addEventListener("tileshown", resolve, { once: true }));
        window.nextChange = (window.nextChange ?? 0) + 37;
        page.chooseChange(window.nextChange);
        await shown;""",
}


def write_made_report(folder: Path, *, n_tiles: int) -> dict[str, float]:
    """Write a report of about so many tiles, with the stand-ins of the tests' made pages; gives what that took."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stand_in"))
    from made_pages import GRID, make_findings

    from model.interface import CELL_NAMES, Prompt, PromptKind
    from pipeline.findings.totals import sum_up
    from pipeline.report.write import write_report
    from pipeline.storage.folder import RunFolder
    from pipeline.storage.names import PAGE_NAME
    from pipeline.tiles.store import TileStore

    @dataclass(frozen=True, kw_only=True)
    class NoisyStore(TileStore):
        """A store of tiles with as much detail as the sky, read for nothing: the browser is what is measured."""

        def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
            rng = np.random.default_rng(len(tiles))
            coarse = rng.integers(40, 200, (len(tiles), 2, 3, TILE_SIZE_PX // 8, TILE_SIZE_PX // 8), dtype=np.uint8)
            return coarse.repeat(8, axis=-2).repeat(8, axis=-1)

        def read_thumbnails(self, shards: Any) -> Any:
            for row, col in shards:
                shape = [min(8, n - 8 * i) * 16 for n, i in ((self.grid.n_rows, row), (self.grid.n_cols, col))]
                yield np.random.default_rng(row * 1000 + col).integers(60, 180, (2, *shape, 3), dtype=np.uint8)

    side = round(math.sqrt(n_tiles))
    size = {"tile_size_px": TILE_SIZE_PX, "width_px": side * TILE_SIZE_PX, "height_px": side * TILE_SIZE_PX}
    grid = replace(GRID, n_rows=side, n_cols=side, **size)
    rng = np.random.default_rng(3)
    rows, cols = np.divmod(np.arange(side * side), side)
    is_changed = np.sin(rows / 7) * np.sin(cols / 9) + rng.normal(0, 0.3, side * side) > 0.72
    places = zip(rows[is_changed].tolist(), cols[is_changed].tolist(), strict=True)
    tiles = {
        place: {
            "is_changed": True,
            "change_confidence": float(rng.uniform(0.4, 1)),
            "building_cells": ";".join(rng.choice(CELL_NAMES, int(rng.integers(1, 4)), replace=False)),
            "building_count": int(rng.integers(1, 20)),
            "description": f"{number} houses are built by the {rng.choice(['river', 'road', 'hill'])} .",
        }
        for number, place in enumerate(places)
    }
    prompts = [Prompt(name="description", kind=PromptKind.DESCRIBE, text="Please describe the changes.")]
    plain = {"before_datetime": "2020-06-01", "after_datetime": "2024-06-01", "change_confidence": 0.97}
    findings = make_findings(grid, tiles, prompts=prompts, plain=plain | {"model_id": "made@0", "run_id": "made"})
    store = NoisyStore(folder=RunFolder(str(folder)), grid=grid, content_key="key", shard_size_tiles=8)
    start = time.perf_counter()
    report, _ = write_report(
        findings, totals=sum_up(findings, store=store), store=store, folder=RunFolder(str(folder)), prompts=prompts
    )
    return {
        "write_report_s": round(time.perf_counter() - start, 1),
        "n_tiles": side * side,
        "n_changed_tiles": len(tiles),
        "n_changes": sum(report.change_counts.values()),
        "n_tile_files": len(report.files) - len(report.names),
        "report_mb": round(sum(int(facts["size_bytes"]) for facts in report.files.values()) / 1e6, 1),
        "page_mb": round((folder / PAGE_NAME).stat().st_size / 1e6, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def measure_page(page_file: Path, *, chromium: str) -> dict[str, float]:
    """Open the page and do what a reader does."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def open_page() -> tuple[Any, float]:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_selector(".explorer[data-ready]", timeout=120_000)
            return page, page.evaluate("performance.now()") / 1000

        ready = []
        for _ in range(TRIES):
            page, ready_s = open_page()
            ready.append(ready_s)
        figures = {"ready_s": median(ready)}
        for name, action in ACTIONS.items():
            script = MEASURE.replace("ACTION", action)
            figures[name] = median(page.evaluate(script) for _ in range(TRIES)) / 1000
        figures["memory_mb"] = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        browser.close()
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=100_000, help="tiles of the region, about")
    parser.add_argument("--folder", type=Path, help="where to write the report, and to find it again the next time")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium on this machine; apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        written = write_made_report(folder, n_tiles=asked.tiles)
        figures = written | measure_page(folder / "report" / "index.html", chromium=chromium)
    for name, value in figures.items():
        print(f"{name:<26} {value:>12,}")
    holds = figures["ready_s"] < BAR_READY_S and all(
        figures[name] < BAR_FILTER_S for name in ("filter_by_text_s", "filter_by_confidence_s")
    )
    bar = {"ready_s": BAR_READY_S, "filter_s": BAR_FILTER_S}
    print(json.dumps({"name": "page", "figures": figures, "bar": bar, "holds": holds}))


if __name__ == "__main__":
    main()
