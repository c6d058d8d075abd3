"""The STAC item of a run and the collection of a region: valid offline, read by pystac, the same for equal runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.table import TableExtension
from stac_schemas import read_valid_stac

from model.interface import ModelIdentity, Prompt, PromptKind
from pipeline.findings.coverage import Coverage
from pipeline.grid.date_line import make_box
from pipeline.grid.grid import Grid
from pipeline.grid.projections import find_utm_code
from pipeline.regions.stac_collection import COLLECTION_NAME, make_region_collection
from pipeline.report.result import Report
from pipeline.report.stac_assets import encode_stac, unite_bounds
from pipeline.report.stac_item import ITEM_NAME, make_item, outline_grid, write_item
from pipeline.scenes.pair import ScenePair
from pipeline.scenes.scene import Asset, BandSource, Scene, ScenePart
from pipeline.scenes.stretch import Stretch
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, PAGE_NAME, TILES_NAME, ZONES_NAME
from pipeline.storage.object_facts import describe_bytes
from pipeline.tables.schemas import CHANGES_SCHEMA, ZONES_SCHEMA

IDENTITY = ModelIdentity(model_id="stand-in@1", weight_hash="f00d", path="/secret/place")
PROMPTS = (
    Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Changed?"),
    Prompt(name="pools", kind=PromptKind.ASK, text="How many pools?"),
)
SIGNED = "https://me:hunter2@host/a%20b.tif?sig=topsecret"


def make_grid(*, crs: str = "EPSG:32614", left: float = 621_000.0, top: float = 3_362_000.0) -> Grid:
    return Grid(
        crs=crs,
        resolution_m=0.5,
        origin_x=left,
        origin_y=top,
        tile_size_px=256,
        n_rows=2,
        n_cols=3,
        width_px=700,
        height_px=500,
        top_px=12,
        left_px=20,
    )


def make_scene(uri: str, *, scene_id: str, datetime: str | None) -> Scene:
    place = shapely.box(-98, 30, -97, 31)
    asset = Asset(
        uri=uri, checksum="c", crs="EPSG:32614", transform=(1, 0, 0, 0, -1, 0), width=9, height=9, footprint=place
    )
    red, green, blue = (BandSource(asset=asset, band=band, dtype="uint8") for band in (1, 2, 3))
    part = ScenePart(red=red, green=green, blue=blue, footprint=place)
    return Scene(scene_id=scene_id, datetime=datetime, parts=(part,), footprint=place)


def make_pair(grid: Grid | None = None, **dates: str | None) -> ScenePair:
    told = {"before": "2020-06-01T10:00:00Z", "after": "2024-06-01T12:00:00+02:00"} | dates
    return ScenePair(
        before=make_scene("/data/be fore.tif", scene_id="b", datetime=told["before"]),
        after=make_scene(SIGNED, scene_id="a", datetime=told["after"]),
        grid=grid or make_grid(),
        resampling="auto",
        stretch=Stretch(before=None, after=None),
        content_key="abc",
    )


FILES = {
    f"report/{name}": {"size_bytes": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
    for name in (
        "tiles.parquet",
        "changes.parquet",
        "changes.fgb",
        "index.html",
        "plots/counts.png",
        "page/t.js",
        "tiles/1.json",
    )
}


def describe(pair: ScenePair, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "prompts": PROMPTS,
        "identity": IDENTITY,
        "run_id": "0123456789ab",
        "files": FILES,
        "coverage": Coverage(tile_counts={"analysed": 6}, ground_m2={"analysed": 30.0, "cloudy": 10.04}),
        "change_counts": {"building": 2, "road": 0},
        "left_out_counts": {"building": 0},
    }
    return make_item(pair=pair, **(values | changes))


def test_an_item_tells_by_ground_what_was_seen() -> None:
    told = describe(make_pair(make_grid()))["properties"]

    assert told["deltavlm:tile_counts"] == {"analysed": 6}
    assert told["deltavlm:ground_m2"] == {"analysed": 30.0, "cloudy": 10.0}
    assert told["deltavlm:seen_fraction"] == 0.749251


def test_an_item_tells_what_is_to_be_known_of_the_run() -> None:
    pair = make_pair(make_grid())

    assert describe(pair, notes=["too coarse"])["properties"]["deltavlm:notes"] == ["too coarse"]
    assert "deltavlm:notes" not in describe(pair)["properties"]
    left_out = {"building": 3, "road": 0}
    assert describe(pair, left_out_counts=left_out)["properties"]["deltavlm:left_out_counts"] == left_out
    assert "deltavlm:left_out_counts" not in describe(pair)["properties"]


def test_an_item_is_valid_and_pystac_reads_what_it_tells() -> None:
    grid = make_grid()

    item = read_valid_stac(describe(make_pair(grid)), href="/runs/run/report/item.json")

    assert item.common_metadata.start_datetime.isoformat() == "2020-06-01T10:00:00+00:00"
    assert item.common_metadata.end_datetime.isoformat() == "2024-06-01T10:00:00+00:00"
    projection = ProjectionExtension.ext(item)
    assert (projection.code, projection.shape) == ("EPSG:32614", [500, 700])
    assert projection.bbox == [621_010.0, 3_361_744.0, 621_360.0, 3_361_994.0]
    to_wgs84 = pyproj.Transformer.from_crs("EPSG:32614", "EPSG:4326", always_xy=True)
    corners = [to_wgs84.transform(x, y) for x in (621_010.0, 621_360.0) for y in (3_361_744.0, 3_361_994.0)]
    place = shapely.geometry.shape(item.geometry)
    assert place.exterior.is_ccw
    assert shapely.hausdorff_distance(place, shapely.MultiPoint(corners).convex_hull) < 1e-6
    assert shapely.box(*item.bbox).buffer(1e-6).covers(place)
    tiles = item.assets["tiles"]
    assert tiles.get_absolute_href() == "/runs/run/report/tiles.parquet"
    assert FileExtension.ext(tiles).checksum == "1220" + hashlib.sha256(b"tiles.parquet").hexdigest()
    assert FileExtension.ext(tiles).size == len("tiles.parquet")
    assert "pools" in [column.name for column in TableExtension.ext(tiles).columns]
    assert [column.name for column in TableExtension.ext(item.assets["changes"]).columns] == CHANGES_SCHEMA.names
    assert set(item.assets) == {
        "tiles", "changes", "changes_fgb", "index_html", "plots_counts_png", "page_t_js", "tile_store", "record",
    }  # fmt: skip
    assert item.assets["tile_store"].get_absolute_href() == "/runs/run/tiles.zarr"
    assert [link.target for link in item.get_links("derived_from")] == [
        "file:///data/be%20fore.tif",
        "https://***@host/a%20b.tif?sig=***",
    ]


def test_equal_runs_have_equal_items_without_secrets_or_places_of_this_machine() -> None:
    first, second = (
        encode_stac(describe(make_pair(), files=files)) for files in (FILES, dict(reversed(FILES.items())))
    )

    assert first == second
    for secret in (b"hunter2", b"topsecret", b"/secret/place"):
        assert secret not in first


@pytest.mark.parametrize(
    ("dates", "moment"),
    [
        ({"before": None}, "2024-06-01T10:00:00Z"),
        ({"after": None}, "2020-06-01T10:00:00Z"),
        ({}, None),
    ],
)
def test_an_item_has_the_dates_that_are_known(dates: dict[str, None], moment: str | None) -> None:
    values = describe(make_pair(**dates))

    read_valid_stac(values)
    assert values["properties"]["datetime"] == moment


def test_a_grid_over_the_date_line_is_cut_there() -> None:
    # UTM zone 60 reaches beyond 180 degrees; at the equator 834 km from its middle is about 180.
    values = describe(make_pair(make_grid(crs="EPSG:32660", left=833_800.0, top=1_000.0)))

    read_valid_stac(values)
    place = shapely.geometry.shape(values["geometry"])
    west, south, east, north = values["bbox"]
    assert place.geom_type == "MultiPolygon"
    assert (place.bounds[0], place.bounds[2]) == (-180, 180)
    assert west > 179.99
    assert east < -179.99
    assert south < north < 0.01


def test_a_crs_without_a_code_is_written_out() -> None:
    wkt = pyproj.CRS("+proj=laea +lat_0=30 +lon_0=-98 +datum=WGS84 +units=m").to_wkt()

    item = read_valid_stac(describe(make_pair(make_grid(crs=wkt, left=0.0, top=0.0))))

    assert ProjectionExtension.ext(item).code is None
    assert pyproj.CRS.from_wkt(ProjectionExtension.ext(item).wkt2).equals(pyproj.CRS.from_wkt(wkt))


def make_report(folder: Path) -> Report:
    run = RunFolder(str(folder))
    names = (TILES_NAME, CHANGES_NAME, ZONES_NAME, PAGE_NAME, "report/page/tiles_r0000_c0000.js")
    for name in names:
        run.put(name, name.encode())
    return Report(
        folder=run,
        files={name: describe_bytes(name.encode()) for name in names},
        coverage=Coverage(tile_counts={"analysed": 6}),
        reason_counts={},
        changed_tile_count=2,
        change_counts={"building": 2, "road": 0},
    )


def test_an_item_is_written_beside_what_it_tells_of(tmp_path: Path) -> None:
    report, n_bytes = write_item(
        make_report(tmp_path),
        pair=make_pair(),
        prompts=PROMPTS,
        identity=IDENTITY,
        run_id="0123456789ab",
        zones_schema=ZONES_SCHEMA,
    )

    data = (tmp_path / ITEM_NAME).read_bytes()
    assert report.files[ITEM_NAME] == describe_bytes(data)
    assert (report.names[-1], len(data)) == (ITEM_NAME, n_bytes)
    values = json.loads(data)
    zones = TableExtension.ext(read_valid_stac(values).assets["zones"])
    assert [column.name for column in zones.columns] == ZONES_SCHEMA.names
    for asset in values["assets"].values():
        if "file:checksum" in asset:
            content = (tmp_path / "report" / asset["href"]).read_bytes()
            assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
            assert asset["file:size"] == len(content)


def test_scenes_without_any_date_make_no_item_and_leave_none(tmp_path: Path) -> None:
    report = make_report(tmp_path)
    report.folder.put(ITEM_NAME, b"{}")

    found, n_bytes = write_item(
        report, pair=make_pair(before=None, after=None), prompts=PROMPTS, identity=IDENTITY, run_id="0123456789ab"
    )

    assert (found, n_bytes) == (report, 0)
    assert not (tmp_path / ITEM_NAME).exists()


def test_a_region_is_a_collection_of_its_pairs() -> None:
    first = describe(make_pair())
    second = describe(make_pair(make_grid(left=622_000.0), before="2024-06-01T10:00:00Z", after="2025-06-01T10:00:00Z"))
    second["properties"]["proj:code"] = "EPSG:32615"
    items = {"../pairs/p2/report/item.json": second, "../pairs/p1/report/item.json": first}
    files = {
        name: {"size_bytes": 3, "sha256": "0" * 64}
        for name in ("report/timeline.parquet", "report/index.html", "report/changes/kind=road/part.parquet")
    }

    values = make_region_collection(
        region_id="austin",
        title="Austin",
        description="New houses",
        items=items,
        files=files,
        event_counts={"confirmed": 2, "provisional": 0},
    )
    collection = read_valid_stac(values, href="/region/" + COLLECTION_NAME)

    assert values == make_region_collection(
        region_id="austin",
        title="Austin",
        description="New houses",
        items=dict(reversed(items.items())),
        files=files,
        event_counts={"confirmed": 2, "provisional": 0},
    )
    assert collection.extent.spatial.bboxes[0] == pytest.approx(
        [first["bbox"][0], *second["bbox"][1:2], second["bbox"][2], max(first["bbox"][3], second["bbox"][3])], abs=1e-5
    )
    interval = [moment.isoformat() for moment in collection.extent.temporal.intervals[0]]
    assert interval == ["2020-06-01T10:00:00+00:00", "2025-06-01T10:00:00+00:00"]
    links = [link.get_absolute_href() for link in collection.get_links("item")]
    assert links == ["/region/pairs/p1/report/item.json", "/region/pairs/p2/report/item.json"]
    assert collection.summaries.lists["proj:code"] == ["EPSG:32614", "EPSG:32615"]
    assert collection.summaries.lists["deltavlm:event_status"] == ["confirmed"]
    assert values["deltavlm:event_counts"] == {"confirmed": 2, "provisional": 0}
    assert set(collection.assets) == {"changes", "timeline", "index_html"}
    assert "is_new" in [column.name for column in TableExtension.ext(collection.assets["changes"]).columns]


def test_a_region_without_a_pair_has_no_collection() -> None:
    with pytest.raises(ValueError, match="expected at least one pair"):
        make_region_collection(region_id="r", title="R", description="R", items={})


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([(1, 2, 3, 4)], (1, 2, 3, 4)),
        ([(1, 2, 3, 4), (-5, 0, -4, 1)], (-5, 0, 3, 4)),
        ([(179, 0, -179, 1)], (179, 0, -179, 1)),
        ([(170, 0, 171, 1), (-171, 0, -170, 1)], (170, 0, -170, 1)),
        ([(-180, -90, 180, 90), (1, 2, 3, 4)], (-180, -90, 180, 90)),
        # Texas and Java: over the Pacific it is narrower than over Greenwich.
        ([(-98, 0, -97, 1), (107, 0, 108, 1)], (107, 0, -97, 1)),
        ([(-98, 0, -97, 1), (40, 0, 41, 1)], (-98, 0, 41, 1)),
        ([(0, 0, 100, 1), (100, 0, -160, 1), (-160, 0, 0, 1)], (-180, 0, 180, 1)),
    ],
)
def test_bounds_of_all(bounds: list[Any], expected: tuple[float, ...]) -> None:
    assert unite_bounds(bounds) == expected


LONGITUDES = st.integers(-1800, 1800).map(lambda tenth: tenth / 10)


@settings(deadline=None)
@given(spans=st.lists(st.tuples(LONGITUDES, st.integers(0, 1200)), min_size=1, max_size=5))
def test_bounds_of_all_hold_each_of_them_and_lie_on_the_globe(spans: list[tuple[float, int]]) -> None:
    bounds = [(west, 0.0, round((west + tenths / 10 + 180) % 360 - 180, 1), 1.0) for west, tenths in spans]

    west, south, east, north = unite_bounds(bounds)

    assert (south, north) == (0.0, 1.0)
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    width = 360.0 if (west, east) == (-180.0, 180.0) else (east - west) % 360
    for first, tenths in spans:
        assert (first - west) % 360 + tenths / 10 <= width + 1e-6
    # No wider than the sum of what lies in it and of the gaps but the largest.
    taken = sorted(first % 360 for first, _ in spans)
    largest = max(
        (after - before for before, after in zip(taken, [*taken[1:], taken[0] + 360], strict=True)), default=360
    )
    assert width <= 360 - largest + max(tenths for _, tenths in spans) / 10 + 1e-6


@settings(deadline=None)
@given(lon=st.floats(-180, 180), lat=st.floats(-79, 83))
def test_every_bbox_lies_on_the_globe_and_around_its_grid(lon: float, lat: float) -> None:
    code = find_utm_code(lon, lat)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", code, always_xy=True).transform(lon, lat)
    grid = replace(make_grid(crs=code, left=x - 180.0, top=y + 130.0), resolution_m=50.0)

    geometry, (west, south, east, north) = outline_grid(grid)
    shape = shapely.geometry.shape(geometry)

    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert -90 <= south < north <= 90
    assert 0 < (east - west) % 360 < 60
    around = make_box(west, south, east, north)
    assert around.buffer(1e-6).covers(shape)
    assert unite_bounds([(west, south, east, north)]) == (west, south, east, north)


def test_ground_resolution_is_told_where_the_grid_stretches_the_ground() -> None:
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(10.0, 60.0)

    item = describe(make_pair(make_grid(crs="EPSG:3857", left=x, top=y)))

    assert item["properties"]["gsd"] == 0.25
