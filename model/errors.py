"""The one error that people are meant to read; every other exception is a fault of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from model.redaction import redact_text


class InputError(ValueError):
    """The input or the configuration cannot be worked on; the command line ends with exit code 2.

    Its words are shown and logged, so URIs in them lose their passwords and signatures.

    Args:
        found: What is there, naming the file, the tile or the config key.
        expected: What would have been right.
        remedy: What the person can do about it.
    """

    def __init__(self, found: str, *, expected: str, remedy: str) -> None:
        found, expected, remedy = redact_text(found), redact_text(expected), redact_text(remedy)
        super().__init__(found, expected, remedy)
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.found}; expected {self.expected}; {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and workers send errors home pickled.
        return _rebuild_input_error, (type(self), self.found, self.expected, self.remedy), self.__dict__

    def about(self, subject: str) -> Self:
        """Give the same error with what it is about in front of what was found, such as ``before: ``."""
        return type(self)(f"{subject}{self.found}", expected=self.expected, remedy=self.remedy)


def _rebuild_input_error(kind: type[InputError], found: str, expected: str, remedy: str) -> InputError:
    return kind(found, expected=expected, remedy=remedy)


class FolderError(InputError):
    """The folder of a run is full, out of reach, or in other hands: the whole run stops, and goes on when it is well.

    Other input errors tell of one scene or one tile, and the run goes on without it.
    """


@contextmanager
def refuse_unwritable(place: str | Path, *, remedy: str = "make room, or name another --output") -> Iterator[None]:
    """Tell of a disk that is full or a place that cannot be written to; around what writes there, and nothing else.

    Args:
        place: The file or folder.
        remedy: What can be done.

    Raises:
        InputError: the system refused.
    """
    try:
        yield
    except OSError as problem:
        raise InputError(
            f"{place} cannot be written ({problem.strerror or problem})",
            expected="a place with room that can be written to",
            remedy=remedy,
        ) from None
