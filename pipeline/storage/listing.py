"""The names that a server lists, as far as they come to an end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import obstore
from obstore.store import ObjectStore

if TYPE_CHECKING:
    from obstore import ObjectMeta

MAX_LISTED = 1_000_000
"""Files that a server may list below a folder of scenes."""
MAX_LIST_S = 600.0
"""Longest time until it has listed them, in seconds."""


class EndlessListError(OSError):
    """A list that goes on beyond the limits."""


def list_objects(store: ObjectStore, *, most: int = MAX_LISTED, limit_s: float = MAX_LIST_S) -> list[ObjectMeta]:
    """List all objects of a store.

    Args:
        store: Of a server that may be a stranger's.
        most: Longest list.
        limit_s: Longest time. Pages without any object never come to Python's notice, so another thread waits for them.

    Raises:
        EndlessListError: there are more, or it takes longer.
        obstore.exceptions.BaseError: the server does not list them.
        OSError: likewise.
    """
    found: list[ObjectMeta] = []
    problems: list[Exception] = []
    is_over = threading.Event()

    def read() -> None:
        try:
            for batch in obstore.list(store):
                found.extend(batch)
                if len(found) > most or is_over.is_set():
                    return
        except Exception as problem:
            problems.append(problem)

    reader = threading.Thread(target=read, name="list", daemon=True)
    reader.start()
    reader.join(limit_s)
    is_over.set()
    if problems:
        raise problems[0]
    if reader.is_alive():
        raise EndlessListError(f"its list does not end within {limit_s:,.0f} s")
    if len(found) > most:
        raise EndlessListError(f"it lists more than {most:,} files")
    return found
