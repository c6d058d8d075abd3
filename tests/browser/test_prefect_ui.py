"""Prefect's own pages after a real run: a person finds what it did, its map and the form for the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_scenes import SETTINGS, make_scenes
from page_visits import Visit
from playwright.sync_api import Browser, Page, expect
from prefect_processes import PrefectServer

pytestmark = pytest.mark.timeout(600)

CHANGED = {(0, 0): ["top-left", "center-center"], (1, 2): ["center-right"], (3, 4): ["bottom-left"]}
READ_TABLE = "table => [...table.rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))"

RUN_AND_DEPLOY = """
import json, sys

from flows.deployments import make_run_deployment
from flows.detect_changes import detect_changes_flow
from pipeline.config.run import RunConfig

make_run_deployment().apply()
detect_changes_flow(RunConfig.model_validate(json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: Browser, prefect_home: Path) -> Iterator[PrefectServer]:
    """A server that keeps the deployment and a finished run of made scenes; without a browser, nothing is started."""
    folder = tmp_path_factory.mktemp("prefect")
    scenes = make_scenes(folder / "scenes", changed=CHANGED)
    config: dict[str, Any] = {
        "before": {"uri": str(scenes.before)},
        "after": {"uri": str(scenes.after)},
        "output": str(folder / "run"),
    }
    for setting in (*SETTINGS, "cluster.n_workers=1"):
        key, _, value = setting.partition("=")
        group, _, field = key.partition(".")
        config.setdefault(group, {})[field] = yaml.safe_load(value)
    server = PrefectServer(folder=folder, first_home=prefect_home)
    with server.run():
        arguments = [sys.executable, "-c", RUN_AND_DEPLOY, json.dumps(config)]
        done = subprocess.run(
            arguments, env=server.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield server


@pytest.fixture(scope="module")
def run_id(server: PrefectServer) -> str:
    return str(server.post("flow_runs/filter")[0]["id"])


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page


def take_picture(page: Page, name: str, *, repository: Path) -> None:
    """Keep a picture for a person to look at."""
    folder = Path(os.environ.get("DELTAVLM_SCREENSHOTS") or repository / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"prefect-{name}.png")


def test_the_page_of_a_run_shows_its_stages(server: PrefectServer, run_id: str, page: Page, repository: Path) -> None:
    page.goto(f"{server.url}/runs/flow-run/{run_id}")

    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    expect(page.get_by_text("6 Task runs")).to_be_visible()
    for line in (
        "Find pair: 2 of 2 scenes done",
        "Write tiles: 24 of 24 tiles done",
        "Collect answers: 24 of 24 tiles done",
        "3 of 24 tiles changed (4 building, 0 road changes).",
    ):
        expect(page.get_by_text(line)).to_be_attached()
    take_picture(page, "run", repository=repository)
    page.get_by_text("Artifacts", exact=True).click()
    for key in ("coverage", "summary", "report"):
        expect(page.get_by_text(key, exact=True).first).to_be_visible()


def test_the_summary_shows_the_map(server: PrefectServer, run_id: str, page: Page, repository: Path) -> None:
    artifact = server.read_artifacts(run_id)["summary"]
    page.goto(f"{server.url}/artifacts/artifact/{artifact['id']}")

    expect(page.get_by_role("heading", name="3 of 24 tiles changed")).to_be_visible()
    expect(page.get_by_text("2 buildings appear.").first).to_be_visible()
    chart = page.get_by_alt_text("Map of the later date with the changes outlined")
    expect(chart).to_be_visible()
    expect(page.get_by_alt_text("Change 1, before and after")).to_be_visible()
    # Drawn, as large as the scenes: 6 by 4 tiles of 48 pixels.
    assert chart.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [288, 192]
    take_picture(page, "summary", repository=repository)


def test_coverage_is_a_table(server: PrefectServer, run_id: str, page: Page, repository: Path) -> None:
    artifact = server.read_artifacts(run_id)["coverage"]
    page.goto(f"{server.url}/artifacts/artifact/{artifact['id']}")

    table = page.get_by_role("table")
    expect(table.get_by_role("row").filter(has_text="analysed")).to_contain_text("24")
    statuses = [row[0] for row in table.evaluate(READ_TABLE)]
    seen = ["analysed", "unreadable", "no data", "cloudy", "outside", "identical", "failed"]
    assert statuses == ["status", *seen, "too coarse to tell", "off the scenes"]
    take_picture(page, "coverage", repository=repository)


def test_the_form_asks_for_a_run(server: PrefectServer, page: Page, repository: Path) -> None:
    deployment = server.find_deployment("detect-changes")
    assert deployment is not None
    page.goto(f"{server.url}/deployments/deployment/{deployment['id']}/run")

    # What has no default is not optional, and every field says what it means.
    for label in ("Before", "After", "Output"):
        expect(page.get_by_text(label, exact=True)).to_be_attached()
    for description in (
        "The earlier scene.",
        "Side of a tile in pixels, a multiple of 16.",
        "How often a stage is tried",
    ):
        expect(page.get_by_text(description).first).to_be_attached()
    take_picture(page, "form", repository=repository)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("'output' is a required property")).to_be_attached()
