"""The Prefect flow ``detect-changes``: the six verbs as six tasks, with their progress and results as artifacts.

Prefect sees stages, Dask sees batches. Between the tasks go handles and summaries, never arrays, and a task takes no
parameters that Prefect would have to look through or store: what a stage needs, its call holds already.
"""

from __future__ import annotations

import functools
from typing import Any

from distributed import Client
from prefect import flow, get_run_logger, runtime

from flows.artifacts.publish import publish_artifacts
from flows.cluster import open_run_cluster
from flows.retries import DEFAULT_PATIENCE, PatienceConfig, StagePolicy, UnreadTilesError, choose_policy
from flows.run_names import name_run
from flows.tasks import describe_outcome, is_last_try, run_stage
from pipeline.config.run import RunConfig
from pipeline.runs.inputs import check_inputs
from pipeline.runs.run import Run
from pipeline.scenes.pair import find_pair
from pipeline.summary import ProgressCallback, StageSummary
from pipeline.tiles.store import TileStore


def _name_flow_run() -> str:
    return name_run(runtime.flow_run.parameters.get("config"))


@flow(name="detect-changes", flow_run_name=_name_flow_run, persist_result=False)
def detect_changes_flow(
    config: RunConfig,
    patience: PatienceConfig = DEFAULT_PATIENCE,
) -> dict[str, Any]:
    """Turn a before and an after scene into a change report; the same six calls as `deltavlm run`.

    What the output folder holds already is not done again, so a run that was stopped, failed or crashed goes on when
    it is started once more.

    Args:
        config: The run: two scenes, where the result goes, and what else differs from the defaults.
        patience: How often and how long each stage is tried.

    Returns:
        Run id, folder, tiles per status, changes per kind and names of the report's files, as plain values.
    """
    policy = functools.partial(choose_policy, config=config, patience=patience)
    logger = get_run_logger()
    check_inputs(config)
    pair, found = run_stage("find_pair", lambda _: find_pair(config), policy=policy("find_pair"))
    with Run.prepare(config, pair=pair) as run:
        with open_run_cluster(config) as client:
            run = run.settle(client)
            logger.info("Run %s writes to %s.", run.run_id, run.folder.uri)
            store, written = _write_tiles(run, client=client, policy=policy("write_tiles"))
            tiles, selected = run_stage(
                "select_tiles", lambda _: run.select_tiles(store), policy=policy("select_tiles")
            )
            answers, collected = run_stage(
                "collect_answers",
                lambda tell: run.collect_answers(tiles, store=store, client=client, on_progress=tell),
                policy=policy("collect_answers"),
            )
        findings, extracted = run_stage(
            "extract_findings",
            lambda _: run.extract_findings(answers, tiles=tiles, store=store),
            policy=policy("extract_findings"),
        )
        report, reported = run_stage(
            "write_report",
            lambda _: run.write_report(findings, store=store, answers=answers),
            policy=policy("write_report"),
        )
        stages = [found, written, selected, collected, extracted, reported]
        run.write_record(report, store=store, answers=answers, stages=stages)
    publish_artifacts(report, run_id=run.run_id, findings=findings, store=store, pair=pair)
    logger.log(*describe_outcome(report))
    return {
        "run_id": run.run_id,
        "output": report.folder.uri,
        "status_counts": dict(report.status_counts),
        "change_counts": dict(report.change_counts),
        "report": list(report.names),
    }


def _write_tiles(run: Run, *, client: Client, policy: StagePolicy) -> tuple[TileStore, StageSummary]:
    """Write the tiles; those that scenes on the network did not give are tried again before they count as failed."""

    def write(tell: ProgressCallback) -> tuple[TileStore, StageSummary]:
        store, summary = run.write_tiles(client, on_progress=tell)
        if summary.failed and policy.reads_remote_scenes and not is_last_try(policy):
            raise UnreadTilesError(summary.failed)
        return store, summary

    return run_stage("write_tiles", write, policy=policy)
