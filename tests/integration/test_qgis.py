"""The changes and their style in a real QGIS, drawn as a person would see them."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import shapely
from qgis_drawing import Drawing, DrawWithQgis

from pipeline.tables.geoparquet import encode_geoparquet, make_frame, order_along_hilbert
from pipeline.tables.schemas import CHANGE_KINDS, CHANGES_SCHEMA
from pipeline.tables.vector_formats import write_flatgeobuf

BUILDING = np.array([255, 107, 44])
ROAD_INK = np.array([9, 112, 143])
SIDE_M = 100.0


@pytest.fixture(scope="module")
def drawing(draw_with_qgis: DrawWithQgis, tmp_path_factory: pytest.TempPathFactory) -> Drawing:
    """Three squares in a row: a building that is sure, one that is not, and a road."""
    folder = tmp_path_factory.mktemp("qgis")
    columns: dict[str, Any] = {name: [None] * 3 for name in CHANGES_SCHEMA.names if name != "geometry"}
    columns |= {"change_id": ["a", "b", "c"], "kind": ["building", "building", "road"], "confidence": [1.0, 0.5, 1.0]}
    columns |= dict.fromkeys(("area_m2", "cell_count", "tile_count"), [1] * 3)
    columns |= dict.fromkeys(("geometry_source", "tile_ids", "model_id", "run_id"), ["x"] * 3)
    # Of a column of nulls the type is the schema's.
    columns |= {"description": pa.array(["<b>x</b>"] * 3)}
    lefts = 600_000 + 2 * SIDE_M * np.arange(3)
    squares = shapely.box(lefts, 0, lefts + SIDE_M, SIDE_M)
    frame = make_frame(columns, schema=CHANGES_SCHEMA, geometry=squares, crs="EPSG:32614")
    data = encode_geoparquet(frame, schema=CHANGES_SCHEMA, order=order_along_hilbert(frame, key="change_id"))
    write_flatgeobuf(data, folder / "changes.fgb")
    (folder / "changes.qml").write_bytes(resources.files("pipeline.report").joinpath("style.qml").read_bytes())
    return draw_with_qgis(folder / "changes.fgb")


def cut_square(drawing: Drawing, index: int) -> npt.NDArray[np.uint8]:
    """Give the upper part of a square, where no label is: the picture is 1.1 times as wide as the five sides."""
    height, width, _ = drawing.pixels.shape
    side_px = width / 5.5
    left = round(width / 2 + (2 * index - 2.5 + 0.15) * side_px)
    top = round(height / 2 - 0.35 * side_px)
    return drawing.pixels[top : top + round(0.2 * side_px), left : left + round(0.7 * side_px)]


def test_qgis_opens_the_layer_with_the_style_beside_it(drawing: Drawing) -> None:
    assert drawing.told["is_valid"]
    assert drawing.told["n_features"] == 3
    assert drawing.told["crs"] == "EPSG:32614"
    assert drawing.told["fields"] == [name for name in CHANGES_SCHEMA.names if name != "geometry"]
    assert drawing.told["renderer"] == "categorizedSymbol"
    assert drawing.told["categories"] == list(CHANGE_KINDS)
    assert drawing.told["has_labels"]


def test_kinds_have_their_colours_and_confidence_its_density(drawing: Drawing) -> None:
    sure, unsure, road = (cut_square(drawing, index).reshape(-1, 3).astype(int) for index in range(3))

    # The colour laid over white, 100 and 25 parts of 255: what lies beneath stays in sight.
    for pixels, alpha in ((sure, 100 / 255), (unsure, 25 / 255)):
        expected = 255 + (BUILDING - 255) * alpha
        assert np.abs(np.median(pixels, axis=0) - expected).max() <= 3
    is_hatched = np.abs(road - ROAD_INK).max(axis=1) < 60
    assert 0.03 < is_hatched.mean() < 0.6
    assert (road > 240).all(axis=1).mean() > 0.3


def test_every_change_has_a_label(drawing: Drawing) -> None:
    height, width, _ = drawing.pixels.shape
    middle = drawing.pixels[height // 2 - 10 : height // 2 + 10]

    for index in range(3):
        start = round(width / 2 + (2 * index - 2.5) * width / 5.5)
        square = middle[:, start : start + round(width / 5.5)]
        assert (square < 80).all(axis=2).sum() > 20
