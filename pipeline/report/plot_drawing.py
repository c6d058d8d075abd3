"""How the report's plots are drawn: one frame and style for all, and what goes into each."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.report.colours import KIND_COLOURS, KIND_INKS
from pipeline.report.plot_figures import (
    AREA_STEPS_HA,
    COVERAGE_CLASSES,
    ChangeSizes,
    Confidences,
    CoverageMap,
    FloatArray,
    Series,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_COLOURS = {
    "changed": "#1d282d",
    "answer missing": "#c2185b",
    "too coarse": "#e3c04a",
    "cloudy": "#5f8fce",
    "no data": "#7d8487",
    "outside": "#f6f4ee",
    "not changed": "#8fc7b5",
}
"""Colours of the coverage map. They stay apart for the colour-blind as well, which a test measures."""

INK, QUIET, LINE, CALM = "#1d282d", "#5d686c", "#dcd8cd", "#2f6f62"
_WIDTH_IN, _HEIGHT_IN, _DPI = 6.8, 4.0, 144
_STYLE = {
    "font.family": "DejaVu Sans",
    # ^ matplotlib brings it, so every machine has the same.
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": "#a9a598",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "#ffffff",
}


def draw_plot(title: str, fill: Callable[[Figure], None], *, height_in: float = _HEIGHT_IN) -> bytes:
    """Draw one plot as PNG.

    Args:
        title: Heading.
        fill: Puts everything but the heading into the figure.
        height_in: Height in inches, of 144 pixels each.
    """
    # Not pyplot, which keeps every figure and asks for a window.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _plain_style():
        figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        figure.suptitle(title, x=0.1 / _WIDTH_IN, ha="left", fontsize=12, fontweight="bold")
        fill(figure)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 9})
    return buffer.getvalue()


@contextmanager
def _plain_style() -> Iterator[None]:
    """Take matplotlib's defaults and ours on top, whatever the settings of the machine and its user are."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def _write_count(value: float, _: object) -> str:
    return f"{value:,.12g}"


def _tell_nothing(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=12)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


_MAP_LEFT_IN, _MAP_BOTTOM_IN, _MAP_WIDTH_IN, _MAP_TOP_IN = 0.6, 0.6, 3.9, 0.5
# ^ Room that the map has, and margins around it; the legend stands to its right.


def choose_height(coverage: CoverageMap) -> float:
    """Give the map as much height as its shape asks for, within bounds."""
    map_in = np.clip(_MAP_WIDTH_IN * coverage.n_rows / coverage.n_cols, 1.7, 5.0)
    return float(map_in) + _MAP_BOTTOM_IN + _MAP_TOP_IN


def draw_coverage(figure: Figure, coverage: CoverageMap) -> None:
    """Draw the map of tiles as one picture of coloured squares, and what the colours mean."""
    from matplotlib.colors import to_rgb
    from matplotlib.ticker import MaxNLocator, NullLocator

    # The layout that suits the other plots does not know how wide a map of fixed proportions becomes.
    figure.set_layout_engine("none")
    height_in = figure.get_figheight()
    map_in = height_in - _MAP_BOTTOM_IN - _MAP_TOP_IN
    axes = figure.add_axes((
        _MAP_LEFT_IN / _WIDTH_IN, _MAP_BOTTOM_IN / height_in, _MAP_WIDTH_IN / _WIDTH_IN, map_in / height_in,
    ), anchor="NW")  # fmt: skip
    palette = np.array([to_rgb(CLASS_COLOURS[name]) for name in COVERAGE_CLASSES])
    n_rows, n_cols = (length * coverage.tiles_per_square for length in coverage.squares.shape)
    extent = (0.0, n_cols * coverage.tile_km, n_rows * coverage.tile_km, 0.0)
    axes.imshow(palette[coverage.squares], extent=extent, interpolation="nearest")
    axes.set(xlim=(0, coverage.n_cols * coverage.tile_km), ylim=(coverage.n_rows * coverage.tile_km, 0))
    axes.set_xlabel("km", loc="left")
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    for axis, n_tiles in ((axes.xaxis, coverage.n_cols), (axes.yaxis, coverage.n_rows)):
        n_ticks = int(min(_MAP_WIDTH_IN / coverage.n_cols, map_in / coverage.n_rows) * n_tiles / 0.55)
        # ^ On a strip there is no room for any.
        axis.set_major_locator(MaxNLocator(min(n_ticks, 6), steps=[1, 2, 5, 10]) if n_ticks else NullLocator())
    _explain_classes(figure, coverage)


def _explain_classes(figure: Figure, coverage: CoverageMap) -> None:
    from matplotlib.patches import Patch

    order = ("changed", "not changed", "too coarse", "answer missing", "cloudy", "no data", "outside")
    # ^ The order that people read in; those that occur.
    handles = [
        Patch(facecolor=CLASS_COLOURS[name], edgecolor="#a9a598", label=f"{name}  {coverage.counts[name]:,}")
        for name in order
        if coverage.counts[name]
    ]
    step = coverage.tiles_per_square
    title = "tiles" if step == 1 else f"tiles; squares of {step} x {step}\nshow changes and gaps first"
    corner = ((_MAP_LEFT_IN + _MAP_WIDTH_IN + 0.1) / _WIDTH_IN, 1 - _MAP_TOP_IN / figure.get_figheight() + 0.02)
    figure.legend(
        handles=handles,
        title=title,
        loc="upper left",
        bbox_to_anchor=corner,
        alignment="left",
        title_fontsize=9.5,
        handlelength=1.4,
    )


def draw_confidences(figure: Figure, confidences: Confidences) -> None:
    """Draw histograms of confidence over each other; with logarithms where some bars would not be seen."""
    axes = figure.add_subplot()
    both = np.concatenate([confidences.changed, confidences.unchanged])
    if not len(both):
        _tell_nothing(axes, "no tile has a confidence")
        return
    edges = np.linspace(0.5 if both.min() >= 0.5 else 0.0, 1.0, 26)
    heights = [np.histogram(values, edges)[0] for values in (confidences.unchanged, confidences.changed)]
    # Not stacked: on an axis of logarithms the upper part of a stack has no height to read.
    styles: tuple[tuple[str, FloatArray, npt.NDArray[Any], dict[str, Any]], ...] = (
        ("called unchanged", confidences.unchanged, heights[0], {"color": CLASS_COLOURS["not changed"], "fill": True}),
        ("called changed", confidences.changed, heights[1], {"color": INK, "linewidth": 2.0}),
    )
    for name, values, counts, style in styles:
        if len(values):
            axes.stairs(counts, edges, label=f"{name}  {len(values):,}", **style)
    counts = np.concatenate(heights)
    if counts.max() > 50 * counts[counts > 0].min():
        axes.set_yscale("log")
        axes.set_ylim(0.7, counts.max() * 1.6)
    _label_counts(axes, "tiles")
    axes.set(xlabel="confidence of the model's yes or no", xlim=(edges[0], 1.0))
    figure.legend(loc="outside lower left", ncols=2)


def _label_counts(axes: Axes, what: str) -> None:
    from matplotlib.ticker import MaxNLocator, NullFormatter

    axes.set_ylabel(what)
    axes.yaxis.set_major_formatter(_write_count)
    if axes.get_yscale() == "log":
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def draw_sizes(figure: Figure, sizes: ChangeSizes) -> None:
    """Draw how many changes there are per class of area, a bar per kind."""
    axes = figure.add_subplot()
    if not any(sum(counts) for counts in sizes.counts.values()):
        _tell_nothing(axes, "no changes")
        return
    steps = [f"{step:g}" for step in AREA_STEPS_HA]
    names = [
        f"< {steps[0]}",
        *(f"{low} to {high}" for low, high in pairwise(steps)),
        f"> {steps[-1]}",
    ]
    width = 0.8 / len(sizes.counts)
    for index, (kind, counts) in enumerate(sizes.counts.items()):
        places = np.arange(len(names)) + (index - (len(sizes.counts) - 1) / 2) * width
        bars = axes.bar(
            places, counts, width * 0.92, color=KIND_COLOURS[kind], edgecolor=KIND_INKS[kind], linewidth=1,
            hatch="" if index == 0 else "///",
            label=f"{kind}s  {sum(counts):,}, {sizes.areas_ha[kind]:,.1f} ha",
        )  # fmt: skip
        axes.bar_label(bars, [f"{count:,}" if count else "" for count in counts], padding=2, fontsize=9, color=QUIET)
    axes.margins(y=0.12)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("area of a change in hectares")
    _label_counts(axes, "changes")
    figure.legend(loc="outside lower left", ncols=2)


_LINES: tuple[dict[str, Any], ...] = (
    {"color": KIND_INKS["building"], "markerfacecolor": KIND_COLOURS["building"], "marker": "o", "linestyle": "-"},
    {"color": KIND_INKS["road"], "markerfacecolor": KIND_COLOURS["road"], "marker": "s", "linestyle": "--"},
)
_LONE_LINE: dict[str, Any] = {"color": CALM, "markerfacecolor": CALM, "marker": "o", "linestyle": "-"}


def draw_series(figure: Figure, series: Series) -> None:
    """Draw lines over the pairs; failed pairs are gaps with a cross."""
    axes = figure.add_subplot()
    if not len(series.moments):
        _tell_nothing(axes, "no pair was analysed yet")
        return
    places = series.moments if series.is_dated else np.arange(1, len(series.moments) + 1)
    styles = _LINES if len(series.values) > 1 else (_LONE_LINE,)
    markersize = 6.5 if len(places) <= 60 else 2.5
    for (name, values), line in zip(series.values.items(), styles, strict=True):
        # NaN breaks the line: what nobody saw is not drawn as if it had been seen.
        axes.plot(places, values, label=name, linewidth=1.8, markersize=markersize, **line)
    if series.is_failed.any():
        lost = places[series.is_failed]
        axes.plot(
            lost, np.zeros(len(lost)), "x", color=CLASS_COLOURS["answer missing"], markersize=8, markeredgewidth=2.2,
            label=f"failed pairs  {len(lost)}", clip_on=False, zorder=5,
        )  # fmt: skip
    axes.set_ylim(bottom=0, top=105 if series.unit.startswith("%") else None)
    axes.set_ylabel(series.axis)
    axes.yaxis.set_major_formatter(_write_count)
    _label_dates(axes, places=places, is_dated=series.is_dated)
    figure.legend(loc="outside lower left", ncols=3)


def _label_dates(axes: Axes, *, places: npt.NDArray[Any], is_dated: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    if not is_dated:
        axes.set_xlabel("pairs in their order; some have no date")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        return
    axes.set_xlabel("later date of the pair")
    if len(np.unique(places)) == 1:
        axes.set_xticks(places[:1], [str(places[0].astype("datetime64[D]"))])
        return
    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz="UTC"))
