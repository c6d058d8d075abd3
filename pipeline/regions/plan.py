"""What one pass over a region has to do: pairs that are new, and pairs that an earlier pass did not finish.

Each block is planned by itself, out of what one search has found for all; a region that is a single one is planned the
same way. Pure decisions: plain values in and out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shapely.geometry.base import BaseGeometry

from pipeline.config.region import RegionConfig
from pipeline.dates import format_moment
from pipeline.grid.blocks import LatticeBlock
from pipeline.regions.block_status import BlockPlan, judge_block
from pipeline.regions.composites import make_composer
from pipeline.regions.dates import DatedScene, choose_scenes, group_scenes
from pipeline.regions.pair_records import PairRecord, PairState, take_current
from pipeline.regions.pairs import RegionPair, choose_pairs, find_season_gap, name_pair
from pipeline.scenes.days import LeftOut, ScenePiece


@dataclass(frozen=True, kw_only=True)
class Place:
    """What is planned by itself: a block, or the area of a region that is a single one."""

    area: BaseGeometry
    """What scenes are to show, in WGS84 degrees."""
    cell: str
    """Key of the place: area and grid."""
    block: LatticeBlock | None = None
    """The block; None: the region is a single one."""

    @property
    def block_id(self) -> str | None:
        """Name of the block; None in a region that is a single one."""
        return None if self.block is None else self.block.block_id


@dataclass(frozen=True, kw_only=True)
class PassPlan:
    """What a pass has to do, and why it does not do more."""

    to_do: tuple[PairRecord, ...]
    """Pairs to run, the oldest first."""
    n_done: int
    """Pairs that the pass would have done, and that are done already."""
    n_scenes: int
    """Dates that were found."""
    left_out: tuple[LeftOut, ...]
    """What was found and takes no part."""
    warnings: tuple[str, ...] = ()
    """What people should know of the pairs to do."""
    given_up: tuple[LeftOut, ...] = ()
    """Those of them that failed too often."""
    blocks: tuple[BlockPlan, ...] = ()
    """The same block by block; empty in a region that is a single one."""


def plan_place(
    place: Place,
    *,
    pieces: Sequence[ScenePiece],
    states: Sequence[PairState],
    config: RegionConfig,
    settings: str,
    now: dt.datetime,
    planned_at: dt.datetime,
    unusable: Sequence[LeftOut] = (),
) -> PassPlan:
    """Decide which pairs of one block, or of a region that is a single one, a pass has to do.

    Args:
        place: The block or the area.
        pieces: What may be a part of a scene of it.
        states: What the region's folder knows of its pairs.
        config: The region.
        settings: Key of the settings that shape the answers.
        now: The present, with its zone.
        planned_at: The time of the clock, whatever moment the pass takes for the present.
        unusable: What was found and takes no part, whatever is decided.
    """
    pairing = config.pairing
    analysed = [state.record.pair for state in take_current(states) if state.has_result]
    scenes, former = group_scenes(pieces, area=place.area)
    usable, poor = choose_scenes(scenes, choice=config.dates)
    composer = make_composer(config, now=now, analysed=analysed)
    if composer is None:
        chosen, others = choose_pairs(usable, pairing=pairing, now=now, analysed=analysed)
    else:
        chosen, others = composer.pair(usable, pieces=pieces, area=place.area)
    plan = decide_pass(
        [name_pair(before, after, cell=place.cell, settings=settings) for before, after in chosen],
        states=states,
        cell=place.cell,
        settings=settings,
        planned_at=planned_at,
        max_attempts=config.max_attempts,
        max_pairs=config.max_pairs_per_pass,
        n_scenes=len(scenes),
        left_out=[*unusable, *former, *poor, *others],
        block=place.block,
    )
    gaps = (find_season_gap(record.pair, pairing=pairing) for record in plan.to_do)
    plan = replace(plan, warnings=tuple(gap for gap in gaps if gap is not None))
    if place.block_id is None:
        return plan
    limit = config.dates.max_cloud_percent
    return _describe_block(plan, block_id=place.block_id, n_cloudy=_count_cloudy(scenes, limit=limit))


def _count_cloudy(scenes: Sequence[DatedScene], *, limit: float | None) -> int:
    clouds = [scene.cloud_percent for scene in scenes if scene.cloud_percent is not None]
    return 0 if limit is None else sum(percent > limit for percent in clouds)


def _describe_block(plan: PassPlan, *, block_id: str, n_cloudy: int) -> PassPlan:
    """Say what is to become of a block, and name it in what is told of its scenes."""
    status, reason = judge_block(
        n_to_do=len(plan.to_do),
        n_done=plan.n_done,
        n_scenes=plan.n_scenes,
        n_cloudy=n_cloudy,
        given_up=plan.given_up,
        left_out=plan.left_out,
    )
    told = BlockPlan(block_id=block_id, status=status, reason=reason, n_scenes=plan.n_scenes, n_to_do=len(plan.to_do))
    left_out = tuple(replace(each, block_id=block_id) for each in plan.left_out)
    return replace(plan, left_out=left_out, blocks=(told,))


def decide_pass(
    pairs: Sequence[RegionPair],
    *,
    states: Sequence[PairState],
    cell: str,
    settings: str,
    planned_at: dt.datetime,
    max_attempts: int,
    max_pairs: int,
    n_scenes: int,
    left_out: Sequence[LeftOut] = (),
    block: LatticeBlock | None = None,
) -> PassPlan:
    """Decide which pairs a pass has to do.

    Args:
        pairs: Those that the scenes make.
        states: Those that the region's folder knows.
        cell: Key of the place; pairs of another are not gone on with.
        settings: Key of the settings; likewise.
        planned_at: The time of the clock, whatever moment the pass takes for the present.
        max_attempts: So many passes try one pair.
        max_pairs: So many pairs are done by one pass.
        n_scenes: Dates that were found.
        left_out: What takes no part for other reasons.
        block: The block that the pairs are of.
    """
    known = {state.pair_id: state for state in states}
    current = {state.pair_id for state in take_current(states)}
    waiting = [
        state.record
        for state in states
        if state.pair_id in current
        and (state.record.cell, state.record.settings) == (cell, settings)
        and state.needs_work(max_attempts=max_attempts)
    ]
    fresh = [
        PairRecord(pair=pair, cell=cell, settings=settings, planned_at=format_moment(planned_at), block=block)
        for pair in {pair.pair_id: pair for pair in pairs}.values()
        if pair.pair_id not in known
    ]
    given_up = [
        LeftOut(name=pair.pair_id, reason=f"failed in {known[pair.pair_id].record.attempts} passes (max_attempts)")
        for pair in pairs
        if pair.pair_id in known
        and not known[pair.pair_id].has_result
        and not known[pair.pair_id].needs_work(max_attempts=max_attempts)
    ]
    to_do = sorted(
        [*waiting, *fresh], key=lambda record: (record.pair.after.start, record.pair.before.start, record.pair.pair_id)
    )
    later = [LeftOut(name=record.pair.pair_id, reason="left to the next pass") for record in to_do[max_pairs:]]
    n_done = sum(pair.pair_id in known and known[pair.pair_id].has_result for pair in pairs)
    return PassPlan(
        to_do=tuple(to_do[:max_pairs]),
        n_done=n_done,
        n_scenes=n_scenes,
        left_out=(*left_out, *given_up, *later),
        given_up=tuple(given_up),
    )
