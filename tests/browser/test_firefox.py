"""The pages of a run and of a region in Firefox: they are drawn, say nothing against themselves, and open a change."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from firefox_visit import FIREFOX, FirefoxPage, start_firefox
from made_pages import write_made_page, write_made_region
from PIL import Image

BUILDING_COLOUR = (255, 107, 44)

pytestmark = pytest.mark.skipif(FIREFOX is None, reason="no Firefox on this machine; apt-get install firefox-esr")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirefoxPage]:
    with start_firefox(tmp_path_factory.mktemp("firefox")) as page:
        yield page


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_made_page, "index.html"), (write_made_region, "report/index.html")],
    ids=["run", "region"],
)
def test_a_page_is_drawn_and_opens_a_change(page: FirefoxPage, tmp_path: Path, write: object, name: str) -> None:
    assert callable(write)
    page.complaints.clear()

    page.go((write(tmp_path) / name).as_uri())

    page.ask("document.querySelector('.live-map').scrollIntoView({ behavior: 'instant' })")
    box = page.ask("document.querySelector('.live-map').getBoundingClientRect()")
    place = (box["left"], box["top"], box["right"], box["bottom"])
    pixels = np.asarray(Image.open(io.BytesIO(page.take_picture())).convert("RGB").crop(place), int)
    # Nothing else in the map has that colour; of the region's two buildings there are about a hundred pixels.
    assert (np.abs(pixels - BUILDING_COLOUR) < 24).all(axis=2).sum() > 50
    page.ask("document.querySelector('.change').click()")
    page.wait_for("document.querySelectorAll('.tile-swipe img').length === 2")
    page.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.ask("document.querySelector('.tile-view h3').textContent") == "Tile r0001_c0001"
    assert [words for words in page.complaints if "favicon" not in words] == []
