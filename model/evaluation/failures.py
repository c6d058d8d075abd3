"""An album of the worst answers: the pixels beside what is true and what was said."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model.evaluation.cases import AnsweredCase, AnsweredTile, EvaluationTile
from model.interface import PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate
from model.redaction import shorten_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

N_SHOWN = 12
"""Tiles of an album."""
COUNT_OFF_BY = 10
"""A count that is off by so many weighs as much as a wrong yes or no."""
_COLUMNS = 3
_LINE_LENGTH = 58


def judge_answer(answered: AnsweredCase) -> float:
    """Tell how wrong an answer is: 0 for a right one or one in words, 1 for a yes that should be a no.

    A count is as wrong as it is off, cells as few as are right of those said and true together (one minus Jaccard);
    what cannot be parsed is wrong.
    """
    truth, said = answered.case.truth, answered.meaning
    if isinstance(truth, ParsedClassify):
        return 0.0 if said == truth else 1.0
    if isinstance(truth, ParsedCount) and truth.building_count is not None:
        counted = said.building_count if isinstance(said, ParsedCount) else None
        return 1.0 if counted is None else min(1.0, abs(counted - truth.building_count) / COUNT_OFF_BY)
    if isinstance(truth, ParsedLocate) and truth.building_cells is not None:
        named = set(said.building_cells or ()) if isinstance(said, ParsedLocate) else set()
        either = named | set(truth.building_cells)
        return 1 - len(named & set(truth.building_cells)) / len(either) if either else 0.0
    return 0.0


def judge_tile(tile: AnsweredTile) -> float:
    """Add up how wrong the answers about a tile are; between equally wrong ones, the surer yes or no is worse."""
    wrong = sum(judge_answer(answered) for answered in tile.answered)
    sure = [
        answered.answer.confidence
        for answered in tile.answered
        if answered.case.prompt.kind is PromptKind.CLASSIFY and judge_answer(answered) > 0
    ]
    return wrong + sum(confidence for confidence in sure if np.isfinite(confidence)) / 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Failure:
    """A tile that was answered badly."""

    severity: float
    """As `judge_tile` has it."""
    tile: AnsweredTile
    pixels: npt.NDArray[np.uint8]
    """RGB of shape (date=2, band=3, y, x); before first."""


@dataclass(kw_only=True)
class FailureAlbum:
    """Keeps the worst of the tiles that pass, and of the others nothing."""

    n_shown: int = N_SHOWN
    pending: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    """Pixels of the tiles that are not answered yet, by their names."""
    _worst: list[tuple[float, int, Failure]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=lambda: iter(count(0, -1)))

    def watch(self, tiles: Iterable[EvaluationTile]) -> Iterator[EvaluationTile]:
        """Pass tiles on, and remember their pixels until they are answered."""
        for tile in tiles:
            self.pending[tile.name] = tile.pixels
            yield tile

    def consider(self, tile: AnsweredTile) -> None:
        """Keep an answered tile if it is among the worst so far; of equal ones those that came first."""
        pixels = self.pending.pop(tile.name, None)
        severity = judge_tile(tile)
        if pixels is None or severity == 0:
            return
        heapq.heappush(self._worst, (severity, next(self._order), Failure(severity=severity, tile=tile, pixels=pixels)))
        if len(self._worst) > self.n_shown:
            heapq.heappop(self._worst)

    @property
    def failures(self) -> list[Failure]:
        """The worst tiles, the worst first."""
        return [entry[2] for entry in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]


def draw_failures(failures: list[Failure]) -> Picture | None:
    """Draw both dates of each tile over what is true and what was said; None where nothing failed."""
    from matplotlib.figure import Figure as Picture

    if not failures:
        return None
    n_rows = -(-len(failures) // _COLUMNS)
    picture = Picture(figsize=(4.6 * _COLUMNS, 3.1 * n_rows + 0.4), layout="constrained")
    picture.suptitle("The worst answers: before, after, and what is true and was said", fontsize=11)
    for index, failure in enumerate(failures):
        axes = picture.add_subplot(n_rows, _COLUMNS, index + 1)
        dates = failure.pixels.transpose(0, 2, 3, 1)
        gap = np.full((dates.shape[1], max(2, dates.shape[2] // 40), 3), 255, np.uint8)
        axes.imshow(np.concatenate([dates[0], gap, dates[1]], axis=1))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_xlabel("\n".join(describe_failure(failure.tile)), fontsize=7.5, loc="left", labelpad=3)
    return picture


def describe_failure(tile: AnsweredTile) -> list[str]:
    """Give lines of text: the tile's name, then truth and answer of every wrong answer, and its description."""
    lines = []
    for answered in tile.answered:
        truth, kind = answered.case.truth, answered.case.prompt.kind
        if kind is PromptKind.DESCRIBE:
            lines.append(f'says "{answered.answer.text}"')
        elif truth is not None and judge_answer(answered) > 0:
            lines.append(f"{_tell(truth)}; says {_tell(answered.meaning)}")
    return [tile.name, *(shorten_text(line, max_length=_LINE_LENGTH) for line in lines)]


def _tell(meaning: object) -> str:
    if isinstance(meaning, ParsedClassify):
        return "changed" if meaning.is_changed else "not changed"
    if isinstance(meaning, ParsedCount):
        return f"{meaning.building_count} building{'' if meaning.building_count == 1 else 's'}"
    if isinstance(meaning, ParsedLocate):
        n_cells = len(meaning.building_cells or ())
        return f"{n_cells} cell{'' if n_cells == 1 else 's'}"
    return "something else"
