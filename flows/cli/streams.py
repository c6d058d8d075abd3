"""Streams that take nothing, such as a log on a full disk: they end neither the work nor the program in a muddle."""

from __future__ import annotations

import os
from typing import IO, Any


def discard(stream: IO[str]) -> None:
    """Have what is still to be written to a stream that takes nothing go nowhere, at the end of the program too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class LossyStream:
    """A stream for people: where it takes nothing, such as on a full disk, the work goes on without its words."""

    def __init__(self, stream: IO[str]) -> None:
        """Take the stream's place.

        Args:
            stream: Such as stderr.
        """
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        try:
            return self._stream.write(text)
        except OSError:
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        """Have it written, if that can be done."""
        try:
            self._stream.flush()
        except OSError:
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
