"""One verb as one task of Prefect: its progress, its log line, its retries and its time limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from uuid import UUID

from prefect import Task, get_run_logger, runtime, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from flows.prefect_server import tell_server
from flows.retries import StagePolicy, UnreadTilesError
from model.redaction import redact_text
from pipeline.report.result import Report
from pipeline.report.words import describe_changed, describe_coverage
from pipeline.runs.run import Result, StageCall
from pipeline.summary import STAGE_TITLES, StageSummary

SECONDS_BETWEEN_UPDATES = 2.0
RETRY_JITTER = 0.2
"""Part of a delay by which it is made longer at random, so that not all runs come back at once."""
MAX_LOGGED_REASONS = 5

STAGE_TAGS: Mapping[str, tuple[str, ...]] = {
    "find_pair": ("deltavlm-scenes",),
    "write_tiles": ("deltavlm-scenes",),
    "collect_answers": ("deltavlm-model",),
}
"""Tags of tasks that may be limited over all runs, such as one at a time that asks the model.

A task with a tag asks the server for its turn; so the ones that write the results have none, and need no server.
"""

STAGE_ITEMS = {
    "find_pair": "scenes",
    "write_tiles": "tiles",
    "select_tiles": "tiles",
    "collect_answers": "tiles",
    "extract_findings": "tiles",
    "write_report": "files",
}


def run_stage(
    stage: str,
    call: StageCall[Result],
    *,
    policy: StagePolicy,
) -> tuple[Result, StageSummary]:
    """Run one verb as a task of its own, with a progress artifact and a sentence in the log.

    Args:
        stage: The verb, such as ``find_pair``.
        call: Carries it out.
        policy: How often and how long it is tried.
    """

    def may_retry(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
        return policy.allows_retry(state.data)

    def execute() -> tuple[Result, StageSummary]:
        progress = StageProgress(stage)
        result, summary = call(progress.add)
        if summary.failed and policy.reads_remote_scenes and not is_last_try(policy):
            raise UnreadTilesError(summary.failed)
        progress.finish()
        get_run_logger().info("%s", describe_summary(summary))
        return result, summary

    def execute_as_task(tags: Iterable[str]) -> tuple[Result, StageSummary]:
        as_task = task(
            name=stage.replace("_", "-"),
            description=f"{STAGE_TITLES[stage]}: one of the six stages of a run.",
            tags=tags,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=len(policy.retry_delays_s),
            retry_delay_seconds=list(policy.retry_delays_s),
            retry_jitter_factor=RETRY_JITTER,
            retry_condition_fn=may_retry,
            timeout_seconds=policy.timeout_s,
        )
        return as_task(execute)()

    return take_turn(execute_as_task, tags=STAGE_TAGS.get(stage, ()), policy=policy)


def take_turn(execute: Callable[[Iterable[str]], Result], *, tags: Iterable[str], policy: StagePolicy) -> Result:
    """Run a task whose tags ask the server for its turn; a server that stays away is asked no more.

    Results do not depend on the server, and one that is away limits nobody else either.

    Args:
        execute: Runs the task with these tags.
        tags: The tags.
        policy: How often the server is asked again.
    """
    for delay_s in policy.retry_delays_s:
        try:
            return execute(tags)
        except ConcurrencySlotAcquisitionError:
            get_run_logger().warning("Prefect's server gives nobody a turn; asked again in %g s.", delay_s)
            time.sleep(delay_s)
    try:
        return execute(tags)
    except ConcurrencySlotAcquisitionError:
        get_run_logger().warning("Prefect's server stays away; the run goes on without a turn.")
        return execute(())


def is_last_try(policy: StagePolicy) -> bool:
    """Tell, inside a stage, whether it will not be tried again."""
    return int(runtime.task_run.run_count) > len(policy.retry_delays_s)


def describe_summary(summary: StageSummary) -> str:
    """Say in sentences what a stage did."""
    items = STAGE_ITEMS[summary.stage]
    counts = [f"{summary.done:,} of {max(summary.total, summary.done):,} {items} done"]
    if summary.skipped:
        counts.append(f"{summary.skipped:,} needed no work")
    if summary.failed:
        counts.append(f"{summary.failed:,} failed")
    sentence = f"{STAGE_TITLES[summary.stage]}: {', '.join(counts)}, in {summary.seconds:.1f} s."
    if summary.bytes_written:
        sentence += f" {summary.bytes_written / 1e6:,.1f} MB written."
    ranked = sorted(summary.reasons.items(), key=lambda item: (-item[1], item[0]))
    if ranked:
        told = [f"{count:,} {reason}" for reason, count in ranked[:MAX_LOGGED_REASONS]]
        sentence += f" Why: {'; '.join(told)}{'; and others' if len(ranked) > len(told) else ''}."
    for note, count in summary.notes.items():
        sentence += f" Note: {note}{f' ({count:,} times)' if count > 1 else ''}."
    return redact_text(sentence)


class StageProgress:
    """A progress artifact that follows a stage, and spares the server an update per batch."""

    def __init__(self, stage: str) -> None:
        key, title = f"progress-{stage.replace('_', '-')}", f"{STAGE_TITLES[stage]}: part done"
        # Prefect's function is a coroutine only where an event loop runs, which no stage does.
        self._artifact = cast(
            UUID | None, tell_server(lambda: create_progress_artifact(0.0, key=key, description=title))
        )
        self._told_at_s = time.monotonic()
        self._total = 0
        self._count = 0

    def add(self, part: StageSummary) -> None:
        """Take in what a part of the stage has done: a `ProgressCallback`."""
        self._total += part.total
        self._count += part.done + part.skipped + part.failed
        if self._total and time.monotonic() - self._told_at_s >= SECONDS_BETWEEN_UPDATES:
            self._tell(100.0 * min(1.0, self._count / self._total))

    def finish(self) -> None:
        """Tell that the stage has ended."""
        self._tell(100.0)

    def _tell(self, percent: float) -> None:
        artifact = self._artifact
        if artifact is not None and tell_server(lambda: update_progress_artifact(artifact, progress=percent)) is None:
            # A server that is away costs every call its patience; one of a stage is enough.
            self._artifact = None
        self._told_at_s = time.monotonic()


def describe_outcome(report: Report) -> tuple[int, str]:
    """Give level and words of the line that ends a run's log."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in report.change_counts.items())
    sentence = f"{describe_changed(report.changed_tile_count, report.coverage)} ({counts} changes). "
    sentence += describe_coverage(report.coverage)
    if report.is_complete:
        return logging.INFO, sentence
    return logging.WARNING, f"{sentence} Partly failed: the report says which tiles, and another run tries them again."
