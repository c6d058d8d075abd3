"""A report's chat box and its review in a real browser, by mouse and by keyboard; nothing that is said ever runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from explore_server import ExploreServer, start_explore
from made_scenes import make_config, make_scenes
from page_visits import Visit, find_barriers
from playwright.sync_api import Browser, Locator, Page, expect
from stand_in_model import RAISES_COLOUR

from flows.cluster import open_cluster
from flows.explore.requests import EXAMPLE_LABELS
from pipeline.config.cluster import ClusterConfig
from pipeline.report.reviewed import describe_reviews
from pipeline.runs.run import detect_changes, rebuild_report

CHANGED = {(0, 0): ["top-left", "center-center"], (1, 2): ["center-right"]}
ATTACK = "<script>window.attacked = 1</script><img src=x onerror='window.attacked = 1'>"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    scenes = make_scenes(folder / "scenes", changed=CHANGED, marked={(2, 1): RAISES_COLOUR})
    config = make_config(scenes, output=folder / "run")
    detect_changes(config, open_cluster=partial(open_cluster, ClusterConfig(n_workers=1)))
    return folder / "run"


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[ExploreServer]:
    with start_explore(run) as server:
        yield server


@pytest.fixture(scope="module")
def slow_server(run: Path) -> Iterator[ExploreServer]:
    with start_explore(run, STAND_IN_SECONDS_PER_TILE="3") as server:
        yield server


def open_tile(page: Page, tile_id: str) -> Locator:
    """Show a tile in the page's panel; gives its chat box."""
    page.evaluate("tile => { location.hash = 'tile=' + tile }", tile_id)
    box = page.get_by_role("region", name=f"Ask the model about tile {tile_id}")
    expect(box).to_be_visible()
    return box


@pytest.fixture
def chat(visit: Visit, server: ExploreServer) -> Locator:
    return open_tile(visit.go(f"{server.url}/"), "r0000_c0000")


def test_an_example_of_every_kind_is_asked_with_a_click(chat: Locator, visit: Visit) -> None:
    for number, label in enumerate(EXAMPLE_LABELS.values(), start=1):
        chat.get_by_role("button", name=label, exact=True).click()
        expect(chat.locator(".chat-model")).to_have_count(number)

    log = chat.get_by_role("log")
    expect(log).to_contain_text("2 buildings have changed, and 0 roads have changed.")
    expect(log).to_contain_text("roads: []. buildings:")
    expect(log).to_contain_text("2, as I said")
    expect(chat.locator(".chat-model .chat-details").first).to_contain_text("confidence 0.75")
    assert [words for words in visit.complaints if "favicon" not in words and "404" not in words] == []


def test_it_is_used_by_keyboard_alone(chat: Locator) -> None:
    question = chat.get_by_label("Your question")
    question.focus()
    question.press_sequentially("And")
    question.press("Shift+Enter")
    question.press_sequentially("where?")
    question.press("Enter")

    expect(chat.locator(".chat-you .chat-text")).to_have_text("And\nwhere?")
    expect(chat.locator(".chat-model .chat-text")).to_have_text("2 by my eyes")
    expect(question).to_be_focused()
    expect(question).to_have_value("")
    expect(chat.get_by_role("log")).to_have_attribute("aria-live", "polite")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_of_the_chat(visit: Visit, server: ExploreServer, scheme: Any) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    chat = open_tile(visit.go(f"{server.url}/"), "r0000_c0000")
    chat.get_by_role("button", name="How many?").click()
    expect(chat.locator(".chat-model")).to_have_count(1)

    assert find_barriers(chat.page) == []


def test_every_tile_keeps_its_own_conversation(chat: Locator) -> None:
    page = chat.page
    chat.get_by_role("button", name="How many?").click()
    expect(chat.locator(".chat-model")).to_have_count(1)

    other = open_tile(page, "r0001_c0002")
    expect(other.locator(".chat-entry")).to_have_count(0)
    other.get_by_label("Your question").fill("half a thought")
    other.get_by_role("button", name="How many?").click()
    expect(other.locator(".chat-model .chat-text")).to_have_text("1 buildings have changed, and 0 roads have changed.")

    again = open_tile(page, "r0000_c0000")
    expect(again.locator(".chat-entry")).to_have_count(2)
    again.get_by_label("Your question").fill("And then?")
    again.get_by_role("button", name="Ask", exact=True).click()
    expect(again.locator(".chat-model .chat-text").last).to_have_text("2, as I said")
    expect(open_tile(page, "r0001_c0002").get_by_label("Your question")).to_have_value("half a thought")

    back = open_tile(page, "r0000_c0000")
    back.get_by_role("button", name="Start anew").click()
    expect(back.locator(".chat-entry")).to_have_count(0)


def test_a_hostile_question_is_shown_as_text(chat: Locator) -> None:
    chat.get_by_label("Your question").fill(ATTACK)
    chat.get_by_role("button", name="Ask", exact=True).click()

    expect(chat.locator(".chat-you .chat-text")).to_have_text(ATTACK)
    expect(chat.locator(".chat-model")).to_have_count(1)
    assert chat.page.evaluate("window.attacked === undefined")


def test_hostile_answers_and_problems_are_shown_as_text(visit: Visit, server: ExploreServer) -> None:
    answer = {"question": ATTACK, "answer": ATTACK, "confidence": None, "notes": [ATTACK]}
    problem = {"found": ATTACK, "expected": ATTACK, "remedy": ATTACK}
    replies = iter([(200, answer), (422, problem), (500, "<html>"), (200, answer)])

    def reply(route: Any) -> None:
        status, body = next(replies)
        route.fulfill(status=status, body=json.dumps(body), content_type="application/json")

    visit.page.route("**/api/chat", reply)
    chat = open_tile(visit.go(f"{server.url}/"), "r0000_c0000")
    for number in range(1, 5):
        chat.get_by_role("button", name="Where?").click()
        expect(chat.locator(".chat-model, .chat-problem")).to_have_count(number)

    expect(chat.locator(".chat-model .chat-text").first).to_have_text(ATTACK)
    expect(chat.locator(".chat-model .chat-details").first).to_contain_text("confidence not known")
    expect(chat.locator(".chat-problem .chat-details").first).to_contain_text(f"To do: {ATTACK}")
    assert chat.locator("script, img").count() == 0
    assert chat.page.evaluate("window.attacked === undefined")


def test_a_fault_is_told_and_the_question_is_given_back(visit: Visit, server: ExploreServer) -> None:
    chat = open_tile(visit.go(f"{server.url}/"), "r0002_c0001")
    chat.get_by_label("Your question").fill("Why?")
    chat.get_by_role("button", name="Ask", exact=True).click()

    expect(chat.locator(".chat-problem")).to_contain_text("the model tripped over a tile")
    expect(chat.get_by_label("Your question")).to_have_value("Why?")


def test_thinking_shows_and_can_be_cancelled(visit: Visit, slow_server: ExploreServer) -> None:
    chat = open_tile(visit.go(f"{slow_server.url}/"), "r0000_c0000")
    expect(chat.get_by_role("button", name="Cancel")).to_be_hidden()
    question = chat.get_by_label("Your question")
    question.fill("Where?")
    question.press("Enter")

    expect(chat.get_by_role("status")).to_have_text("stand-in is thinking …")
    expect(chat.get_by_role("button", name="Where?")).to_be_disabled()
    question.press("Escape")
    expect(chat.locator(".chat-note .chat-text")).to_have_text("You cancelled this question.")
    expect(chat.get_by_role("status")).to_have_text("")
    expect(question).to_be_focused()

    # A thought that goes on while another tile is looked at is there on return.
    chat.get_by_role("button", name="How many?").click()
    open_tile(chat.page, "r0001_c0002")
    again = open_tile(chat.page, "r0000_c0000")
    expect(again.get_by_role("status")).to_have_text("stand-in is thinking …")
    expect(again.locator(".chat-model .chat-text")).to_have_text("2 buildings have changed, and 0 roads have changed.")


def open_review(browser: Browser, server: ExploreServer, *, person: str) -> Page:
    """Open the review in a browser that knows nobody."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(f"{server.url}/")
    page.get_by_role("link", name="Review the changes").click()
    page.get_by_label("Your name").fill(person)
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("body")).to_have_attribute("data-shown-ms", re.compile("."))
    return page


def press(page: Page, key: str) -> None:
    """Press a key that leads to another change, and wait until that is shown."""
    former = page.locator("body").get_attribute("data-shown")
    page.keyboard.press(key)
    expect(page.locator("body")).not_to_have_attribute("data-shown", str(former))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_of_the_review(browser: Browser, server: ExploreServer, scheme: Any) -> None:
    page = open_review(browser, server, person=f"cleo, {scheme}")
    page.emulate_media(color_scheme=scheme)

    assert find_barriers(page) == []

    page.context.close()


def test_changes_are_reviewed_by_keys_by_two_people_and_the_report_tells_it(
    browser: Browser, server: ExploreServer, run: Path, tmp_path: Path
) -> None:
    n_changes = len(gpd.read_parquet(run / "report" / "changes.parquet"))
    assert n_changes >= 2
    ann = open_review(browser, server, person="ann")
    ann.keyboard.press("d")
    overlay = ann.locator(".overlay").first.bounding_box()
    assert overlay is not None
    ann.mouse.move(overlay["x"] + 20, overlay["y"] + 20)
    ann.mouse.down()
    ann.mouse.move(overlay["x"] + 90, overlay["y"] + 70, steps=3)
    ann.mouse.up()
    expect(ann.locator("#drawn")).to_have_text("1 shape drawn of what was missed.")
    ann.get_by_label("Which way").select_option("built")
    ann.get_by_label("Note").fill(ATTACK)
    ann.get_by_label("Note").press("Escape")
    press(ann, "w")
    for _ in range(n_changes - 2):
        press(ann, "r")
    ann.keyboard.press("u")
    expect(ann.locator("#problem")).to_have_text("All of these are reviewed.")
    expect(ann.locator("#progress")).to_have_text(f"{n_changes} of {n_changes} reviewed by you.")
    ann.context.close()

    again = open_review(browser, server, person="ann")
    expect(again.locator("#progress")).to_have_text(f"{n_changes} of {n_changes} reviewed by you.")
    expect(again.get_by_role("button", name="Wrong")).to_have_attribute("aria-pressed", "true")
    expect(again.locator("#drawn")).to_have_text("1 shape drawn of what was missed.")
    expect(again.get_by_label("Note")).to_have_value(ATTACK)
    assert again.evaluate("window.attacked === undefined")
    again.context.close()

    bob = open_review(browser, server, person="bob")
    expect(bob.get_by_role("button", name="Wrong")).to_have_attribute("aria-pressed", "false")
    expect(bob.locator("#facts")).to_contain_text("1 other person has looked at it")
    press(bob, "w")
    press(bob, "ArrowLeft")
    bob.keyboard.press("s")
    expect(bob.get_by_label("Before and after")).to_be_visible()
    bob.context.close()

    copy = Path(shutil.copytree(run, tmp_path / "run"))
    report = rebuild_report(str(copy))
    assert report.reviews is not None
    told = describe_reviews(report.reviews)
    assert told == f"{n_changes} of {n_changes} changes reviewed, 1 rejected, 1 not sure, 1 missed place drawn"
    changes = gpd.read_parquet(copy / "report" / "changes.parquet")
    (wrong,) = changes[changes["review"] == "wrong"].to_dict("records")
    assert (wrong["area_m2"], wrong["review_direction"]) == (changes["area_m2"].max(), "built")
    assert told in (copy / "report" / "index.html").read_text()


def test_nothing_can_be_said_of_what_is_not_shown(browser: Browser, server: ExploreServer) -> None:
    """Its pictures are gone, or are still on their way: a key must not be taken for a word about them."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    problem = {"found": "the run has no pixels any more", "expected": "its tile store", "remedy": "run it again"}
    page.route("**/api/review/item?*", lambda route: route.fulfill(status=422, body=json.dumps(problem)))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.goto(f"{server.url}/review")
    page.get_by_label("Your name").fill("dora")
    page.get_by_role("button", name="Begin").click()

    expect(page.locator("#facts")).to_have_text("It cannot be shown")
    expect(page.locator("#problem")).to_have_text("the run has no pixels any more. run it again.")
    page.keyboard.press("r")
    page.get_by_role("button", name="Wrong").click()

    expect(page.get_by_role("button", name="Wrong")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#before")).not_to_have_attribute("src", re.compile("."))
    page.unroute("**/api/review/item?*")
    page.keyboard.press("ArrowRight")
    expect(page.locator("body")).to_have_attribute("data-shown-ms", re.compile("."))
    expect(page.locator("#problem")).to_be_hidden()
    assert sent == []
    page.context.close()


def test_without_the_server_the_page_has_no_chat_box(visit: Visit, run: Path) -> None:
    page = visit.go((run / "report" / "index.html").as_uri())
    page.evaluate("location.hash = 'tile=r0000_c0000'")

    expect(page.locator("[data-chat-tile]")).to_have_count(1)
    expect(page.locator("[data-chat-tile] *")).to_have_count(0)
    plots = page.locator(".plots img")
    plots.last.scroll_into_view_if_needed()
    expect(plots).to_have_count(3)
    page.wait_for_function("[...document.querySelectorAll('.plots img')].every((one) => one.naturalWidth === 979)")


def test_a_script_that_a_strangers_run_brings_along_does_not_run(run: Path, browser: Browser, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "report" / "evil.js").write_text("window.attacked = 1")
    (copy / "report" / "index.html").write_text(
        "<body><script>window.attacked = 1</script><script src='evil.js'></script>"
        "<div data-chat-tile='r0000_c0000'></div></body>"
    )
    with start_explore(copy) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_role("button", name="How many?").click()

        expect(page.locator(".chat-model")).to_have_count(1)
        assert page.evaluate("window.attacked === undefined")
        page.close()


def test_the_model_that_ships_answers(visit: Visit, run: Path) -> None:
    with start_explore(run, "--model", "deltavlm-tiny", "--device", "cpu") as server:
        chat = open_tile(visit.go(f"{server.url}/"), "r0000_c0000")
        expect(chat.locator(".chat-notes")).to_contain_text("may differ")
        for number, label in enumerate(EXAMPLE_LABELS.values(), start=1):
            chat.get_by_role("button", name=label, exact=True).click()
            expect(chat.locator(".chat-model")).to_have_count(number)

        expect(chat.locator(".chat-model .chat-who").first).to_have_text("deltavlm-tiny")
        expect(chat.locator(".chat-model .chat-details").last).to_contain_text("read from what the model answers")
        expect(chat.locator(".chat-problem")).to_have_count(0)
