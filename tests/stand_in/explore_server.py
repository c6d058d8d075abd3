"""``deltavlm explore`` in a process of its own, and the least page that it can be shown with."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_scenes import command_environment, command_line

SMALL_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A report</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-hashes' 'sha256-{digest}'; base-uri 'none'">
<style>:root {{ color-scheme: light dark }} body {{ font: 16px sans-serif; max-width: 30rem }}</style>
</head><body><h1>A report</h1>
<button id="first">r0000_c0000</button> <button id="second">r0001_c0002</button> <button id="third">r0002_c0002</button>
<aside id="panel"></aside>
<script>{script}</script>
</body></html>"""
"""What the report's page promises: an element per tile that is shown, and an event that says which."""

PANEL_SCRIPT = """
for (const button of document.querySelectorAll("button")) button.addEventListener("click", () => {
  const box = document.createElement("div");
  box.dataset.chatTile = button.textContent;
  document.querySelector("#panel").replaceChildren(box);
  document.dispatchEvent(new CustomEvent("deltavlm:tile", { detail: { tile_id: button.textContent } }));
});
window.attacked = 0;
"""


@dataclass(frozen=True, kw_only=True)
class ExploreServer:
    """A server at work."""

    url: str
    process: subprocess.Popen[str]
    first_line: dict[str, Any]


@contextmanager
def start_explore(run: Path | str, *arguments: str, **environment: str) -> Iterator[ExploreServer]:
    """Start the command and stop it with the context."""
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(
            command_line("explore", str(run), "--no-browser", *arguments),
            env=command_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait(timeout=60)
                messages.seek(0)
                raise RuntimeError(f"explore ended with {process.returncode}: {messages.read()}")
            told = json.loads(line)
            yield ExploreServer(url=told["url"].rstrip("/"), process=process, first_line=told)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, 9)
            process.communicate()
