"""What stands in accuracy.json: figures where there is enough to tell from, and what is missing where there is not."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from model.sealing import encode_sealed
from pipeline.accuracy.assess import assess_report
from pipeline.accuracy.figures import ReportFacts
from pipeline.accuracy.population import describe_population
from pipeline.accuracy.sample import Sample, draw_sample
from pipeline.grid.grid import Grid
from pipeline.report.accuracy_words import describe_accuracy, summarise_accuracy
from pipeline.reviews.review import Review, Subject, Verdict
from pipeline.reviews.store import ReviewLog
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGES_SCHEMA, FINDINGS_SCHEMA

SIDE = 10
GRID = Grid(
    crs="EPSG:32614",
    resolution_m=1.0,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=100,
    n_rows=SIDE,
    n_cols=SIDE,
    width_px=100 * SIDE,
    height_px=100 * SIDE,
)
PLACES = [(row, col) for row in range(SIDE) for col in range(SIDE)]
NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)


def is_told(place: tuple[int, int]) -> bool:
    return place[0] < 3


def has_changed(place: tuple[int, int]) -> bool:
    """In truth: what is told but for a tile in each row of those, and one that was missed."""
    return (is_told(place) and place[1] > 0) or place == (9, 9)


@pytest.fixture(scope="module")
def facts() -> ReportFacts:
    rows = [
        {
            "tile_id": GRID.tile_id(*place),
            "row": place[0],
            "col": place[1],
            "status": "identical" if place == (5, 5) else "analysed",
            "valid_fraction": 1.0,
            "is_changed": is_told(place),
            "change_confidence": 0.95,
            "building_count": 2 if is_told(place) else None,
            "model_id": "m@0",
            "run_id": "run1",
        }
        for place in PLACES
    ]
    columns = {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"}
    shapes = np.array([GRID.tile_polygon(*place) for place in PLACES])
    findings = make_frame(columns, schema=FINDINGS_SCHEMA, geometry=shapes, crs=GRID.crs)
    told = [place for place in PLACES if is_told(place)]
    houses = np.array([GRID.tile_polygon(*place).centroid.buffer(10, cap_style="square") for place in told])
    changes = {name: [None] * len(told) for name in CHANGES_SCHEMA.names if name != "geometry"}
    changes |= {
        "change_id": [f"building_{GRID.tile_id(*place)}" for place in told],
        "kind": ["building"] * len(told),
        "area_m2": [400.0] * len(told),
        "tile_ids": [GRID.tile_id(*place) for place in told],
    }
    left, bottom, right, top = GRID.shared_bounds
    zones = {"zone_id": ["west", "east", "far"], "name": ["West", None, "Far"]}
    middle = (left + right) / 2
    bounds = [(left, bottom, middle, top), (middle, bottom, right, top), (right + 500, bottom, right + 900, top)]
    return ReportFacts(
        run_id="run1",
        model_id="m@0",
        population=describe_population(findings, grid=GRID),
        changes=make_frame(changes, schema=CHANGES_SCHEMA, geometry=houses, crs=GRID.crs),
        zones=gpd.GeoDataFrame(zones, geometry=[shapely.box(*each) for each in bounds], crs=GRID.crs),
        grid=GRID,
    )


@pytest.fixture(scope="module")
def sample(facts: ReportFacts) -> Sample:
    return draw_sample(facts.population, n=99, seed=0, run_id="run1", model_id="m@0")


def say(tile_id: str, is_changed: bool | None, *, person: str = "ann", **values: Any) -> Review:
    amounts: Mapping[str, Any] = {"counts": {"building": 3.0}, "areas_m2": {"building": 500.0}} if is_changed else {}
    plain: dict[str, Any] = {"run_id": "run1", "model_id": "m@0", "subject": Subject.TILE, "is_blind": True, **amounts}
    verdict = Verdict.UNSURE if is_changed is None else Verdict.RIGHT
    return Review(
        person=person,
        reviewed_at=NOON,
        subject_id=tile_id,
        verdict=verdict,
        is_changed=is_changed,
        **plain | values,
    )


TRUTH = {GRID.tile_id(*place): has_changed(place) for place in PLACES}


def review(tiles: list[str], **values: Any) -> list[Review]:
    return [say(tile_id, TRUTH[tile_id], **values) for tile_id in tiles]


def assess(sample: Sample, facts: ReportFacts, reviews: list[Review], *faults: str) -> dict[str, Any]:
    found = assess_report(sample, facts=facts, log=ReviewLog(reviews=tuple(reviews), faults=faults))
    # It is JSON throughout.
    return dict(json.loads(encode_sealed(found)))


def test_where_every_tile_was_looked_at_the_figures_are_the_truth(sample: Sample, facts: ReportFacts) -> None:
    found = assess(sample, facts, review(list(sample.tiles)))

    assert found["problems"] == []
    tiles = found["tiles"]
    assert tiles["counts"] == [[27, 3], [1, 68]]
    ground = found["population"]["ground_m2"]
    assert tiles["overall_accuracy"]["value"] == pytest.approx(95 / 99, rel=1e-4)
    assert tiles["users_accuracy"]["changed"]["value"] == pytest.approx(27 / 30, rel=1e-4)
    assert tiles["producers_accuracy"]["changed"]["value"] == pytest.approx(27 / 28, rel=1e-4)
    assert tiles["ground_m2"]["changed"]["value"] == pytest.approx(ground * 28 / 99, rel=1e-4)
    assert tiles["ground_m2"]["changed"]["standard_error"] == 0
    building = found["kinds"]["building"]
    assert (building["count"]["told"], building["count"]["estimated"]["value"]) == (60, pytest.approx(84))
    assert building["count"]["ratio"]["value"] == pytest.approx(1.4)
    assert building["area_m2"]["told"] == pytest.approx(12_000)
    assert building["area_m2"]["estimated"]["value"] == pytest.approx(28 * 500)
    assert building["tiles"]["counts"] == [[27, 3], [1, 68]]
    assert found["kinds"]["road"]["count"]["estimated"]["value"] == 0


def test_zones_have_their_own_figures(sample: Sample, facts: ReportFacts) -> None:
    west, east, far = assess(sample, facts, review(list(sample.tiles)))["zones"]

    assert west["changed_ground_m2"]["value"] == pytest.approx(west["assessed_ground_m2"] * 12 / 50, rel=1e-4)
    assert east["changed_ground_m2"]["value"] == pytest.approx(east["assessed_ground_m2"] * 16 / 49, rel=1e-4)
    assert (far["n_used"], far["changed_ground_m2"]) == (0, None)
    assert "no tile" in far["problem"]


def test_a_part_of_the_tiles_tells_of_all_with_an_interval(facts: ReportFacts) -> None:
    sample = draw_sample(facts.population, n=50, seed=3, run_id="run1", model_id="m@0")

    found = assess(sample, facts, review(list(sample.tiles)))

    area = found["tiles"]["ground_m2"]["changed"]
    truth = found["population"]["ground_m2"] * 28 / 99
    assert area["low"] < truth < area["high"]
    assert area["standard_error"] > 0
    assert sum(row["n_used"] for row in found["strata"]) == 50


def test_a_stratum_that_nobody_looked_at_leaves_no_figures(sample: Sample, facts: ReportFacts) -> None:
    changed = [tile for tile, stratum in sample.tiles.items() if stratum == "changed_sure"]

    found = assess(sample, facts, review(changed[:1]))

    assert found["tiles"] is None
    assert [problem.partition(":")[0] for problem in found["problems"]] == ["the sample is too small"] * 2
    assert "1 of the 30 tiles drawn of stratum changed_sure can be used, and 2 are needed" in found["problems"][0]
    words = describe_accuracy(found)
    assert (words.rows, words.problems) == ((), tuple(found["problems"]))
    assert summarise_accuracy(found) is None


def test_while_people_disagree_there_are_no_figures_and_a_referee_ends_that(sample: Sample, facts: ReportFacts) -> None:
    tiles = list(sample.tiles)
    others = [say(tile, not TRUTH[tile], person="bob") for tile in tiles[:2]] + review(tiles[2:40], person="bob")

    disputed = assess(sample, facts, [*review(tiles), *others])
    settled = assess(sample, facts, [*review(tiles), *others, *review(tiles[:2], person="cy", settles=True)])

    assert "people disagree about 2 tiles" in disputed["problems"][0]
    assert settled["problems"] == []
    assert settled["tiles"]["counts"] == [[27, 3], [1, 68]]
    assert settled["people"]["settled"]["referee"] == 2
    assert settled["people"]["agreement"][0]["n_both"] == 40
    assert 0 < settled["people"]["agreement"][0]["kappa"] < 1
    assert "ann" not in json.dumps(settled)


def test_what_does_not_count_is_told(sample: Sample, facts: ReportFacts) -> None:
    tiles = list(sample.tiles)
    changes = [
        {"subject": Subject.CHANGE, "is_blind": False, "verdict": verdict} for verdict in (Verdict.RIGHT, Verdict.WRONG)
    ]
    known = f"building_{GRID.tile_id(0, 0)}"
    reviews = [
        *review(tiles[1:]),
        say(tiles[0], None),
        say(tiles[0], TRUTH[tiles[0]], person="eve", is_blind=False),
        say(tiles[0], None, run_id="run0"),
        replace(say("building_gone", True), **changes[0]),
        replace(say(known, True), **changes[0]),
        replace(say(known, True, person="bob"), **changes[1]),
    ]

    found = assess(sample, facts, reviews, "reviews/torn.parquet: it cannot be read")

    assert found["sample"] | {"sample_id": ""} == {
        "sample_id": "",
        "seed": 0,
        "n_tiles": 99,
        "n_reviewed": 99,
        "n_used": 98,
    }
    assert found["reviews_of_changes"] == {"right": 0, "wrong": 0, "unsure": 0, "disputed": 1}
    told = " / ".join(found["notes"])
    for words in ("torn.parquet", "of other runs that were here: 1;", "does not tell of: 1;", "was sure of: 1;"):
        assert words in told


def test_a_sample_of_another_run_is_told(sample: Sample, facts: ReportFacts) -> None:
    found = assess(replace(sample, run_id="run0"), facts, [])

    assert "the sample was drawn from run run0" in found["problems"][0]


def test_intervals_without_any_error_seen_are_told(facts: ReportFacts) -> None:
    sample = draw_sample(facts.population, n=20, seed=1, run_id="run1", model_id="m@0")
    told = facts.population.tiles["is_changed"]

    found = assess(sample, facts, [say(tile, bool(told[tile])) for tile in sample.tiles])

    assert found["tiles"]["overall_accuracy"]["standard_error"] == 0
    assert sum("hold no error" in note for note in found["notes"]) == 2
    assert "no spread seen" in describe_accuracy(found).rows[0]
