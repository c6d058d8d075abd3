"""The Prefect flow ``monitor-region``: one pass over a region, with a run of ``detect-changes`` for each pair."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from prefect import Task, flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.artifacts.pass_page import choose_notifiers, tabulate_blocks, word_message, word_subject, write_pass_page
from flows.artifacts.publish import publish_page, publish_table
from flows.cluster import check_cluster
from flows.detect_changes import detect_changes_flow
from flows.late_runs import skip_late_runs
from flows.notifications import send_messages
from flows.permissions import check_region, is_from_server, read_permissions
from flows.region_pass import describe_pass, run_pairs, settle_now
from flows.retries import is_worth_retrying
from pipeline.config.region import RegionConfig
from pipeline.regions.region import Region

PASS_KEY = "pass"
BLOCKS_KEY = "blocks"
PLAN_RETRY_DELAYS_S = (30, 120, 600)
"""Searching for scenes asks servers of others, and it comes before any work."""

Result = TypeVar("Result")


def _name_flow_run() -> str:
    region = runtime.flow_run.parameters.get("region")
    name = region.get("name") if isinstance(region, dict) else getattr(region, "name", None)
    return f"{name or 'monitor-region'}: pass of {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"


@flow(name="monitor-region", flow_run_name=_name_flow_run, persist_result=False)
def monitor_region_flow(region: RegionConfig, as_of: dt.datetime | None = None) -> dict[str, Any]:
    """Find new scenes of a region, compare them and tell what is new; what is done already is not done again.

    Args:
        region: The region; its fields make the form in Prefect's pages.
        as_of: Do as if it were this moment, to catch up on earlier ones; left out, now. Without a zone it is UTC.

    Returns:
        Name and folder of the region, what the pass did, and names of the report's files, as plain values.

    Raises:
        InputError: the region cannot be watched, or is none that a deployment may.
    """
    if is_from_server():
        check_region(region, read_permissions())
    check_cluster(region.cluster)
    now = settle_now(as_of)
    logger = get_run_logger()
    if as_of is None and is_from_server() and (n_skipped := skip_late_runs(UUID(runtime.deployment.id), now=now)):
        logger.info("%d passes that were due before this one are skipped", n_skipped)
    with Region.prepare(region) as watched:
        plan = _run_task("plan-pairs", lambda: watched.plan(now), retry_delays_s=PLAN_RETRY_DELAYS_S)
        logger.info(
            "%d dates found: %d pairs to do, %d done already; %d items, dates or pairs left out",
            plan.n_scenes,
            len(plan.to_do),
            plan.n_done,
            len(plan.left_out),
        )
        for warning in plan.warnings:
            logger.warning("%s", warning)
        run_pairs(watched, plan.to_do, run_pair=detect_changes_flow)
        report = _run_task("merge-pairs", lambda: watched.merge(plan, now=now))
    for pair_id, reason in report.summary.failed.items():
        logger.warning("pair %s: %s", pair_id, reason)
    outcome = describe_pass(report, name=region.name)
    logger.info("%s.", word_subject(outcome))
    publish_page(write_pass_page(outcome), key=PASS_KEY, description="What the pass over the region did")
    if blocks := tabulate_blocks(outcome):
        publish_table(blocks, key=BLOCKS_KEY, description="What became of the blocks, and why")
    send_messages(
        choose_notifiers(region.notify, outcome=outcome), subject=word_subject(outcome), body=word_message(outcome)
    )
    return outcome


def _run_task(name: str, call: Callable[[], Result], *, retry_delays_s: tuple[float, ...] = ()) -> Result:
    """Run a step as a task of its own, so that Prefect's pages show it."""

    @task(
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(retry_delays_s),
        retry_delay_seconds=list(retry_delays_s),
        retry_condition_fn=_may_pass,
    )
    def step() -> Result:
        return call()

    return step()


def _may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    return is_worth_retrying(state.data, reads_remote_scenes=True)
