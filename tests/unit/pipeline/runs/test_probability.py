"""The raster of probabilities: what was seen, what was outlined, and what nobody knows."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine

from model.errors import InputError
from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.runs.export_probability import unite_bounds
from pipeline.runs.probability import NODATA, DrawnGround, Layer, Place, RunGround, write_probability
from pipeline.tables.geoparquet import encode_geoparquet, make_frame
from pipeline.tables.schemas import CHANGES_SCHEMA

CRS = pyproj.CRS.from_epsg(32614)
LEFT, TOP = 600_000.0, 3_000_000.0


def make_grid(**values: Any) -> Grid:
    settings = {"crs": "EPSG:32614", "resolution_m": 1.0, "origin_x": LEFT, "origin_y": TOP, "tile_size_px": 8}
    return Grid(**settings | {"n_rows": 2, "n_cols": 2, "width_px": 16, "height_px": 16} | values)


class FourTiles:
    """A tile store of two by two tiles: one valid throughout, one in part, one not looked at, one in part as well."""

    grid = make_grid()

    def read_valid_in(self, window: Window) -> np.ndarray[Any, Any]:
        valid = np.ones((2, 16, 16), np.bool_)
        valid[0, :, 12:] = False
        valid[1, 12:, :] = False
        return valid[:, window.top : window.top + window.height, window.left : window.left + window.width]


class NoPixels:
    """The same without pixels."""

    grid = make_grid()

    def read_valid_in(self, window: Window) -> np.ndarray[Any, Any]:
        raise FileNotFoundError(str(window))


def make_table(shapes: list[tuple[shapely.Geometry, float | None]], *, crs: pyproj.CRS = CRS) -> bytes:
    columns: dict[str, Any] = {name: [None] * len(shapes) for name in CHANGES_SCHEMA.names if name != "geometry"}
    columns |= {"mask_probability": [probability for _, probability in shapes]}
    columns |= dict.fromkeys(("area_m2", "tile_count"), [1] * len(shapes))
    columns |= dict.fromkeys(
        ("change_id", "kind", "geometry_source", "tile_ids", "model_id", "run_id"), ["x"] * len(shapes)
    )
    columns |= {"description": pa.array(["x"] * len(shapes))}
    geometry = np.array([shape for shape, _ in shapes], dtype=object)
    frame = make_frame(columns, schema=CHANGES_SCHEMA, geometry=geometry, crs=crs.to_wkt())
    return encode_geoparquet(frame, schema=CHANGES_SCHEMA, order=np.arange(len(shapes)))


def draw_box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """Give a box by columns and rows."""
    return shapely.box(LEFT + left, TOP - bottom, LEFT + right, TOP - top)


def draw(path: Path, *layers: Layer) -> np.ndarray[Any, Any]:
    bounds = (LEFT, TOP - 16, LEFT + 16, TOP)
    write_probability(
        path, [partial(lambda layer: layer, layer) for layer in layers], crs=CRS, resolution_m=1.0, bounds=bounds
    )
    with rasterio.open(path) as raster:
        assert (raster.nodata, raster.crs.to_epsg()) == (NODATA, 32614)
        assert raster.transform == Affine(1, 0, LEFT, 0, -1, TOP)
        values: np.ndarray[Any, Any] = raster.read(1)
    return values


def make_ground(store: Any) -> RunGround:
    is_seen = np.array([[True, True], [False, True]])
    is_full = np.array([[True, False], [True, False]])
    return RunGround(store=store, is_seen=is_seen, is_full=is_full)


def test_pixels_are_known_as_far_as_they_were_seen(tmp_path: Path) -> None:
    table = make_table(
        [
            (draw_box(1, 1, 5, 3), 0.5),
            (draw_box(3, 2, 6, 6), 0.9),
            (draw_box(8, 8, 10, 10), None),
            (draw_box(9, 9, 10, 10), 1.0),
        ]
    )

    values = draw(tmp_path / "x.tif", Layer(ground=make_ground(FourTiles()), open_changes=partial(io.BytesIO, table)))

    expected = np.full((16, 16), NODATA)
    expected[:8, :12] = 0
    expected[8:12, 8:12] = 0
    expected[1:3, 1:5] = 125
    expected[2:6, 3:6] = 225
    expected[8:10, 8:10] = NODATA
    expected[9, 9] = 250
    np.testing.assert_array_equal(values, expected)


def test_of_a_tile_seen_in_part_without_pixels_nothing_is_known(tmp_path: Path) -> None:
    ground = make_ground(NoPixels())

    values = draw(tmp_path / "x.tif", Layer(ground=ground, open_changes=partial(io.BytesIO, make_table([]))))

    assert (values[:8, :8] == 0).all()
    assert (values == NODATA).sum() == 16 * 16 - 64


def test_of_several_pairs_the_highest_stands_whatever_their_order_and_crs(tmp_path: Path) -> None:
    degrees = pyproj.CRS.from_epsg(4326)
    change = pyproj.Transformer.from_crs(CRS, degrees, always_xy=True).transform
    house = shapely.transform(draw_box(2, 2, 6, 6), change, interleaved=False)
    first = Layer(
        ground=make_ground(FourTiles()), open_changes=partial(io.BytesIO, make_table([(house, 0.6)], crs=degrees))
    )
    second = Layer(
        ground=DrawnGround(tiles=np.array([draw_box(0, 0, 8, 16)], object)),
        open_changes=partial(io.BytesIO, make_table([(draw_box(4, 4, 8, 8), 0.8)])),
    )

    values = draw(tmp_path / "x.tif", first, second)

    np.testing.assert_array_equal(values, draw(tmp_path / "y.tif", second, first))
    assert values[2, 2] == 150
    assert values[5, 5] == values[7, 7] == 200
    assert (values[8:, :8] == 0).all()
    assert (values[12:, 12:] == NODATA).all()


def test_what_is_no_table_of_changes_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"geometry": [b"x"]}), sink)
    layer = Layer(ground=make_ground(FourTiles()), open_changes=partial(io.BytesIO, sink.getvalue()))

    with pytest.raises(InputError, match="not one that this version writes"):
        draw(tmp_path / "x.tif", layer)


def test_a_raster_of_several_grids_has_the_pixels_of_the_first() -> None:
    here, there = make_grid(), make_grid(origin_x=LEFT + 100.25, origin_y=TOP + 7.0)

    assert unite_bounds([here]) == (LEFT, TOP - 16, LEFT + 16, TOP)
    assert unite_bounds([here, there]) == (LEFT, TOP - 16, LEFT + 117, TOP + 7)


def test_a_place_knows_the_pixels_of_a_grid_under_its_own() -> None:
    place = Place(crs=CRS, transform=Affine(1, 0, LEFT - 1, 0, -1, TOP - 2), shape=(3, 4))

    rows, cols = place.index_centres(make_grid())

    assert rows.tolist() == [2, 3, 4]
    assert cols.tolist() == [-1, 0, 1, 2]


def test_a_raster_that_nobody_would_see_the_end_of_is_refused(tmp_path: Path) -> None:
    bounds = (0.0, 0.0, 2.0**21, 2.0**20)

    with pytest.raises(InputError, match=r"2,097,152 x 1,048,576 pixels, in WGS 84 / UTM zone 14N"):
        write_probability(tmp_path / "x.tif", [], crs=CRS, resolution_m=1.0, bounds=bounds)
