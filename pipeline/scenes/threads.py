"""Files far away are asked for several at a time, by threads that know what the thread knows which began them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_ONCE = 8


def map_at_once(call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call something for each of some items, several at a time; limits and signer are those of this thread."""
    with ThreadPoolExecutor(_AT_ONCE, initializer=_take_over, initargs=(copy_context(),)) as pool:
        return list(pool.map(call, items))


def _take_over(context: Context) -> None:
    for variable, value in context.items():
        variable.set(value)
