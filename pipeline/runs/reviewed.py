"""What people say of a run, as its report takes it along whenever it is made: each verdict, and how accurate it is."""

from __future__ import annotations

from typing import Any

import geopandas as gpd

from pipeline.accuracy.assess import sort_reviews
from pipeline.accuracy.figures import ReportFacts
from pipeline.accuracy.kept import find_accuracy, has_sample
from pipeline.accuracy.population import describe_population
from pipeline.findings.totals import Totals
from pipeline.grid.grid import Grid
from pipeline.report.reviewed import ReviewMarks
from pipeline.reviews.review import Subject
from pipeline.reviews.settle import count_missed, count_people, settle_reviews
from pipeline.reviews.store import has_reviews, read_reviews
from pipeline.runs.prepare import Run


def assess_totals(run: Run, totals: Totals, *, findings: gpd.GeoDataFrame, grid: Grid) -> dict[str, Any] | None:
    """Give how accurate a report is by a sample of its tiles; None where none was drawn, which takes no time to tell.

    Args:
        run: The run.
        totals: What its findings sum up to.
        findings: One row per tile.
        grid: The grid.
    """
    if not has_sample(run.folder):
        return None
    facts = ReportFacts(
        run_id=run.run_id,
        model_id=run.identity.model_id,
        population=describe_population(findings, grid=grid),
        changes=totals.changes,
        zones=totals.zones,
        grid=grid,
    )
    return find_accuracy(run.folder, facts=facts)


def review_totals(run: Run, totals: Totals, *, findings: gpd.GeoDataFrame) -> ReviewMarks | None:
    """Give what people have said of each tile and change; None where there are no reviews, likewise.

    Args:
        run: The run.
        totals: What its findings sum up to; reviews of other changes are kept and told.
        findings: One row per tile.
    """
    if not has_reviews(run.folder):
        return None
    known = {Subject.TILE: set(findings["tile_id"]), Subject.CHANGE: set(totals.changes["change_id"])}
    reviews, notes = sort_reviews(read_reviews(run.folder), run_id=run.run_id, known=known)
    return ReviewMarks(
        tiles=settle_reviews(reviews, subject=Subject.TILE),
        changes=settle_reviews(reviews, subject=Subject.CHANGE),
        n_missed=count_missed(reviews),
        n_people=count_people(reviews),
        notes=tuple(notes),
    )
