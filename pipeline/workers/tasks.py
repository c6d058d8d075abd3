"""Tasks on Dask workers that come and go: few in flight, none forgotten, and a clear word when all are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NamedTuple

import dask
from dask.utils import parse_timedelta
from distributed import Client, Future, as_completed
from distributed.client import ClosedClientError

from model.errors import InputError
from pipeline.workers.outcomes import Outcome, call_plainly

TASKS_PER_WORKER = 3
"""Tasks handed out per worker: one at work, one that reads or waits beside it, one on its way."""

SECONDS_BETWEEN_COUNTS = 1.0
"""How often the scheduler is asked for its workers, at the most."""


class Call(NamedTuple):
    """One call of a function on a worker."""

    key: str
    """Name of the task, unique on the scheduler."""
    arguments: tuple[Any, ...]
    """Positional arguments."""


class WorkerCount:
    """How many workers there are: asked for now and then, as they come and go."""

    def __init__(self, client: Client, *, timeout_s: float | None = None) -> None:
        """Begin to watch.

        Args:
            client: The cluster.
            timeout_s: So long the work may be without any worker; left out, Dask's ``no-workers-timeout``.
        """
        setting = parse_timedelta(dask.config.get("distributed.scheduler.no-workers-timeout"))
        self._client = client
        self._timeout_s = setting if timeout_s is None else timeout_s
        self._n_workers = 0
        self._asked_at_s = -float("inf")
        self._seen_at_s = time.monotonic()

    def get(self) -> int:
        """Give the number of workers, at most a second old.

        Raises:
            InputError: there has been none for too long.
        """
        now_s = time.monotonic()
        # Where the scheduler itself is gone it would be waited for; the futures tell sooner.
        if now_s - self._asked_at_s >= SECONDS_BETWEEN_COUNTS and self._client.status == "running":
            self._asked_at_s = now_s
            with suppress(OSError, ClosedClientError):
                self._n_workers = len(self._client.nthreads())
        if self._n_workers:
            self._seen_at_s = now_s
        elif self._timeout_s is not None and now_s - self._seen_at_s > self._timeout_s:
            raise InputError(
                f"no worker has been there for {self._timeout_s:g} s",
                expected="workers that stay until the run has ended, or others in their place",
                remedy="look at their logs, start some, and then the run again: it does only what is missing",
            )
        return self._n_workers


def ask_workers(client: Client, function: Callable[..., Any], *arguments: Any) -> dict[str, Any | BaseException]:
    """Call a function on every worker that is there, outside of any task.

    Args:
        client: The cluster.
        function: A top-level function.
        arguments: Its arguments.

    Returns:
        What it gave or raised, by the worker's address; a worker that went away meanwhile is left out.
    """
    answers: dict[str, Any] = client.run(call_plainly, function, *arguments, on_error="return")
    # Other exceptions than those of the function tell of the worker, or of what it sends.
    return {
        address: (answer.problem or answer.result) if isinstance(answer, Outcome) else answer
        for address, answer in answers.items()
        if not isinstance(answer, OSError)
    }


def choose_max_in_flight(n_workers: int, *, asked: int | None) -> int:
    """Give how many tasks to hand to the scheduler at once: what was asked for, or a few per worker."""
    return asked if asked is not None else TASKS_PER_WORKER * max(1, n_workers)


def run_bounded(
    client: Client,
    function: Callable[..., Any],
    take_call: Callable[[], Call | None],
    *,
    max_in_flight: int | None,
) -> Generator[tuple[str, Any | BaseException], None, None]:
    """Run a function on the workers for each of many arguments, never more than a few at once.

    A scheduler spends memory on every task it knows of, and a future holds its result on a worker until it is
    released; so tasks are handed over one by one as others finish, and each is released before it is yielded.

    Args:
        client: The cluster.
        function: A top-level function; it may run more than once for one argument, as workers may die.
        take_call: Gives what is to be called next, or None where there is nothing for now: it is asked again after
            each outcome, so whoever takes the outcomes may have more to call by then.
        max_in_flight: Most tasks that the scheduler knows of at any time; None follows the number of workers.

    Yields:
        Task key and the call's result, or the exception that ended it as `describe_fault` gives it, in the order in
        which they finish. A call that killed its worker again and again ends in `distributed.KilledWorker`.

    Raises:
        InputError: the scheduler went away, or all workers and for too long.
    """
    if (first := take_call()) is None:
        # No worker is asked for where there is nothing to do.
        return
    # Not with results: where a worker goes down with one, as_completed would never tell of what comes of it.
    completed = as_completed(loop=client.loop)
    running: set[Future[Any]] = set()
    workers = WorkerCount(client)
    address = str(client.scheduler.address) if client.scheduler else "(closed)"
    try:
        while True:
            n_most = choose_max_in_flight(workers.get(), asked=max_in_flight)
            while len(running) < n_most and (call := first or take_call()) is not None:
                first = None
                try:
                    future = client.submit(call_plainly, function, *call.arguments, key=call.key, pure=False)
                except ClosedClientError:
                    raise _miss_scheduler(address) from None
                running.add(future)
                completed.add(future)
            if not running:
                return
            with completed.thread_condition:
                is_ready = completed.thread_condition.wait_for(completed.has_ready, timeout=SECONDS_BETWEEN_COUNTS)
            if is_ready:
                # Else nothing has ended, but workers may have come or gone.
                future = next(completed)
                outcome = _take_outcome(future, address=address)
                running.remove(future)
                future.release()
                yield str(future.key), outcome
    finally:
        # What is still running when the caller stops early is of no use to anyone: releasing it cancels it.
        for future in running:
            future.release()


def _take_outcome(future: Future[Any], *, address: str) -> Any | BaseException:
    if future.status != "cancelled":
        try:
            # Where the result went down with its worker, this waits until it has been worked out again.
            outcome: Outcome = future.result()
            return outcome.result if outcome.problem is None else outcome.problem
        except asyncio.CancelledError:
            pass
        except Exception as problem:
            return problem
    raise _miss_scheduler(address)


def _miss_scheduler(address: str) -> InputError:
    return InputError(
        f"scheduler {address} went away in the middle of the work",
        expected="a scheduler that stays until the run has ended",
        remedy="start the scheduler and then the run again: it does only what is missing",
    )
