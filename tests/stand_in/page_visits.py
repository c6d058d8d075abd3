"""A visit to a page in a browser: what it asked for, what it complained of, and whom it keeps out."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


class Visit:
    """A page that was opened, with all it asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, uri: str) -> Page:
        """Open an address and wait until the page's script has done its work."""
        self.page.goto(uri)
        self.page.wait_for_selector(".explorer[data-ready]")
        return self.page


def find_barriers(page: Page) -> list[str]:
    """Have axe-core look for what keeps people out, such as words that do not stand out; gives what is serious.

    Rules are those of WCAG 2.2 at levels A and AA, and those that axe-core calls best practice.
    """
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
