"""What Prefect's server is to do by itself: mark runs as crashed that died without a word, and tell of failures."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

FLOW_NAMES = ("detect-changes", "monitor-region")
DEAD_RUNS_NAME = "deltavlm: mark dead runs as crashed"
SILENCE_S = 540.0
"""Three of Prefect's heartbeats, of 180 s each: shorter, and runs are taken for dead that are not."""

_HEARTBEAT = "prefect.flow-run.heartbeat"
_LAST_WORDS = ("Completed", "Failed", "Cancelled", "Crashed")


def make_dead_run_automation(*, silence_s: float = SILENCE_S) -> Automation:
    """Make the automation for runs of ours whose heartbeats stop while nothing says that they have ended.

    Args:
        silence_s: So many seconds without a heartbeat, and a run counts as dead.
    """
    return Automation(
        name=DEAD_RUNS_NAME,
        description=f"A run that has given no sign of life for {silence_s:g} s died with its machine or its worker.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *(f"prefect.flow-run.{state}" for state in _LAST_WORDS)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOW_NAMES)}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silence_s),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"No sign of life for {silence_s:g} s. What is done is kept: the next run goes on from there.",
            )
        ],
    )


def make_failure_automation(region: str, *, block_id: UUID) -> Automation:
    """Make the automation that tells people when a pass over a region fails or crashes.

    Args:
        region: Name of the region.
        block_id: The block that sends the message.
    """
    return Automation(
        name=name_failure_automation(region, block_id=block_id),
        description=f"Tells of passes over the region {region} that fail or crash.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag_region(region)}"}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block_id,
                subject=f"Region {region}: a pass has ended as {{{{ flow_run.state.name }}}}",
                body="{{ flow_run.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}",
            )
        ],
    )


def name_failure_automation(region: str, *, block_id: UUID) -> str:
    """Name it so that it is found again; a region may have several, for several blocks."""
    return f"deltavlm: tell of failures in {region} ({str(block_id)[:8]})"


def tag_region(region: str) -> str:
    """Give the tag of a region's deployment and its runs."""
    return f"region:{region}"


def ensure_automations(wanted: Iterable[Automation]) -> list[str]:
    """Create automations, or change those of the same name into what is wanted; doing it again changes nothing.

    Returns:
        Their names.
    """
    names = []
    with get_client(sync_client=True) as client:
        for automation in wanted:
            names.append(automation.name)
            former = client.read_automations_by_name(automation.name)
            if former:
                automation.id = former[0].id
                automation.update()
            else:
                automation.create()
            for double in former[1:]:
                client.delete_automation(double.id)
    return names
