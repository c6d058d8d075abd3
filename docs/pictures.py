"""Make the pictures of README and docs anew: `make pictures`.

The pages are those of real runs with the model that ships: the run of `make demo`, the region of docs/monitoring.md, a
question put in `deltavlm explore`, and a run under a Prefect server on this machine. Needs Chromium. The figures of the
model card are made by docs/model_card.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explore_server import start_explore
from made_scenes import command_line
from page_visits import Visit
from playwright.sync_api import Browser, Page, expect, sync_playwright
from prefect_processes import PrefectServer

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SCREEN = {"width": 1440, "height": 900}
TALL_SCREEN = {"width": 1440, "height": 1300}
PATIENCE_MS = 120_000

RUN_FLOW = """
import sys

from flows.detect_changes import detect_changes_flow
from pipeline import load_config

before, after, output, config = sys.argv[1:]
detect_changes_flow(load_config(config, values={"before": before, "after": after, "output": output}))
"""


def main() -> None:
    """Make all pictures, or those that are named."""
    makers = {"report": draw_report, "explore": draw_explore, "region": draw_region, "prefect": draw_prefect}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(makers), help=", ".join(makers))
    names = parser.parse_args().names
    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        for name in names:
            makers[name](browser, Path(scratch))


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the system's Chromium."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def draw_report(browser: Browser, _: Path) -> None:
    """Show the report of the demo as it opens, with its largest change chosen."""
    page = visit(browser, (find_demo() / "report" / "index.html").as_uri(), screen=TALL_SCREEN)
    page.locator(".change").first.click()
    keep(page, "report.png")


def draw_explore(browser: Browser, _: Path) -> None:
    """Ask one question about a tile that changed."""
    with start_explore(find_demo()) as server:
        page = visit(browser, f"{server.url}/")
        page.locator(".change").first.click()
        page.get_by_role("button", name="How many?").click()
        page.locator(".chat-model").first.wait_for(timeout=PATIENCE_MS)
        page.locator(".chat-model").first.scroll_into_view_if_needed()
        keep(page, "explore.jpg")


def draw_region(browser: Browser, scratch: Path) -> None:
    """Watch the made region of docs/monitoring.md and show its page."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    made = ["data", "synthesize", "made", "--size-px", "1024", "--dates", "2024-06-15,2025-06-18,2026-06-20"]
    for arguments in (made, ["monitor", str(ROOT / "configs" / "regions" / "synthetic.yaml")]):
        subprocess.run(command_line(*arguments), cwd=scratch, env=environment, check=True)
    page = visit(browser, (scratch / "regions" / "synthetic" / "report" / "index.html").as_uri(), screen=TALL_SCREEN)
    keep(page, "region.jpg")


def draw_prefect(browser: Browser, scratch: Path) -> None:
    """Run the demo's scenes as a flow and show the summary that Prefect keeps of it."""
    scenes = find_demo().parent / "scenes"
    server = PrefectServer(folder=scratch)
    with server.run():
        arguments = [scenes / "before.tif", scenes / "after.tif", scratch / "run", ROOT / "configs" / "demo.yaml"]
        command = [sys.executable, "-c", RUN_FLOW, *map(str, arguments)]
        subprocess.run(command, env={**server.environment, "PYTHONPATH": str(ROOT)}, check=True)
        run_id = server.post("flow_runs/filter")[0]["id"]
        page = browser.new_context(viewport=SCREEN).new_page()
        page.goto(f"{server.url}/artifacts/artifact/{server.read_artifacts(run_id)['summary']['id']}")
        map_picture = page.get_by_alt_text("Map of the later date with the changes outlined")
        expect(map_picture).to_be_visible(timeout=PATIENCE_MS)
        keep(page, "prefect.png")


def find_demo() -> Path:
    """Give the demo's run.

    Raises:
        SystemExit: `make demo` has not made it.
    """
    told = ROOT / "runs" / "demo" / "run" / "run.json"
    if not told.is_file() or not json.loads(told.read_text(encoding="utf-8"))["files"]:
        sys.exit(f"no finished run at {told.parent}; make it with `make demo`")
    return told.parent


def visit(browser: Browser, address: str, *, screen: dict[str, int] = SCREEN) -> Page:
    """Open one of our pages and wait until it has drawn itself."""
    page = browser.new_context(viewport=screen).new_page()
    page.set_default_timeout(PATIENCE_MS)
    return Visit(page).go(address)


def keep(page: Page, name: str) -> None:
    """Save what the page shows under docs/."""
    page.wait_for_function("[...document.images].every(image => image.complete)")
    kind = "jpeg" if name.endswith(".jpg") else "png"
    page.screenshot(path=DOCS / name, type=kind, quality=85 if kind == "jpeg" else None)
    print(f"docs/{name}")


if __name__ == "__main__":
    main()
