"""Which items make the scene, by day, area, clouds and order; and what is said of the others."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from pipeline.config.stac import StacConfig
from pipeline.scenes.files import BandFile, PartFiles
from pipeline.scenes.stac.filters import find_misfit
from pipeline.scenes.stac.items import SceneItem
from pipeline.scenes.stac.scene import choose_day, find_stac_scene

AREA = box(0, 0, 10, 10)
WHOLE, LEFT, RIGHT = box(-1, -1, 11, 11), box(-1, -1, 5, 11), box(5, -1, 11, 11)
FILE = BandFile(uri="x.tif", band=1)


def make(
    item_id: str,
    moment: str,
    *,
    clouds: float | None = 10,
    footprint: BaseGeometry = WHOLE,
    is_colour: bool = False,
    collection: str | None = "c",
    **properties: Any,
) -> SceneItem:
    start = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
    return SceneItem(
        piece_id=item_id,
        collection=collection,
        start=start,
        end=start,
        cloud_percent=clouds,
        properties=properties,
        footprint=footprint,
        part=PartFiles(red=FILE, green=FILE, blue=FILE),
        is_colour=is_colour,
    )


@pytest.mark.parametrize(
    ("items", "order", "chosen"),
    [
        ([make("a", "2024-05-01T10:00")], "least_cloudy", "a"),
        # The day that shows most, however cloudy.
        (
            [make("a", "2024-05-01T10:00", footprint=LEFT, clouds=0), make("b", "2024-05-02T10:00", clouds=90)],
            "least_cloudy",
            "b",
        ),
        # Two halves of one day together show it all.
        (
            [
                make("a", "2024-05-01T10:00", footprint=LEFT, clouds=20),
                make("b", "2024-05-01T10:01", footprint=RIGHT, clouds=5),
                make("c", "2024-05-03T10:00", footprint=LEFT, clouds=0),
            ],
            "least_cloudy",
            "b a",
        ),
        # Of days that show as much the clearest on the mean, or the newest.
        ([make("a", "2024-05-01T10:00", clouds=3), make("b", "2024-05-02T10:00", clouds=4)], "least_cloudy", "a"),
        ([make("a", "2024-05-01T10:00", clouds=3), make("b", "2024-05-02T10:00", clouds=4)], "newest", "b"),
        ([make("a", "2024-05-01T10:00", clouds=None), make("b", "2024-04-02T10:00", clouds=99)], "least_cloudy", "b"),
        # Less than a per cent of the area decides nothing.
        (
            [
                make("a", "2024-05-01T10:00", clouds=3, footprint=box(0, 0, 10, 9.99)),
                make("b", "2024-05-02T10:00", clouds=4),
            ],
            "least_cloudy",
            "a",
        ),
        # Within the day the order holds as well; ids settle the rest.
        ([make("b", "2024-05-01T10:00"), make("a", "2024-05-01T10:02")], "newest", "a b"),
        ([make("b", "2024-05-01T10:00", footprint=LEFT), make("a", "2024-05-01T10:00")], "least_cloudy", "a b"),
        ([make("a", "2024-05-01T10:00", clouds=0), make("b", "2024-05-01T10:05", clouds=9)], "newest", "b a"),
        # Collections do not mix, however well they would fit together.
        (
            [
                make("a", "2024-05-01T10:00", footprint=LEFT, clouds=1, collection="x"),
                make("b", "2024-05-01T10:00", footprint=RIGHT, clouds=2, collection="y"),
            ],
            "least_cloudy",
            "a",
        ),
        # Clouds of a day are the mean of what its items tell.
        (
            [
                make("a", "2024-05-01T10:00", clouds=None, footprint=LEFT),
                make("b", "2024-05-01T10:00", clouds=10, footprint=RIGHT),
                make("c", "2024-05-03T10:00", clouds=11),
            ],
            "least_cloudy",
            "b a",
        ),
        # A picture does not mix with measured bands.
        ([make("a", "2024-05-01T10:00", is_colour=True), make("b", "2024-05-01T10:00")], "least_cloudy", "b"),
    ],
)
def test_day(items: list[SceneItem], order: str, chosen: str) -> None:
    found, others = choose_day(items, area=AREA, order=order)
    assert " ".join(item.piece_id for item in found) == chosen
    assert {item.name for item in others} == {item.piece_id for item in items} - set(chosen.split())


def test_a_day_is_one_of_the_local_sun() -> None:
    # One pass over New Zealand's longitude, around midnight UTC.
    area = box(174, -42, 176, -40)
    items = [make("a", "2024-05-01T23:59", footprint=area), make("b", "2024-05-02T00:01", footprint=area)]
    assert len(choose_day(items, area=area, order="newest")[0]) == 2
    # The middle of an area on both sides of the date line is not Greenwich.
    both = box(178, -20, 180, -10).union(box(-180, -20, -179, -10))
    assert len(choose_day(items, area=both, order="newest")[0]) == 2


@pytest.mark.parametrize(
    ("settings", "misfit"),
    [
        ({}, None),
        ({"datetime": "2024-05"}, None),
        ({"datetime": "2024-06/.."}, "not within 2024-06/.."),
        ({"collections": ["d"]}, "not of the collections"),
        ({"max_cloud_percent": 10}, None),
        ({"max_cloud_percent": 9.5}, "more than 9.5 % clouds"),
        ({"query": {"gsd": {"lte": 10}, "platform": {"in": ["s2a"], "startsWith": "s"}}}, None),
        ({"query": {"gsd": {"lt": 10}}}, "not gsd lt 10"),
        ({"query": {"gsd": {"gt": "x"}}}, "not gsd gt x"),
        ({"query": {"snow": {"eq": 0}}}, "not snow eq 0"),
        # What CQL2 means only an API knows.
        ({"query": {"op": "=", "args": [{"property": "gsd"}, 99]}}, None),
    ],
)
def test_misfit(settings: dict[str, Any], misfit: str | None) -> None:
    item = make("a", "2024-05-01T10:00", gsd=10, platform="s2a")
    assert find_misfit(item, config=StacConfig(href="x", **settings), area=AREA) == misfit


def test_misfit_by_place_and_untold_clouds() -> None:
    config = StacConfig(href="x", max_cloud_percent=50)
    assert find_misfit(make("a", "2024-05-01T10:00"), config=config, area=box(50, 50, 51, 51)) == "off the area"
    assert find_misfit(make("a", "2024-05-01T10:00", clouds=None), config=config, area=AREA) == "clouds not told"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("datetime", "yesterday"),
        ("bbox", [0, 10, 1, 5]),
        ("bbox", [0, 0, 200, 1]),
        ("query", {"gsd": 10}),
        ("query", {"gsd": {"about": 10}}),
        ("bands", ["red", "green"]),
        ("max_cloud_percent", 101),
        ("order", "oldest"),
        ("cloud", 5),
    ],
)
def test_setting_that_makes_no_sense_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=setting):
        StacConfig.model_validate({"href": "x", setting: value})


def write_items(path: Path, *items: tuple[str, str, float, BaseGeometry]) -> Path:
    features = [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": item_id,
            "geometry": mapping(footprint),
            "properties": {"datetime": moment, "eo:cloud_cover": clouds},
            "links": [],
            "assets": {name: {"href": f"{item_id}/{name}.tif"} for name in ("red", "green", "blue")},
        }
        for item_id, moment, clouds, footprint in items
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_scene_of_several_items_says_what_it_is_made_of(tmp_path: Path) -> None:
    path = write_items(
        tmp_path / "items.json",
        ("a", "2024-05-01T10:00:10Z", 20, LEFT),
        ("b", "2024-05-01T10:00:00Z", 5, box(5, -1, 9, 11)),
        ("c", "2024-05-03T10:00:00Z", 0, LEFT),
        ("d", "2024-05-05T10:00:00Z", 80, WHOLE),
        ("e", "2024-05-07T10:00:00Z", 90, WHOLE),
        ("f", "2024-05-09T10:00:00Z", 0, box(50, 50, 60, 60)),
    )
    config = StacConfig(href=str(path), max_cloud_percent=50)

    scene = find_stac_scene(config, area=AREA)

    assert (scene.files.scene_id, scene.files.datetime) == ("b and 1 more", "2024-05-01T10:00:00Z")
    assert [part.red.uri for part in scene.files.parts] == [str(tmp_path / f"{name}/red.tif") for name in "ba"]
    assert scene.covered_fraction == pytest.approx(0.9)
    assert scene.files.notes == (
        "is made of the STAC items b, a, which show 90 % of the area",
        "does without 2 STAC items: more than 50 % clouds",
        "does without 1 STAC items: off the area",
        "does without 1 STAC items: another day",
    )


def test_ids_choose_and_missing_ones_are_told(tmp_path: Path) -> None:
    path = write_items(
        tmp_path / "items.json", ("a", "2024-05-01T10:00:00Z", 20, LEFT), ("b", "2024-05-01T10:00:00Z", 5, RIGHT)
    )
    scene = find_stac_scene(StacConfig(href=str(path), ids=("a", "z")))
    assert (scene.item_ids, [(item.name, item.reason) for item in scene.left_out]) == (("a",), [("z", "not found")])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"datetime": "2020"}, r"none of the 2 items of .*items\.json fits: not within 2020 \(2\)"),
        ({"bbox": [50, 50, 51, 51]}, r"off the area \(2\)"),
        ({"bands": ["nir"]}, r"has no nir; its assets are red, green, blue \(2\)"),
        ({"ids": ["z"]}, r"item z of .*items\.json: not found"),
        ({"max_items": 1}, r"more than 1 items of .*items\.json fit.*raise max_items"),
    ],
)
def test_search_that_ends_in_nothing_says_why(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = write_items(
        tmp_path / "items.json", ("a", "2024-05-01T10:00:00Z", 20, LEFT), ("b", "2024-05-01T10:00:00Z", 5, RIGHT)
    )
    with pytest.raises(InputError, match=rf"^stac: .*{reason}"):
        find_stac_scene(StacConfig(href=str(path), **settings))


def test_empty_list_of_items_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"items\.json has no item that fits"):
        find_stac_scene(StacConfig(href=str(write_items(tmp_path / "items.json"))))
