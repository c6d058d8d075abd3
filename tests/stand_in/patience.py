"""How tests wait for other processes: for a condition, with a limit that a busy machine does not reach."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

PATIENCE_S = 240.0
"""For one thing to happen on a machine that is busy with others; below the limit of a test that starts processes."""
ENDING_S = 60.0
"""For a process that was asked to end."""

Found = TypeVar("Found")


def wait_for(
    look: Callable[[], Found | None], *, what: str, timeout_s: float = PATIENCE_S, pause_s: float = 0.02
) -> Found:
    """Ask until there is an answer.

    Raises:
        TimeoutError: there was none.
    """
    end_s = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end_s:
            raise TimeoutError(f"no {what} within {timeout_s:g} s")
        time.sleep(pause_s)


def end_process(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and make it where it does not."""
    process.terminate()
    try:
        process.wait(timeout=ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
