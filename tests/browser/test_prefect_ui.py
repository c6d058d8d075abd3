"""Prefect's own pages in a real browser, as an operator sees them: a run, its artifacts, and the form that starts one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_scenes import SETTINGS, command_line, make_scenes
from prefect_processes import PrefectServer, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pip install playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHANGED = {(0, 0): ["top-left", "top-center"], (2, 3): ["center-center"]}
WAIT_MS = 60_000

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server, and what serves our deployments."""
    server = PrefectServer(folder=tmp_path_factory.mktemp("prefect"))
    with server.run(), server.work(*command_line("serve"), log="serve.log"):
        wait_for(lambda: server.find_deployment("detect-changes"), what="deployment")
        yield server


@pytest.fixture(scope="module")
def run(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run that is done."""
    folder = tmp_path_factory.mktemp("run")
    scenes = make_scenes(folder / "scenes", changed=CHANGED)
    config: dict[str, Any] = {
        "before": {"uri": str(scenes.before)},
        "after": {"uri": str(scenes.after)},
        "output": str(folder / "city"),
    }
    for setting in (*SETTINGS, "cluster.n_workers=1"):
        key, _, value = setting.partition("=")
        group, _, field = key.partition(".")
        config.setdefault(group, {})[field] = yaml.safe_load(value)
    deployment = server.find_deployment("detect-changes")
    assert deployment is not None
    run = server.wait_for_state(server.start_run(deployment, config=config))
    assert run["state_type"] == "COMPLETED", server.read_log(run["id"])
    return run


@pytest.fixture(scope="module")
def screenshots(repository: Path) -> Path:
    """Where pictures of the pages are kept, to be looked at."""
    folder = Path(os.environ.get("DELTAVLM_SCREENSHOTS", repository / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a browser that reaches nothing but this machine, as on a site without internet."""
    faults: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(WAIT_MS)
        page.route(
            lambda url: not re.match(r"^(https?|wss?)://127\.0\.0\.1[:/]|^data:|^blob:", url),
            lambda route: route.abort(),
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
        browser.close()
    assert faults == []


def test_the_page_of_a_run_tells_its_stages_in_sentences(
    server: PrefectServer, run: dict[str, Any], page: Any, screenshots: Path
) -> None:
    page.goto(f"{server.url}/v2/runs/flow-run/{run['id']}")
    page.get_by_text("2 of 24 tiles changed (2 building, 0 road changes).").wait_for()
    words = page.inner_text("body")
    assert "city: before to after" in words
    assert "Completed" in words
    assert "Collect answers: 24 of 24 tiles done, in" in words
    page.screenshot(path=screenshots / "prefect-run.png", full_page=True)


@pytest.mark.parametrize("pages", ["", "/v2"])
def test_the_summary_shows_the_map_and_the_largest_changes(
    server: PrefectServer, run: dict[str, Any], page: Any, screenshots: Path, pages: str
) -> None:
    artifact = server.read_artifacts(run["id"])["summary"]
    page.goto(f"{server.url}{pages}/artifacts/artifact/{artifact['id']}")
    page.get_by_role("heading", name="2 of 24 tiles changed").wait_for()
    pictures = page.locator("img[alt]")
    sizes = pictures.evaluate_all("all => all.map(each => [each.alt, each.naturalWidth, each.naturalHeight])")
    # The scenes are 288 by 192 pixels.
    assert [size for size in sizes if size[0].startswith("Map of")][0][1:] == [288, 192]
    assert len([size for size in sizes if size[0].startswith("Change ") and min(size[1:]) > 40]) == 2
    words = page.inner_text("body")
    assert "1. building, 512 m², confidence 0.75, tile r0000_c0000" in words
    assert "2 buildings appear." in words
    assert "report/index.html" in words
    page.screenshot(path=screenshots / f"prefect-summary{pages.replace('/', '-')}.png", full_page=True)


def test_the_table_of_coverage_names_all_statuses(
    server: PrefectServer, run: dict[str, Any], page: Any, screenshots: Path
) -> None:
    artifact = server.read_artifacts(run["id"])["coverage"]
    page.goto(f"{server.url}/v2/artifacts/artifact/{artifact['id']}")
    page.get_by_role("cell", name="analysed").wait_for()
    rows = [row.locator("td").all_inner_texts()[:3] for row in page.locator("tbody tr").all()]
    assert ["analysed", "24", "100 %"] in rows
    assert len(rows) == 7
    page.screenshot(path=screenshots / "prefect-coverage.png")


def test_the_form_starts_a_run_with_what_a_person_fills_in(
    server: PrefectServer, run: dict[str, Any], page: Any, screenshots: Path, tmp_path: Path
) -> None:
    deployment = server.find_deployment("detect-changes")
    assert deployment is not None
    page.goto(f"{server.url}/v2/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("The earlier scene.").wait_for()
    words = page.inner_text("body")
    assert "Pixel size in metres." in words
    assert "Tile size (pixels)" in words
    assert "Seconds before the first further try" in words
    # What has no title of its own, these pages call a field or by the name of its class.
    assert not re.search(r"\bField\b|Config\b", words)
    page.screenshot(path=screenshots / "prefect-form.png", full_page=True)
    scenes = make_scenes(tmp_path / "scenes", changed=CHANGED)
    # One of each scene's uri and one of its assume_crs: the first and the third.
    for place, scene in ((0, scenes.before), (2, scenes.after)):
        page.get_by_role("tab", name="str", exact=True).nth(place).click()
        page.locator("textarea").nth(place // 2).fill(str(scene))
    for label, value in {
        "Output": str(tmp_path / "formed"),
        "Resolution (m) (Optional)": "1",
        "Tile size (pixels) (Optional)": "48",
    }.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Name (Optional)", exact=True).fill("stand-in")
    page.get_by_role("button", name="Submit").click()

    started = wait_for(
        lambda: next((each for each in server.list_runs("detect-changes") if each["id"] != run["id"]), None),
        what="run from the form",
    )
    done = server.wait_for_state(started["id"])
    assert done["state_type"] == "COMPLETED", server.read_log(done["id"])
    assert "2 of 24 tiles changed" in server.read_log(done["id"])
