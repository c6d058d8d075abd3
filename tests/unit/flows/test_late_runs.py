"""Scheduled passes that are late, by a server of plain lists: one runs, the others are skipped."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State, StateType

from flows import late_runs
from flows.late_runs import SKIPPED, skip_late_runs

NOW = dt.datetime(2026, 6, 20, 2, 30, tzinfo=dt.UTC)
DEPLOYMENT, OTHER = uuid4(), uuid4()


class FakeServer:
    """Keeps flow runs, and filters them as Prefect's server does by what we ask it."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away
        self.runs = [self.make(NOW - dt.timedelta(hours=n)) for n in range(1, 101)]
        self.runs += [self.make(NOW + dt.timedelta(hours=1)), self.make(NOW - dt.timedelta(hours=1), deployment=OTHER)]
        self.runs += [self.make(NOW - dt.timedelta(hours=1), is_by_hand=True)]

    def make(self, due: dt.datetime, *, deployment: UUID = DEPLOYMENT, is_by_hand: bool = False) -> Any:
        state = State(type=StateType.SCHEDULED)
        return SimpleNamespace(
            id=uuid4(), due=due, deployment_id=deployment, auto_scheduled=not is_by_hand, state=state
        )

    def read_flow_runs(self, *, flow_run_filter: FlowRunFilter) -> list[Any]:
        if self.is_away:
            raise httpx.ConnectError("no server")
        asked = flow_run_filter
        assert asked.deployment_id is not None
        assert asked.state is not None
        assert asked.state.type is not None
        assert asked.expected_start_time is not None
        return [
            run
            for run in self.runs
            if run.deployment_id in (asked.deployment_id.any_ or [])
            and run.state.type in (asked.state.type.any_ or [])
            and asked.expected_start_time.before_ is not None
            and run.due <= asked.expected_start_time.before_
        ]

    def set_flow_run_state(self, run_id: UUID, state: State[Any]) -> None:
        (run,) = (run for run in self.runs if run.id == run_id)
        run.state = state


@pytest.fixture(params=[False, True], ids=["there", "away"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer(is_away=request.param)

    @contextmanager
    def get_client(*, sync_client: bool) -> Iterator[FakeServer]:
        yield server

    monkeypatch.setattr(late_runs, "get_client", get_client)
    monkeypatch.setattr(late_runs, "get_run_logger", lambda: logging.getLogger("late"))
    return server


def test_of_a_hundred_late_passes_one_runs(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    n_skipped = skip_late_runs(DEPLOYMENT, now=NOW)

    skipped = [run for run in server.runs if run.state.name == SKIPPED]
    assert n_skipped == len(skipped) == (0 if server.is_away else 100)
    assert all(run.state.type is StateType.CANCELLED and "02:30 UTC" in run.state.message for run in skipped)
    # What is due later, of another region, or asked for by a person, stays.
    assert [run.state.type for run in server.runs[100:]] == [StateType.SCHEDULED] * 3
    assert bool(caplog.records) == server.is_away
    assert skip_late_runs(DEPLOYMENT, now=NOW) == 0
