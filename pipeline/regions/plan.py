"""What one pass over a region has to do: pairs that are new, and pairs that an earlier pass did not finish."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.dates import format_moment
from pipeline.regions.pair_records import PairRecord, PairState, take_current
from pipeline.regions.pairs import RegionPair
from pipeline.scenes.days import LeftOut


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
        PairRecord(pair=pair, cell=cell, settings=settings, planned_at=format_moment(planned_at))
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
    )
