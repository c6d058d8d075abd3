"""What Prefect is told of our flows: names, schedules, limits and tags."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prefect.automations import Automation
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.automations import make_dead_run_automation, make_failure_automation, tag_region
from flows.detect_changes import detect_changes_flow
from flows.notifications import find_notifier_id
from model.errors import InputError
from model.redaction import MASK

if TYPE_CHECKING:
    from pipeline.config.region import RegionConfig

DISTRIBUTION = "deltavlm-monitor"
TAG = "deltavlm"
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""A pass that would begin while another one of the region is at work is cancelled: the next one finds the rest."""


def make_run_deployment() -> RunnerDeployment:
    """Make the deployment of ``detect-changes``: no schedule, all parameters from the form in Prefect's pages."""
    return RunnerDeployment.from_flow(
        detect_changes_flow,
        name="detect-changes",
        tags=[TAG],
        version=version(DISTRIBUTION),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def make_region_deployment(region: RegionConfig) -> RunnerDeployment:
    """Make the deployment of ``monitor-region`` for one region, with its schedule.

    Raises:
        InputError: the region's config names a secret, which Prefect's server would have to keep, or a schedule that
            Prefect does not know.
    """
    from flows.monitor_region import monitor_region_flow

    return RunnerDeployment.from_flow(
        monitor_region_flow,
        name=region.name,
        parameters={"region": give_plain_values(region)},
        schedule=_make_schedule(region),
        concurrency_limit=ONE_AT_A_TIME,
        tags=[TAG, tag_region(region.name)],
        version=version(DISTRIBUTION),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _make_schedule(region: RegionConfig) -> Schedule | None:
    if region.schedule is None:
        return None
    try:
        return Cron(region.schedule.cron, timezone=region.schedule.timezone)
    except ValueError as problem:
        raise InputError(
            f"region {region.name}: Prefect does not know the schedule {region.schedule.cron!r} ({problem})",
            expected="five fields of cron that Prefect knows too",
            remedy="write schedule.cron in another way",
        ) from None


def plan_automations(regions: Sequence[RegionConfig], *, silence_s: float) -> list[Automation]:
    """Give the automations that a server needs for these regions.

    Raises:
        InputError: a region names a block that the server does not have.
    """
    told = [(region.name, notice.block) for region in regions for notice in region.notify if "failure" in notice.events]
    failures = [make_failure_automation(name, block_id=find_notifier_id(block)) for name, block in told]
    return [make_dead_run_automation(silence_s=silence_s), *failures]


def give_plain_values(region: RegionConfig) -> dict[str, Any]:
    """Give what a region's file says as JSON's values; what it leaves out keeps following the defaults.

    Raises:
        InputError: a secret is among them.
    """
    values = region.model_dump(mode="json", exclude_unset=True)
    if key := _find_mask(values):
        raise InputError(
            f"region {region.name}: {key} holds a password or a signature",
            expected="a region that Prefect's server may keep and show",
            remedy="name it without, and give the credentials in the environment (AWS_*, .netrc)",
        )
    return values


def _find_mask(values: Any, *, key: str = "") -> str | None:
    if isinstance(values, str):
        return key if MASK in values else None
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    found = (_find_mask(value, key=f"{key}.{name}".lstrip(".")) for name, value in items)
    return next((each for each in found if each), None)
