"""A page in the system's Firefox, by WebDriver BiDi: the protocol that it speaks itself.

playwright drives only a Firefox of its own making, and others ask for a driver that Debian does not have.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patience import PATIENCE_S, end_process
from websockets.sync.client import ClientConnection, connect

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

_PREFERENCES = {
    # Nothing is asked of anybody, and no page of its own stands before ours.
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}


class FirefoxPage:
    """A page that can be opened, asked, and looked at."""

    def __init__(self, connection: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._connection = connection
        self._number = 0
        self._send("session.new", capabilities={})
        self._send("session.subscribe", events=["log.entryAdded"])
        self._context = self._send("browsingContext.getTree")["contexts"][0]["context"]
        self._send("browsingContext.setViewport", context=self._context, viewport={"width": 1440, "height": 900})

    def go(self, uri: str) -> None:
        """Open an address and wait until the page's script has done its work."""
        self._send("browsingContext.navigate", context=self._context, url=uri, wait="complete")
        self.wait_for("document.querySelector('.explorer[data-ready]')")

    def ask(self, expression: str) -> Any:
        """Give what an expression comes to: a plain value."""
        found = self._send(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then(JSON.stringify)",
            target={"context": self._context},
            awaitPromise=True,
        )
        if found["type"] != "success":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"].get("value", "null"))

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true; the page looks by itself, each time that it draws."""
        self.ask(
            f"new Promise((done) => {{ const look = () => ({condition}) ? done(true) : requestAnimationFrame(look); "
            "look(); })"
        )

    def take_picture(self) -> bytes:
        """Give what is on the screen as PNG."""
        return base64.b64decode(self._send("browsingContext.captureScreenshot", context=self._context)["data"])

    def _send(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            told = json.loads(self._connection.recv(timeout=PATIENCE_S))
            if told.get("method") == "log.entryAdded" and told["params"]["level"] in ("warn", "error"):
                self.complaints.append(told["params"]["text"])
            if told.get("id") == self._number:
                if told["type"] == "error":
                    raise RuntimeError(f"{method}: {told['message']}")
                return told["result"]


@contextmanager
def start_firefox(folder: Path) -> Iterator[FirefoxPage]:
    """Start a headless Firefox with a new profile, and end it with the context.

    Args:
        folder: Empty folder for the profile.
    """
    assert FIREFOX is not None
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _PREFERENCES.items()]
    (folder / "user.js").write_text("\n".join(lines), encoding="utf-8")
    process = subprocess.Popen(
        [FIREFOX, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
    )
    try:
        assert process.stderr is not None
        address = next(
            (found[1] for line in process.stderr if (found := re.search(r"BiDi listening on (ws://\S+)", line))), None
        )
        if address is None:
            raise RuntimeError(f"Firefox ended with {process.wait(timeout=PATIENCE_S)} before it listened")
        with connect(f"{address}/session", max_size=None, open_timeout=PATIENCE_S) as connection:
            yield FirefoxPage(connection)
    finally:
        end_process(process)
        if process.stderr is not None:
            process.stderr.close()
