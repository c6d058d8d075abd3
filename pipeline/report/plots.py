"""Plots of a report as PNG: coverage, confidence and sizes of a run; counts, area and coverage of a region over time.

The figures come out of `pipeline.report.plot_figures`, also in words; `pipeline.report.plot_drawing` draws them. Equal
figures give equal bytes: matplotlib's defaults are taken whatever the user's own settings are, and the files tell of no
program and no time.
"""

from __future__ import annotations

from functools import partial

import geopandas as gpd
import pandas as pd

from pipeline.grid.grid import Grid
from pipeline.report.plot_drawing import (
    choose_height,
    draw_confidences,
    draw_coverage,
    draw_plot,
    draw_series,
    draw_sizes,
)
from pipeline.report.plot_figures import (
    PlotText,
    summarise_confidences,
    summarise_coverage_map,
    summarise_sizes,
    summarise_timeline,
)

PLOTS_FOLDER = "report/plots"
"""Where plots lie in the folder of a run or a region; the page names them relative to ``report/``."""

_RUN_PLOTS = ("coverage.png", "confidence.png", "sizes.png")
_REGION_PLOTS = {"counts.png": "counts", "area.png": "area", "seen.png": "seen"}


def draw_run_plots(findings: gpd.GeoDataFrame, changes: pd.DataFrame, *, grid: Grid) -> dict[str, bytes]:
    """Draw the plots of a run.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        changes: What `dissolve_changes` made of them.
        grid: The grid.

    Returns:
        PNG by the name of its file, always the same names; a plot without data says so.
    """
    coverage, confidences = summarise_coverage_map(findings, grid=grid), summarise_confidences(findings)
    sizes = summarise_sizes(changes)
    drawn = (
        draw_plot(coverage.text.title, partial(draw_coverage, coverage=coverage), height_in=choose_height(coverage)),
        draw_plot(confidences.text.title, partial(draw_confidences, confidences=confidences)),
        draw_plot(sizes.text.title, partial(draw_sizes, sizes=sizes)),
    )
    return dict(zip(_RUN_PLOTS, drawn, strict=True))


def describe_run_plots(findings: gpd.GeoDataFrame, changes: pd.DataFrame, *, grid: Grid) -> dict[str, PlotText]:
    """Give headings and words for what `draw_run_plots` draws, by the same names."""
    texts = (
        summarise_coverage_map(findings, grid=grid).text,
        summarise_confidences(findings).text,
        summarise_sizes(changes).text,
    )
    return dict(zip(_RUN_PLOTS, texts, strict=True))


def draw_region_plots(timeline: pd.DataFrame) -> dict[str, bytes]:
    """Draw the plots of a region.

    Args:
        timeline: Rows of ``timeline.parquet``, one per pair; there may be none yet.

    Returns:
        PNG by the name of its file, always the same names; a plot without data says so.
    """
    series = summarise_timeline(timeline)
    return {
        name: draw_plot(series[key].title, partial(draw_series, series=series[key]))
        for name, key in _REGION_PLOTS.items()
    }


def describe_region_plots(timeline: pd.DataFrame) -> dict[str, PlotText]:
    """Give headings and words for what `draw_region_plots` draws, by the same names."""
    series = summarise_timeline(timeline)
    return {name: series[key].text for name, key in _REGION_PLOTS.items()}
