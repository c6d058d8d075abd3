"""Passes that were due while nobody could make them: one finds what all of them would, so the others are skipped."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType

from flows.prefect_server import SERVER_ERRORS
from model.redaction import redact_text

SKIPPED = "Skipped"
"""Name of their state."""


def skip_late_runs(deployment_id: UUID, *, now: dt.datetime) -> int:
    """Cancel the other runs of a deployment that its schedule had due by now and that have not begun.

    Without an answer of the server they stay: each of them then finds nothing to do.

    Args:
        deployment_id: The deployment.
        now: The present, with its zone.

    Returns:
        How many.
    """
    late = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": now}),
    )
    words = f"The pass that began at {now:%Y-%m-%d %H:%M} UTC finds what this one would."
    n_skipped = 0
    try:
        with get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_run_filter=late):
                # What a person has asked for may be about another time, and is made.
                if run.auto_scheduled:
                    state: State[None] = State(type=StateType.CANCELLED, name=SKIPPED, message=words)
                    client.set_flow_run_state(run.id, state)
                    n_skipped += 1
    except SERVER_ERRORS as problem:
        words = redact_text(f"{type(problem).__name__}: {problem}")
        get_run_logger().warning("Prefect's server did not tell of late passes, or skip them (%s).", words)
    return n_skipped
