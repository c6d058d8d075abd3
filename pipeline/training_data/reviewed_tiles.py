"""Tells which tiles of a run people have settled, and what is true of each: shapes alone, no pixels.

A tile becomes truth only where nothing in it is open: every change that reaches into what the model saw of it was found
right, corrected or rejected. What was rejected is unchanged ground, what was drawn as missed has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from rasterio.features import rasterize

from pipeline.grid.grid import Grid
from pipeline.reviews.review import DIRECTIONS, Verdict
from pipeline.reviews.settle import Settled
from pipeline.training_data.truth_tiles import MASK_VALUES

BUILT, REMOVED = DIRECTIONS
_OUTLINE = "outline"
# ^ Of `geometry_source`: the shape is that of the thing, not of the cells that it lies in.
_NO_AREA_M2 = 1e-6


class OpenTileError(Exception):
    """A tile is no truth; its message says why, the same words for all tiles of one sort."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueShape:
    """A thing that changed."""

    kind: str
    """building or road."""
    direction: str | None
    """built or removed; None: not told."""
    geometry: shapely.Geometry
    """Its outline in the grid's CRS."""


@dataclass(frozen=True, kw_only=True)
class TileWord:
    """What people have said of a whole tile."""

    is_changed: bool | None
    """Whether it changed; None: they are not sure, or do not agree."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """How many things changed, by the kinds that they told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReviewedLook:
    """What a run told of its tiles, and what people have said of that."""

    grid: Grid
    """Its grid."""
    tiles: pd.DataFrame
    """Its ``tile_id``, ``row``, ``col`` and ``is_changed``."""
    changes: gpd.GeoDataFrame
    """What it told of, in the grid's CRS."""
    settled: Mapping[str, Settled]
    """What holds of changes, by ``change_id``."""
    words: Mapping[str, TileWord] = field(default_factory=dict)
    """What holds of tiles, by ``tile_id``."""
    drawn: Sequence[TrueShape] = ()
    """What people have drawn as missed."""
    unclear: Sequence[shapely.Geometry] = ()
    """What they have drawn on other dates of the place: whether it is to be seen on these, nobody knows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SettledTile:
    """A tile of which is known what changed in it."""

    tile_id: str
    row: int
    col: int
    shapes: tuple[TrueShape, ...]
    """What changed; none: nothing did."""
    has_road_truth: bool
    """Whether roads are known, too."""

    @property
    def is_removal(self) -> bool:
        """Whether the things went rather than came."""
        return any(shape.direction == REMOVED for shape in self.shapes)


def settle_tiles(look: ReviewedLook) -> tuple[list[SettledTile], Counter[str]]:
    """Give the tiles that are truth, row by row, and how many others people have touched, by why they are none."""
    rows = look.tiles.sort_values(["row", "col"]).to_dict("records")
    seen = np.array([find_seen_ground(look.grid, row=row["row"], col=row["col"]) for row in rows], dtype=object)
    trees = [
        shapely.STRtree(np.asarray(shapes, dtype=object))
        for shapes in (
            shapely.make_valid(look.changes.geometry.to_numpy()),
            [shape.geometry for shape in look.drawn],
            look.unclear,
        )
    ]
    told = look.changes.drop(columns="geometry").to_dict("records")
    settled, left_out = [], Counter[str]()
    for row, ground in zip(rows, seen, strict=True):
        changes, drawn, unclear = (_find_within(tree, ground) for tree in trees)
        is_touched = any(told[at]["change_id"] in look.settled for at, _ in changes)
        if not (is_touched or drawn or row["tile_id"] in look.words):
            continue
        try:
            if unclear:
                raise OpenTileError("something was drawn there on other dates")
            found = [(told[at], shape) for at, shape in changes]
            settled.append(_settle_tile(row, look=look, changes=found, drawn=[look.drawn[at] for at, _ in drawn]))
        except OpenTileError as why:
            left_out[str(why)] += 1
    return settled, left_out


def find_seen_ground(grid: Grid, *, row: int, col: int) -> shapely.Polygon:
    """Give the ground that a model sees of a tile, in the grid's CRS."""
    window = grid.tile_window(row, col)
    left, top = grid.transform @ (window.left, window.top)
    right, bottom = grid.transform @ (window.left + window.width, window.top + window.height)
    return shapely.box(left, bottom, right, top)


def _find_within(tree: shapely.STRtree, ground: shapely.Polygon) -> list[tuple[int, shapely.Geometry]]:
    """Give what shares ground with a tile: its place in the tree, and its whole shape."""
    hits = np.sort(tree.query(ground, predicate="intersects"))
    shapes = tree.geometries[hits]
    is_within = shapely.area(shapely.intersection(shapes, ground)) > _NO_AREA_M2
    return [(int(at), shape) for at, shape in zip(hits[is_within], shapes[is_within], strict=True)]


def _settle_tile(
    row: Mapping[Any, Any],
    *,
    look: ReviewedLook,
    changes: Sequence[tuple[Mapping[str, Any], shapely.Geometry]],
    drawn: Sequence[TrueShape],
) -> SettledTile:
    """Give what is true of a tile.

    Raises:
        OpenTileError: something about it is open.
    """
    if pd.isna(row["is_changed"]):
        raise OpenTileError("the model has told nothing of it")
    tile_id = str(row["tile_id"])
    word = look.words.get(tile_id)
    if word is not None and word.is_changed is None:
        raise OpenTileError("people are not sure whether it changed, or do not agree")
    is_unchanged = word is not None and word.is_changed is False
    shapes = [*drawn, *_list_true(changes, settled=look.settled, is_unchanged=is_unchanged)]
    if word is not None:
        _compare(word, shapes)
    directions = {shape.direction or BUILT for shape in shapes}
    if len(directions) > 1 or not directions <= set(DIRECTIONS):
        raise OpenTileError("some of it was built and some removed, which one pair cannot tell")
    has_roads = any(shape.kind == "road" for shape in shapes)
    return SettledTile(
        tile_id=tile_id,
        row=int(row["row"]),
        col=int(row["col"]),
        shapes=tuple(shapes),
        # Who looks for houses need not have looked for roads.
        has_road_truth=has_roads or (word is not None and "road" in word.counts),
    )


def _list_true(
    changes: Sequence[tuple[Mapping[str, Any], shapely.Geometry]],
    *,
    settled: Mapping[str, Settled],
    is_unchanged: bool,
) -> Iterator[TrueShape]:
    """Give the changes of a tile that are real, as corrected.

    Args:
        changes: What the model told, with its outlines.
        settled: What people have said of it.
        is_unchanged: Whether they said of the whole tile that nothing changed, which settles what is open.
    """
    for told, shape in changes:
        said = settled.get(str(told["change_id"]))
        if said is None or said.verdict is Verdict.UNSURE:
            if is_unchanged:
                continue
            raise OpenTileError("a change in it is not reviewed, or people are not sure")
        if not is_real(said):
            continue
        if told["geometry_source"] != _OUTLINE:
            raise OpenTileError("what changed is known by cells alone, without an outline")
        if said.count is not None and said.count != len(shapely.get_parts(shape)):
            raise OpenTileError("people counted another number than the outline shows")
        direction = said.direction or told.get("change")
        kind = said.kind or str(told["kind"])
        yield TrueShape(kind=kind, direction=None if pd.isna(direction) else str(direction), geometry=shape)


def is_real(said: Settled) -> bool:
    """Tell whether something changed where the model says so: it is right, or wrong only about what that is."""
    if said.verdict is Verdict.RIGHT:
        return True
    is_corrected = said.kind is not None or said.direction is not None or bool(said.count)
    return said.verdict is Verdict.WRONG and is_corrected and said.count != 0


def _compare(word: TileWord, shapes: Sequence[TrueShape]) -> None:
    """Compare what was said of a tile with what was said and drawn in it.

    Raises:
        OpenTileError: it is not the same.
    """
    if word.is_changed is False and shapes:
        raise OpenTileError("people found it unchanged, and a change in it right or drawn")
    if word.is_changed and not shapes:
        raise OpenTileError("people found it changed, and nobody has drawn what did")
    for kind, count in word.counts.items():
        # Counted as a mask is: what touches is one.
        joined = shapely.union_all([shape.geometry for shape in shapes if shape.kind == kind])
        if count != len(shapely.get_parts(joined)):
            raise OpenTileError("people counted another number than the outline shows")


def draw_settled(tile: SettledTile, *, grid: Grid) -> npt.NDArray[np.uint8]:
    """Draw the change mask of what a model sees of a tile, uint8 (y, x): 0, 128 road, 255 building."""
    window = grid.tile_window(tile.row, tile.col)
    # Buildings cover roads, as they are drawn later.
    ordered = sorted(tile.shapes, key=lambda shape: MASK_VALUES[shape.kind])
    shapes = [(shape.geometry, MASK_VALUES[shape.kind]) for shape in ordered]
    if not shapes:
        return np.zeros((window.height, window.width), np.uint8)
    transform = grid.move(window.top, window.left).transform
    drawn = rasterize(shapes, out_shape=(window.height, window.width), transform=transform, dtype="uint8")
    return np.asarray(drawn, np.uint8)
