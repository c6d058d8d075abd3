"""Plots of a report as PNG: coverage, confidence and sizes of a run; counts, area and coverage of a region over time.

The figures come out of `pipeline.report.plot_figures`, also in words; `pipeline.report.plot_drawing` draws them. Equal
figures give equal bytes: matplotlib's defaults are taken whatever the user's own settings are, and the files tell of no
program and no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pipeline.report.plot_drawing import (
    choose_height,
    draw_confidences,
    draw_coverage,
    draw_plot,
    draw_series,
    draw_sizes,
)
from pipeline.report.plot_figures import ChangeSizes, Confidences, CoverageMap, PlotText, Shown

PLOTS_FOLDER = "report/plots"
"""Where plots lie in the folder of a run or a region; the page names them relative to ``report/``."""


def describe_plots(figures: Mapping[str, Shown]) -> dict[str, PlotText]:
    """Give headings and words for what `draw_plots` draws, by the same names."""
    return {name: shown.text for name, shown in figures.items()}


def draw_plots(figures: Mapping[str, Shown]) -> dict[str, bytes]:
    """Draw what `summarise_run` or `summarise_timeline` gave.

    Returns:
        PNG by the name of its file; a plot without data says so.
    """
    return {name: _draw(shown) for name, shown in figures.items()}


def _draw(shown: Shown) -> bytes:
    title = shown.text.title
    if isinstance(shown, CoverageMap):
        return draw_plot(title, partial(draw_coverage, coverage=shown), height_in=choose_height(shown))
    if isinstance(shown, Confidences):
        return draw_plot(title, partial(draw_confidences, confidences=shown))
    if isinstance(shown, ChangeSizes):
        return draw_plot(title, partial(draw_sizes, sizes=shown))
    return draw_plot(title, partial(draw_series, series=shown))
