"""The Prefect flow ``monitor-region``: one pass over a region, with a run of ``detect-changes`` for each pair."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.detect_changes import detect_changes_flow
from flows.region_pass import describe_pass, run_pairs, settle_now
from pipeline.region_config import RegionConfig
from pipeline.regions import Region

Result = TypeVar("Result")


@flow(name="monitor-region", persist_result=False)
def monitor_region_flow(region: RegionConfig, as_of: dt.datetime | None = None) -> dict[str, Any]:
    """Find new scenes of a region, compare them and tell what is new; what is done already is not done again.

    Args:
        region: The region; its fields make the form in Prefect's pages.
        as_of: Do as if it were this moment, to catch up on earlier ones; left out, now. Without a zone it is UTC.

    Returns:
        Name and folder of the region, what the pass did, and names of the report's files, as plain values.
    """
    now = settle_now(as_of)
    logger = get_run_logger()
    with Region.prepare(region) as watched:
        plan = _run_task("plan-pairs", lambda: watched.plan(now))
        logger.info(
            "%d dates found: %d pairs to do, %d done already; %d items, dates or pairs left out",
            plan.n_scenes,
            len(plan.to_do),
            plan.n_done,
            len(plan.left_out),
        )
        run_pairs(watched, plan.to_do, run_pair=detect_changes_flow)
        report = _run_task("merge-pairs", lambda: watched.merge(plan, now=now))
    for pair_id, reason in report.summary.failed.items():
        logger.warning("pair %s: %s", pair_id, reason)
    logger.info("%d new changes", report.summary.n_new_changes)
    return describe_pass(report, name=region.name)


def _run_task(name: str, call: Callable[[], Result]) -> Result:
    """Run a step as a task of its own, so that Prefect's pages show it."""

    @task(name=name, cache_policy=NO_CACHE, persist_result=False)
    def step() -> Result:
        return call()

    return step()
