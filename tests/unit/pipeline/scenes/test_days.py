"""Which pieces make up the scene of a day: one table, that runs and regions both have to keep to."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from pipeline.config.region_sources import StacSourceConfig
from pipeline.config.stac import StacConfig
from pipeline.dates import parse_interval
from pipeline.regions.dates import group_scenes
from pipeline.regions.search import list_pieces, make_scene_config
from pipeline.scenes.days import ScenePiece, group_days
from pipeline.scenes.stac.scene import find_stac_scene

AREA = box(10.0, 50.0, 10.2, 50.1)
WEST, EAST = box(9.9, 49.9, 10.1, 50.2), box(10.1, 49.9, 10.3, 50.2)
YEAR = [parse_interval("2026")]
BANDS = ("red", "green", "blue")


def item(
    item_id: str,
    moment: str = "2026-06-01T10:00:00Z",
    *,
    footprint: BaseGeometry = AREA,
    files: str = "",
    collection: str | None = None,
    bands: tuple[str, ...] = BANDS,
    **properties: Any,
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": collection,
        "geometry": mapping(footprint),
        "properties": {"datetime": moment, **properties},
        "links": [],
        "assets": {name: {"href": f"{files or item_id}/{name}.tif", "type": "image/tiff"} for name in bands},
    }


FORMER, PICTURE = "a former processing of the same", "a picture beside measured bands"


@pytest.mark.parametrize(
    ("items", "taken", "left_out"),
    [
        ([item("a", footprint=WEST), item("b", "2026-06-01T10:00:20Z", footprint=EAST)], "a b", []),
        # Of two versions of one item the latest, and never one that its catalog has replaced.
        (
            [item("a", version="1", files="old"), item("a", version="10"), item("a", version="9")],
            "a",
            [("a", FORMER)] * 2,
        ),
        ([item("n0", created="2024", deprecated=True), item("n1", created="2020")], "n1", [("n0", FORMER)]),
        # A processing that cuts its outline a little closer is still one of the same.
        (
            [
                item("n1", **{"s2:processing_baseline": "05.11"}, footprint=box(10.0, 50.0, 10.19, 50.095)),
                item("n0", **{"s2:processing_baseline": "05.00"}),
            ],
            "n1",
            [("n0", FORMER)],
        ),
        # Of two processings of one acquisition the latest, whichever comes first.
        (
            [item("n1", **{"s2:processing_baseline": "05.11"}), item("n0", **{"s2:processing_baseline": "05.00"})],
            "n1",
            [("n0", FORMER)],
        ),
        (
            [item("n0", **{"s2:processing_baseline": "05.00"}), item("n1", **{"s2:processing_baseline": "05.11"})],
            "n1",
            [("n0", FORMER)],
        ),
        # Versions are numbers, not words.
        ([item("v9", version="1.9.0"), item("v10", version="1.10.0")], "v10", [("v9", FORMER)]),
        ([item("v9", version="9"), item("v10", version="10")], "v10", [("v9", FORMER)]),
        # What tells no version is older than what tells one; of the same version, what was made later counts.
        ([item("a", created="2026-06-09T00:00:00Z"), item("b", version="1")], "b", [("a", FORMER)]),
        (
            [
                item("a", version="1", created="2026-06-09T00:00:00Z"),
                item("b", version="1", created="2026-06-08T00:00:00Z"),
            ],
            "a",
            [("b", FORMER)],
        ),
        # One id in several versions; and the very same twice, which is worth no word.
        ([item("a", files="old", version="1"), item("a", files="new", version="2")], "new", [("a", FORMER)]),
        ([item("a", files="new", version="2"), item("a", files="old", version="1")], "new", [("a", FORMER)]),
        ([item("a", version="1"), item("a", version="1")], "a", []),
        # A minute and more apart, or elsewhere, it is another acquisition.
        ([item("a", version="1"), item("b", "2026-06-01T10:01:01Z", version="2")], "a b", []),
        ([item("a", version="1"), item("b", footprint=WEST, version="2")], "a b", []),
        # Of a day that has both, measured bands count, not pictures.
        ([item("picture", bands=("visual",)), item("a")], "a", [("picture", PICTURE)]),
    ],
)
def test_runs_and_regions_take_the_same_items(
    items: list[dict[str, Any]], taken: str, left_out: list[tuple[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    search = StacConfig(href=str(path))
    source = StacSourceConfig(search=search)

    of_run = find_stac_scene(search, area=AREA)
    pieces, _ = list_pieces(source, area=AREA, windows=YEAR)
    (dated,), of_region = group_scenes(pieces, area=AREA)
    config = make_scene_config(dated, source=source).stac
    assert config is not None
    of_pair = find_stac_scene(config, area=AREA)

    for scene in (of_run, of_pair):
        assert sorted(Path(part.red.uri).parent.name for part in scene.files.parts) == taken.split()
    assert dated.piece_ids == tuple(sorted(of_run.item_ids)) == tuple(sorted(of_pair.item_ids))
    assert [(each.name, each.reason) for each in of_run.left_out] == left_out
    assert [(each.name, each.reason) for each in of_region] == left_out


def test_version_of_the_scene_is_that_of_the_item_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    source = StacSourceConfig(search=StacConfig(href=str(path)))
    versions = []
    for features in ([item("a", version="1")], [item("a", version="1"), item("a", version="2")]):
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        (dated,), _ = group_scenes(list_pieces(source, area=AREA, windows=YEAR)[0], area=AREA)
        versions.append(dated.version)
    assert versions[0] != versions[1]


def piece(name: str, moment: str, **values: Any) -> ScenePiece:
    return ScenePiece(piece_id=name, start=dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC), **values)


def test_days_are_those_of_the_local_sun_and_collections_do_not_mix() -> None:
    fiji = box(179.0, -18.0, 179.5, -17.0)
    pieces = [
        piece("b", "2026-06-02T00:10", footprint=box(179.3, -18.0, 180.0, -17.0)),
        piece("a", "2026-06-01T23:50", footprint=box(178.0, -18.0, 179.3, -17.0)),
        piece("c", "2026-06-01T23:50", collection="other"),
    ]

    days, left_out = group_days(pieces, area=fiji)

    assert {key: [found.piece_id for found in day] for key, day in days.items()} == {
        (dt.date(2026, 6, 2), ""): ["a", "b"],
        (dt.date(2026, 6, 2), "other"): ["c"],
    }
    assert left_out == []


def test_files_that_nobody_tells_the_place_of_all_count() -> None:
    days, left_out = group_days([piece("a.tif", "2026-06-01"), piece("b.tif", "2026-06-01")], area=AREA)

    assert [[found.piece_id for found in day] for day in days.values()] == [["a.tif", "b.tif"]]
    assert left_out == []
