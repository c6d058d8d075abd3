"""How the processes of tests take signals, whatever the tests themselves were started with, such as ``nohup ... &``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANGUPS = (signal.SIGINT, signal.SIGHUP)
"""What ``nohup`` and the ``&`` of a script have a program ignore, and all that it starts."""

IN_THE_BACKGROUND = ("sh", "-c", 'trap "" INT; exec nohup "$@"', "sh")
"""Words before a command that start it as a script's ``nohup ... &`` does."""


@contextmanager
def heed_hangups() -> Iterator[None]:
    """Have what is started here begin with the default dispositions, though this process goes on ignoring the signals.

    A new program gets the default in the place of a handler, but inherits that a signal is ignored.
    """
    former = {number: signal.getsignal(number) for number in HANGUPS}
    ignored = [number for number, handler in former.items() if handler is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _let_pass)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _let_pass(number: int, frame: FrameType | None) -> None:
    """Do as if the signal were ignored."""
