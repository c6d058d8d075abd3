"""The page of a real run in a real browser: it shows itself from a file, by its own script, without a network."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_scenes import make_config, make_scenes
from PIL import Image

from flows.cluster import open_cluster
from pipeline.config import ClusterConfig
from pipeline.run import detect_changes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # The scale of a screen pixel must be that of the page, or colours are looked for in the wrong place.
    "--force-device-scale-factor=1",
)
BUILDING_COLOUR = (255, 107, 44)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    scenes = make_scenes(folder / "scenes", changed={(0, 0): ["top-left", "top-center"], (2, 3): ["center-center"]})
    config = make_config(scenes, output=folder / "run")
    detect_changes(config, open_cluster=partial(open_cluster, ClusterConfig(n_workers=1)))
    return folder / "run" / "report" / "index.html"


def run_chromium(*arguments: str, page: Path, profile: Path) -> str:
    done = subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}", *arguments, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_the_script_of_the_page_runs_under_its_own_policy(page: Path, tmp_path: Path) -> None:
    content = run_chromium("--dump-dom", page=page, profile=tmp_path)
    # What the script writes when it starts, and only the script.
    assert 'aria-valuetext="50 % of the map shows the earlier date"' in content
    assert "aria-valuetext=" not in page.read_text(encoding="utf-8").replace('"aria-valuetext"', "")
    assert "24 of 24 tiles" in content


@pytest.mark.parametrize(("width", "height"), [(1280, 1400), (420, 1400)])
def test_the_map_is_drawn_with_its_changes(page: Path, tmp_path: Path, width: int, height: int) -> None:
    picture = tmp_path / "page.png"
    run_chromium(f"--screenshot={picture}", f"--window-size={width},{height}", page=page, profile=tmp_path / "profile")
    pixels = np.asarray(Image.open(picture).convert("RGB"), int)
    assert pixels.shape[:2] == (height, width)
    # Outlines of changes on the map, not only the swatch of the legend.
    is_outline = (np.abs(pixels - BUILDING_COLOUR) < 24).all(axis=2)
    assert is_outline.sum() > width / 2
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200
