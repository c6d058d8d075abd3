"""What blocks tell, put together: pieces that meet at a border are one event where the days are the same."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from shapely.geometry import box

from pipeline.grid.blocks import LatticeBlock
from pipeline.regions.block_seams import cut_at_border, group_pairs, join_pairs
from pipeline.regions.overview import sum_over_blocks
from pipeline.regions.schemas import BLOCK_TIMELINE_SCHEMA
from pipeline.regions.timeline import link_changes

CRS = "EPSG:32632"
AFTER, LATER = (dt.datetime(2026, month, 1, 10, tzinfo=dt.UTC) for month in (6, 7))
BEFORE = dt.datetime(2025, 6, 1, 10, tzinfo=dt.UTC)


def make_block(east: int, north: int = 532) -> LatticeBlock:
    return LatticeBlock(crs=CRS, east=east, north=north, side_px=100, resolution_m=1, is_in_zone=True)


def make_state(east: int | None, *, after: dt.datetime = AFTER, name: str = "p") -> Any:
    block = None if east is None else make_block(east)
    scenes = [SimpleNamespace(start=start, collection=None, keys=frozenset({start})) for start in (BEFORE, after)]
    pair = SimpleNamespace(pair_id=f"{name}-{east}", before=scenes[0], after=scenes[1])
    record = SimpleNamespace(pair=pair, block=block, block_id=block and block.block_id)
    return SimpleNamespace(record=record, pair_id=pair.pair_id)


def make_frame(*shapes: shapely.Geometry, kinds: str = "", confidences: tuple[float, ...] = ()) -> gpd.GeoDataFrame:
    names = {"b": "building", "r": "road"}
    values = {
        "change_id": [f"c{number}" for number in range(len(shapes))],
        "kind": [names[kind] for kind in kinds or "b" * len(shapes)],
        "area_m2": [float(shape.area) for shape in shapes],
        "description": [f"words {number}" for number in range(len(shapes))],
    }
    frame = gpd.GeoDataFrame(values, geometry=np.array(shapes, dtype=object), crs=CRS)
    frame["confidence"] = pd.array(list(confidences or [0.5] * len(shapes)), dtype="Float32")
    return frame


@pytest.mark.parametrize(
    ("states", "groups"),
    [
        ([make_state(None), make_state(None)], [[0], [1]]),
        ([make_state(0), make_state(1)], [[0, 1]]),
        ([make_state(0), make_state(1, after=LATER), make_state(1)], [[0, 2], [1]]),
        # The same days twice in one block, with other pieces.
        ([make_state(0), make_state(0, name="q"), make_state(1)], [[0, 2], [1]]),
    ],
)
def test_pairs_of_the_same_days_in_other_blocks_are_put_together(states: list[Any], groups: list[list[int]]) -> None:
    assert group_pairs(states) == groups


@pytest.mark.parametrize(
    ("west", "east", "n_events"),
    [
        # Along the border at x = 100.
        (make_frame(box(80, 0, 100, 20)), make_frame(box(100, 0, 130, 20)), 1),
        (make_frame(box(80, 0, 100, 20)), make_frame(box(100.3, 10, 130, 30)), 1),
        (make_frame(box(80, 0, 100, 20)), make_frame(box(100, 20, 130, 40)), 2),
        (make_frame(box(80, 0, 100, 20)), make_frame(box(103, 0, 130, 20)), 2),
        (make_frame(box(80, 0, 100, 20)), make_frame(box(100, 0, 130, 20), kinds="r"), 2),
        (make_frame(), make_frame(box(100, 0, 130, 20)), 1),
        (make_frame(), make_frame(), 0),
        # Two that a third one joins.
        (make_frame(box(80, 0, 100, 20), box(80, 40, 100, 60)), make_frame(box(100, 0, 110, 60)), 1),
    ],
)
def test_pieces_that_meet_along_a_border_are_one_event(
    west: gpd.GeoDataFrame, east: gpd.GeoDataFrame, n_events: int
) -> None:
    frames, states = [west, east], [make_state(0), make_state(1)]

    joined = join_pairs(states, frames, seen=[None, None], places=[0, 1])
    events = link_changes([joined.view.changes]).events

    assert len(events) == len(joined.frame) == n_events
    assert joined.frame["area_m2"].sum() == pytest.approx(west["area_m2"].sum() + east["area_m2"].sum())
    assert [len(rows) for rows in joined.rows] == [len(west), len(east)]
    assert {event.first_sighting for event in events} <= {f"p-{side}/c{n}" for side in (0, 1) for n in range(2)}


def test_change_of_two_pieces_has_the_words_of_the_surer_and_the_mean_confidence() -> None:
    west, east = make_frame(box(80, 0, 100, 20), confidences=(0.9,)), make_frame(box(100, 0, 160, 20))
    east["description"], west["change"], east["change"] = "others", "removed", "built"

    joined = join_pairs([make_state(0), make_state(1)], [west, east], seen=[None, None], places=[0, 1])

    (row,) = joined.frame.to_dict("records")
    assert (row["description"], row["change"]) == ("words 0", "removed")
    assert row["confidence"] == pytest.approx((0.9 * 400 + 0.5 * 1200) / 1600)
    assert row["geometry"].equals(box(80, 0, 160, 20))
    assert joined.view.confidences.tolist() == [pytest.approx(0.6)]


@pytest.mark.parametrize(
    ("confidences", "changes", "told"),
    [
        ((0.5, 0.9), ("removed", "built"), "built"),
        ((0.9, 0.5), ("removed", "built"), "removed"),
        # The surer one does not tell.
        ((0.9, 0.5), (None, "built"), "built"),
        ((None, 0.1), ("removed", "built"), "built"),
        # Of equal ones that whose name comes first.
        ((0.5, 0.5), ("removed", "built"), "removed"),
        ((None, None), ("removed", "built"), "removed"),
        ((0.9, 0.5), (None, None), None),
    ],
)
def test_change_over_a_border_is_that_of_the_surest_piece(
    confidences: tuple[Any, ...], changes: tuple[str | None, ...], told: str | None
) -> None:
    frames = [make_frame(box(80, 0, 100, 20)), make_frame(box(100, 0, 160, 20))]
    for frame, confidence, change in zip(frames, confidences, changes, strict=True):
        frame["confidence"] = pd.array([confidence], dtype="Float32")
        frame["change"] = pd.Series([change], dtype=object)

    joined = join_pairs([make_state(0), make_state(1)], frames, seen=[None, None], places=[0, 1])

    assert joined.frame["change"].tolist() == [told]


def test_pair_that_is_alone_stays_as_it_is() -> None:
    frame = make_frame(box(0, 0, 10, 10), box(10, 0, 20, 10))

    joined = join_pairs([make_state(None)], [frame], seen=[None], places=[0])

    assert joined.frame is frame
    assert [rows.tolist() for rows in joined.rows] == [[0, 1]]


def test_pairs_have_all_scenes_in_common_that_their_composites_are_made_of() -> None:
    state = make_state(None)
    state.record.pair.after.keys = frozenset({"first", "second"})

    joined = join_pairs([state], [make_frame(box(0, 0, 10, 10))], seen=[None], places=[0])

    assert joined.view.scenes == {BEFORE, "first", "second"}


def test_what_lies_beyond_the_zone_is_cut_off_and_its_area_shrinks() -> None:
    # 12 degrees east, 50 north lies at about 715,000 east and 5,542,600 north in zone 32.
    places = ((east, north) for north in range(55_426, 55_450) for east in range(7140, 7160))
    blocks = (make_block(east, north=north) for east, north in places)
    block = next(each for each in blocks if 3000 < each.limits.area < 7000)
    left, bottom, right, top = block.bounds
    inner = shapely.buffer(block.limits, -1)
    frame = make_frame(box(left, bottom, right, top), inner, box(right - 1, bottom + 40, right, bottom + 41))

    cut = cut_at_border(frame, block=block)

    assert len(cut) == 2
    assert cut["area_m2"].tolist() == pytest.approx([block.limits.area, inner.area])
    assert cut_at_border(cut, block=block) is cut
    assert cut_at_border(frame, block=make_block(4000)) is frame
    assert cut_at_border(frame, block=None) is frame


def test_time_line_of_blocks_is_summed_by_their_days() -> None:
    plain = dict.fromkeys(BLOCK_TIMELINE_SCHEMA.names)
    days = {"before_datetime": pd.Timestamp(BEFORE), "after_datetime": pd.Timestamp(AFTER)}
    told = {"analysed_fraction": 1.0, "n_changes": 2.0, "n_new_changes": 1.0, "building_area_m2": 300.0}
    rows = [
        plain | days | told | {"pair_id": "a", "block_id": "x", "status": "done"},
        plain | days | told | {"pair_id": "b", "block_id": "y", "status": "done", "analysed_fraction": 0.5},
        plain | days | {"pair_id": "c", "block_id": "z", "status": "failed"},
        plain
        | days
        | told
        | {"pair_id": "d", "block_id": "x", "status": "done"}
        | {"after_datetime": pd.Timestamp(LATER)},
    ]

    line = sum_over_blocks(pd.DataFrame(rows), ground_m2={"a": 300.0, "b": 100.0, "d": 1.0})

    assert line["pair_id"].tolist() == ["20250601_20260601", "20250601_20260701"]
    assert line["status"].tolist() == ["partly_failed", "done"]
    assert line["n_changes"].tolist() == [4, 2]
    assert line["building_area_m2"].tolist() == [600, 300]
    assert line["analysed_fraction"].tolist() == pytest.approx([0.875, 1.0])
    assert line.loc[0, "reason"] == "1 of 3 pairs of blocks failed, all or in part"


def test_a_block_that_compared_the_same_days_twice_is_not_added_up() -> None:
    plain = dict.fromkeys(BLOCK_TIMELINE_SCHEMA.names) | {"status": "done", "n_changes": 2.0}
    plain |= {"before_datetime": pd.Timestamp(BEFORE), "after_datetime": pd.Timestamp(AFTER)}
    rows = [plain | {"pair_id": name, "block_id": block} for name, block in (("a", "x"), ("b", "y"), ("c", "x"))]

    line = sum_over_blocks(pd.DataFrame(rows), ground_m2={})

    assert line["pair_id"].tolist() == ["20250601_20260601", "20250601_20260601-2"]
    assert line["n_changes"].tolist() == [4, 2]
