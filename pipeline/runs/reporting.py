"""From a run's answers to its report: the last two verbs, with all that a run knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import geopandas as gpd

from pipeline.answers.parts import AnswerParts
from pipeline.findings.extract import extract_findings
from pipeline.findings.totals import Totals, sum_up
from pipeline.report.result import Report
from pipeline.report.stac_item import write_item
from pipeline.report.write import write_report
from pipeline.runs.prepare import Run
from pipeline.runs.record_files import withdraw_record
from pipeline.runs.reviewed import assess_totals, review_totals
from pipeline.summary import StageSummary
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile, TileTable
from pipeline.tiles.tile_dates import TileDates


def extract_run_findings(
    run: Run, *, answers: AnswerParts, tiles: Sequence[Tile], store: TileStore
) -> tuple[gpd.GeoDataFrame, StageSummary]:
    """Make a row of every tile of a run."""
    return extract_findings(
        answers,
        tiles=tiles,
        store=store,
        prompts=run.prompts,
        identity=run.identity,
        run_id=run.run_id,
        before_datetime=run.pair.before.datetime,
        after_datetime=run.pair.after.datetime,
        fit=run.fit,
        dates=TileDates.read(store, pair=run.pair, area=run.area) if run.pair.is_composed else None,
    )


def write_run_report(
    run: Run,
    *,
    findings: gpd.GeoDataFrame,
    tiles: TileTable,
    store: TileStore,
    answers: AnswerParts,
    notes: Sequence[str],
) -> tuple[Report, StageSummary]:
    """Write the report of a run with its STAC item; the run counts as unfinished from the first file on.

    Args:
        run: The run, whose lock is held.
        findings: One row per tile of the grid.
        tiles: The same tiles, as they were selected.
        store: The tile store.
        answers: The run's answers and outlines.
        notes: What whoever reads the report has to know of all of it.
    """
    run.lock.check()
    report, summary = write_report(
        findings,
        # Handed on and not kept, so that it can be given up while files are written.
        totals=_sum_up(run, findings=findings, tiles=tiles, store=store, answers=answers),
        assess=partial(assess_totals, run, findings=findings, grid=store.grid),
        review=partial(review_totals, run, findings=findings),
        store=store,
        folder=run.folder,
        prompts=run.prompts,
        before_name=run.pair.before.scene_id,
        after_name=run.pair.after.scene_id,
        notes=notes,
        min_confidence=run.config.report.min_confidence,
        before_writing=lambda: withdraw_record(run.folder),
    )
    report, n_bytes = write_item(
        report,
        pair=run.pair,
        prompts=run.prompts,
        identity=run.identity,
        run_id=run.run_id,
        zones_schema=run.zones.schema if run.zones is not None else None,
    )
    n_files, n_bytes = len(report.names), summary.bytes_written + n_bytes
    return report, replace(summary, done=n_files, total=n_files, bytes_written=n_bytes)


def _sum_up(
    run: Run, *, findings: gpd.GeoDataFrame, tiles: TileTable, store: TileStore, answers: AnswerParts
) -> Totals:
    return sum_up(
        findings,
        store=store,
        tiles=tiles,
        outlines=answers.read_outlines(),
        zones=run.zones,
        area=run.area,
        extent=run.extent,
        certainty=run.identity.certainty,
        min_confidence=run.config.report.min_confidence,
    )
