"""Masks of tiles become outlines: polygons per tile in whole pixels of the grid, made by the worker that answered.

Two rules let the outlines of neighbouring tiles meet without a seam. All corners are whole pixels, so that nothing is
rounded. And an outline is simplified only where it lies inside the tile: what lies on the border of the ground that a
tile owns stays to the pixel, so that two tiles still meet there however each was simplified. What a piece reaches of
the tiles beside it is drawn apart from it (`pipeline.answers.beyond`).

A piece is what is connected or, of a model that tells the borders between buildings, one building: such a model also
tells of each piece whether what changed went.

The answers tell whether something changed, the mask tells where: a kind of which the answers say that there is none
brings no outline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import shapely

from model.interface import Answer, ChangeMasks, ChooseAsked, MaskModel, Prompt, ScreeningModel
from pipeline.answers.beyond import OwnGround, Range, draw_beyond
from pipeline.answers.meaning import find_claims
from pipeline.answers.pieces import THRESHOLD, Slices, draw_pieces, label_pieces, measure_pieces
from pipeline.grid.grid import Grid
from pipeline.tables.schemas import CHANGE_KINDS
from pipeline.tiles.table import Tile

OUTLINE_VERSION = 5
"""Raised when equal masks and answers come to give other outlines."""

TOLERANCE_PX = 2.0
"""How much outlines are simplified: a corner goes while the triangle that it makes with its neighbours is smaller than
the square of this (Visvalingam and Whyatt 1993). The stairs of pixels along a slanting edge go, a house keeps its
corners."""

SPLIT_KIND = "building"
"""What the aspect ``border`` lies between."""

Layers = Mapping[str, npt.NDArray[np.float32]]
"""Aspects of one tile by their names, each (y, x)."""


def choose_outline_kinds(setting: Literal["auto", "off"], *, mask_labels: Sequence[str]) -> tuple[str, ...]:
    """Decide which kinds of change are outlined.

    Args:
        setting: ``model.outlines``.
        mask_labels: What the model gives masks of; one of plain ``change`` is of no kind.
    """
    return tuple(kind for kind in CHANGE_KINDS if kind in mask_labels) if setting == "auto" else ()


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One connected piece of one kind of change, or one building of it, as far as one tile owns its ground.

    It is empty where all that the mask shows lies on ground of the tile's neighbours.
    """

    tile_id: str
    """The tile."""
    kind: str
    """What changed, such as building."""
    first_row_px: int
    """Row of pixels of the grid in which the piece begins."""
    first_col_px: int
    """Column of its first pixel in that row."""
    n_pixels: int
    """Pixels of the mask in the piece."""
    n_seen_pixels: int
    """Pixels of this kind in all that the model saw of the tile, what neighbours own of it included."""
    probability: float
    """Mean probability of change of the piece's pixels, 0.5 to 1."""
    peak_probability: float
    """Highest of them."""
    removed_probability: float | None = None
    """Mean probability that what changed at its pixels went; None where the model does not tell."""
    is_instance: bool = False
    """Whether it is one building, told apart from those that it touches."""
    geometry: shapely.Polygon
    """The piece in pixels of the grid, x to the right and y downwards from its upper left corner; whole numbers."""
    beyond: shapely.MultiPolygon | None = None
    """What it reaches of the ground of tiles beside its own, likewise; None: nothing."""


def answer_with_outlines(
    model: MaskModel,
    pairs: npt.NDArray[np.uint8],
    *,
    prompts: Sequence[Prompt],
    witnesses: Sequence[Prompt],
    known: Mapping[str, Sequence[str]],
    kinds: Sequence[str],
    choose_asked: ChooseAsked | None = None,
) -> tuple[list[list[Answer]], ChangeMasks, npt.NDArray[np.bool_]]:
    """Ask about some tiles, and have the model give masks of those of which the answers leave a change open.

    Args:
        model: The model.
        pairs: The tiles' pixels, as `TileStore.read_pairs` gives them.
        prompts: What is to be asked now.
        witnesses: Prompts whose answers tell whether something changed.
        known: Texts of the answers to those of them that were asked before, by the prompt's name.
        kinds: Kinds of change that are outlined.
        choose_asked: Chooses the tiles that get more than the first prompt, of a model that can; None: all do.

    Returns:
        The answers, the masks of the tiles of which any kind is left open, and per tile which kinds are: flags of
        shape (tile, kind).
    """
    is_open = np.zeros((len(pairs), len(kinds)), dtype=np.bool_)

    def choose_masked(numbers: range, answers: list[list[Answer]]) -> npt.NDArray[np.bool_]:
        some = slice(numbers.start, numbers.stop)
        texts = {name: list(told[some]) for name, told in known.items()}
        texts |= {prompt.name: [answer.text for answer in row] for prompt, row in zip(prompts, answers, strict=True)}
        is_open[some] = find_claims(witnesses, texts=texts, kinds=kinds, n_tiles=len(numbers))
        return np.asarray(is_open[some].any(axis=1))

    if choose_asked is None:
        answered = model.answer_with_masks(pairs, prompts=prompts, choose_masked=choose_masked)
    else:
        answered = cast(ScreeningModel, model).answer_screened(
            pairs, prompts=prompts, choose_asked=choose_asked, choose_masked=choose_masked
        )
    return answered.answers, answered.masks, is_open


def trace_masks(
    masks: ChangeMasks,
    *,
    tiles: Sequence[Tile],
    is_open: npt.NDArray[np.bool_],
    kinds: Sequence[str],
    grid: Grid,
    wider: Sequence[npt.NDArray[np.float32] | None] = (),
) -> list[Outline]:
    """Turn the masks of a batch into outlines.

    Args:
        masks: Masks of all that the model saw, of the tiles of which any kind is open.
        tiles: The tiles of the batch.
        is_open: Which kinds may have an outline, (tile, kind).
        kinds: The kinds.
        grid: The grid.
        wider: What windows tell of the ground around each masked tile, as `Blended.wider`; empty: nothing.

    Returns:
        The outlines in the order of tiles, kinds and their first pixels.
    """
    masked = np.flatnonzero(is_open.any(axis=1)).tolist()
    around = wider or [None] * len(masked)
    return [
        outline
        for place, (index, probabilities, layers) in enumerate(zip(masked, masks.probabilities, around, strict=True))
        for kind, is_kind_open in zip(kinds, is_open[index], strict=True)
        if is_kind_open
        for outline in trace_mask(
            probabilities[masks.labels.index(kind)],
            kind=kind,
            tile=tiles[index],
            grid=grid,
            aspects={name: layer[place] for name, layer in masks.aspects.items()},
            wider=None if layers is None else layers[masks.labels.index(kind)],
        )
    ]


def trace_mask(
    probabilities: npt.NDArray[np.float32],
    *,
    kind: str,
    tile: Tile,
    grid: Grid,
    aspects: Layers | None = None,
    wider: npt.NDArray[np.float32] | None = None,
) -> list[Outline]:
    """Give the outlines of one kind in one tile.

    Args:
        probabilities: Probability of change of all that the model saw of the tile, (y, x).
        kind: What changed.
        tile: The tile.
        grid: The grid.
        aspects: What else the model tells of it; None: nothing.
        wider: Probability of change of that and of the ground around it, as `draw_beyond` takes it; None: not told.
    """
    top, left, height, width = grid.tile_window(tile.row, tile.col)
    seen_rows = _meet((top, top + height), (grid.top_px, grid.top_px + grid.height_px))
    seen_cols = _meet((left, left + width), (grid.left_px, grid.left_px + grid.width_px))
    rows = _meet((tile.row * grid.stride_px, (tile.row + 1) * grid.stride_px), seen_rows)
    cols = _meet((tile.col * grid.stride_px, (tile.col + 1) * grid.stride_px), seen_cols)
    shown = _cut(seen_rows, seen_cols, corner=(top, left))
    seen, layers = probabilities[shown], {name: layer[shown] for name, layer in (aspects or {}).items()}
    n_seen_pixels = int((seen >= THRESHOLD).sum())
    if not n_seen_pixels:
        return []
    owned = _cut(rows, cols, corner=(seen_rows[0], seen_cols[0]))
    borders = layers.get("border") if kind == SPLIT_KIND else None
    labels = label_pieces(seen, borders=borders, owned=owned)
    if not labels.any():
        return [_leave_to_neighbours(tile, kind=kind, corner=(rows[0], cols[0]), n_seen_pixels=n_seen_pixels)]
    drawn = draw_pieces(labels, tolerance_px=TOLERANCE_PX)
    pieces = shapely.transform(drawn, lambda corners: corners + np.array([cols[0], rows[0]]))
    removed = layers["removed"][owned] if "removed" in layers else None
    measures = measure_pieces(labels, probabilities=seen[owned], removed=removed)
    ground = OwnGround(tile=tile, rows=rows, cols=cols, labels=labels)
    beyond = {} if wider is None else draw_beyond(ground, wider, grid=grid, tolerance_px=TOLERANCE_PX)
    return [
        Outline(
            tile_id=tile.tile_id,
            kind=kind,
            first_row_px=rows[0] + measured.row,
            first_col_px=cols[0] + measured.col,
            n_pixels=measured.n_pixels,
            n_seen_pixels=n_seen_pixels,
            probability=measured.mean,
            peak_probability=measured.peak,
            removed_probability=measured.removed,
            is_instance=borders is not None,
            geometry=piece,
            beyond=beyond.get(number),
        )
        for number, (measured, piece) in enumerate(zip(measures, pieces, strict=True), start=1)
    ]


def _leave_to_neighbours(tile: Tile, *, kind: str, corner: tuple[int, int], n_seen_pixels: int) -> Outline:
    return Outline(
        tile_id=tile.tile_id,
        kind=kind,
        first_row_px=corner[0],
        first_col_px=corner[1],
        n_pixels=0,
        n_seen_pixels=n_seen_pixels,
        probability=THRESHOLD,
        peak_probability=THRESHOLD,
        geometry=shapely.Polygon(),
    )


def _meet(first: Range, second: Range) -> Range:
    start = max(first[0], second[0])
    return start, max(start, min(first[1], second[1]))


def _cut(rows: Range, cols: Range, *, corner: tuple[int, int]) -> Slices:
    """Give where some of the grid's pixels lie in an array that begins at a corner."""
    return slice(rows[0] - corner[0], rows[1] - corner[0]), slice(cols[0] - corner[1], cols[1] - corner[1])
