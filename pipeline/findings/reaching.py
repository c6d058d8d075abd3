"""What outlines reach of the tiles beside their own becomes part of the changes, and nothing of it twice.

A piece may go on beside the ground of its tile (`pipeline.answers.beyond`). There the other tile may have outlined the
same thing, and a third one may reach it as well: they are one. Of single buildings, which stay apart where they merely
touch, the ground is that of the tile's own piece, and what two others reach is that of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from pipeline.findings.joining import MIN_SHARED
from pipeline.grid.cells import BoolArray, FloatArray, IntArray

WHOLE_PX = 1.0
"""Corners lie on whole pixels after a cut, as they do before."""

_Shapes = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Meetings:
    """Which shapes meet what pieces reach of tiles beside their own."""

    shapes: _Shapes
    """The pieces, and then what they reach, in pixels of the grid."""
    owners: IntArray
    """Piece that each of the shapes is of."""
    pieces: IntArray
    """Piece of each meeting whose reach meets a shape of another piece."""
    found: IntArray
    """That shape, by its place in `shapes`."""


def find_meetings(polygons: _Shapes, beyond: _Shapes) -> Meetings:
    """Find what the reach of pieces meets.

    Args:
        polygons: Pieces in pixels of the grid; each lies on the ground of one tile.
        beyond: What each reaches of tiles beside its own; None: nothing.
    """
    reaching = np.flatnonzero(~shapely.is_missing(beyond))
    shapes, owners = np.concatenate([polygons, beyond[reaching]]), np.concatenate([np.arange(len(polygons)), reaching])
    asked, found = np.empty((2, 0), dtype=np.int64)
    if len(reaching):
        asked, found = shapely.STRtree(shapes).query(beyond[reaching], predicate="intersects")
    is_other = reaching[asked] != owners[found]
    return Meetings(shapes=shapes, owners=owners, pieces=reaching[asked[is_other]], found=found[is_other])


def find_reached(meetings: Meetings, beyond: _Shapes, *, is_instance: BoolArray) -> tuple[IntArray, IntArray]:
    """Find pairs of pieces that are one because what one of them reaches meets the other, or what that one reaches.

    Of single buildings, one that merely touches another there is a neighbour: they are one where what they share is at
    least `MIN_SHARED` of the smaller shape.

    Args:
        meetings: What the reach of the pieces meets.
        beyond: What each reaches, as of `find_meetings`.
        is_instance: Which pieces are single buildings.
    """
    first, second = meetings.pieces, meetings.owners[meetings.found]
    met = meetings.shapes[meetings.found]
    shared = shapely.intersection(beyond[first], met)
    is_single = is_instance[first] | is_instance[second]
    smaller = np.minimum(shapely.area(beyond[first]), shapely.area(met))
    # Points in common do not join, as they do not at borders of tiles.
    is_one = np.where(is_single, shapely.area(shared) >= MIN_SHARED * smaller, shapely.length(shared) > 0)
    return first[is_one], second[is_one]


def unite_reaching(united: _Shapes, beyond: _Shapes, *, meetings: Meetings, labels: IntArray) -> FloatArray:
    """Add to changes, in place, what their pieces reach beside their tiles and no other change covers.

    Args:
        united: The changes without that, in pixels of the grid.
        beyond: What each of their pieces reaches, as of `find_meetings`.
        meetings: What that meets.
        labels: Change that each piece belongs to.

    Returns:
        How many times as large each change became.
    """
    growth = np.ones(len(united))
    reaching = np.flatnonzero(~shapely.is_missing(beyond))
    pieces, owners = meetings.pieces, meetings.owners[meetings.found]
    is_first = (meetings.found < len(beyond)) | (owners < pieces)
    is_rival = is_first & (labels[pieces] != labels[owners])
    hindered, rivals = pieces[is_rival], meetings.shapes[meetings.found[is_rival]]
    rivals_of = {each: rivals[hindered == each] for each in np.unique(hindered).tolist()}
    order = reaching[np.argsort(labels[reaching], kind="stable")]
    changes, starts = np.unique(labels[order], return_index=True)
    for change, own_pieces in zip(changes.tolist(), np.split(order, starts)[1:], strict=True):
        parts = [
            shapely.difference(beyond[each], shapely.union_all(rivals_of[each]), grid_size=WHOLE_PX)
            if each in rivals_of
            else beyond[each]
            for each in own_pieces.tolist()
        ]
        own = united[change]
        whole = shapely.get_parts(shapely.union_all([own, *parts], grid_size=WHOLE_PX))
        # What a cut left, or rounding, may be a crumb apart.
        is_attached = shapely.area(shapely.intersection(whole, own)) > 0
        united[change] = shapely.simplify(shapely.normalize(shapely.union_all(whole[is_attached])), 0)
        growth[change] = united[change].area / own.area
    return growth
