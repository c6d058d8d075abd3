"""The blocks of a region as its page shows them: a map of what was seen, and a row for each of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.grid.blocks import project_shape
from pipeline.regions.blocks import RegionBlock
from pipeline.regions.dates import DatedScene
from pipeline.regions.pair_records import PairState
from pipeline.report.page.map import MapFrame
from pipeline.report.words import write_day

MAX_BLOCK_ROWS = 200
"""Blocks in the table, those that were seen least first; the map shows all."""
MAX_STRIP_PAIRS = 12
"""Pairs of a block whose coverage is shown side by side, the last of them."""


def describe_blocks(
    blocks: Sequence[RegionBlock], *, states: Sequence[PairState], time_line: pd.DataFrame, frame: MapFrame
) -> dict[str, Any]:
    """Give what the page shows of blocks: those that were seen least come first.

    Args:
        blocks: All blocks of the region.
        states: The pairs that count.
        time_line: One row per pair.
        frame: The map.
    """
    scenes = {state.pair_id: state.record.pair for state in states}
    by_block = dict(iter(time_line.groupby("block_id")))
    rows = []
    for block in blocks:
        own = by_block.get(block.block_id)
        pairs = [] if own is None else own.to_dict("records")
        # Composites that grow from week to week may have one day in common, that of the scene in their middle.
        pairs.sort(key=lambda row: (row["after_datetime"], _find_newest(scenes[row["pair_id"]].after)))
        row = _describe_block(block.block_id, pairs=pairs)
        if pairs:
            pair = scenes[pairs[-1]["pair_id"]]
            row |= {"before": word_scene(pair.before), "after": word_scene(pair.after)}
        shape = project_shape(block.area, crs=frame.grid.crs)
        rows.append(row | {"path": frame.draw([shape], tolerance_m=frame.detail_m)})
    rows.sort(key=lambda row: (row["seen"] or 0.0, row["block_id"]))
    window = frame.window
    return {
        "rows": rows[:MAX_BLOCK_ROWS],
        "shapes": [{name: row[name] for name in ("block_id", "path", "seen")} for row in rows],
        "n_unseen": sum(row["seen"] is None for row in rows),
        "map": {"left": window.left, "top": window.top, "width": window.width, "height": window.height},
        "unit": max(window.width, window.height) / 1000,
    }


def _describe_block(block_id: str, *, pairs: Sequence[Mapping[Hashable, Any]]) -> dict[str, Any]:
    """Give the figures of a block; without pairs nothing is known of it."""
    coverage = [None if pd.isna(pair["analysed_fraction"]) else float(pair["analysed_fraction"]) for pair in pairs]
    last = pairs[-1] if pairs else None
    news = [pair["n_new_changes"] for pair in pairs if not pd.isna(pair["n_new_changes"])]
    return {
        "block_id": block_id,
        "status": None if last is None else last["status"],
        "reason": None if last is None or pd.isna(last["reason"]) else last["reason"],
        "before": None,
        "after": None,
        "seen": coverage[-1] if coverage else None,
        "strip": coverage[-MAX_STRIP_PAIRS:],
        "n_pairs": len(pairs),
        "n_changes": None if last is None or pd.isna(last["n_changes"]) else int(last["n_changes"]),
        "n_new": int(np.sum(news)) if news else None,
        "run": None if last is None or pd.isna(last["run"]) else last["run"],
    }


def _find_newest(scene: DatedScene) -> dt.datetime:
    return max(date.start for date in (scene.dates or (scene,)))


def word_scene(scene: DatedScene) -> str:
    """Give the day of a scene in words, of a composite the first and the last, and how many there are."""
    days = [write_day(pd.Timestamp(date.start)) for date in (scene.dates or (scene,))]
    if not scene.dates:
        return str(days[0])
    span = f"{days[0]} to {days[-1]}" if days[0] != days[-1] else f"{days[0]}"
    return f"{span} ({len(days)} {'date' if len(days) == 1 else 'dates'})"
