"""The Prefect flow ``detect-changes``: the six verbs as six tasks, with their progress and results as artifacts.

Prefect sees stages, Dask sees batches. Between the tasks go handles and summaries, never arrays, and a task takes no
parameters that Prefect would have to look through or store: what a stage needs, its call holds already.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow, get_run_logger, runtime

from flows.artifacts.publish import publish_artifacts
from flows.cluster import check_cluster, open_run_cluster
from flows.permissions import check_run, is_from_server, read_permissions
from flows.retries import DEFAULT_PATIENCE, PatienceConfig, choose_policy
from flows.run_names import name_run
from flows.tasks import describe_outcome, run_stage
from pipeline.config.run import RunConfig
from pipeline.runs.record_files import read_record
from pipeline.runs.run import Result, StageCall, detect_changes
from pipeline.summary import StageSummary


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
        Run id, folder, tiles and ground per status, changes per kind and names of the report's files, as plain values.

    Raises:
        InputError: the run cannot be done, or names what a deployment's may not.
    """
    if is_from_server():
        check_run(config, read_permissions())
    check_cluster(config.cluster)
    results: dict[str, Any] = {}

    def run_as_task(stage: str, call: StageCall[Result]) -> tuple[Result, StageSummary]:
        policy = choose_policy(stage, config=config, patience=patience)
        results[stage], summary = run_stage(stage, call, policy=policy)
        return results[stage], summary

    report = detect_changes(config, open_cluster=partial(open_run_cluster, config), around_stage=run_as_task)
    run_id = read_record(report.folder).run_id
    publish_artifacts(
        report,
        run_id=run_id,
        findings=results["extract_findings"],
        store=results["write_tiles"],
        pair=results["find_pair"],
    )
    logger = get_run_logger()
    logger.info("Run %s has written to %s.", run_id, report.folder.uri)
    logger.log(*describe_outcome(report))
    return {
        "run_id": run_id,
        "output": report.folder.uri,
        "status_counts": dict(report.status_counts),
        "ground_m2": dict(report.coverage.ground_m2),
        "seen_fraction": round(report.coverage.seen_fraction, 6),
        "change_counts": dict(report.change_counts),
        "report": list(report.names),
    }
