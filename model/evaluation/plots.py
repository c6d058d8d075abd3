"""Pictures of an evaluation: calibration, confidences, counts and cells."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model.evaluation.calibration import N_BINS, list_reliability
from model.evaluation.cases import AnsweredCase
from model.evaluation.evaluation import Evaluation, read_confidences, select_cases
from model.evaluation.failures import Failure, draw_failures
from model.evaluation.scores import KINDS, encode_cells, read_cells, read_count
from model.interface import PromptKind
from model.parsing import ParsedCount, ParsedLocate
from model.whole_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

RIGHT, WRONG, QUIET = "#2a6f97", "#d1495b", "#8d99ae"
_DPI = 144
_AXES_PT = 270
# ^ about the side of a panel of counts, so that one square is one pair of counts
_CELL_ROWS, _CELL_COLUMNS = ("top", "center", "bottom"), ("left", "center", "right")


def write_plots(evaluation: Evaluation, folder: Path, *, failures: Sequence[Failure] = ()) -> list[Path]:
    """Write a PNG of everything there is something to show of.

    Args:
        evaluation: What was measured.
        folder: Where they go; it is there.
        failures: The worst answers.

    Returns:
        The files.
    """
    classify = select_cases(evaluation.tiles, PromptKind.CLASSIFY)
    pictures = {
        "reliability": draw_reliability(classify),
        "confidence": draw_confidences(classify),
        "counts": draw_counts(select_cases(evaluation.tiles, PromptKind.COUNT)),
        "cells": draw_cells(select_cases(evaluation.tiles, PromptKind.LOCATE)),
        "failures": draw_failures(list(failures)),
    }
    files = []
    for name, picture in pictures.items():
        if picture is not None:
            picture.savefig(sink := io.BytesIO(), dpi=_DPI)
            write_whole(folder / f"{name}.png", sink.getvalue())
            files.append(folder / f"{name}.png")
    return files


def draw_reliability(answered: Sequence[AnsweredCase]) -> Picture | None:
    """Draw how often answers of each confidence are right; None without confidences."""
    known, confidence, is_right = read_confidences(answered)
    if not known:
        return None
    bins = [b for b in list_reliability(confidence, is_right) if b.n_answers]
    picture, axes = _make_picture("Yes or no: how often an answer of some confidence is right", width=6.4, height=5.2)
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="calibrated")
    x, y = ([getattr(b, name) for b in bins] for name in ("mean_confidence", "accuracy"))
    # Wilson's interval of each bin: a bin of three answers says little.
    low, high = _interval_of_shares(np.array(y), np.array([b.n_answers for b in bins]))
    axes.vlines(x, low, high, color=RIGHT, linewidth=1.5, alpha=0.6)
    axes.plot(x, y, "o", color=RIGHT, markersize=6, label=f"answers, in {N_BINS} bins, with 95 % intervals")
    for b in bins:
        axes.annotate(str(b.n_answers), (b.mean_confidence or 0, b.accuracy or 0), (6, -9), **_SMALL_NOTE)
    axes.set(xlabel="mean confidence of the bin", ylabel="share of right answers", ylim=(0, 1.03))
    axes.set_xlim(min(0.45, min(x) - 0.05), 1.02)
    axes.legend(loc="lower right", frameon=False)
    return picture


_SMALL_NOTE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": "#333333"}


def _interval_of_shares(
    share: npt.NDArray[np.float64], count: npt.NDArray[np.int_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give Wilson's 95 % interval of shares of `count` draws each (Wilson 1927)."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - half, middle + half


def draw_confidences(answered: Sequence[AnsweredCase]) -> Picture | None:
    """Draw how many answers of each confidence are right and wrong; None without confidences."""
    known, confidence, is_right = read_confidences(answered)
    if not known:
        return None
    picture, axes = _make_picture("Yes or no: confidence of right and wrong answers", width=6.4, height=4.2)
    values, right = np.array(confidence), np.array(is_right)
    edges = np.linspace(min(0.5, float(values.min())), 1, 26)
    styles: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("right", right, {"color": RIGHT, "alpha": 0.45}),
        ("wrong", ~right, {"color": WRONG, "histtype": "step", "linewidth": 2.0}),
    )
    for name, chosen, style in styles:
        # Not stacked: on an axis of logarithms the upper part of a stack has no height to read.
        axes.hist(values[chosen], bins=edges.tolist(), label=f"{name} ({int(chosen.sum())})", **style)
    axes.set(xlabel="confidence", ylabel="answers", yscale="log", xlim=(edges[0], 1))
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(loc="upper left", frameon=False)
    return picture


def draw_counts(answered: Sequence[AnsweredCase]) -> Picture | None:
    """Draw what was counted over what is there, a panel per kind; None without truth."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    pairs = {kind: _pair_counts(answered, kind) for kind in KINDS}
    shown = [kind for kind in KINDS if pairs[kind]]
    if not shown:
        return None
    picture = _make_figure(width=5.8 * len(shown), height=4.9, title="Counts of changed objects")
    for index, kind in enumerate(shown):
        axes = picture.add_subplot(1, len(shown), index + 1)
        counted = Counter(pairs[kind])
        top = max(max(pair) for pair in counted) + 1
        axes.plot([0, top], [0, top], color=QUIET, linestyle="--", linewidth=1)
        pairs_of_counts, numbers = zip(*counted.most_common(), strict=True)
        true, said = zip(*pairs_of_counts, strict=True)
        side_pt = min(_AXES_PT / (top + 1), 22.0)
        dots = axes.scatter(
            true, said, c=numbers, s=side_pt**2, marker="s", cmap="viridis_r", norm=LogNorm(1, max(2, *numbers))
        )
        picture.colorbar(dots, ax=axes, label="answers", shrink=0.8, format="{x:g}")
        limits = (-0.7, top)
        axes.set(xlabel=f"{kind}s in the truth", ylabel=f"{kind}s in the answer", xlim=limits, ylim=limits)
        axes.set_title(f"{kind}s, {len(pairs[kind])} answers", fontsize=9, loc="left")
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes)
    return picture


def _pair_counts(answered: Sequence[AnsweredCase], kind: str) -> list[tuple[int, int]]:
    pairs = []
    for a in answered:
        true = read_count(a.case.truth, kind) if isinstance(a.case.truth, ParsedCount) else None
        if true is not None:
            pairs.append((true, (read_count(a.meaning, kind) or 0) if isinstance(a.meaning, ParsedCount) else 0))
    return pairs


def draw_cells(answered: Sequence[AnsweredCase]) -> Picture | None:
    """Draw where in the tiles cells are found, missed and made up, a row per kind; None without truth."""
    grids = {kind: _count_cells(answered, kind) for kind in KINDS}
    shown = {kind: grid for kind, grid in grids.items() if grid is not None}
    if not shown:
        return None
    picture = _make_figure(width=9.6, height=0.6 + 3.2 * len(shown), title="Cells by their place in the tile")
    for row, (kind, (found, missed, invented)) in enumerate(shown.items()):
        panels = (
            (f"{kind} cells found, of those there", found, found + missed, "Blues"),
            (f"{kind} cells missed, of those there", missed, found + missed, "Reds"),
            (f"{kind} cells made up, of those named", invented, found + invented, "Oranges"),
        )
        for column, (title, part, whole, colours) in enumerate(panels):
            axes = picture.add_subplot(len(shown), 3, 3 * row + column + 1)
            _draw_grid(axes, part, whole, title=title, colours=colours)
    return picture


def _count_cells(
    answered: Sequence[AnsweredCase], kind: str
) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_], npt.NDArray[np.int_]] | None:
    """Count cells found, missed and made up, each of shape (3, 3)."""
    pairs = [
        (cells, (read_cells(a.meaning, kind) or ()) if isinstance(a.meaning, ParsedLocate) else ())
        for a in answered
        if isinstance(a.case.truth, ParsedLocate) and (cells := read_cells(a.case.truth, kind)) is not None
    ]
    if not pairs:
        return None
    truth, said = (encode_cells([pair[k] for pair in pairs]) for k in (0, 1))
    found, missed, invented = (
        cells.sum(axis=0).reshape(3, 3) for cells in (truth & said, truth & ~said, ~truth & said)
    )
    return found, missed, invented


def _draw_grid(
    axes: Axes, part: npt.NDArray[np.int_], whole: npt.NDArray[np.int_], *, title: str, colours: str
) -> None:
    shares = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for (y, x), value in np.ndenumerate(shares):
        text = f"{value:.0%}\n{part[y, x]} of {whole[y, x]}" if whole[y, x] else "none"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if value > 0.6 else "#222222")
    axes.set_xticks(range(3), _CELL_COLUMNS, fontsize=8)
    axes.set_yticks(range(3), _CELL_ROWS, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _make_picture(title: str, *, width: float, height: float) -> tuple[Picture, Axes]:
    picture = _make_figure(width=width, height=height, title=title)
    axes = picture.add_subplot()
    _tidy(axes)
    return picture, axes


def _make_figure(*, width: float, height: float, title: str) -> Picture:
    # Not pyplot, which keeps every figure and asks for a window.
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(width, height), layout="constrained")
    picture.suptitle(title, fontsize=11)
    return picture


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
