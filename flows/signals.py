"""A run that is told to stop ends in order: workers gone, lock let go of, and a word on how to go on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest(BaseException):
    """Somebody pressed Ctrl-C or sent a signal; no error, so nothing that catches errors catches it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell says of a program that the signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number

    @property
    def name(self) -> str:
        """Name of the signal."""
        return signal.Signals(self.number).name


def dask_setup(_: object) -> None:
    """Have a worker of this machine ignore Ctrl-C: Dask calls this in each that names the module as a preload."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def list_heeded_signals() -> list[signal.Signals]:
    """List the signals that stop a command: one that is ignored when it begins, as SIGHUP under nohup, stays so."""
    return [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `StopRequest` in the main thread at the first signal; a second one ends the process at once."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in former:
            signal.signal(each, signal.SIG_DFL)
        raise StopRequest(number)

    former = {each: signal.signal(each, stop) for each in list_heeded_signals()}
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)
