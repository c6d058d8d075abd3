"""A stage that asks Prefect's server for its turn, and a server that is away."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from flows import tasks
from flows.retries import StagePolicy
from flows.tasks import take_turn

POLICY = StagePolicy(retry_delays_s=(1, 2), timeout_s=60, reads_remote_scenes=False)
TAGS = ("deltavlm-model",)


@pytest.mark.parametrize(
    ("n_silent", "expected_delays", "expected_tags"),
    [(0, [], TAGS), (1, [1], TAGS), (2, [1, 2], TAGS), (99, [1, 2], ())],
)
def test_a_run_asks_for_its_turn_and_goes_on_without_a_server(
    n_silent: int, expected_delays: list[float], expected_tags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    monkeypatch.setattr(tasks.time, "sleep", delays.append)
    monkeypatch.setattr(tasks, "get_run_logger", lambda: logging.getLogger("turns"))
    n_asked = 0

    def execute(tags: Iterable[str]) -> tuple[str, ...]:
        nonlocal n_asked
        n_asked += bool(tuple(tags))
        if tuple(tags) and n_asked <= n_silent:
            raise ConcurrencySlotAcquisitionError("no server")
        return tuple(tags)

    assert take_turn(execute, tags=TAGS, policy=POLICY) == expected_tags
    assert delays == expected_delays
