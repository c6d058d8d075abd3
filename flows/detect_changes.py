"""The Prefect flow ``detect-changes``: the six verbs as six tasks, with their progress and results as artifacts.

Prefect sees stages, Dask sees batches. Between the tasks go handles and summaries, never arrays, and a task takes no
parameters that Prefect would have to look through or store: what a stage needs, its call holds already.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

import geopandas as gpd
import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from flows.cluster import open_run_cluster
from pipeline.config import RunConfig
from pipeline.report import Report
from pipeline.run import Run
from pipeline.scenes import find_pair
from pipeline.summary import ProgressCallback, StageSummary

COVERAGE_KEY = "coverage"
SUMMARY_KEY = "summary"
N_LARGEST_CHANGES = 10
SECONDS_BETWEEN_UPDATES = 2.0

Result = TypeVar("Result")


@flow(name="detect-changes", persist_result=False)
def detect_changes_flow(config: RunConfig) -> dict[str, Any]:
    """Turn a before and an after scene into a change report; the same six calls as ``deltavlm run``.

    Args:
        config: The run; its fields make the form in Prefect's pages.

    Returns:
        Run id, folder, tiles per status, changes per kind and names of the report's files, as plain values.
    """
    pair, found = run_stage("find-pair", lambda _: find_pair(config))
    with Run.prepare(config, pair=pair) as run:
        with open_run_cluster(config) as client:
            run = run.settle(client)
            store, written = run_stage("write-tiles", lambda tell: run.write_tiles(client, on_progress=tell))
            tiles, selected = run_stage("select-tiles", lambda _: run.select_tiles(store))
            answers, collected = run_stage(
                "collect-answers",
                lambda tell: run.collect_answers(tiles, store=store, client=client, on_progress=tell),
            )
        findings, extracted = run_stage(
            "extract-findings", lambda _: run.extract_findings(answers, tiles=tiles, store=store)
        )
        report, reported = run_stage("write-report", lambda _: run.write_report(findings, store=store, answers=answers))
        stages = [found, written, selected, collected, extracted, reported]
        run.write_record(report, store=store, answers=answers, stages=stages)
    create_table_artifact(tabulate_coverage(report), key=COVERAGE_KEY, description="Tiles per status")
    create_markdown_artifact(describe_report(report, run_id=run.run_id), key=SUMMARY_KEY)
    if not report.is_complete:
        get_run_logger().warning("partly failed: the report says which tiles, and another run tries them again")
    return {
        "run_id": run.run_id,
        "output": report.folder.uri,
        "status_counts": dict(report.status_counts),
        "change_counts": dict(report.change_counts),
        "report": list(report.names),
    }


def run_stage(
    name: str, call: Callable[[ProgressCallback], tuple[Result, StageSummary]]
) -> tuple[Result, StageSummary]:
    """Run one verb as a task of its own, with a progress artifact and its summary in the log."""

    @task(name=name, cache_policy=NO_CACHE, persist_result=False)
    def stage() -> tuple[Result, StageSummary]:
        progress = StageProgress(name)
        result, summary = call(progress.add)
        progress.finish()
        get_run_logger().info("%s", summary.to_dict())
        return result, summary

    return stage()


class StageProgress:
    """A progress artifact that follows a stage, and spares the server an update per batch."""

    def __init__(self, name: str) -> None:
        # Prefect's function is a coroutine only where an event loop runs, which no stage does.
        self._artifact = cast(UUID, create_progress_artifact(0.0, key=f"progress-{name}", description=name))
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
        update_progress_artifact(self._artifact, progress=percent)
        self._told_at_s = time.monotonic()


def tabulate_coverage(report: Report) -> list[dict[str, Any]]:
    """Give one row per status: what became of how many tiles."""
    n_tiles = sum(report.status_counts.values())
    return [
        {"status": status, "tiles": count, "share": f"{count / n_tiles:.1%}"}
        for status, count in report.status_counts.items()
    ]


def describe_report(report: Report, *, run_id: str) -> str:
    """Give the summary as Markdown, with the largest changes."""
    changes = gpd.read_parquet(io.BytesIO(report.folder.read(report.changes_name)))
    largest = changes.sort_values(["area_m2", "change_id"], ascending=[False, True]).head(N_LARGEST_CHANGES)
    kinds = ", ".join(f"{count} of kind {kind}" for kind, count in report.change_counts.items())
    lines = [
        f"# Run {run_id}",
        "",
        f"{report.changed_tile_count} of {sum(report.status_counts.values())} tiles changed; changes: {kinds}.",
        "",
        f"Report: `{report.folder.join(report.page_name)}`",
        "",
        "| change | kind | area in m2 | confidence | description |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join(lines + [_describe_change(row) for row in largest.to_dict("records")])


def _describe_change(change: Mapping[str, Any]) -> str:
    confidence, description = change["confidence"], change["description"]
    cells = [
        change["change_id"],
        change["kind"],
        f"{change['area_m2']:.0f}",
        "" if pd.isna(confidence) else f"{confidence:.2f}",
        "" if pd.isna(description) else escape_markdown(description),
    ]
    return f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """Make a model's words harmless in a Markdown table: no markup, no HTML, one line."""
    for character in "\\`*_{}[]()#!|~":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
