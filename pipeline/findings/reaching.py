"""What outlines reach of the tiles beside their own becomes part of the changes, and nothing of it twice.

A piece may go on beside the ground of its tile (`pipeline.answers.beyond`). There the other tile may have outlined the
same thing: the two are one, and only what it left out is added.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from pipeline.findings.joining import MIN_SHARED
from pipeline.grid.cells import BoolArray, FloatArray, IntArray

WHOLE_PX = 1.0
"""Corners lie on whole pixels after a cut, as they do before."""

_Shapes = npt.NDArray[np.object_]


def find_reached(polygons: _Shapes, beyond: _Shapes, *, is_instance: BoolArray) -> tuple[IntArray, IntArray]:
    """Find pairs of pieces that are one because what one of them reaches meets the other, or what that one reaches.

    Of single buildings, one that merely touches another there is a neighbour: they are one where what they share is at
    least `MIN_SHARED` of the smaller shape.

    Args:
        polygons: Pieces in pixels of the grid; each lies on the ground of one tile.
        beyond: What each reaches of tiles beside its own; None: nothing.
        is_instance: Which pieces are single buildings.
    """
    reaching = np.flatnonzero(~shapely.is_missing(beyond))
    shapes = np.concatenate([polygons, beyond[reaching]])
    owners = np.concatenate([np.arange(len(polygons)), reaching])
    asked, found = shapely.STRtree(shapes).query(beyond[reaching], predicate="intersects")
    is_other = reaching[asked] != owners[found]
    asked, found = asked[is_other], found[is_other]
    first, second = reaching[asked], owners[found]
    shared = shapely.intersection(beyond[first], shapes[found])
    is_single = is_instance[first] | is_instance[second]
    smaller = np.minimum(shapely.area(beyond[first]), shapely.area(shapes[found]))
    # Points in common do not join, as they do not at borders of tiles.
    is_one = np.where(is_single, shapely.area(shared) >= MIN_SHARED * smaller, shapely.length(shared) > 0)
    return first[is_one], second[is_one]


def cut_beyond(polygons: _Shapes, beyond: _Shapes) -> _Shapes:
    """Leave of what each piece reaches what no piece covers; None where nothing is left.

    Args:
        polygons: As of `find_reached`.
        beyond: Likewise.
    """
    left = beyond.copy()
    reaching = np.flatnonzero(~shapely.is_missing(beyond))
    asked, found = shapely.STRtree(polygons).query(beyond[reaching], predicate="intersects")
    for place in np.unique(asked):
        covered = shapely.union_all(polygons[found[asked == place]])
        left[reaching[place]] = shapely.difference(left[reaching[place]], covered, grid_size=WHOLE_PX)
    left[shapely.is_empty(left)] = None
    return left


def unite_reaching(united: _Shapes, left: _Shapes, *, labels: IntArray) -> FloatArray:
    """Add to changes, in place, what their pieces reach beside their tiles.

    Args:
        united: The changes without that, in pixels of the grid.
        left: What `cut_beyond` left of each piece.
        labels: Change that each piece belongs to.

    Returns:
        How many times as large each change became.
    """
    growth = np.ones(len(united))
    reaching = np.flatnonzero(~shapely.is_missing(left))
    for change in np.unique(labels[reaching]):
        parts = left[reaching[labels[reaching] == change]]
        whole = shapely.union_all([united[change], *parts], grid_size=WHOLE_PX)
        growth[change] = whole.area / united[change].area
        united[change] = shapely.simplify(shapely.normalize(whole), 0)
    return growth
