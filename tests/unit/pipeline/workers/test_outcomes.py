"""Failures of strangers as words, and calls that never return."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from model.errors import FolderError, InputError
from model.remote.replies import EndpointError
from pipeline.workers.outcomes import TaskFailedError, call_in_time, call_plainly


class UnpicklableError(Exception):
    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)
        self.lock = threading.Lock()


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError


class StrangeInputError(InputError):
    """Of a package that is none of ours."""


def fall(n: int = 0) -> int:
    return fall(n + 1) + 1


def throw(problem: BaseException) -> None:
    raise problem


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (fall, "RecursionError: maximum recursion depth exceeded"),
        (lambda: throw(UnpicklableError(1, 2)), "UnpicklableError: 1"),
        (lambda: throw(SilentError()), "SilentError: (no words: ValueError)"),
        (lambda: sys.exit(5), "SystemExit: 5"),
        (lambda: throw(KeyboardInterrupt()), "KeyboardInterrupt"),
        (lambda: throw(MemoryError()), "MemoryError"),
        (lambda: throw(ValueError("at https://me:pw12@host/a?sig=b")), "ValueError: at https://***@host/a?sig=***"),
        (
            lambda: throw(StrangeInputError("it", expected="that", remedy="so")),
            "StrangeInputError: it; expected that; so",
        ),
    ],
)
def test_what_a_stranger_raises_comes_home_as_words(call: Callable[[], Any], told: str) -> None:
    outcome = pickle.loads(pickle.dumps(call_plainly(call)))  # noqa: S301

    assert type(outcome.problem) is TaskFailedError
    assert str(outcome.problem).startswith(told)
    assert outcome.result is None


def test_a_long_story_is_cut() -> None:
    outcome = call_plainly(lambda: throw(ValueError("a" * 10_000_000)))

    assert len(str(outcome.problem)) < 3000


@pytest.mark.parametrize("kind", [InputError, FolderError, EndpointError])
def test_our_own_errors_stay_what_they_are_without_what_hangs_on_them(kind: type[InputError]) -> None:
    problem = kind("it", expected="that", remedy="so")
    problem.burden = threading.Lock()  # type: ignore[attr-defined]

    outcome = pickle.loads(pickle.dumps(call_plainly(lambda: throw(problem))))  # noqa: S301

    assert type(outcome.problem) is kind
    assert str(outcome.problem) == "it; expected that; so"


def test_what_a_call_gives_and_raises_in_time_is_its_own() -> None:
    assert call_in_time(lambda: 7, limit_s=60, what="seven") == 7
    with pytest.raises(KeyError, match="mine"):
        call_in_time(lambda: throw(KeyError("mine")), limit_s=60, what="seven")


def test_a_call_that_does_not_return_is_left() -> None:
    start = time.monotonic()

    with pytest.raises(TimeoutError, match=r"the wait did not end within 0.05 s"):
        call_in_time(lambda: time.sleep(30), limit_s=0.05, what="the wait")

    assert time.monotonic() - start < 10
