"""``deltavlm explore`` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispositions import heed_hangups
from made_scenes import command_environment, command_line
from patience import PATIENCE_S


@dataclass(frozen=True, kw_only=True)
class ExploreServer:
    """A server at work."""

    url: str
    process: subprocess.Popen[str]
    first_line: dict[str, Any]


@contextmanager
def start_explore(
    run: Path | str, *arguments: str, wrapper: Sequence[str] = (), **environment: str
) -> Iterator[ExploreServer]:
    """Start the command, after the words of a wrapper, and stop it with the context."""
    with tempfile.TemporaryFile("w+") as messages:
        with heed_hangups():
            process = subprocess.Popen(
                [*wrapper, *command_line("explore", str(run), "--no-browser", *arguments)],
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
                process.wait(timeout=PATIENCE_S)
                messages.seek(0)
                raise RuntimeError(f"explore ended with {process.returncode}: {messages.read()}")
            told = json.loads(line)
            yield ExploreServer(url=told["url"].rstrip("/"), process=process, first_line=told)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=PATIENCE_S)
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, 9)
            process.communicate()
