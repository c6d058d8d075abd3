"""How good the answers are, measured from their text against masks; and the masks, where a model gives some."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from model.interface import Answer, ChangeModel, MaskModel, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate, parse_answer
from model.training.instructions import ChangeFacts, KindFacts
from model.training.mask_scores import MaskScores, score_masks
from model.training.pairs import LabelledPair

ASKED_KINDS = (PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE)


@dataclass(frozen=True, kw_only=True)
class KindScores:
    """Scores of one kind of object."""

    cell_precision: float
    """Share of the named cells that did change; micro-averaged over all cells of all tiles."""
    cell_recall: float
    """Share of the changed cells that were named."""
    cell_f1: float
    """Harmonic mean of the two; 0 where nothing was right."""
    count_mae: float
    """Mean absolute error of the count over all tiles."""
    count_mae_changed: float | None
    """The same over tiles that hold at least one; None where there is none."""
    count_mean_changed: float | None
    """Mean true count of those tiles, to judge the errors by; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a model on tiles with masks; fractions, and counts for errors of counts."""

    n_tiles: int
    parseable_fraction: float
    """Answers to classify, count and locate prompts that could be parsed; the others count as "nothing changed"."""
    changed_accuracy: float
    """Share of tiles whose yes or no was right."""
    majority_accuracy: float
    """What answering the more frequent of the two everywhere would reach."""
    changed_precision: float
    changed_recall: float
    changed_f1: float
    building: KindScores
    road: KindScores | None
    """None where the masks say nothing of roads."""
    seconds: float
    """Wall time of answering."""
    mask: dict[str, MaskScores | None] | None = None
    """Scores of the masks by label, None for a label that the truth says nothing of; None for a model without masks."""

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return asdict(self)


def evaluate(model: ChangeModel, tiles: Sequence[LabelledPair], *, prompts: Sequence[Prompt]) -> Evaluation:
    """Ask the prompts about every tile and score what the answers mean, and the masks of a model that gives some.

    Args:
        model: What answers.
        tiles: Pairs of one size with their masks.
        prompts: Must hold one prompt each of the kinds classify, count and locate.

    Raises:
        ValueError: no tiles, or one of these kinds is missing.
    """
    by_kind = {prompt.kind: prompt for prompt in prompts}
    missing = sorted(kind.value for kind in ASKED_KINDS if kind not in by_kind)
    if missing:
        raise ValueError(f"no prompt of kind {' or '.join(missing)}; expected one of each of them")
    if not tiles:
        raise ValueError("no tiles; expected pairs at least as large as a tile")
    asked = [by_kind[kind] for kind in ASKED_KINDS]
    stacked = np.stack([np.stack([tile.before, tile.after]) for tile in tiles]).transpose(0, 1, 4, 2, 3)
    pairs = np.ascontiguousarray(stacked)
    start = time.perf_counter()
    answers = model.answer_prompts(pairs, prompts=asked)
    scores = score_answers([tile.facts for tile in tiles], *answers, seconds=time.perf_counter() - start)
    # A model that only answers, as an installed package may bring, has no such attribute.
    if not getattr(model, "mask_labels", ()):
        return scores
    masks = cast(MaskModel, model).predict_masks(pairs)
    named_cells = [read_cells(answer) for answer in answers[ASKED_KINDS.index(PromptKind.LOCATE)]]
    return replace(scores, mask=score_masks(masks, tiles, named_cells=named_cells))


def read_cells(locate: Answer) -> dict[str, Sequence[str]]:
    """Give the cells that an answer to a locate prompt names, by label of a mask; none where it cannot be parsed."""
    parsed = parse_answer(PromptKind.LOCATE, locate.text)
    if not isinstance(parsed, ParsedLocate):
        return {}
    buildings, roads = parsed.building_cells or (), parsed.road_cells or ()
    return {"building": buildings, "road": roads, "change": (*buildings, *roads)}


def score_answers(
    truths: Sequence[ChangeFacts],
    classify: Sequence[Answer],
    count: Sequence[Answer],
    locate: Sequence[Answer],
    *,
    seconds: float,
) -> Evaluation:
    """Score parsed answers against the truth, tile by tile in the same order."""
    yes_no = [parse_answer(PromptKind.CLASSIFY, answer.text) for answer in classify]
    counts = [parse_answer(PromptKind.COUNT, answer.text) for answer in count]
    cells = [parse_answer(PromptKind.LOCATE, answer.text) for answer in locate]
    is_changed = np.array([truth.is_changed for truth in truths])
    says_changed = np.array([isinstance(p, ParsedClassify) and p.is_changed for p in yes_no])
    n_right = int((is_changed & says_changed).sum())
    precision, recall, f1 = _precision_recall(n_right, int(says_changed.sum()), int(is_changed.sum()))
    parsed = [*yes_no, *counts, *cells]
    roads = [truth.road for truth in truths]
    return Evaluation(
        n_tiles=len(truths),
        parseable_fraction=sum(p is not None for p in parsed) / len(parsed),
        changed_accuracy=float((is_changed == says_changed).mean()),
        majority_accuracy=float(max(is_changed.mean(), 1 - is_changed.mean())),
        changed_precision=precision,
        changed_recall=recall,
        changed_f1=f1,
        building=_score_kind(
            [truth.building for truth in truths],
            counts=[(p.building_count or 0) if isinstance(p, ParsedCount) else 0 for p in counts],
            cells=[(p.building_cells or ()) if isinstance(p, ParsedLocate) else () for p in cells],
        ),
        road=None
        if any(road is None for road in roads)
        else _score_kind(
            [road for road in roads if road is not None],
            counts=[(p.road_count or 0) if isinstance(p, ParsedCount) else 0 for p in counts],
            cells=[(p.road_cells or ()) if isinstance(p, ParsedLocate) else () for p in cells],
        ),
        seconds=seconds,
    )


def _score_kind(truths: Sequence[KindFacts], *, counts: Sequence[int], cells: Sequence[Sequence[str]]) -> KindScores:
    true_cells = [set(truth.cells) for truth in truths]
    n_right = sum(len(true & set(said)) for true, said in zip(true_cells, cells, strict=True))
    precision, recall, f1 = _precision_recall(
        n_right, sum(len(set(said)) for said in cells), sum(len(true) for true in true_cells)
    )
    true_counts = np.array([truth.count for truth in truths], float)
    errors: npt.NDArray[np.float64] = np.abs(true_counts - np.array(counts, float))
    holds_some = true_counts > 0
    return KindScores(
        cell_precision=precision,
        cell_recall=recall,
        cell_f1=f1,
        count_mae=float(errors.mean()),
        count_mae_changed=float(errors[holds_some].mean()) if holds_some.any() else None,
        count_mean_changed=float(true_counts[holds_some].mean()) if holds_some.any() else None,
    )


def _precision_recall(n_right: int, n_said: int, n_true: int) -> tuple[float, float, float]:
    precision = n_right / n_said if n_said else 0.0
    recall = n_right / n_true if n_true else 0.0
    f1 = 2 * n_right / (n_said + n_true) if n_said + n_true else 0.0
    return precision, recall, f1
