"""Outlines as a run would draw them, beside the truth: tiles of one pair are put together before anything is judged.

A thing on the border of two tiles is one outline, as it is one change in a report: by its highest pixel, all of its
area, and what its tiles say, each by its part of that. Of a model that tells buildings apart each is one building.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from model.evaluation.cases import AnsweredCase, EvaluationTile
from model.evaluation.mask_scores import CHANGED_PROBABILITY
from model.evaluation.objects import ObjectCounts, ToldDirection, count_objects
from model.evaluation.scores import KINDS, read_cells, read_count
from model.instances import split_touching, tell_direction
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
    aspects: Mapping[str, _Mask] = field(default_factory=dict)
    """What else the model tells of each pixel, by the names of `ChangeMasks.aspects`."""
    swapped_removed: _Mask | None = None
    """The aspect removed with the dates swapped; None where nobody asked."""
    is_removal: bool = False
    """Whether what changed went."""


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
    masks: ChangeMasks,
    tiles: Sequence[EvaluationTile],
    *,
    answered: Sequence[Sequence[AnsweredCase]],
    swapped: ChangeMasks | None = None,
) -> list[MaskedTile | None]:
    """Put masks beside the answers and the truth of their tiles; None for a tile without a mask.

    Args:
        masks: Of those tiles that have one, in their order.
        tiles: The tiles.
        answered: What the model said about each.
        swapped: Masks of the same tiles with their dates swapped; None: nobody asked for them.
    """
    found: list[MaskedTile | None] = []
    places = iter(range(len(masks.probabilities)))
    for tile, answers in zip(tiles, answered, strict=True):
        if tile.labelled is None:
            found.append(None)
            continue
        place = next(places)
        of_tile = masks.probabilities[place]
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
                aspects={name: layer[place] for name, layer in masks.aspects.items()},
                swapped_removed=None if swapped is None else swapped.aspects["removed"][place],
                is_removal=tile.labelled.is_removal,
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
        self.objects: list[ObjectCounts] = []
        self.directions: list[ToldDirection] = []

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
        for drawn in draw_pair(self._tiles):
            self._found += find_outlines(drawn)
            self.objects.append(count_objects(drawn.labels, drawn.truth, kind=drawn.kind, scene=drawn.scene))
            self.directions += tell_directions(drawn)
        self._tiles = []


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPair:
    """What the masks of one kind show of a whole pair; all of shape (y, x)."""

    kind: str
    scene: str
    tile_area: int
    """Pixels of one of its tiles."""
    labels: npt.NDArray[np.int32]
    """Number of the outline that each pixel belongs to, 0 for none."""
    seen: _Mask
    """Probability of change."""
    yes: _Mask
    """Probability with which the tile is called changed."""
    truth: npt.NDArray[np.bool_]
    """What changed."""
    removed: _Mask | None
    """Probability that what changed went; None where the model does not tell."""
    swapped_removed: _Mask | None
    """The same with the dates swapped; None where nobody asked."""
    is_removal: bool
    """Whether what changed went."""


def draw_pair(tiles: Sequence[MaskedTile]) -> Iterator[DrawnPair]:
    """Put the tiles of one pair together, kind by kind, and number its outlines.

    What is connected is one, over the borders of tiles as well; of buildings, where the model tells the borders between
    them, what lies within those.

    Args:
        tiles: Tiles of one size, of one pair.
    """
    for kind in tiles[0].masks if tiles else {}:
        height, width = tiles[0].masks[kind].shape
        layers: dict[str, Sequence[npt.NDArray[Any] | None]] = {
            "seen": [tile.masks[kind] for tile in tiles],
            "yes": [np.full((height, width), tile.yes, np.float32) for tile in tiles],
            "truth": [tile.truths[kind] for tile in tiles],
            "border": [tile.aspects.get("border") for tile in tiles],
            "removed": [tile.aspects.get("removed") for tile in tiles],
            "swapped_removed": [tile.swapped_removed for tile in tiles],
        }
        whole = {name: _put_together(tiles, parts) for name, parts in layers.items()}
        seen, border = whole["seen"], whole.pop("border") if kind == "building" else None
        whole.pop("border", None)
        labels = ndimage.label(seen >= CHANGED_PROBABILITY)[0] if border is None else split_touching(seen, border)
        yield DrawnPair(
            kind=kind,
            scene=tiles[0].scene,
            tile_area=height * width,
            labels=labels,
            is_removal=tiles[0].is_removal,
            **whole,
        )


def _put_together(tiles: Sequence[MaskedTile], parts: Sequence[npt.NDArray[Any] | None]) -> Any:
    """Lay parts of tiles where they belong; None where one of them is missing."""
    there = [part for part in parts if part is not None]
    if len(there) < len(tiles):
        return None
    height, width = there[0].shape
    shape = (max(tile.top for tile in tiles) + height, max(tile.left for tile in tiles) + width)
    whole = np.zeros(shape, there[0].dtype)
    for tile, part in zip(tiles, there, strict=True):
        whole[tile.top : tile.top + height, tile.left : tile.left + width] = part
    return whole


def find_outlines(drawn: DrawnPair) -> Iterator[FoundOutline]:
    """Give the outlines of one kind in one pair."""
    n_outlines = int(drawn.labels.max(initial=0))
    numbers = np.arange(1, n_outlines + 1)
    columns = (
        ndimage.maximum(drawn.seen, drawn.labels, numbers),
        np.bincount(drawn.labels.ravel(), minlength=n_outlines + 1)[1:] / drawn.tile_area,
        ndimage.mean(drawn.yes, drawn.labels, numbers),
        ndimage.maximum(drawn.truth, drawn.labels, numbers),
    )
    for peak, tile_share, mean_yes, is_right in zip(*(np.atleast_1d(column) for column in columns), strict=True):
        yield FoundOutline(
            kind=drawn.kind,
            scene=drawn.scene,
            peak=float(peak),
            tile_share=float(tile_share),
            yes=float(mean_yes),
            is_right=bool(is_right),
        )


def tell_directions(drawn: DrawnPair) -> Iterator[ToldDirection]:
    """Give what is told of the outlines that meet the truth; nothing of a model that tells no direction."""
    if drawn.removed is None:
        return
    for number in np.unique(drawn.labels[drawn.truth & (drawn.labels > 0)]):
        changed = drawn.labels == number
        plain = tell_direction(drawn.removed, changed=changed)
        if plain is None:
            continue
        yield ToldDirection(
            kind=drawn.kind,
            scene=drawn.scene,
            plain=plain,
            swapped=None if drawn.swapped_removed is None else tell_direction(drawn.swapped_removed, changed=changed),
            is_removal=drawn.is_removal,
        )
