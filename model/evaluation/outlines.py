"""Outlines as a run would draw them, beside the truth: tiles of one pair are put together before anything is judged.

A thing on the border of two tiles is one outline, as it is one change in a report: by its highest pixel, all of its
area, and what its tiles say, each by its part of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from model.evaluation.cases import AnsweredCase, EvaluationTile
from model.evaluation.mask_scores import CHANGED_PROBABILITY
from model.evaluation.scores import KINDS, read_cells, read_count
from model.interface import ChangeMasks
from model.pairs.folders import separate_labels
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate

_Mask = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedTile:
    """What the masks of one tile show, and what is true."""

    pair: str
    """What it was cut from."""
    top: int
    """Its first row of pixels there."""
    left: int
    """Its first column."""
    scene: str
    """Tiles of one scene are not independent of each other."""
    yes: float
    """Probability with which the model calls it changed; NaN where it tells none."""
    masks: Mapping[str, _Mask]
    """Probability of change by kind, of kinds that the truth tells of; 0 where the answers rule the kind out."""
    truths: Mapping[str, npt.NDArray[np.bool_]]
    """What changed, by the same kinds."""


@dataclass(frozen=True, kw_only=True)
class FoundOutline:
    """One outline, and whether it meets the truth."""

    kind: str
    scene: str
    peak: float
    """Highest probability of its pixels."""
    tile_share: float
    """Its area as part of a tile's."""
    yes: float
    """Mean of what the tiles say, by its part in each."""
    is_right: bool
    """Whether it shares a pixel with what really changed."""


def mask_tiles(
    masks: ChangeMasks, tiles: Sequence[EvaluationTile], *, answered: Sequence[Sequence[AnsweredCase]]
) -> list[MaskedTile | None]:
    """Put masks beside the answers and the truth of their tiles; None for a tile without a mask.

    Args:
        masks: Of those tiles that have one, in their order.
        tiles: The tiles.
        answered: What the model said about each.
    """
    found: list[MaskedTile | None] = []
    probabilities = iter(masks.probabilities)
    for tile, answers in zip(tiles, answered, strict=True):
        if tile.labelled is None:
            found.append(None)
            continue
        of_tile = next(probabilities)
        truths, is_known = separate_labels(tile.labelled, labels=masks.labels)
        kinds = {k: i for i, k in enumerate(masks.labels) if k in KINDS and is_known[i]}
        found.append(
            MaskedTile(
                pair=tile.pair or tile.name,
                top=tile.top,
                left=tile.left,
                scene=tile.scene,
                yes=_read_yes(answers),
                masks={kind: of_tile[at] * may_hold(kind, answers) for kind, at in kinds.items()},
                truths={kind: np.asarray(truths[at], dtype=np.bool_) for kind, at in kinds.items()},
            )
        )
    return found


def _read_yes(answered: Sequence[AnsweredCase]) -> float:
    for one in answered:
        if isinstance(one.meaning, ParsedClassify):
            return one.answer.confidence if one.meaning.is_changed else 1 - one.answer.confidence
    return np.nan


def may_hold(kind: str, answered: Sequence[AnsweredCase]) -> bool:
    """Tell whether answers about a tile leave a change of a kind open, as they have to for a run to outline it."""
    meanings = [one.meaning for one in answered]
    if any(isinstance(meaning, ParsedClassify) and not meaning.is_changed for meaning in meanings):
        return False
    for meaning in meanings:
        if isinstance(meaning, ParsedLocate) and (cells := read_cells(meaning, kind)) is not None:
            return bool(cells)
    return not any(isinstance(meaning, ParsedCount) and read_count(meaning, kind) == 0 for meaning in meanings)


class OutlineGatherer:
    """Gathers tiles, pair by pair, and finds the outlines of each pair when its last tile is there."""

    def __init__(self) -> None:
        """Begin without any."""
        self._tiles: list[MaskedTile] = []
        self._found: list[FoundOutline] = []

    def add(self, tile: MaskedTile | None) -> None:
        """Take a tile; those of one pair follow each other."""
        if tile is None:
            return
        if self._tiles and self._tiles[0].pair != tile.pair:
            self._close()
        self._tiles.append(tile)

    def finish(self) -> tuple[FoundOutline, ...]:
        """Give all outlines."""
        self._close()
        return tuple(self._found)

    def _close(self) -> None:
        self._found += find_outlines(self._tiles)
        self._tiles = []


def find_outlines(tiles: Sequence[MaskedTile]) -> Iterator[FoundOutline]:
    """Find the outlines of one pair: what is connected, over the borders of its tiles as well.

    Args:
        tiles: Tiles of one size, of one pair.
    """
    kinds = tiles[0].masks if tiles else {}
    for kind in kinds:
        height, width = tiles[0].masks[kind].shape
        shape = (max(tile.top for tile in tiles) + height, max(tile.left for tile in tiles) + width)
        seen, yes, truth = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
        for tile in tiles:
            part = (slice(tile.top, tile.top + height), slice(tile.left, tile.left + width))
            seen[part], yes[part], truth[part] = tile.masks[kind], tile.yes, tile.truths[kind]
        labels, n_outlines = ndimage.label(seen >= CHANGED_PROBABILITY)
        numbers = np.arange(1, n_outlines + 1)
        columns = (
            ndimage.maximum(seen, labels, numbers),
            np.bincount(labels.ravel(), minlength=n_outlines + 1)[1:] / (height * width),
            ndimage.mean(yes, labels, numbers),
            ndimage.maximum(truth, labels, numbers),
        )
        for peak, tile_share, mean_yes, is_right in zip(*(np.atleast_1d(column) for column in columns), strict=True):
            yield FoundOutline(
                kind=kind,
                scene=tiles[0].scene,
                peak=float(peak),
                tile_share=float(tile_share),
                yes=float(mean_yes),
                is_right=bool(is_right),
            )
