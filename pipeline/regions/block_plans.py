"""All blocks of a region planned out of one search: what was found is dealt out to them by where it lies."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import shapely
from shapely.affinity import translate

from pipeline.config.region import RegionConfig
from pipeline.dates import Interval
from pipeline.regions.composites import make_composer
from pipeline.regions.pair_records import PairState, take_current
from pipeline.regions.pairs import RegionPair, find_windows
from pipeline.regions.plan import PassPlan, Place
from pipeline.scenes.days import LeftOut, ScenePiece

_LEAST_SHARE = 1e-6
_TURNS = (0.0, -360.0, 360.0)


class PlanPlace(Protocol):
    """What decides for one block, as `plan_place` does."""

    def __call__(self, place: Place, *, pieces: Sequence[ScenePiece], states: Sequence[PairState]) -> PassPlan:
        """Decide which of its pairs a pass has to do."""
        ...


def choose_states(states: Sequence[PairState], *, places: Sequence[Place]) -> list[list[PairState]]:
    """Give each place the pairs that are its own."""
    by_block: dict[str | None, list[PairState]] = {}
    for state in states:
        by_block.setdefault(state.record.block_id, []).append(state)
    return [by_block.get(place.block_id, []) for place in places]


def find_place_windows(states: Sequence[PairState], *, config: RegionConfig, now: dt.datetime) -> tuple[Interval, ...]:
    """Tell which spans of time a place needs scenes of, after the pairs that it has.

    Args:
        states: Its pairs.
        config: The region, which says how dates are made and paired.
        now: The present, with its zone.
    """
    analysed = _list_analysed(states)
    composer = make_composer(config, now=now, analysed=analysed)
    if composer is None:
        return find_windows(config.pairing, now=now, analysed=analysed)
    return composer.list_windows()


def join_windows(windows: Sequence[tuple[Interval, ...]]) -> tuple[Interval, ...]:
    """Give the spans of time that hold those of all places, so that one search serves them all."""
    if len({len(found) for found in windows}) > 1:
        # Windows of composites, which begin after the pairs that each place has.
        windows = [(span,) for found in windows for span in found]
    return tuple(
        Interval(start=_find_first([each.start for each in found]), end=_find_last([each.end for each in found]))
        for found in zip(*windows, strict=True)
    )


def plan_blocks(
    places: Sequence[Place],
    *,
    pieces: Sequence[ScenePiece],
    states: Sequence[Sequence[PairState]],
    windows: Sequence[tuple[Interval, ...]],
    plan_place: PlanPlace,
    unusable: Sequence[LeftOut] = (),
) -> PassPlan:
    """Plan every block by itself.

    Args:
        places: The blocks.
        pieces: What one search has found for the whole area.
        states: The pairs of each block.
        windows: The spans of time that each needs scenes of.
        plan_place: Decides for one of them.
        unusable: What was found and takes no part, whatever is decided.
    """
    dealt = deal_pieces(pieces, places=places)
    plans = [
        plan_place(place, pieces=[piece for piece in own if _is_within(piece, spans)], states=known)
        for place, own, known, spans in zip(places, dealt, states, windows, strict=True)
    ]
    return PassPlan(
        to_do=tuple(record for plan in plans for record in plan.to_do),
        n_done=sum(plan.n_done for plan in plans),
        n_scenes=len({(piece.start.date(), piece.collection) for piece in pieces}),
        left_out=(*unusable, *(each for plan in plans for each in plan.left_out)),
        warnings=tuple(warning for plan in plans for warning in plan.warnings),
        given_up=tuple(each for plan in plans for each in plan.given_up),
        blocks=tuple(block for plan in plans for block in plan.blocks),
    )


def deal_pieces(pieces: Sequence[ScenePiece], *, places: Sequence[Place]) -> list[list[ScenePiece]]:
    """Give each block the pieces of scenes that may show some of it; pieces that do not tell where they lie go to all.

    Args:
        pieces: What was found, in any order.
        places: The blocks.
    """
    placed = [at for at, piece in enumerate(pieces) if piece.footprint is not None]
    dealt = [{at for at, piece in enumerate(pieces) if piece.footprint is None} for _ in places]
    areas = np.array([place.area for place in places], dtype=object)
    tree = shapely.STRtree(areas)
    for turn in _TURNS:
        # Outlines of rasters run on beyond 180 degrees.
        outlines = np.array([translate(pieces[at].footprint, xoff=turn) for at in placed], dtype=object)
        found, blocks = tree.query(outlines, predicate="intersects")
        shared = shapely.area(shapely.intersection(outlines[found], areas[blocks]))
        # A neighbour's scene that ends at the border of the block shows nothing of it.
        is_shown = shared > _LEAST_SHARE * shapely.area(areas[blocks])
        for piece, block in zip(found[is_shown].tolist(), blocks[is_shown].tolist(), strict=True):
            dealt[block].add(placed[piece])
    return [[pieces[at] for at in sorted(own)] for own in dealt]


def _is_within(piece: ScenePiece, windows: Sequence[Interval]) -> bool:
    return any(window.touches(piece.start, piece.start) for window in windows)


def _list_analysed(states: Sequence[PairState]) -> list[RegionPair]:
    return [state.record.pair for state in take_current(states) if state.has_result]


def _find_first(moments: Sequence[dt.datetime | None]) -> dt.datetime | None:
    known = [moment for moment in moments if moment is not None]
    return min(known) if len(known) == len(moments) else None


def _find_last(moments: Sequence[dt.datetime | None]) -> dt.datetime | None:
    known = [moment for moment in moments if moment is not None]
    return max(known) if len(known) == len(moments) else None
