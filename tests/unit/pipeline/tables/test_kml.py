"""KML as Google Earth reads it: one document, outlines in the kinds' colours, times, words as words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely

from pipeline.tables.geoparquet import encode_geoparquet, make_frame
from pipeline.tables.schemas import CHANGES_SCHEMA
from pipeline.tables.vector_formats import VECTOR_FORMATS, write_layer

KML = "{http://www.opengis.net/kml/2.2}"
WORDS = "\x1b[31m<b>two</b> houses\x00 & a road"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    columns: dict[str, Any] = {name: [None] * 2 for name in CHANGES_SCHEMA.names if name != "geometry"}
    columns |= {
        "change_id": ["a", "b"],
        "kind": ["building", "road"],
        "change": ["removed", None],
        "confidence": [0.5, None],
    }
    columns |= {"after_datetime": [pd.Timestamp("2024-06-01T10:00Z"), None]}
    columns |= {name: [1, 2] for name in ("area_m2", "cell_count", "tile_count")}
    columns |= dict.fromkeys(("geometry_source", "tile_ids", "model_id", "run_id"), ["x"] * 2)
    columns["description"] = pa.array([WORDS, None], pa.string())
    place = shapely.box(500_000, 3_300_000, 500_090, 3_300_090)
    hole = shapely.box(500_030, 3_300_030, 500_060, 3_300_060)
    shapes = np.array([place.difference(hole), shapely.box(500_000, 3_300_000, 500_009, 3_300_009)])
    frame = make_frame(columns, schema=CHANGES_SCHEMA, geometry=shapes, crs="EPSG:32614")
    data = encode_geoparquet(frame, schema=CHANGES_SCHEMA, order=np.arange(2))
    path = tmp_path / "report.kml"
    for layer in ("changes", "tiles"):
        write_layer(io.BytesIO(data), path, layer=layer, kind=VECTOR_FORMATS["kml"])
    return path


def test_what_was_removed_is_hollow(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    styles = {style.get("id"): style for style in root.iter(f"{KML}Style")}

    assert styles["building_removed"].findtext(f"{KML}PolyStyle/{KML}fill") == "0"
    assert styles["building"].find(f"{KML}PolyStyle/{KML}fill") is None


def test_one_document_has_a_folder_per_table_and_a_style_for_every_shape(path: Path) -> None:
    root = ElementTree.parse(path).getroot()

    assert [element.tag for element in root] == [f"{KML}Document"]
    assert [name.text for name in root.findall(f"{KML}Document/{KML}Folder/{KML}name")] == ["changes", "tiles"]
    styles = {f"#{style.get('id')}": style for style in root.iter(f"{KML}Style")}
    urls = [url.text for url in root.iter(f"{KML}styleUrl")]
    assert urls == ["#building_removed", "#road", "#building_removed", "#road"]
    assert set(urls) <= set(styles)
    for style in styles.values():
        fill = style.find(f"{KML}PolyStyle/{KML}color")
        # A third of full at the most, or no fill: the picture beneath is to be seen.
        assert style.findtext(f"{KML}PolyStyle/{KML}fill") == "0" or (
            fill is not None and int(str(fill.text)[:2], 16) < 90
        )


def test_changes_begin_when_they_were_seen(path: Path) -> None:
    root = ElementTree.parse(path).getroot()

    begins = [begin.text for begin in root.iter(f"{KML}begin")]
    assert begins == ["2024-06-01T10:00:00Z"]


def test_gdal_reads_types_words_and_holes(path: Path) -> None:
    found = gpd.read_file(path, layer="changes").set_index("change_id")

    assert found.loc["a", "confidence"] == 0.5
    assert np.isnan(found.loc["b", "confidence"])
    assert found.loc["a", "description"] == "&lt;b&gt;two&lt;/b&gt; houses &amp; a road"
    areas = found.geometry.to_crs("EPSG:32614").area
    assert areas.tolist() == pytest.approx([90**2 - 30**2, 81], rel=1e-3)
