"""Queries answered in a process of its own, which can be ended: not every function of SQL can be interrupted.

The process holds the tables in memory, has a limit of memory, and ends itself when a query goes on after it was
interrupted; the next query starts another one. Between the two go bytes of JSON, which neither has to trust.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from model.errors import InputError

MAX_QUERY_S = 20
"""After so long a query is interrupted."""
GRACE_S = 2
"""So much later its process ends, if that was to no avail."""
MAX_LOAD_S = 600
"""For the tables to be read into memory."""
MAX_PROCESS_BYTES = 2**32
"""Memory of the process, tables and Python among it; Linux alone holds to it."""


class QueryDesk:
    """Answers queries one at a time; its process starts with the first of them."""

    def __init__(self, uris: Sequence[str], *, limit_s: float = MAX_QUERY_S, grace_s: float = GRACE_S) -> None:
        """Begin without a process.

        Args:
            uris: Folders of runs and regions, as `find_sources` takes them.
            limit_s: As `MAX_QUERY_S`.
            grace_s: As `GRACE_S`.
        """
        self._uris, self._limit_s, self._grace_s = tuple(uris), limit_s, grace_s
        self._turn = threading.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def query(self, sql: str, *, max_rows: int) -> dict[str, Any]:
        """Answer a query as `TableDatabase.query` does.

        Raises:
            InputError: it is not let through, is wrong, or took too long or too much memory.
        """
        with self._turn:
            connection = self._start()
            try:
                connection.send_bytes(json.dumps({"sql": sql, "max_rows": max_rows}).encode())
                return _unpack(self._receive(connection, within_s=self._limit_s + 2 * self._grace_s))
            except (EOFError, OSError):
                self._stop()
                raise InputError(
                    "the query took more time or memory than it may have, and was ended",
                    expected=f"one that ends in {self._limit_s:g} s and {MAX_PROCESS_BYTES:,} bytes",
                    remedy="ask for less at a time",
                ) from None

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._stop()

    def _start(self) -> Connection:
        if self._connection is not None and self._process is not None and self._process.is_alive():
            return self._connection
        self._stop()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=answer_queries, args=(theirs, self._uris, self._limit_s, self._grace_s), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            _unpack(self._receive(self._connection, within_s=MAX_LOAD_S))
        except (EOFError, OSError):
            self._stop()
            raise InputError(
                "the tables could not be read into memory",
                expected=f"tables that fit into {MAX_PROCESS_BYTES:,} bytes and are read in {MAX_LOAD_S} s",
                remedy="name fewer runs, or query their Parquet files with DuckDB itself",
            ) from None
        except InputError:
            self._stop()
            raise
        return self._connection

    def _receive(self, connection: Connection, *, within_s: float) -> bytes:
        if not connection.poll(within_s):
            raise EOFError
        return connection.recv_bytes()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _unpack(reply: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(reply)
    if problem := told.get("problem"):
        raise InputError(problem["found"], expected=problem["expected"], remedy=problem["remedy"])
    return told


def answer_queries(connection: Connection, uris: Sequence[str], limit_s: float, grace_s: float) -> None:
    """Read the tables, then answer queries until nobody asks any more: what the process of a desk does.

    Args:
        connection: Where queries come from and answers go to.
        uris: Folders of runs and regions.
        limit_s: Seconds until a query is interrupted.
        grace_s: Seconds from then until the process ends.
    """
    # Here, as the desk's own process needs none of it.
    from flows.assistants.sources import find_sources
    from flows.assistants.sql import TableDatabase

    resource.setrlimit(resource.RLIMIT_DATA, (MAX_PROCESS_BYTES, MAX_PROCESS_BYTES))
    try:
        database = TableDatabase(find_sources(uris))
    except InputError as problem:
        _reply(connection, _describe(problem))
        return
    _reply(connection, {"is_ready": True})
    # Whoever asks has gone, or was ended.
    with suppress(EOFError, OSError):
        while True:
            asked = json.loads(connection.recv_bytes())
            timers = [
                threading.Timer(limit_s, database.interrupt),
                threading.Timer(limit_s + grace_s, os._exit, args=(1,)),
            ]
            for timer in timers:
                timer.daemon = True
                timer.start()
            try:
                told = database.query(asked["sql"], max_rows=asked["max_rows"])
            except InputError as problem:
                told = _describe(problem)
            finally:
                for timer in timers:
                    timer.cancel()
            _reply(connection, told)


def _describe(problem: InputError) -> dict[str, Any]:
    return {"problem": {"found": problem.found, "expected": problem.expected, "remedy": problem.remedy}}


def _reply(connection: Connection, told: Mapping[str, Any]) -> None:
    connection.send_bytes(json.dumps(told).encode())
