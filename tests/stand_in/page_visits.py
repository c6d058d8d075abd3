"""A visit to a page in a browser: what it asked for, and what it complained of."""

from __future__ import annotations

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
