"""Blocks planned out of one search: each has its own best dates, and says what is to become of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from shapely.affinity import translate
from shapely.geometry import box

from pipeline.config.region import RegionConfig, load_region_config
from pipeline.dates import Interval
from pipeline.grid.blocks import LatticeBlock
from pipeline.regions.block_plans import choose_states, deal_pieces, find_place_windows, join_windows, plan_blocks
from pipeline.regions.block_status import BlockPlan, BlockStatus, settle_blocks
from pipeline.regions.pair_records import PairRecord, PairState, PairStatus, take_current
from pipeline.regions.plan import PassPlan, Place, plan_place
from pipeline.scenes.days import ScenePiece

NOW = dt.datetime(2026, 6, 20, tzinfo=dt.UTC)


def make_place(number: int) -> Place:
    block = LatticeBlock(crs="EPSG:32632", east=number, north=532, side_px=1024, resolution_m=10, is_in_zone=True)
    return Place(area=box(9 + number, 48, 10 + number, 49), cell=f"cell-{number}", block=block)


WEST, MIDDLE, EAST = (make_place(number) for number in range(3))
ALL = (WEST, MIDDLE, EAST)


def at(day: str) -> dt.datetime:
    return dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC)


def piece(name: str, day: str, *places: Place, clouds: float | None = None) -> ScenePiece:
    """Give a scene that shows these blocks from the first to the last of them; none: nobody tells where it lies."""
    footprint = box(places[0].area.bounds[0], 47.5, places[-1].area.bounds[2], 49.5) if places else None
    return ScenePiece(piece_id=name, start=at(day), footprint=footprint, cloud_percent=clouds)


def describe(**values: Any) -> RegionConfig:
    plain = {
        "name": "r",
        "aoi": "a.geojson",
        "source": {"kind": "folder", "folder": "scenes"},
        "pairing": {"kind": "dates", "before_dates": "2025", "after_dates": "2026"},
        "dates": {"max_cloud_percent": 50},
        "output": "out",
        "blocks": {},
    }
    return load_region_config(values=plain | values)


def plan(
    *pieces: ScenePiece, states: list[PairState] | None = None, places: tuple[Place, ...] = ALL, **values: Any
) -> PassPlan:
    config = describe(**values)
    own = choose_states(states or [], places=places)
    decide = partial(plan_place, config=config, settings="settings", now=NOW, planned_at=NOW)
    windows = [find_place_windows(each, config=config, now=NOW) for each in own]
    return plan_blocks(places, pieces=pieces, states=own, windows=windows, plan_place=decide)


def end(record: PairRecord, status: PairStatus = PairStatus.DONE, **values: Any) -> PairState:
    has_result = status is PairStatus.DONE
    return PairState(
        record=replace(record, attempts=1, **values),
        status=status,
        reason=None if has_result else "it rained",
        figures={} if has_result else None,
        has_folder=has_result,
    )


OLD = piece("old", "2025-06-01", WEST, EAST)


@pytest.mark.parametrize(
    ("pieces", "statuses", "pairs"),
    [
        ([], ["no_scene"] * 3, {}),
        ([OLD], ["no_pair"] * 3, {}),
        ([OLD, piece("new", "2026-06-01", WEST, EAST)], ["to_do"] * 3, dict.fromkeys(ALL, "new")),
        # Each takes the newest that shows it.
        (
            [OLD, piece("new", "2026-06-01", WEST, MIDDLE), piece("older", "2026-05-01", MIDDLE, EAST)],
            ["to_do"] * 3,
            {WEST: "new", MIDDLE: "new", EAST: "older"},
        ),
        (
            [OLD, piece("fair", "2026-05-01", WEST, MIDDLE), piece("wet", "2026-06-01", MIDDLE, EAST, clouds=80)],
            ["to_do", "to_do", "cloudy"],
            {WEST: "fair", MIDDLE: "fair"},
        ),
        # What shows a neighbour up to the common border shows nothing of the block.
        (
            [piece("a", "2025-06-01", WEST), piece("b", "2026-06-01", WEST)],
            ["to_do", "no_scene", "no_scene"],
            {WEST: "b"},
        ),
        # Where nobody tells where a file lies, it may show every block.
        ([piece("a", "2025-06-01"), piece("b", "2026-06-01")], ["to_do"] * 3, dict.fromkeys(ALL, "b")),
    ],
)
def test_every_block_has_its_own_best_dates(
    pieces: list[ScenePiece], statuses: list[str], pairs: dict[Place, str]
) -> None:
    made = plan(*pieces)

    assert [block.status for block in made.blocks] == statuses
    assert {record.block_id: record.pair.after.scene_id for record in made.to_do} == {
        place.block_id: name for place, name in pairs.items()
    }
    assert all(block.reason for block in made.blocks if block.status is not BlockStatus.TO_DO)
    assert made.n_scenes == len({each.start for each in pieces})


def test_one_block_of_fifty_without_any_scene_keeps_no_other_back() -> None:
    places = tuple(make_place(number) for number in range(50))
    without = places[17]
    shown = (places[0], places[16]), (places[18], places[49])
    days = ("2025-06-01", "2026-06-01")
    pieces = [piece(f"{day} {number}", day, *ends) for day in days for number, ends in enumerate(shown)]

    made = plan(*pieces, places=places)

    assert [each.block_id for each in made.blocks if each.status is not BlockStatus.TO_DO] == [without.block_id]
    assert (made.blocks[17].status, made.blocks[17].reason) == (BlockStatus.NO_SCENE, "no scene shows it")
    assert [record.block_id for record in made.to_do] == [each.block_id for each in places if each is not without]


def test_blocks_that_are_done_or_given_up_are_told() -> None:
    scenes = [OLD, piece("new", "2026-06-01", WEST, EAST)]
    west, middle, east = plan(*scenes).to_do

    later = plan(*scenes, states=[end(west), end(middle, PairStatus.FAILED)], max_attempts=1)

    assert [block.status for block in later.blocks] == ["known", "failed", "to_do"]
    assert [record.pair.pair_id for record in later.to_do] == [east.pair.pair_id]
    assert later.n_done == 1
    assert "max_attempts" in str(later.blocks[1].reason)
    assert MIDDLE.block_id in {each.block_id for each in later.left_out}
    assert plan(*scenes, states=[end(middle, PairStatus.FAILED)], max_attempts=2).blocks[1].n_to_do == 1


def test_pairs_of_one_pass_are_counted_block_by_block() -> None:
    scenes = [piece(day, day, WEST, EAST) for day in ("2026-01-01", "2026-02-01", "2026-03-01")]

    made = plan(*scenes, pairing={"kind": "series", "since": "2026-01-01"}, max_pairs_per_pass=1)

    assert [block.n_to_do for block in made.blocks] == [1, 1, 1]


def test_pairs_of_equal_scenes_in_two_blocks_both_count() -> None:
    records = plan(OLD, piece("new", "2026-06-01", WEST, EAST)).to_do

    assert len({record.pair.pair_id for record in records}) == 3
    assert len({record.pair.key for record in records}) == 1
    assert len(list(take_current([end(record) for record in records]))) == 3
    assert records[0].run_name == f"blocks/32632_0000_0532/pairs/{records[0].pair.pair_id}"


def test_record_of_a_block_is_read_back_and_one_without_is_as_it_was() -> None:
    record = plan(OLD, piece("new", "2026-06-01", WEST, EAST)).to_do[0]
    plain = replace(record, block=None)

    assert PairRecord.from_json(record.to_json(), source="plan") == record
    assert PairRecord.from_json(plain.to_json(), source="plan") == plain
    assert b"block" not in plain.to_json()


def test_scenes_over_the_date_line_reach_blocks_on_both_sides() -> None:
    places = [replace(WEST, area=box(179, 0, 180, 1)), replace(EAST, area=box(-180, 0, -179, 1))]
    # Outlines of rasters run on.
    beyond = replace(OLD, piece_id="beyond", footprint=box(179.5, 0, 180.5, 1))
    wrapped = replace(OLD, piece_id="wrapped", footprint=translate(beyond.footprint, xoff=-360.0))

    dealt = deal_pieces([beyond, wrapped], places=places)

    assert [[each.piece_id for each in own] for own in dealt] == [["beyond", "wrapped"]] * 2


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        (("2026-01-01", "2026-02-01"), ("2025-12-01", "2026-01-15"), ("2025-12-01", "2026-02-01")),
        ((None, "2026-02-01"), ("2025-12-01", None), (None, None)),
    ],
)
def test_one_search_serves_the_windows_of_all_blocks(
    first: tuple[str | None, ...], second: tuple[str | None, ...], joined: tuple[str | None, ...]
) -> None:
    windows = [
        (Interval(start=start and at(start), end=end_at and at(end_at)),) for start, end_at in (first, second, joined)
    ]

    assert join_windows(windows[:2]) == windows[2]


def test_what_became_of_blocks_is_told_by_their_pairs() -> None:
    plans = [
        BlockPlan(block_id=name, status=status, reason=None, n_scenes=2, n_to_do=1)
        for name, status in (("a", BlockStatus.TO_DO), ("b", BlockStatus.TO_DO), ("c", BlockStatus.CLOUDY))
    ]

    settled = settle_blocks(plans, failed={"b": "it rained", "c": "not asked"})

    assert [(block.status, block.reason) for block in settled] == [
        (BlockStatus.DONE, None),
        (BlockStatus.FAILED, "it rained"),
        (BlockStatus.CLOUDY, None),
    ]
