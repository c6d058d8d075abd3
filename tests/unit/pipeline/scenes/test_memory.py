"""Bytes that threads share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import pytest

from pipeline.scenes.memory import Budget


@pytest.mark.parametrize(("wanted", "is_together"), [(40, True), (50, True), (60, False), (500, False)])
def test_two_have_bytes_at_once_only_if_both_fit(wanted: int, is_together: bool) -> None:
    budget, both = Budget(100), Barrier(2)

    def meet() -> bool:
        with budget.take(wanted):
            try:
                both.wait(timeout=30 if is_together else 0.1)
            except BrokenBarrierError:
                return False
            return True

    with ThreadPoolExecutor(2) as pool:
        assert [future.result() for future in [pool.submit(meet), pool.submit(meet)]] == [is_together] * 2


def test_bytes_come_back_from_what_fails() -> None:
    budget = Budget(10)
    for _ in range(2):
        with pytest.raises(KeyError), budget.take(10):
            raise KeyError
