"""What the next pass over a region would do, told without writing anything."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shapely.geometry.base import BaseGeometry

from pipeline.config.region import RegionConfig
from pipeline.config.region_sources import StacSourceConfig
from pipeline.grid.grid import build_grid
from pipeline.polygons.aoi import AreaOfInterest, find_inside, find_touched
from pipeline.regions.block_status import BlockStatus
from pipeline.regions.blocks import RegionBlock
from pipeline.regions.pair_records import PairState, read_states
from pipeline.regions.plan import PassPlan
from pipeline.regions.region import SettledRegion, check_region_folder
from pipeline.runs.check import Figure
from pipeline.runs.record import RECORD_NAME, RunRecord
from pipeline.storage.folder import RunFolder

_LISTED = 10
_READ_BYTES_PER_VALUE = 2
_STORED_BYTES_PER_PIXEL = 4
# ^ Three bands and one of validity, a byte each.
_MEASURED_PAIRS = 5


def forecast_pass(config: RegionConfig, *, now: dt.datetime) -> dict[str, Figure]:
    """Look for scenes as the next pass would, and tell what it would do.

    Args:
        config: The region.
        now: The present, with its zone.

    Returns:
        Figures by what they are called, units in the names.

    Raises:
        InputError: the area cannot be read, or the source cannot be searched.
    """
    region = SettledRegion.settle(config)
    if region.folder.is_remote or Path(region.folder.uri).is_dir():
        check_region_folder(region.folder)
    plan = region.plan(now)
    pairs = [record.pair for record in plan.to_do]
    dates = {(date.key, date.version): date for pair in pairs for date in (pair.before, pair.after)}
    figures: dict[str, Figure] = {
        "n_dates_found": plan.n_scenes,
        "n_pairs_to_do": len(pairs),
        "n_pairs_done_already": plan.n_done,
        "n_scenes_to_read": sum(max(1, len(date.dates)) for date in dates.values()),
        "n_items_or_files_to_read": sum(len(date.piece_ids) for date in dates.values()),
    }
    if plan.blocks:
        figures |= _count_blocks(plan)
    if pairs:
        figures["pairs"] = _join([pair.pair_id for pair in pairs])
        figures |= _measure(region, plan=plan)
        figures["hours_about"] = _estimate_hours(read_states(region.folder), folder=region.folder, n_pairs=len(pairs))
    if plan.left_out:
        figures["left_out"] = _join(_count_reasons(plan))
    if plan.warnings:
        figures["warnings"] = _join(plan.warnings)
    return figures


def _count_blocks(plan: PassPlan) -> dict[str, Figure]:
    """Tell how many blocks there are, and what would become of how many; the reasons are in ``left_out``."""
    counts = Counter(block.status for block in plan.blocks)
    figures: dict[str, Figure] = {"n_blocks": len(plan.blocks)}
    return figures | {f"n_blocks_{status.value}": counts[status] for status in BlockStatus if counts[status]}


def _measure(region: SettledRegion, *, plan: PassPlan) -> dict[str, Figure]:
    """Tell how much there is to read and to keep, as of scenes that show all of the area, or of the pairs' blocks."""
    config = region.config
    if region.blocks:
        tiles = {each.block_id: _count_tiles(each.area, region=region, block=each) for each in region.blocks}
        n_tiles_by_pair = [tiles[str(record.block_id)] for record in plan.to_do]
    else:
        n_tiles_by_pair = [_count_tiles(region.area, region=region)] * len(plan.to_do)
    n_tiles = sum(n_tiles_by_pair)
    source = config.source
    classes = source.search.classes if isinstance(source, StacSourceConfig) else source.scene.classes
    n_pixels = 2 * n_tiles * config.grid.tile_size_px**2
    return {
        "n_tiles_per_pair_at_most": max(n_tiles_by_pair),
        "n_answers_at_most": n_tiles * len(config.prompts),
        "read_bytes_about": n_pixels * (3 + (classes is not None)) * _READ_BYTES_PER_VALUE,
        "store_bytes_before_compression": n_pixels * _STORED_BYTES_PER_PIXEL,
    }


def _count_tiles(area: BaseGeometry, *, region: SettledRegion, block: RegionBlock | None = None) -> int:
    """Count the tiles that share ground with the area, or with a block's part of it."""
    config = region.config
    grid = build_grid(
        area,
        area,
        crs=region.crs if block is None else block.block.crs,
        resolution_m=config.grid.resolution_m,
        tile_size_px=config.grid.tile_size_px,
        overlap_px=config.tiles.overlap_px,
        anchor=config.grid.anchor,
        block=None if block is None else block.block,
    )
    if block is not None:
        return int(find_touched(grid, shape=block.ground).sum())
    return int(find_inside(grid, area=AreaOfInterest.read(config.aoi).lay_on(grid)).sum())


def _estimate_hours(states: Sequence[PairState], *, folder: RunFolder, n_pairs: int) -> Figure:
    """Take the slowest of the last pairs for the measure of those to come."""
    measured = [state.record for state in states if state.has_result and state.has_folder]
    measured.sort(key=lambda record: record.pair.after.start)
    names = [f"{record.run_name}/{RECORD_NAME}" for record in measured[-_MEASURED_PAIRS:]]
    runs = [
        RunRecord.from_json(data, source=folder.join(name))
        for name, data in zip(names, folder.read_many(names), strict=True)
        if data is not None
    ]
    if not runs:
        return "unknown: no pair of this region has been done yet"
    seconds = max(sum(float(stage["seconds"]) for stage in run.stages) for run in runs)
    return round(n_pairs * seconds / 3600, 2)


def _count_reasons(plan: PassPlan) -> list[str]:
    counts = Counter(each.reason for each in plan.left_out)
    return [f"{reason} ({count})" for reason, count in counts.most_common()]


def _join(words: Sequence[str]) -> str:
    more = len(words) - _LISTED
    return "; ".join(words[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
