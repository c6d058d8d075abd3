"""Parts tiles by place into those to learn from and those held out, so that no ground lies on both sides.

Ground is divided into squares that lie still, whatever tiles there are, and a hash of each square and the seed says on
which side it is: a tile stays there when others join it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import numpy as np
import pyproj
import shapely

from model.errors import InputError
from model.pairs.held_out import pick_held_out

EQUAL_AREA_CRS = "EPSG:6933"
"""CRS that the squares lie in: all of the Earth in metres, equal in area."""
_SHARED_PART = 1e-4
# ^ Of a tile's ground: neighbours that meet at an edge share its last digits.

Square = tuple[int, int]
"""Column and row of a square."""


class Side(StrEnum):
    """What a tile is for."""

    TRAIN = "train"
    """To learn from."""
    VAL = "val"
    """To measure by."""
    GAP = "gap"
    """Neither: it shares ground with one that is held out, in a square that is not."""


def bring_to_squares(grounds: Sequence[shapely.Geometry], *, crs: str) -> list[shapely.Geometry]:
    """Bring tiles' ground into the CRS of the squares."""
    way = pyproj.Transformer.from_crs(crs, EQUAL_AREA_CRS, always_xy=True)
    moved: list[shapely.Geometry] = shapely.transform(
        np.asarray(grounds, dtype=object), lambda xy: np.column_stack(way.transform(xy[:, 0], xy[:, 1]))
    ).tolist()
    return moved


def choose_sides(grounds: Sequence[shapely.Geometry], *, square_m: float, val_fraction: float, seed: int) -> list[Side]:
    """Say on which side each tile lies.

    Args:
        grounds: What a model sees of each, in `EQUAL_AREA_CRS`.
        square_m: Side of a square in metres.
        val_fraction: Part of the squares to hold out.
        seed: Another one chooses other squares.

    Raises:
        InputError: there would be nothing left on one side.
    """
    middles = shapely.centroid(np.asarray(grounds, dtype=object))
    columns, rows = (np.floor(read(middles) / square_m).astype(int).tolist() for read in (shapely.get_x, shapely.get_y))
    squares: list[Square] = list(zip(columns, rows, strict=True))
    held = _hold_out(set(squares), fraction=val_fraction, seed=seed, square_m=square_m)
    sides = [Side.VAL if square in held else Side.TRAIN for square in squares]
    for at in _find_shared(grounds, sides):
        sides[at] = Side.GAP
    if Side.TRAIN not in sides:
        raise InputError(
            f"all tiles beyond the held out ones share ground with them ({len(sides):,} tiles)",
            expected="tiles on both sides",
            remedy="review tiles of more places, or give another --seed",
        )
    return sides


def _hold_out(squares: set[Square], *, fraction: float, seed: int, square_m: float) -> set[Square]:
    """Choose the squares that are held out: those whose hash is small enough, and at least one."""
    names = {f"{seed}/{column}/{row}": (column, row) for column, row in squares}
    held = {names[name] for name in pick_held_out(names, fraction=fraction)}
    if len(held) == len(squares):
        raise InputError(
            f"all tiles lie in {len(squares)} square(s) of {square_m:,.0f} m, and {len(held)} would be held out",
            expected="tiles in several squares, some of them to learn from",
            remedy="review tiles of more places, or give a smaller --square-m or --val-fraction, or another --seed",
        )
    return held


def _find_shared(grounds: Sequence[shapely.Geometry], sides: Sequence[Side]) -> Iterable[int]:
    """Give the tiles to learn from that share ground with one that is held out."""
    held = [ground for ground, side in zip(grounds, sides, strict=True) if side is Side.VAL]
    tree = shapely.STRtree(held)
    for at, (ground, side) in enumerate(zip(grounds, sides, strict=True)):
        if side is Side.TRAIN:
            near = tree.geometries[tree.query(ground, predicate="intersects")]
            if (shapely.area(shapely.intersection(near, ground)) > _SHARED_PART * ground.area).any():
                yield at
