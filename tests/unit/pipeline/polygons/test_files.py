"""Files of polygons that lead elsewhere: what GDAL would follow is not followed, and others are read as ever."""

from __future__ import annotations

import json
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio
import pytest
from asked_server import start_asked_server
from shapely.geometry import box, mapping

from model.errors import InputError
from pipeline.polygons.files import read_polygons

RING = "<LinearRing><coordinates>0,0 1,0 1,1 0,0</coordinates></LinearRing>"
POLYGON = f"<Polygon><outerBoundaryIs>{RING}</outerBoundaryIs></Polygon>"


def wrap(text: str, *, before: str = "") -> str:
    return f'{before}<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{text}</Document></kml>'


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """Give the address of a server, and what it was asked for."""
    with start_asked_server() as address_and_paths:
        yield address_and_paths


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.gpkg"
    gpd.GeoDataFrame({"word": ["hidden"]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326").to_file(path, layer="secret")
    return path


LEADING = [
    "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>",
    "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/vsicurl/{url}/a</SrcDataSource></OGRVRTLayer>"
    "</OGRVRTDataSource>",
    "<OGRWFSDataSource><URL>{url}/wfs?</URL></OGRWFSDataSource>",
    "<OGRCSWDataSource><URL>{url}/csw?</URL></OGRCSWDataSource>",
    '{{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read {secret} ! write streamed_dataset"}}',
    "<GDAL_WMS><Service name='TMS'><ServerUrl>{url}/a</ServerUrl></Service></GDAL_WMS>",
    "<wfs:FeatureCollection xmlns:wfs='http://www.opengis.net/wfs' "
    "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' "
    "xsi:schemaLocation='http://x {url}/wfs?request=DescribeFeatureType'/>",
]


@pytest.mark.parametrize("text", LEADING)
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_file_that_leads_elsewhere_is_refused(
    tmp_path: Path, secret: Path, asked: tuple[str, list[str]], text: str, is_packed: bool
) -> None:
    path = tmp_path / "zones.geojson"
    path.write_text(text.format(secret=secret, url=asked[0]))
    if is_packed:
        with zipfile.ZipFile(tmp_path / "zones.zip", "w") as archive:
            archive.write(path, "zones.geojson")
        path = tmp_path / "zones.zip"
    with pytest.raises(InputError, match=r"^zones .* cannot be read"):
        read_polygons(str(path), key="zones")
    assert asked[1] == []


def test_links_of_a_kml_are_not_followed(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    link = f"<NetworkLink><Link><href>{asked[0]}/a.kml</href></Link></NetworkLink>"
    place = f"<Placemark><styleUrl>{asked[0]}/b.kml#c</styleUrl>{POLYGON}</Placemark>"
    (tmp_path / "a.kml").write_text(wrap(link + place))
    found = read_polygons(str(tmp_path / "a.kml"), key="aoi")
    assert found.geometry.count() == 1
    assert asked[1] == []


def test_entities_of_a_kml_are_not_unfolded(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    entities = f'<!DOCTYPE kml [<!ENTITY a SYSTEM "file:///etc/passwd"><!ENTITY b SYSTEM "{asked[0]}/b">]>'
    place = f"<Placemark><name>&a;&b;</name>{POLYGON}</Placemark>"
    (tmp_path / "a.kml").write_text(wrap(place, before=entities))
    with pytest.raises(InputError, match="cannot be read"):
        read_polygons(str(tmp_path / "a.kml"), key="aoi")
    assert asked[1] == []


def add_layer(path: Path, sql: str, *, name: str) -> None:
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA writable_schema=ON")
        if sql.startswith("CREATE VIRTUAL"):
            # Python's SQLite knows no such module.
            file.execute("INSERT INTO sqlite_master VALUES ('table', ?, ?, 0, ?)", (name, name, sql))
        else:
            file.execute(sql)
        file.execute("DELETE FROM gpkg_contents")
        file.execute("DELETE FROM gpkg_geometry_columns")
        file.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) VALUES (?, 'features', ?, 4326)",
            (name, name),
        )
        file.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'POLYGON', 4326, 0, 0)", (name,))
    file.close()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIRTUAL TABLE v USING VirtualOGR('{secret}')",
        "CREATE VIEW v AS SELECT fid, geom, ogr_geocode('a') AS word FROM zones",
        "CREATE VIEW v AS SELECT fid, geom, load_extension('a') AS word FROM zones",
    ],
)
def test_a_geopackage_computes_nothing(tmp_path: Path, secret: Path, sql: str) -> None:
    path = tmp_path / "zones.gpkg"
    frame = gpd.GeoDataFrame({"a": [1]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326")
    frame.to_file(path, layer="zones")
    add_layer(path, sql.format(secret=secret), name="v")
    with pytest.raises(InputError, match=r"^zones "):
        read_polygons(str(path), key="zones")


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("a.geojson", "GeoJSON"),
        ("a.gpkg", "GPKG"),
        ("a.fgb", "FlatGeobuf"),
        ("a.shp", "ESRI Shapefile"),
        ("a.kml", "KML"),
    ],
)
def test_files_that_hold_what_they_show_are_read(tmp_path: Path, name: str, driver: str) -> None:
    frame = gpd.GeoDataFrame({"name": ["one"]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326")
    frame.to_file(tmp_path / name, driver=driver)
    known: dict[str, Any] = pyogrio.list_drivers()
    found = read_polygons(str(tmp_path / name), key="aoi")
    assert found.geometry.iloc[0].equals(box(0, 0, 1, 1))
    # Others of this process read what they read before.
    assert pyogrio.list_drivers() == known
    assert "GML" in known


def test_archives_in_an_archive_are_not_looked_into(tmp_path: Path) -> None:
    for inner, outer in (("zones.geojson", "inner.zip"), ("inner.zip", "zones.zip")):
        with zipfile.ZipFile(tmp_path / outer, "w") as archive:
            archive.writestr(inner, (tmp_path / inner).read_bytes() if (tmp_path / inner).exists() else "{}")

    with pytest.raises(InputError, match="holds the archive 'inner"):
        read_polygons(str(tmp_path / "zones.zip"), key="zones")


def test_no_crs_has_a_file_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    crs = f"+proj=utm +zone=14 +ellps=WGS84 +nadgrids={tmp_path / 'pipe'} +type=crs"
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=crs).to_parquet(tmp_path / "zones.parquet")
    told = {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": crs}}}
    told |= {"features": [{"type": "Feature", "properties": {}, "geometry": mapping(box(0, 0, 1, 1))}]}
    (tmp_path / "zones.geojson").write_text(json.dumps(told))

    escaped = "".join(f"\\u{ord(letter):04x}" for letter in crs)
    (tmp_path / "escaped.geojson").write_text(json.dumps(told).replace(crs, escaped))
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:32614").to_file(tmp_path / "zones.shp")
    (tmp_path / "zones.prj").write_text(crs)
    with zipfile.ZipFile(tmp_path / "zones.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix in (".shp", ".shx", ".dbf", ".prj"):
            archive.write(tmp_path / f"zones{suffix}", f"zones{suffix}")
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:32614").to_file(tmp_path / "zones.gpkg")
    with closing(sqlite3.connect(tmp_path / "zones.gpkg")) as base, base:
        # Longer than a page, so that it lies in the file in two pieces.
        wkt = f'PARAMETERFILE["{"x" * 4060}","{tmp_path / "pipe"}"]'
        base.execute("UPDATE gpkg_spatial_ref_sys SET definition = ? WHERE srs_id = 32614", [wkt])

    for name in ("zones.parquet", "zones.geojson", "escaped.geojson", "zones.shp", "zones.zip", "zones.gpkg"):
        with pytest.raises(InputError, match="has a CRS that reads the file"):
            read_polygons(str(tmp_path / name), key="zones")


@pytest.mark.parametrize(
    ("corners", "crs", "problem"),
    [
        ((621_000, 3_362_000, 621_100, 3_362_100), "EPSG:4326", "said to be in degrees"),
        ((-96, 1e300, -95, 2e300), "EPSG:4326", "said to be in degrees"),
        ((-96, 30, -95, float("inf")), "EPSG:4326", "corners without a place"),
        ((-96, 30, -95, 31), "EPSG:4326", None),
        ((170, -20, 190, -10), "EPSG:4326", None),
        ((621_000, 3_362_000, 621_100, 3_362_100), "EPSG:32614", None),
    ],
)
def test_degrees_are_degrees(
    tmp_path: Path, corners: tuple[float, float, float, float], crs: str, problem: str | None
) -> None:
    path = tmp_path / "zones.parquet"
    gpd.GeoDataFrame(geometry=[box(*corners)], crs=crs).to_parquet(path)
    if problem is None:
        assert len(read_polygons(str(path), key="aoi")) == 1
    else:
        with pytest.raises(InputError, match=problem):
            read_polygons(str(path), key="aoi")
