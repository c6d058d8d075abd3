"""The report's page in a real browser: what a reader does with it, by mouse and keys, from a file and over HTTP."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_pages import HOSTILE, write_made_page
from page_visits import Visit, find_barriers
from playwright.sync_api import Browser, Page, expect

BUILDING_COLOUR = (255, 107, 44)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made report: 6 x 8 tiles with one road, three buildings, and tiles that nobody saw."""
    return write_made_page(tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(visit: Visit, report: Path) -> Page:
    return visit.go((report / "index.html").as_uri())


def read_pixels(page: Page, selector: str) -> Any:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"), int)


def count_coloured(pixels: Any, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels - colour) < 24).all(axis=2).sum())


@pytest.mark.parametrize("kind", ["file", "http"])
def test_a_change_opens_with_its_tile_and_nothing_but_the_reports_own_files_is_asked_for(
    visit: Visit, report: Path, serve: Callable[[Path], str], kind: str
) -> None:
    base = report.as_uri() if kind == "file" else serve(report)
    page = visit.go(f"{base}/index.html")

    page.get_by_role("button", name="houses are built by the river").click()

    panel = page.get_by_role("region", name="One tile")
    expect(panel.get_by_role("heading", level=3)).to_have_text("Tile r0001_c0001")
    expect(panel.locator(".tile-swipe img")).to_have_count(2)
    expect(panel.locator(".answers dd").first).to_have_text("houses are built by the river .")
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    asked = [uri for uri in visit.requests if not uri.startswith("data:")]
    assert {uri.removeprefix(base) for uri in asked} <= {"/index.html", "/favicon.ico"} | {
        f"/{folder}/{file.name}" for folder in ("page", "plots") for file in (report / folder).iterdir()
    }
    assert f"{base}/page/tiles_r0000_c0000.js" in asked
    assert [words for words in visit.complaints if "favicon" not in words and "404" not in words] == []


@pytest.mark.parametrize(
    ("ask", "left"),
    [
        (lambda page: page.get_by_label("Search").fill("river HOUSES"), "1 of 4"),
        (lambda page: page.get_by_label("Search").fill("r0004"), "1 of 4"),
        (lambda page: page.get_by_label("Search").fill("nothing such"), "0 of 4"),
        (lambda page: page.get_by_label("Roads").uncheck(), "3 of 4"),
        (lambda page: page.get_by_label("Confidence at least").fill("80"), "2 of 4"),
    ],
)
def test_the_filter_rules_list_and_map(page: Page, ask: Callable[[Page], None], left: str) -> None:
    expect(page.get_by_role("status")).to_have_text("All 4 changes are shown.")

    ask(page)

    expect(page.get_by_role("status")).to_have_text(f"{left} changes are shown.")
    expect(page.get_by_role("list", name="Changes").get_by_role("button")).to_have_count(int(left[0]))
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("status")).to_have_text("All 4 changes are shown.")


def test_what_is_filtered_away_leaves_the_map(page: Page) -> None:
    assert count_coloured(read_pixels(page, ".live-map"), BUILDING_COLOUR) > 200

    page.get_by_label("Buildings").uncheck()

    assert count_coloured(read_pixels(page, ".live-map"), BUILDING_COLOUR) == 0


def click_tile(page: Page, row: int, col: int) -> None:
    page.get_by_role("button", name="Whole area").click()
    page.locator(".live-map").scroll_into_view_if_needed()
    place = page.evaluate(
        """([row, col]) => {
            const { map, data } = deltavlmPage;
            const side = data.tiles.stride;
            const point = map.map.latLngToContainerPoint([-(row + 0.5) * side, (col + 0.5) * side]);
            const box = map.map.getContainer().getBoundingClientRect();
            return [box.left + point.x, box.top + point.y];
        }""",
        [row, col],
    )
    page.mouse.click(*place)


def test_a_click_on_the_map_opens_the_tile_under_it(page: Page) -> None:
    page.evaluate(
        """() => document.addEventListener("deltavlm:tile", (event) => { window.told = event.detail.tile_id; })"""
    )

    click_tile(page, 5, 7)

    panel = page.get_by_role("region", name="One tile")
    expect(panel.get_by_role("heading", level=3)).to_have_text("Tile r0005_c0007")
    expect(panel.locator(".state")).to_have_text("Not changed, 97 % confident.")
    expect(panel.locator("[data-chat-tile]")).to_have_attribute("data-chat-tile", "r0005_c0007")
    assert page.evaluate("window.told") == "r0005_c0007"

    click_tile(page, 0, 7)

    expect(panel.locator(".state")).to_contain_text("Not looked at: clouds hide the ground")


def test_the_dates_are_compared_by_mouse_and_by_keyboard(page: Page) -> None:
    border = page.get_by_role("slider", name="Border between the earlier and the later date", exact=True)
    page.locator(".live-map").scroll_into_view_if_needed()
    box = border.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 150, y, steps=3)
    page.mouse.up()
    moved = int(border.get_attribute("aria-valuenow") or 0)
    border.press("ArrowLeft")

    assert moved > 55
    expect(border).to_have_attribute("aria-valuenow", str(moved - 5))
    # The earlier date of the made pair is dark, the later one bright.
    left, right = (read_pixels(page, ".live-map")[200:240, at].mean() for at in (slice(330, 350), slice(-190, -170)))
    assert left < right - 40


def test_the_tile_has_a_swipe_of_its_own(page: Page) -> None:
    page.locator(".change").first.click()
    border = page.get_by_role("slider", name="Border between the earlier and the later date of this tile")

    border.fill("10")

    expect(border).to_have_attribute("aria-valuetext", "10 % shows the earlier date")
    expect(page.locator(".tile-swipe .after")).to_have_attribute("style", "clip-path: inset(0px 0px 0px 10%);")


def test_all_is_done_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    first = page.get_by_role("list", name="Changes").get_by_role("button").first
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    expect(first).to_be_focused()

    page.keyboard.press("Enter")
    expect(page.locator(".tile-view h3")).to_be_focused()
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator(".tile-view h3")).to_have_text("Tile r0002_c0001")
    page.keyboard.press("Escape")
    expect(page.locator(".tile-view")).to_be_hidden()

    page.evaluate("deltavlmPage.map.showBox([1000, 800, 1100, 900])")
    page.locator(".live-map").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".tile-view h3")).to_have_text("Tile r0003_c0004")
    page.keyboard.press("Escape")
    expect(page.locator(".live-map")).to_be_focused()
    before = page.evaluate("deltavlmPage.map.map.getZoom()")
    page.keyboard.press("+")
    page.wait_for_function("(before) => deltavlmPage.map.map.getZoom() > before", arg=before)


def test_words_of_a_model_are_shown_and_never_run(visit: Visit, tmp_path: Path) -> None:
    report = write_made_page(tmp_path, words=HOSTILE)
    page = visit.go((report / "index.html").as_uri())

    page.locator(".change").first.click()
    expect(page.locator(".answers dd").first).to_contain_text("<script>window.hacked = 1</script>")
    page.get_by_label("Search").fill("onerror")
    click_tile(page, 4, 2)
    expect(page.locator(".reason")).to_contain_text("</script><script>")

    assert page.evaluate("window.hacked") is None
    assert (
        page.locator("img[onerror], [onload], .tile-view script, .list-view script, .tile-view svg[onload]").count()
        == 0
    )
    assert visit.complaints == []


def test_a_link_leads_to_a_tile(visit: Visit, report: Path) -> None:
    page = visit.go((report / "index.html").as_uri() + "#tile=r0002_c0006")

    expect(page.locator(".tile-view h3")).to_have_text("Tile r0002_c0006")


def test_without_the_files_beside_it_the_page_says_so(visit: Visit, report: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes((report / "index.html").read_bytes())
    page = visit.go((tmp_path / "index.html").as_uri())

    page.locator(".change").first.click()

    expect(page.locator(".told")).to_contain_text("is not beside this page")
    expect(page.locator(".state")).to_have_text("Changed, > 99 % confident.")


def test_near_enough_the_map_shows_the_tiles_own_pictures(page: Page) -> None:
    assert page.locator(".tile-picture").count() == 0

    page.evaluate("deltavlmPage.map.showBox([300, 300, 700, 700])")

    page.locator(".tile-picture").first.wait_for(state="attached")
    page.get_by_label("tile pictures when near").uncheck()
    expect(page.locator(".tile-picture")).to_have_count(0)


def test_without_scripts_it_is_a_summary_with_a_map(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto((report / "index.html").as_uri())

    expect(page.locator(".explorer")).to_be_hidden()
    expect(page.get_by_role("img", name="The area on 1 June 2020, with the changes drawn over it")).to_be_visible()
    expect(page.locator("article")).to_have_count(4)
    assert count_coloured(read_pixels(page, ".still-map >> nth=1"), BUILDING_COLOUR) > 100
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_every_screen_and_its_words_stand_out(browser: Browser, report: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = Visit(context.new_page()).go((report / "index.html").as_uri())
    page.locator(".change").first.click()
    expect(page.locator(".answers")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Contrast of WCAG 2.2, level AA, of every word on a plain background.
    assert page.evaluate(CONTRAST) == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(visit: Visit, report: Path, scheme: Any) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    page = visit.go((report / "index.html").as_uri())
    assert find_barriers(page) == []

    page.get_by_role("button", name="houses are built by the river").click()
    expect(page.get_by_role("region", name="One tile").get_by_role("heading", level=3)).to_be_visible()

    assert find_barriers(page) == []


def test_on_paper_both_dates_stand_side_by_side(page: Page) -> None:
    page.emulate_media(media="print")

    expect(page.locator(".explorer")).to_be_hidden()
    boxes = [page.locator(".still-map").nth(at).bounding_box() for at in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]


CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const expand = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const measure = ([r, g, b]) => 0.2126 * expand(r / 255) + 0.7152 * expand(g / 255) + 0.0722 * expand(b / 255);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasWords = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const isOnPicture = element.closest("svg, .live-map, .pair, script, style, .skip");
    if (!hasWords || isOnPicture || !element.checkVisibility()) continue;
    let behind = element;
    while (behind && (parse(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 1) behind = behind.parentElement;
    const ground = getComputedStyle(behind ?? document.body).backgroundColor;
    const [low, high] = [getComputedStyle(element).color, ground].map(parse).map(measure).sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) found.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
  }
  return found;
}"""
