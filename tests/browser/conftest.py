"""A browser for the tests that click: the machine's Chromium, by way of playwright."""

from __future__ import annotations

import shutil
import socketserver
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from page_visits import Visit
from playwright.sync_api import Browser, expect, sync_playwright

PATIENCE_MS = 120_000
"""For one thing to show on a machine that is busy with others."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


# While playwright runs, an event loop runs in this thread, where other modules want to start theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; each test opens its own pages."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"], timeout=PATIENCE_MS
        )
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A fresh page of a screen of ordinary size."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield Visit(context.new_page())
    context.close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of each request."""


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Iterator[object]:
    """Serve a folder over HTTP on this machine; gives its address."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(folder: Path) -> str:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="folder-server", daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
