"""The one error that people are meant to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model.redaction import redact_text


@contextmanager
def clear_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds, from `model` about its input, into the one that people read."""
    try:
        yield
    except kinds as problem:
        raise explain_problem(problem) from None


def explain_problem(problem: Exception) -> InputError:
    """Take an error of `model` apart, which says "found; expected ...; remedy"."""
    return InputError.from_message(
        problem, expected="what `deltavlm ask --help` speaks of", remedy="correct what was given"
    )


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

    @classmethod
    def from_message(cls, message: object, *, subject: str = "", expected: str, remedy: str) -> InputError:
        """Take a message of `model` apart, which says "found; expected ...; remedy".

        Args:
            message: The message, or the error that has it.
            subject: What stands in front of what was found.
            expected: Stands in where the message does not tell.
            remedy: Likewise.
        """
        found, _, rest = str(message).partition("; expected ")
        told, _, advice = rest.partition("; ")
        return cls(f"{subject}{found}", expected=told or expected, remedy=advice or remedy)

    def __str__(self) -> str:
        return f"{self.found}; expected {self.expected}; {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and workers send errors home pickled.
        return _rebuild_input_error, (type(self), self.found, self.expected, self.remedy)


def _rebuild_input_error(kind: type[InputError], found: str, expected: str, remedy: str) -> InputError:
    return kind(found, expected=expected, remedy=remedy)


class FolderError(InputError):
    """The folder of a run is full, out of reach, or in other hands: the whole run stops, and goes on when it is well.

    Other input errors tell of one scene or one tile, and the run goes on without it.
    """
