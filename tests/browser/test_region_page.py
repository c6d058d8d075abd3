"""The region's page in a real browser: dates are chosen, and a change opens with what its pair's run tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_pages import write_made_region
from page_visits import Visit, find_barriers
from playwright.sync_api import Page, expect


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_region(tmp_path_factory.mktemp("region"))


@pytest.fixture
def page(visit: Visit, region: Path) -> Page:
    return visit.go((region / "report" / "index.html").as_uri())


def test_a_date_of_the_time_line_rules_map_and_list(page: Page) -> None:
    date = page.get_by_role("button", name="1 September 2024: 2 changes, 1 new")

    date.click()

    expect(page.get_by_role("status")).to_have_text("1 of 3 changes are shown.")
    expect(date).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[name=from]")).to_have_value(page.locator("[name=to]").input_value())
    date.click()
    expect(page.get_by_role("status")).to_have_text("All 3 changes are shown.")


def test_only_what_is_new_is_shown_when_asked(page: Page) -> None:
    page.get_by_label("Only new").check()

    expect(page.get_by_role("status")).to_have_text("2 of 3 changes are shown.")


def test_dates_are_chosen_from_and_to(page: Page) -> None:
    page.locator("[name=from]").select_option("1 September 2024")
    expect(page.get_by_role("status")).to_have_text("1 of 3 changes are shown.")

    page.locator("[name=from]").select_option("any date")
    page.locator("[name=to]").select_option("1 June 2024")

    expect(page.get_by_role("status")).to_have_text("2 of 3 changes are shown.")


def test_a_change_opens_with_the_answers_and_pictures_of_its_pair(page: Page, visit: Visit) -> None:
    page.locator(".change").first.click()

    panel = page.get_by_role("region", name="One tile")
    expect(panel.locator(".tile-swipe img")).to_have_count(2)
    expect(panel.locator("blockquote")).to_contain_text("<script>window.hacked = 1</script>")
    assert page.evaluate("window.hacked") is None
    link = panel.get_by_role("link", name="Open the report of this pair")
    assert visit.complaints == []

    link.click()

    page.wait_for_selector(".explorer[data-ready]")
    expect(page.locator(".tile-view h3")).to_have_text("Tile r0001_c0001")


def test_a_click_on_the_map_opens_the_change_under_it(page: Page) -> None:
    page.locator(".live-map").scroll_into_view_if_needed()
    place = page.evaluate(
        """() => {
            const { map, data } = deltavlmPage;
            const road = data.changes.ids.findIndex((_, at) => data.changes.kinds[at] === 1);
            const point = map.map.latLngToContainerPoint([-data.changes.anchorYs[road], data.changes.anchorXs[road]]);
            const box = map.map.getContainer().getBoundingClientRect();
            return [box.left + point.x, box.top + point.y];
        }"""
    )

    page.mouse.click(*place)

    expect(page.locator(".of-change h4")).to_contain_text("roads")


def test_a_pair_whose_run_is_not_kept_says_so(page: Page) -> None:
    page.get_by_role("button", name="1 September 2024: 2 changes, 1 new").click()

    page.locator(".change").first.click()

    expect(page.locator(".told")).to_contain_text("is not beside this page")


def test_nobody_is_kept_out(page: Page) -> None:
    assert find_barriers(page) == []

    page.locator(".change").first.click()
    expect(page.get_by_role("region", name="One tile").locator(".tile-swipe img")).to_have_count(2)

    assert find_barriers(page) == []
