"""What outlines reach of the tiles beside their own becomes part of the changes, and nothing of it twice.

A piece may go on beside the ground of its tile (`pipeline.answers.beyond`). There the other tile may have outlined the
same thing, and a third one may reach it as well: they are one. Of single buildings, which stay apart where they merely
touch, the ground is that of the tile's own piece, and what two others reach is that of the first.
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
    shapes, owners = np.concatenate([polygons, beyond[reaching]]), np.concatenate([np.arange(len(polygons)), reaching])
    first, found = _find_meeting(beyond, reaching=reaching, shapes=shapes, owners=owners)
    second = owners[found]
    shared = shapely.intersection(beyond[first], shapes[found])
    is_single = is_instance[first] | is_instance[second]
    smaller = np.minimum(shapely.area(beyond[first]), shapely.area(shapes[found]))
    # Points in common do not join, as they do not at borders of tiles.
    is_one = np.where(is_single, shapely.area(shared) >= MIN_SHARED * smaller, shapely.length(shared) > 0)
    return first[is_one], second[is_one]


def _find_meeting(
    beyond: _Shapes, *, reaching: IntArray, shapes: _Shapes, owners: IntArray
) -> tuple[IntArray, IntArray]:
    """Find the shapes that what pieces reach meets: numbers of the pieces and of the shapes, none of its own."""
    if not len(reaching):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    asked, found = shapely.STRtree(shapes).query(beyond[reaching], predicate="intersects")
    is_other = reaching[asked] != owners[found]
    return reaching[asked[is_other]], found[is_other]


def unite_reaching(united: _Shapes, polygons: _Shapes, beyond: _Shapes, *, labels: IntArray) -> FloatArray:
    """Add to changes, in place, what their pieces reach beside their tiles and no other change covers.

    Args:
        united: The changes without that, in pixels of the grid.
        polygons: Their pieces, as of `find_reached`.
        beyond: What each reaches, likewise.
        labels: Change that each piece belongs to.

    Returns:
        How many times as large each change became.
    """
    growth = np.ones(len(united))
    reaching = np.flatnonzero(~shapely.is_missing(beyond))
    shapes, owners = np.concatenate([polygons, beyond[reaching]]), np.concatenate([np.arange(len(polygons)), reaching])
    piece, found = _find_meeting(beyond, reaching=reaching, shapes=shapes, owners=owners)
    is_first = (found < len(polygons)) | (owners[found] < piece)
    is_rival = is_first & (labels[piece] != labels[owners[found]])
    hindered, rivals = piece[is_rival], shapes[found[is_rival]]
    rivals_of = {each: rivals[hindered == each] for each in np.unique(hindered).tolist()}
    order = reaching[np.argsort(labels[reaching], kind="stable")]
    changes, starts = np.unique(labels[order], return_index=True)
    for change, pieces in zip(changes.tolist(), np.split(order, starts)[1:], strict=True):
        parts = [
            shapely.difference(beyond[each], shapely.union_all(rivals_of[each]), grid_size=WHOLE_PX)
            if each in rivals_of
            else beyond[each]
            for each in pieces.tolist()
        ]
        own = united[change]
        whole = shapely.get_parts(shapely.union_all([own, *parts], grid_size=WHOLE_PX))
        # What a cut left, or rounding, may be a crumb apart.
        is_attached = shapely.area(shapely.intersection(whole, own)) > 0
        united[change] = shapely.simplify(shapely.normalize(shapely.union_all(whole[is_attached])), 0)
        growth[change] = united[change].area / own.area
    return growth
