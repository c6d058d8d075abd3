"""One pass over a region, with Prefect or without: what runs a pair is given by the caller."""

from __future__ import annotations

import contextvars
import datetime as dt
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from flows.cluster import share_run_cluster
from pipeline.config.run import RunConfig
from pipeline.dates import to_utc
from pipeline.regions.pair_records import PairRecord
from pipeline.regions.region import Region, RegionReport

RunPair = Callable[[RunConfig], object]
"""Does the run of one pair; raises where it cannot."""


class PairInterrupted(BaseException):
    """The whole pass was stopped while a pair was at work: no error of the pair."""


def run_pairs(region: Region, records: tuple[PairRecord, ...], *, run_pair: RunPair) -> None:
    """Run pairs on shared workers, a few of them or of their blocks at a time; one that fails keeps no other back.

    Args:
        region: The region.
        records: Pairs to run, in their order.
        run_pair: Runs one of them.

    Raises:
        InputError: workers cannot be started, or the region's folder has gone to another pass.
    """
    if not records:
        return
    is_over = threading.Event()

    def run_turn(turn: Sequence[PairRecord]) -> None:
        for record in turn:
            if is_over.is_set():
                return
            with region.attempt(record):
                try:
                    run_pair(region.make_run_config(record))
                except Exception:
                    if is_over.is_set():
                        raise PairInterrupted from None
                    raise

    turns = list_turns(records)
    with ExitStack() as stack:
        # Around the cluster: once that is gone, pairs at work end by themselves and are waited for.
        pool = stack.enter_context(ThreadPoolExecutor(region.n_at_once, thread_name_prefix="pair"))
        stack.enter_context(share_run_cluster(region.make_run_config(records[0])))
        if region.n_at_once == 1:
            # In this very thread, where a signal reaches it.
            for turn in turns:
                run_turn(turn)
            return
        try:
            # Each in a copy of this context, which knows the flow and the workers.
            waiting = [pool.submit(contextvars.copy_context().run, run_turn, turn) for turn in turns]
            for each in waiting:
                each.result()
        except BaseException:
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def list_turns(records: Sequence[PairRecord]) -> list[list[PairRecord]]:
    """Give the pairs that are run one after the other: those of one block; without blocks, each is for itself."""
    turns: dict[object, list[PairRecord]] = {}
    for place, record in enumerate(records):
        turns.setdefault(place if record.block is None else record.block_id, []).append(record)
    return list(turns.values())


def settle_now(as_of: dt.datetime | None) -> dt.datetime:
    """Give the moment that a pass takes for the present, UTC."""
    return dt.datetime.now(dt.UTC) if as_of is None else to_utc(as_of)


def describe_pass(report: RegionReport, *, name: str) -> dict[str, Any]:
    """Give what a pass did as plain values."""
    summary = report.summary
    return {
        "region": name,
        "output": report.folder.uri,
        "as_of": summary.at,
        "n_scenes": summary.n_scenes,
        "n_pairs_done": len(summary.done),
        "n_pairs_skipped": summary.n_skipped,
        "failed": dict(summary.failed),
        "n_new_changes": summary.n_new_changes,
        "events": dict(summary.events),
        "n_provisional": summary.n_provisional,
        "n_left_out": summary.n_left_out,
        "left_out_reasons": dict(summary.left_out_reasons),
        "left_out": [dict(each) for each in summary.left_out],
        "n_left_out_not_listed": summary.n_left_out_not_listed,
        "warnings": list(summary.warnings),
        "pairs": list(summary.done),
        "report": [report.folder.join(each) for each in report.names],
        # Of a region that is a single block there is nothing to tell beside its pairs.
        **({"blocks": [dict(block) for block in summary.blocks]} if summary.blocks else {}),
    }
