"""What blocks tell, put together: pairs of the same days as one, and changes that meet at a border of blocks as one.

A change that the border of two blocks runs through is told in two pieces, one per block. Where both blocks compared the
same days, pieces of one kind that touch along the border are one sighting of one event. Where they compared other days
they stay two: nobody knows that what is on both sides happened at once.

At the border of a UTM zone two lattices overlap. What a block tells beyond its zone is cut off, as the block on the
other side tells it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from pipeline.grid.blocks import LatticeBlock
from pipeline.grid.cells import IntArray, label_joined
from pipeline.polygons.near import keep_polygons
from pipeline.regions.events.looks import PairView
from pipeline.regions.pair_records import PairState
from pipeline.regions.timeline import PairChanges

_TOLD_BY_SUREST = ("change", "description")
_LEAST_SHARE = 1e-6
# ^ Part of a shape that rounding may move over a border.


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedPairs:
    """Pairs of the same days, each of another block, as what links changes sees them: as one."""

    view: PairView
    """What they tell together."""
    frame: gpd.GeoDataFrame
    """Their changes, pieces of one as one row."""
    places: tuple[int, ...]
    """Places of the pairs among those that were given."""
    rows: tuple[IntArray, ...]
    """For each of them, the row of `frame` that each of its changes is a part of."""


def group_pairs(states: Sequence[PairState]) -> list[list[int]]:
    """Put together the places of pairs that compare the same days in different blocks; other pairs stay alone.

    Args:
        states: In the order of time.
    """
    groups: dict[object, list[int]] = {}
    taken: dict[object, int] = {}
    for place, state in enumerate(states):
        pair, block_id = state.record.pair, state.record.block_id
        days: object = place
        if block_id is not None:
            days = tuple((scene.start.date(), scene.collection) for scene in (pair.before, pair.after))
            # A block that compared these days twice, with other pieces, has a second pair of its own.
            number = taken[days, block_id] = taken.get((days, block_id), 0) + 1
            days = days, number
        groups.setdefault(days, []).append(place)
    return list(groups.values())


def cut_at_border(frame: gpd.GeoDataFrame, *, block: LatticeBlock | None) -> gpd.GeoDataFrame:
    """Cut what a block tells off at the border of its UTM zone; areas shrink with the shapes.

    Args:
        frame: Polygons in the CRS of the block.
        block: The block; None: the region is a single one.
    """
    if block is None or not block.is_at_border or frame.empty:
        return frame
    shapes, limits = np.array(shapely.make_valid(frame.geometry.to_numpy()), dtype=object), block.limits
    shapely.prepare(limits)
    is_over = ~shapely.covers(limits, shapes)
    parts = shapes.copy()
    parts[is_over] = keep_polygons(np.asarray(shapely.intersection(shapes[is_over], limits), dtype=object))
    shares = shapely.area(parts) / shapely.area(shapes)
    is_cut = shares < 1 - _LEAST_SHARE
    if not is_cut.any():
        return frame
    cut = frame.set_geometry(np.where(is_cut, parts, frame.geometry.to_numpy()), crs=frame.crs)
    if "area_m2" in cut:
        cut["area_m2"] = cut["area_m2"].where(~is_cut, cut["area_m2"] * shares)
    return cut[shares > _LEAST_SHARE].reset_index(drop=True)


def join_pairs(
    states: Sequence[PairState],
    frames: Sequence[gpd.GeoDataFrame],
    *,
    seen: Sequence[gpd.GeoDataFrame | None],
    places: Sequence[int],
) -> JoinedPairs:
    """Make pairs of the same days one.

    Args:
        states: All pairs.
        frames: The changes of each, in one CRS.
        seen: The tiles that each has looked at; None where nobody knows any more.
        places: Which of them are made one.
    """
    own = [frames[place] for place in places]
    starts = np.cumsum([0, *map(len, own)])
    pair_ids = np.repeat([states[place].pair_id for place in places], np.diff(starts))
    frame, labels = own[0], np.arange(starts[-1])
    if len(places) > 1 and starts[-1]:
        pieces = pd.concat([each for each in own if len(each)], ignore_index=True)
        labels = _label_pieces(pieces, blocks=np.repeat(np.arange(len(own)), np.diff(starts)), state=states[places[0]])
        frame, pair_ids = _join_pieces(pieces, pair_ids=pair_ids, labels=labels)
    known = [tiles for place in places if (tiles := seen[place]) is not None and len(tiles)]
    return JoinedPairs(
        view=_view([states[place] for place in places], frame, pair_ids=pair_ids, seen=known),
        frame=frame,
        places=tuple(places),
        rows=tuple(labels[start:end] for start, end in itertools.pairwise(starts)),
    )


def _label_pieces(pieces: gpd.GeoDataFrame, *, blocks: IntArray, state: PairState) -> IntArray:
    """Number the changes that pieces make, in the order of their first pieces."""
    block = state.record.block
    resolution_m = block.resolution_m if block is not None else 0.0
    shapes, kinds = pieces.geometry.to_numpy(), pieces["kind"].to_numpy()
    first, second = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=resolution_m / 2)
    is_pair = (first < second) & (blocks[first] != blocks[second]) & (kinds[first] == kinds[second])
    first, second = first[is_pair], second[is_pair]
    # Along at least a pixel, as within a run: what touches at a corner alone is two.
    strips = shapely.intersection(shapely.buffer(shapes[first], resolution_m / 2), shapes[second])
    is_along = shapely.area(strips) >= resolution_m**2 / 2
    return label_joined(first[is_along], second[is_along], n_parts=len(shapes))


def _join_pieces(
    pieces: gpd.GeoDataFrame, *, pair_ids: npt.NDArray[np.str_], labels: IntArray
) -> tuple[gpd.GeoDataFrame, npt.NDArray[np.str_]]:
    """Give a row per change, of the piece whose name comes first but for what the surest tells, and each one's pair."""
    order = np.lexsort((pieces["change_id"].to_numpy(str), pair_ids, labels))
    firsts = order[np.unique(labels[order], return_index=True)[1]]
    joined = pieces.iloc[firsts].reset_index(drop=True)
    sizes = np.bincount(labels)
    # Runs of former versions have no change.
    told_columns = [column for column in _TOLD_BY_SUREST if column in pieces]
    shapes = joined.geometry.to_numpy().copy()
    confidences = joined["confidence"].to_numpy(np.float64, na_value=np.nan).copy()
    for label in np.flatnonzero(sizes > 1):
        own = pieces.iloc[order[labels[order] == label]]
        shapes[label] = shapely.union_all(own.geometry.to_numpy())
        told = own[own["confidence"].notna()]
        joined.loc[label, "area_m2"] = own["area_m2"].sum()
        if len(told):
            own_confidences = told["confidence"].to_numpy(np.float64)
            confidences[label] = np.average(own_confidences, weights=told["area_m2"])
        for column in told_columns:
            joined.loc[label, column] = _choose_surest(own, column=column)
    joined["confidence"] = pd.Series(confidences).astype(pieces["confidence"].dtype)
    return joined.set_geometry(shapes, crs=pieces.crs), pair_ids[firsts]


def _choose_surest(pieces: gpd.GeoDataFrame, *, column: str) -> str | None:
    """Give what the most confident piece tells, of equal ones the first; None where none tells."""
    told = pieces[pieces[column].notna()]
    confidences = told["confidence"].to_numpy(np.float64, na_value=-1.0)
    return str(told[column].iloc[int(confidences.argmax())]) if len(told) else None


def _view(
    states: Sequence[PairState],
    frame: gpd.GeoDataFrame,
    *,
    pair_ids: npt.NDArray[np.str_],
    seen: Sequence[gpd.GeoDataFrame],
) -> PairView:
    pairs = [state.record.pair for state in states]
    changes = PairChanges(
        pair_id=min(pair.pair_id for pair in pairs),
        before=min(pair.before.start for pair in pairs),
        after=max(pair.after.start for pair in pairs),
        change_ids=frame["change_id"].tolist(),
        pair_ids=pair_ids.tolist(),
        kinds=frame["kind"].tolist(),
        geometry=np.array(shapely.make_valid(frame.geometry.to_numpy()), dtype=object),
    )
    return PairView(
        changes=changes,
        scenes=frozenset().union(*(scene.keys for pair in pairs for scene in (pair.before, pair.after))),
        confidences=frame["confidence"].to_numpy(np.float64, na_value=np.nan),
        seen=pd.concat(seen, ignore_index=True) if len(seen) > 1 else next(iter(seen), None),
    )
