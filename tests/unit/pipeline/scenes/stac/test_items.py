"""From an item's JSON to files, place and time, in the dialects of the extensions."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pyproj
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from model.errors import InputError
from pipeline.config.stac import StacConfig
from pipeline.scenes.files import BandFile
from pipeline.scenes.stac.hrefs import Place
from pipeline.scenes.stac.items import SceneItem, describe_version, read_item
from pipeline.scenes.stac.search import FoundItem

PLACE = Place(href="https://stac.example/item.json")
CONFIG = StacConfig(href=PLACE.href)
PROJ_V1 = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
PROJ_V2 = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
UTM = pyproj.CRS("EPSG:32614")
SQUARE = (600_000.0, 3_300_000.0, 610_000.0, 3_310_000.0)
GRID = {"proj:shape": [1000, 1000], "proj:transform": [10.0, 0.0, SQUARE[0], 0.0, -10.0, SQUARE[3]]}


def make_item(**fields: Any) -> dict[str, Any]:
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "one",
        "geometry": mapping(box(-98.0, 29.0, -97.0, 30.0)),
        "bbox": [-98.0, 29.0, -97.0, 30.0],
        "properties": {"datetime": "2024-05-01T17:00:00Z"},
        "links": [],
        "assets": {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in ("red", "green", "blue")},
    }
    return item | fields


def read(item: Any, **settings: Any) -> SceneItem:
    return read_item(FoundItem(content=item, place=PLACE), config=StacConfig(href=PLACE.href, **settings))


@pytest.mark.parametrize("level", ["item", "asset"])
@pytest.mark.parametrize(
    ("extension", "crs"),
    [
        (PROJ_V1, {"proj:epsg": 32614}),
        (PROJ_V2, {"proj:code": "EPSG:32614"}),
        (PROJ_V1, {"proj:epsg": None, "proj:wkt2": UTM.to_wkt()}),
        (PROJ_V1, {"proj:projjson": UTM.to_json_dict()}),
    ],
)
def test_projection_tells_the_outline(level: str, extension: str, crs: dict[str, Any]) -> None:
    item = make_item(stac_extensions=[extension], geometry=None, bbox=None)
    for owner in [item["properties"]] if level == "item" else item["assets"].values():
        owner |= {**crs, **GRID}

    footprint = read(item).footprint

    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform
    expected = shapely.transform(box(*SQUARE).segmentize(100), to_degrees, interleaved=False)
    assert footprint.symmetric_difference(expected).area / expected.area < 1e-3


def test_outline_across_the_date_line_is_in_two_parts() -> None:
    item = make_item(stac_extensions=[PROJ_V2], geometry=None)
    # At 30 degrees north the date line is about 290 km west of the middle of zone 1.
    across = {**GRID, "proj:transform": [10.0, 0, 205_500.0, 0, -10.0, SQUARE[3]]}
    item["properties"] |= {"proj:code": "EPSG:32601", **across}

    footprint = read(item).footprint

    west, south, east, north = footprint.bounds
    assert (west, east) == (-180, 180)
    assert footprint.area == pytest.approx(0.1 * 0.09, rel=0.2)
    assert not footprint.intersects(box(-179, south, 179, north))


def test_footprint_is_the_geometry_within_the_outline() -> None:
    item = make_item(stac_extensions=[PROJ_V2])
    item["properties"] |= {"proj:code": "EPSG:32614", **GRID}
    outline = read(item | {"geometry": None}).footprint
    west, south, east, north = outline.bounds
    half = box(west - 1, south - 1, (west + east) / 2, north + 1)

    assert read(item | {"geometry": mapping(half)}).footprint.area == pytest.approx(outline.area / 2, rel=0.02)
    # A geometry somewhere else is wrong: what the pixels are read by counts.
    assert read(item | {"geometry": mapping(box(0, 0, 1, 1))}).footprint.equals(outline)


@pytest.mark.parametrize(
    "broken",
    [
        {"proj:code": "EPSG:999999", **GRID},
        {"proj:code": "nonsense", **GRID},
        {"proj:code": "EPSG:32614"},
        {"proj:code": "EPSG:32614", **GRID, "proj:transform": [1, 2, 3]},
        {"proj:code": "EPSG:32614", **GRID, "proj:transform": [0, 0, 0, 0, 0, 0]},
        {"proj:code": "EPSG:32614", **GRID, "proj:shape": ["many", None]},
    ],
)
def test_projection_that_makes_no_sense_leaves_the_geometry(broken: dict[str, Any]) -> None:
    item = make_item(stac_extensions=[PROJ_V2])
    item["properties"] |= broken
    assert read(item).footprint.equals(box(-98.0, 29.0, -97.0, 30.0))


@pytest.mark.parametrize("bbox", [[-98, 29, -97, 30], [-98, 29, 0, -97, 30, 500]])
def test_bbox_stands_in(bbox: list[float]) -> None:
    assert read(make_item(geometry=None, bbox=bbox)).footprint.equals(box(-98, 29, -97, 30))


@pytest.mark.parametrize(
    ("properties", "start", "end"),
    [
        ({"datetime": "2024-05-01T19:00:00+02:00"}, "2024-05-01T17:00:00", "2024-05-01T17:00:00"),
        (
            {"datetime": None, "start_datetime": "2024-05-01T00:00:00Z", "end_datetime": "2024-05-02T00:00:00Z"},
            "2024-05-01T00:00:00",
            "2024-05-02T00:00:00",
        ),
    ],
)
def test_time_is_the_instant_or_the_span(properties: dict[str, Any], start: str, end: str) -> None:
    item = read(make_item(properties=properties))
    assert (item.start, item.end) == (
        dt.datetime.fromisoformat(start).replace(tzinfo=dt.UTC),
        dt.datetime.fromisoformat(end).replace(tzinfo=dt.UTC),
    )


def test_files_know_scale_offset_and_nodata_and_classes_have_none() -> None:
    raster = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}
    item = make_item()
    for asset in item["assets"].values():
        asset |= raster
    item["assets"]["SCL"] = {"href": "scl.tif", "type": "image/tiff", "raster:bands": [{"nodata": 0, "offset": 5}]}

    part = read(item).part

    assert part.red == BandFile(uri="https://stac.example/red.tif", band=1, scale=0.0001, offset=-0.1, nodata=0.0)
    assert part.classes == BandFile(uri="https://stac.example/scl.tif", band=1, nodata=0.0)
    assert read(item, classes=None).part.classes is None


@pytest.mark.parametrize(("told", "expected"), [("nan", "nan"), ("-9999", "-9999.0"), (255, "255.0")])
def test_nodata_may_be_text(told: Any, expected: str) -> None:
    item = make_item()
    item["properties"]["nodata"] = told
    assert str(read(item).part.green.nodata) == expected


def test_an_alternate_stands_in_for_a_kind_that_is_not_read() -> None:
    item = make_item()
    item["assets"]["red"] |= {
        "href": "gs://bucket/red.tif",
        "alternate": {"az": {"href": "az://x/red.tif"}, "s3": {"href": "s3://bucket/red.tif"}},
    }
    assert read(item).part.red.uri == "s3://bucket/red.tif"


def test_alternate_that_is_asked_for_is_taken_where_it_is() -> None:
    item = make_item()
    for name in ("red", "green"):
        item["assets"][name]["alternate"] = {"s3": {"href": f"s3://bucket/{name}.tif"}, "https": "none"}

    part = read(item, alternate="s3").part

    assert [file.uri for file in (part.red, part.green)] == ["s3://bucket/red.tif", "s3://bucket/green.tif"]
    assert part.blue.uri == read(item).part.blue.uri == "https://stac.example/blue.tif"
    assert read(item, alternate="https").part.red.uri == "https://stac.example/red.tif"


@pytest.mark.parametrize(("key", "band"), [("qa_pixel", "qa_pixel"), ("Fmask", "Fmask"), ("SCL_20m", "SCL_20m")])
def test_class_bands_of_other_archives_are_found(key: str, band: str) -> None:
    item = make_item()
    item["assets"][key] = {"href": f"{band}.tif", "type": "image/tiff"}
    assert read(item).part.classes == BandFile(uri=f"https://stac.example/{band}.tif", band=1)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("text", "is no STAC item with an id"),
        ({"type": "Feature"}, "is no STAC item with an id"),
        (make_item(id=7), "is no STAC item with an id"),
        (make_item(id="x" * 300), "an id of 300 characters"),
        (make_item(assets="none"), "is no sound STAC item"),
        (make_item(assets={"red": {}}), "is no sound STAC item"),
        (make_item(properties=None), "is no sound STAC item"),
        (make_item(properties={"datetime": "soon"}), "is no sound STAC item"),
        (make_item(properties={"datetime": None}), "datetime"),
        (make_item(geometry=None, bbox=None), "has neither geometry nor bbox nor projection"),
        (make_item(geometry={"type": "Blob"}, bbox=["a", 1, 2, 3]), "has neither geometry"),
        (make_item(properties={"datetime": "2024-05-01T17:00:00Z", "nodata": "none"}), "asset red.*nodata"),
    ],
)
def test_item_that_cannot_be_used_says_why(item: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(item)


def test_classes_that_were_asked_for_have_to_be_there() -> None:
    assert read(make_item()).part.classes is None
    with pytest.raises(ValueError, match="has no classes fmask; its assets are red, green, blue"):
        read(make_item(), classes="fmask")


def test_self_link_bends_no_href(tmp_path: Path) -> None:
    place = Place(href=str(tmp_path / "item.json"), root=str(tmp_path))
    item = make_item(
        links=[{"rel": "self", "href": "/etc/item.json"}, {"rel": "collection", "href": "https://x.example"}]
    )
    found = read_item(FoundItem(content=item, place=place), config=CONFIG)
    assert found.part.red.uri == str(tmp_path.resolve() / "red.tif")


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"s2:processing_baseline": "05.11", "updated": "2024-06-03"}, "05.11"),
        ({"updated": "2024-06-03", "created": "2024-06-02"}, "2024-06-03"),
        ({}, ""),
    ],
)
def test_version_of_an_item(properties: dict[str, str], expected: str) -> None:
    assert describe_version(properties) == expected


ACROSS = box(179.5, -17.0, 180.5, -16.0)


@pytest.mark.parametrize("ring", [[179.5, 180.5], [179.5, -179.5], [-180.5, -179.5], [539.5, 540.5]])
@pytest.mark.parametrize("is_bbox", [False, True])
def test_all_forms_of_a_place_over_the_date_line_are_one(ring: list[float], is_bbox: bool) -> None:
    west, east = ring
    corners = [(west, -17.0), (east, -17.0), (east, -16.0), (west, -16.0)]
    geometry = mapping(Polygon(corners))
    item = make_item(geometry=None, bbox=[west, -17.0, east, -16.0]) if is_bbox else make_item(geometry=geometry)

    found = read(item).footprint

    assert found.area == pytest.approx(1.0)
    assert found.intersects(box(-179.9, -17, -179.8, -16))
    assert found.intersects(box(179.8, -17, 179.9, -16))
    assert not found.intersects(box(-10, -17, 10, -16))


def test_a_geometry_cut_at_the_date_line_stays_so() -> None:
    halves = MultiPolygon([box(179.5, -17.0, 180.0, -16.0), box(-180.0, -17.0, -179.5, -16.0)])

    assert read(make_item(geometry=mapping(halves))).footprint.equals(halves)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("scl", "scl.tif"),
        ("SCL", "SCL.tif"),
        ("SCL_20m", "SCL_20m.tif"),
        ("scl-60m", "scl-60m.tif"),
        ("scene_classification", "scene_classification.tif"),
        ("scale", None),
        ("cloud_mask", None),
    ],
)
def test_classes_are_found_under_the_names_that_they_have(key: str, expected: str | None) -> None:
    item = make_item()
    item["assets"][key] = {"href": f"{key}.tif", "type": "image/tiff"}

    classes = read(item).part.classes

    assert (classes and Path(classes.uri).name) == expected


def test_the_finer_of_two_class_bands_counts() -> None:
    item = make_item()
    item["assets"] |= {key: {"href": f"{key}.tif", "type": "image/tiff"} for key in ("SCL_60m", "SCL_20m")}

    classes = read(item).part.classes

    assert classes is not None
    assert Path(classes.uri).name == "SCL_20m.tif"


@pytest.mark.parametrize(
    ("properties", "told", "expected"),
    [
        ({"constellation": "sentinel-2"}, None, 0.0),
        ({"s2:processing_baseline": "05.00"}, None, 0.0),
        ({"platform": "Sentinel-2B"}, 9, 9.0),
        ({"platform": "landsat-8"}, None, None),
    ],
)
def test_sentinel_2_has_0_for_nodata_unless_it_is_told(
    properties: dict[str, Any], told: float | None, expected: float | None
) -> None:
    item = make_item()
    item["properties"] |= properties
    if told is not None:
        for asset in item["assets"].values():
            asset["raster:bands"] = [{"nodata": told}]

    assert read(item).part.red.nodata == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bbox", [float("nan"), 0, 1, 1]),
        ("bbox", [True, False, True, True]),
        ("bbox", [-(10**400), 0, 1, 1]),
        ("properties", {"datetime": "9999-12-31T23:59:59-12:00"}),
        (
            "properties",
            {"datetime": None, "start_datetime": "2025-01-01T00:00:00Z", "end_datetime": "2024-01-01T00:00:00Z"},
        ),
        ("assets", {str(number): {"href": "a.tif"} for number in range(2000)}),
    ],
)
def test_an_item_of_no_sense_is_left_out_in_words(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"has|ends before"):
        read(make_item(geometry=None) | {field: value})


@pytest.mark.parametrize("value", [True, 10**400])
@pytest.mark.parametrize("name", ["scale", "offset", "nodata"])
def test_what_is_no_number_is_not_taken_for_one(name: str, value: Any) -> None:
    item = make_item()
    for asset in item["assets"].values():
        asset["raster:bands"] = [{name: value}]

    with pytest.raises(InputError, match="no number"):
        read(item)


def test_clouds_that_are_no_number_are_not_known() -> None:
    for value in (True, 10**400, float("nan"), "5"):
        assert read(make_item(properties=make_item()["properties"] | {"eo:cloud_cover": value})).cloud_percent is None


def test_a_projection_that_names_a_file_is_not_believed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    crs = pyproj.CRS(f"+proj=utm +zone=14 +ellps=WGS84 +nadgrids={tmp_path / 'pipe'} +type=crs").to_wkt()
    item = make_item(stac_extensions=[PROJ_V1])
    item["properties"] |= {"proj:wkt2": crs, **GRID}

    assert read(item).footprint.bounds == (-98.0, 29.0, -97.0, 30.0)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["B02", "B03", "B04"], [3, 2, 1]),
        (["B04", "B03", "B02", "B08"], [1, 2, 3]),
        (["b1", "b2", "b3"], [None, None, None]),
        (["nir", "red", "green"], None),
        (["B8A", "B11", "B04"], None),
    ],
)
def test_the_only_raster_tells_its_bands_by_their_names(names: list[str], expected: list[int | None] | None) -> None:
    asset = {"href": "all.tif", "type": "image/tiff", "eo:bands": [{"name": name} for name in names]}
    item = make_item(assets={"all": asset})

    if expected is None:
        with pytest.raises(InputError, match=r"other bands than red, green and blue|has no blue"):
            read(item)
        return
    part = read(item).part
    assert [part.red.band, part.green.band, part.blue.band] == expected
