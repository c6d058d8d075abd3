"""An evaluation as a table, beside baselines and the paper, and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from model.evaluation.evaluation import Evaluation
from model.evaluation.measures import CONFIDENCE_LEVEL, Figure
from model.evaluation.paper import load_paper_figures

HEADINGS = ("figure", "value", "95 % interval", "rows", "without looking", "paper")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One figure as people read it."""

    name: str
    value: str
    interval: str
    n_rows: str
    baseline: str
    paper: str

    def list_cells(self) -> tuple[str, ...]:
        """Give the cells in the order of `HEADINGS`."""
        return (self.name, self.value, self.interval, self.n_rows, self.baseline, self.paper)


def list_rows(figures: Sequence[Figure]) -> list[TableRow]:
    """Make a row of every figure that has a value."""
    paper = load_paper_figures().figures
    return [
        TableRow(
            name=figure.name,
            value=_write(figure.value),
            interval="" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}",
            n_rows=str(figure.n_rows),
            baseline="" if figure.baseline is None else _write(figure.baseline.value),
            paper=_write(paper.get(figure.name)),
        )
        for figure in figures
        if figure.value is not None
    ]


def _write(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def explain_table(evaluation: Evaluation) -> list[str]:
    """Say in a few lines what the columns of a table are, and what to know before reading it."""
    n_tiles = len(evaluation.tiles)
    unit = "scenes" if evaluation.n_scenes < n_tiles else "tiles"
    rules = dict.fromkeys(
        f"{_name_group(figure.name)} answers {figure.baseline.rule}"
        for figure in evaluation.figures
        if figure.baseline is not None
        and figure.value is not None
        and not figure.name.startswith(("mask.", "classify.by_"))
    )
    return [
        f"{evaluation.model_id} on {n_tiles} tiles of {evaluation.n_scenes} scenes. Intervals: {unit} drawn again.",
        *([f"Without looking: {'; '.join(rules)}."] if rules else []),
        f"Paper: {load_paper_figures().source}; another set of pairs unless yours is that one.",
        *evaluation.notes,
    ]


def _name_group(name: str) -> str:
    """Name what a baseline answers: the kind of prompt, or captions of changed pairs apart."""
    return "describe.changed_only" if name.startswith("describe.changed_only") else name.split(".")[0]


def write_markdown(evaluation: Evaluation) -> str:
    """Write the table as Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|---|" + "--:|" * (len(HEADINGS) - 1)]
    lines += [f"| {' | '.join(row.list_cells())} |" for row in list_rows(evaluation.figures)]
    return "\n".join([*lines, "", *(f"- {line}" for line in explain_table(evaluation)), ""])


def flatten_figures(figures: Sequence[Figure]) -> dict[str, float | None]:
    """Give flat dotted keys: figures, and where they have them ``.low`` and ``.high`` ends and its ``.baseline``."""
    flat: dict[str, float | None] = {}
    for figure in figures:
        flat[figure.name] = figure.value
        if figure.low is not None:
            flat |= {f"{figure.name}.low": figure.low, f"{figure.name}.high": figure.high}
        if figure.baseline is not None:
            flat[f"{figure.name}.baseline"] = figure.baseline.value
    return flat


def describe_figures(figures: Sequence[Figure]) -> dict[str, dict[str, Any]]:
    """Give all that is known of each figure, the paper's beside it."""
    paper = load_paper_figures().figures
    return {
        figure.name: {
            **{name: value for name, value in asdict(figure).items() if name != "name"},
            "level": CONFIDENCE_LEVEL,
            "paper": paper.get(figure.name),
        }
        for figure in figures
    }
