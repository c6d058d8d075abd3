"""What a run shows in Prefect's pages: a coverage table, a summary with pictures, and a link to the report.

Artifacts live in the server's database, so each is kept small, and they are told on the way out: a server that is away
then costs a run nothing but these.
"""

from __future__ import annotations

from typing import Any

import geopandas as gpd
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows.artifacts.markdown import make_link
from flows.artifacts.run_page import RunFacts, tabulate_coverage, write_summary
from flows.prefect_server import tell_server
from model.redaction import redact_text
from pipeline.findings.changes import rank_changes
from pipeline.report.result import Report
from pipeline.scenes.pair import ScenePair
from pipeline.storage.names import CHANGES_NAME, PAGE_NAME
from pipeline.tables.nested_shapes import read_frame
from pipeline.tiles.store import TileStore

COVERAGE_KEY = "coverage"
SUMMARY_KEY = "summary"
REPORT_KEY = "report"


def publish_artifacts(
    report: Report, *, run_id: str, findings: gpd.GeoDataFrame, store: TileStore, pair: ScenePair
) -> None:
    """Put the artifacts of a finished run; what the server cannot take is told in the log.

    Args:
        report: The report.
        run_id: Name of the run.
        findings: One row per tile of the grid.
        store: The tile store, for the pictures.
        pair: The scenes, for their names.
    """
    changes = read_frame(report.folder.read(CHANGES_NAME))
    facts = RunFacts(
        run_id=run_id,
        report=report,
        findings=findings,
        largest=rank_changes(changes),
        grid=store.grid,
        before_name=pair.before.scene_id,
        after_name=pair.after.scene_id,
    )
    page = report.folder.join(PAGE_NAME)
    is_told = tell_server(
        lambda: create_table_artifact(
            tabulate_coverage(report), key=COVERAGE_KEY, description="What became of the tiles, and why"
        )
    )
    if is_told is None:
        # A server that is away costs every call its patience.
        return
    summary = write_summary(facts, store=store)
    tell_server(
        lambda: create_markdown_artifact(
            summary, key=SUMMARY_KEY, description="What changed, on a map and in the model's words"
        )
    )
    tell_server(
        lambda: create_link_artifact(
            make_link(page), link_text=redact_text(page), key=REPORT_KEY, description="The report's page"
        )
    )


def publish_table(rows: list[dict[str, Any]], *, key: str, description: str) -> None:
    """Put a table, as `publish_artifacts` does."""
    tell_server(lambda: create_table_artifact(rows, key=key, description=description))


def publish_page(markdown: str, *, key: str, description: str) -> None:
    """Put a page of Markdown, as `publish_artifacts` does."""
    tell_server(lambda: create_markdown_artifact(markdown, key=key, description=description))
