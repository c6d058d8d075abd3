"""The project for QGIS: its layers are found beside it, whatever is in them."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from pipeline.runs.export_qgis import write_project

BOX = (600_000.0, 0.0, 600_100.0, 50.0)


def make_table(boxes: Sequence[tuple[float, ...]]) -> bytes:
    content = io.BytesIO()
    gpd.GeoDataFrame(
        {"n": range(len(boxes))}, geometry=[shapely.box(*box) for box in boxes], crs="EPSG:32614"
    ).to_parquet(content)
    return content.getvalue()


@pytest.mark.parametrize(("boxes", "shown"), [([BOX], [*map(repr, BOX)]), ([], [])])
def test_a_project_opens_where_its_tables_are(
    tmp_path: Path, boxes: Sequence[tuple[float, ...]], shown: list[str]
) -> None:
    tables = {"changes": partial(io.BytesIO, make_table([])), "tiles": partial(io.BytesIO, make_table(boxes))}
    path = tmp_path / "report.qgz"

    write_project(path, title="Here & <there>", tables=tables, pictures={"after.tif": "After"})

    (name,) = zipfile.ZipFile(path).namelist()
    project = ElementTree.fromstring(zipfile.ZipFile(path).read(name))
    assert name == "report.qgs"
    assert project.findtext("title") == "Here & <there>"
    assert [end.text for end in project.iterfind("mapcanvas/extent/*")] == shown
    assert [source.text for source in project.iter("datasource")] == [
        "./report.gpkg|layername=changes",
        "./report.gpkg|layername=tiles",
        "./after.tif",
    ]
    ids = [each.text for each in project.iterfind("projectlayers/maplayer/id")]
    assert ids == [each.get("id") for each in project.iter("layer-tree-layer")]
    # QGIS gives a layer with a shorter id another one, which the list beside the map does not know.
    assert all(len(each or "") > 10 for each in ids)


def test_equal_reports_have_equal_projects(tmp_path: Path) -> None:
    written = []
    for number in range(2):
        path = tmp_path / f"{number}.qgz"
        write_project(path, title="x", tables={"events": partial(io.BytesIO, make_table([BOX]))}, pictures={})
        written.append(path.read_bytes())

    assert written[0] == written[1]
