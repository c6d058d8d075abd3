from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_regions import CRS, make_changes, make_timeline

from pipeline.grid.blocks import LatticeBlock
from pipeline.regions.blocks import RegionBlock, bring_to_degrees
from pipeline.regions.dates import DatedScene
from pipeline.regions.page import describe_pairs, frame_ground, link_run, list_days, render_region_page
from pipeline.regions.page_blocks import MAX_BLOCK_ROWS, describe_blocks
from pipeline.report.page.map import MapFrame
from pipeline.report.page.zones import describe_zones, draw_zones

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
FAILED = {
    "status": "failed",
    "reason": HOSTILE,
    "run": None,
    **dict.fromkeys(["n_changes", "n_new_changes", "analysed_fraction", "building_area_m2", "road_area_m2"]),
}


def text_of(html: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_figures_are_those_of_first_sightings_and_of_the_last_pair() -> None:
    changes = make_changes([{"area_m2": 1000.0}, {"is_new": False, "pair_id": "pair-2"}, {"kind": "road"}])

    text = text_of(render_region_page(changes, timeline=make_timeline([{}, {"n_new_changes": 7}]), name="Delta"))

    assert "The last pair of scenes, up to 1 September 2024, brought 7 new changes ; 95 % of the area" in text
    assert "1 place with buildings 1000 m², each counted at its first sighting" in text
    assert "2 first sightings in all, 3 sightings" in text


def test_status_of_events_is_told() -> None:
    rows = [{"event_status": "confirmed"}, {"event_status": "confirmed", "event_id": "event-0"}, {}]

    text = text_of(render_region_page(make_changes(rows), timeline=make_timeline([{}]), name="Delta"))

    assert "Of 2 events, 1 is confirmed, 1 provisional and 0 not confirmed by the pairs that looked again." in text
    assert "90 % confirmed" in text


def test_a_failed_pair_is_told_with_its_reason_and_no_result_is_no_zero() -> None:
    html = render_region_page(make_changes([{}]), timeline=make_timeline([{}, FAILED]), name=HOSTILE)

    assert "1 pair failed: for those dates not seen does not mean not changed." in text_of(html)
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(1)") >= 2
    pair = describe_pairs(make_timeline([FAILED]))[0]
    assert (pair["n_changes"], pair["coverage"], pair["bars"], pair["base"]) == (None, None, [], None)


def test_a_region_without_changes_or_results_has_a_page() -> None:
    html = render_region_page(make_changes([{}]).iloc[:0], timeline=make_timeline([FAILED]), name="Delta")

    assert "No pair of scenes has a result yet: nothing is known about change here." in text_of(html)


@pytest.mark.parametrize(
    ("run", "link"),
    [
        ("pairs/2024 a", "../pairs/2024%20a/report/"),
        ("javascript:alert(1)", "../javascript%3Aalert%281%29/report/"),
        ("../../etc", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_links_lead_into_the_region_only(run: Any, link: str | None) -> None:
    assert link_run(run) == link


def test_every_later_date_can_be_chosen_once() -> None:
    changes = make_changes([{}, {}, {"after_datetime": "2025-03-01T10:00"}])

    assert [day["words"] for day in list_days(changes)] == ["1 June 2024", "1 March 2025"]


def test_the_frame_is_fine_enough_and_true() -> None:
    grid = frame_ground((600_000, 3_300_000, 700_000, 3_350_000), crs=CRS)

    frame = MapFrame(grid=grid)

    assert frame.to_pixel(700_000, 3_300_000) == pytest.approx((2**20, 2**19))
    assert grid.resolution_m < 0.1


def test_zones_of_any_columns_and_crs_are_shown() -> None:
    frame = MapFrame(grid=frame_ground((600_000, 3_300_000, 600_100, 3_300_100), crs=CRS))
    square = shapely.box(600_000, 3_300_000, 600_050, 3_300_100)
    zones = gpd.GeoDataFrame(
        {
            "name": [HOSTILE],
            "status": ["not_seen"],
            "seen_fraction": [0.0],
            "building_count": [np.nan],
            "area_m2": [5e3],
        },
        geometry=[square],
        crs=CRS,
    ).to_crs("EPSG:4326")

    table, rings = describe_zones(zones), draw_zones(zones, frame=frame)

    assert table is not None
    assert [column["label"] for column in table["columns"]] == ["name", "status", "seen", "building count", "area"]
    assert table["rows"] == [[HOSTILE, "not seen", "0.0 %", "not known", "5,000 m²"]]
    half, whole = 2**19, 2**20
    assert set(zip(rings[0][::2], rings[0][1::2], strict=True)) == {(0, 0), (half, 0), (half, whole), (0, whole)}
    page = render_region_page(make_changes([{}]), timeline=make_timeline([{}]), name="Delta", zones=zones)
    assert "A zone that was not seen says so" in page
    assert HOSTILE not in page


def make_block(east: int) -> RegionBlock:
    block = LatticeBlock(crs=CRS, east=east, north=33_610, side_px=100, resolution_m=1.0, is_in_zone=True)
    area = bring_to_degrees(block.limits, block=block)
    return RegionBlock(block=block, ground=block.limits, area=area, cell="cell")


def make_state(pair_id: str) -> Any:
    days = [dt.datetime(2024, 5, day, tzinfo=dt.UTC) for day in (1, 9)]
    dates = tuple(DatedScene(scene_id=str(day), start=day, piece_ids=(str(day),), version="") for day in days)
    before = replace(dates[0], dates=dates)
    pair = SimpleNamespace(before=before, after=dates[1])
    return SimpleNamespace(pair_id=pair_id, record=SimpleNamespace(pair=pair))


def test_blocks_are_shown_with_their_dates_and_what_was_seen_over_time() -> None:
    blocks = [make_block(east) for east in (6210, 6211, 6212)]
    ids = [block.block_id for block in blocks]
    timeline = make_timeline([{"analysed_fraction": 0.25}, {"analysed_fraction": 0.5}, FAILED])
    timeline["block_id"] = [ids[0], ids[0], ids[1]]
    states = [make_state(pair_id) for pair_id in timeline["pair_id"]]
    bounds = (621_000.0, 3_361_000.0, 621_300.0, 3_361_100.0)

    html = render_region_page(
        make_changes([{}]), timeline=timeline, name="Delta", bounds=bounds, blocks=blocks, states=states
    )

    described = html[html.index('id="blocks"') : html.index("Pairs of scenes")]
    rows = [text_of(row) for row in described.split("<tr>")[2:]]
    # What nobody knows comes first, and nothing is made of it.
    assert [row.split()[0] for row in rows] == [ids[1], ids[2], ids[0]]
    assert rows[0].startswith(f"{ids[1]} failed")
    assert rows[1].startswith(f"{ids[2]} no pair yet")
    assert rows[1].endswith("none")
    assert "1 May 2024 to 9 May 2024 (2 dates) 9 May 2024 50 % 2 2 open" in rows[2]
    assert described.count('class="all"') == 3
    assert "of 2 nothing is known yet" in text_of(described)
    assert HOSTILE not in html
    assert 'id="blocks"' not in render_region_page(make_changes([{}]), timeline=make_timeline([{}]), name="Delta")


def test_blocks_beyond_the_table_are_on_the_map() -> None:
    blocks = [make_block(6210 + n) for n in range(MAX_BLOCK_ROWS + 3)]
    timeline = make_timeline([{}]).assign(block_id=blocks[0].block_id)
    frame = MapFrame(grid=frame_ground((621_000, 3_361_000, 641_300, 3_361_100), crs=CRS))

    told = describe_blocks(blocks, states=[make_state("pair-1")], time_line=timeline, frame=frame)

    assert (len(told["rows"]), len(told["shapes"]), told["n_unseen"]) == (MAX_BLOCK_ROWS, len(blocks), len(blocks) - 1)
    assert blocks[0].block_id not in [row["block_id"] for row in told["rows"]]


def test_equal_tables_give_equal_pages_whatever_their_order() -> None:
    changes, timeline = make_changes([{}, {"kind": "road"}, {"area_m2": 3.0}]), make_timeline([{}, {}])

    first = render_region_page(changes, timeline=timeline, name="Delta")
    second = render_region_page(changes.iloc[::-1], timeline=timeline.iloc[::-1], name="Delta")

    assert first == second
