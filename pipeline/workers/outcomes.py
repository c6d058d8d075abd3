"""What comes home from a worker: a result, or a failure as plain words, and in either case in time.

A stranger's exception is none of our business but for what it says: pickled it would bring along whatever hangs on it,
run code where it is unpickled, or not be pickled at all, and then nobody would ever hear of it. A call that does not
return cannot be stopped inside its process; so the process is ended, and another one takes its place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from model.errors import InputError
from model.redaction import redact_text, shorten_text

Result = TypeVar("Result")

_MAX_CHARACTERS = 2000
_GRACE_S = 5.0
"""So long a worker goes on after a call that ran out of time, to tell of it."""
_OWN_PACKAGES = ("model", "pipeline", "flows")

_is_stuck = threading.Event()
"""Whether a call in this process ran out of time, and so the process is about to end."""


class TaskFailedError(Exception):
    """A call on a worker that ended in an exception.

    Args:
        kind: Name of the exception's class.
        words: What it said, cut short and without secrets.
    """

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(kind, words)
        self.kind = kind
        self.words = words

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}" if self.words else self.kind


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call came to, as it travels."""

    result: Any = None
    """What it gave."""
    problem: InputError | TaskFailedError | None = None
    """Why it gave nothing."""


def call_plainly(function: Callable[..., Any], *arguments: Any) -> Outcome:
    """Call a function on a worker; whatever it raises becomes words."""
    try:
        result, problem = function(*arguments), None
    except BaseException as fault:
        # A model that ends its process or answers with Ctrl-C has failed at a tile like any other.
        result, problem = None, describe_fault(fault)
    return Outcome(result=result, problem=problem)


def describe_fault(fault: BaseException) -> InputError | TaskFailedError:
    """Give an exception anew, with nothing but its words: ours as what they are, a stranger's as words alone."""
    kind = type(fault).__name__[:100]
    try:
        if isinstance(fault, InputError) and type(fault).__module__.partition(".")[0] in _OWN_PACKAGES:
            found, expected, remedy = (
                shorten_text(str(words), max_length=_MAX_CHARACTERS)
                for words in (fault.found, fault.expected, fault.remedy)
            )
            return type(fault)(found, expected=expected, remedy=remedy)
        words = str(fault)
    except BaseException as silence:
        words = f"(no words: {type(silence).__name__})"
    return TaskFailedError(kind, shorten_text(redact_text(words), max_length=_MAX_CHARACTERS))


def call_in_time(call: Callable[[], Result], *, limit_s: float, what: str) -> Result:
    """Call something in a thread of its own; where it does not return in time, this worker's process is ended.

    Args:
        call: What may hang.
        limit_s: How long it may take, in seconds.
        what: What it is, to tell of it.

    Raises:
        TimeoutError: it did not return; other exceptions are the call's own.
    """
    if _is_stuck.is_set():
        # Whatever else is asked of this process is done by the next one.
        threading.Event().wait(2 * _GRACE_S)
    outcome: list[Result] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="in-time", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        _end_worker()
        raise TimeoutError(f"{what} did not end within {limit_s:g} s, and its worker was ended")
    if faults:
        raise faults[0]
    return outcome[0]


def _end_worker() -> None:
    """End this process a little later, if it is a worker's that a nanny watches, else leave the cluster."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        # No worker, as where a test calls this.
        return
    _is_stuck.set()
    is_watched = worker.nanny is not None

    def end() -> None:
        if is_watched:
            os._exit(1)
        worker.loop.add_callback(worker.close, reason="deltavlm-stuck", executor_wait=False)

    timer = threading.Timer(_GRACE_S, end)
    timer.daemon = True
    timer.start()
