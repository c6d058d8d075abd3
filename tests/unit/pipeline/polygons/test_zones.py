"""Files of zones as people have them: other CRSs, broken rings, odd columns, and files that cannot be used."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely

from model.errors import InputError
from pipeline.grid.date_line import wrap_shape
from pipeline.polygons.files import unwrap_date_line
from pipeline.polygons.zones import Zones, read_zones

SQUARE = shapely.box(0, 0, 1, 1)
BOW_TIE = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
SPIKE = shapely.Polygon([(0, 0), (1, 1), (2, 2)])


def write(path: Path, shapes: list[Any], *, crs: str | None = "EPSG:4326", **columns: list[Any]) -> str:
    frame = gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return str(path)


def list_columns(zones: Zones) -> dict[str, list[Any]]:
    return zones.attributes.to_pydict()


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"])
def test_zones_come_from_any_vector_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"zones{suffix}", [SQUARE], id=["a"], name=["North"], people=[7])

    zones = read_zones(path)

    assert (zones.zone_ids, zones.names, zones.notes) == (("a",), ("North",), (None,))
    assert list_columns(zones)["people"] == [7]
    assert zones.geometry.iloc[0].equals(SQUARE)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"zone_id": ["x", "y"], "id": ["a", "b"]}, ("x", "y")),
        ({"ID": ["a", "b"]}, ("a", "b")),
        ({"id": [4.0, 5.0]}, ("4", "5")),
        ({"id": ["a", "a"]}, ("1", "2")),
        ({"id": ["a", None]}, ("1", "2")),
        ({"code": ["a", "b"]}, ("1", "2")),
    ],
    ids=["zone_id first", "any case", "whole numbers", "twice", "empty", "none"],
)
def test_ids_come_from_a_column_that_can_serve(
    tmp_path: Path, columns: dict[str, list[Any]], expected: tuple[str, ...]
) -> None:
    path = write(tmp_path / "zones.parquet", [SQUARE, SQUARE], **columns)

    assert read_zones(path).zone_ids == expected


def test_named_columns_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "zones.geojson", [SQUARE], id=["a"], code=["c1"], label=["North"])

    zones = read_zones(path, id_column="code", name_column="label")

    assert (zones.zone_ids, zones.names) == (("c1",), ("North",))


def test_attributes_are_kept_as_flat_values_under_free_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "zones.parquet",
        [SQUARE, SQUARE],
        id=["a", "b"],
        status=["draft", None],
        Area_M2=[1.5, None],
        people=[2**60, 1],
        built=[True, False],
        since=[dt.date(2020, 1, 2), None],
        tags=[["x", "y"], []],
    )

    columns = list_columns(read_zones(path))

    assert columns == {
        "id": ["a", "b"],
        "status_given": ["draft", None],
        "Area_M2_given": [1.5, None],
        "people": [2**60, 1],
        "built": [True, False],
        "since": [dt.date(2020, 1, 2), None],
        "tags": ['["x", "y"]', "[]"],
    }


def test_broken_rings_are_mended_and_told_of(tmp_path: Path) -> None:
    shapes = [SQUARE, BOW_TIE, SPIKE, shapely.Polygon(), None]
    path = write(tmp_path / "zones.parquet", shapes, id=["fine", "bow", "spike", "empty", "none"])

    zones = read_zones(path)

    assert zones.geometry.is_valid.all()
    assert list(shapely.area(zones.geometry.to_numpy())) == [1, 2, 0, 0, 0]
    assert zones.notes == (
        None,
        "its rings crossed or overlapped and were mended",
        "no area is left of its rings",
        "it has no geometry",
        "it has no geometry",
    )


def test_a_zone_over_the_date_line_is_as_small_as_it_was_meant() -> None:
    drawn = shapely.Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)], [[(179.5, 0.2), (-179.5, 0.2), (-179.5, 0.4)]])
    world, split = (
        shapely.box(-180, -90, 180, -60),
        shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)]),
    )
    shapes = gpd.GeoSeries([drawn, world, split], crs="EPSG:4326")

    unwrapped = unwrap_date_line(shapes)

    assert unwrapped.iloc[0].equals(
        shapely.Polygon([(179, 0), (181, 0), (181, 1), (179, 1)], [[(179.5, 0.2), (180.5, 0.2), (180.5, 0.4)]])
    )
    assert unwrapped.iloc[1].equals(world)
    assert unwrapped.iloc[2].equals(split)
    assert wrap_shape(unwrapped.iloc[0]).area == pytest.approx(unwrapped.iloc[0].area)
    assert wrap_shape(unwrapped.iloc[0]).bounds == (-180, 0, 180, 1)


def test_the_hash_tells_other_shapes_and_other_attributes_apart(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.geojson", [SQUARE], id=["a"], people=[1]),
        write(tmp_path / "same.gpkg", [SQUARE], id=["a"], people=[1]),
        write(tmp_path / "b.geojson", [shapely.box(0, 0, 1, 2)], id=["a"], people=[1]),
        write(tmp_path / "c.geojson", [SQUARE], id=["a"], people=[2]),
    ]

    first, same, other_shape, other_value = (read_zones(path).compute_hash() for path in paths)

    assert first == same
    assert len({first, other_shape, other_value}) == 3


@pytest.mark.parametrize(
    ("shapes", "crs", "columns", "found"),
    [
        ([shapely.Point(0, 0)], "EPSG:4326", {}, "holds Point"),
        ([SQUARE, shapely.LineString([(0, 0), (1, 1)])], "EPSG:4326", {}, "holds LineString"),
        ([SQUARE], None, {}, "has no CRS"),
        ([None], "EPSG:4326", {}, "holds no geometry"),
        ([SPIKE], "EPSG:4326", {}, "no area is left of the rings of any zone"),
    ],
    ids=["points", "lines", "no CRS", "no geometry", "no area"],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, shapes: list[Any], crs: str | None, columns: dict[str, list[Any]], found: str
) -> None:
    path = write(tmp_path / "zones.parquet", shapes, crs=crs, **columns)

    with pytest.raises(InputError, match=found) as raised:
        read_zones(path)

    assert path in str(raised.value)


@pytest.mark.parametrize(
    ("ids", "column", "found"),
    [
        (["a", "a"], "code", "holds 'a' 2 times"),
        (["a", None], "code", "is empty in row 2"),
        (["a", "b"], "cod", "no column 'cod'"),
    ],
    ids=["twice", "empty", "typo"],
)
def test_a_named_column_has_to_serve(tmp_path: Path, ids: list[Any], column: str, found: str) -> None:
    path = write(tmp_path / "zones.parquet", [SQUARE, SQUARE], code=ids)

    with pytest.raises(InputError, match=found):
        read_zones(path, id_column=column)


def test_an_empty_file_a_missing_one_and_one_of_many_layers_are_refused(tmp_path: Path) -> None:
    gpd.GeoDataFrame({"id": []}, geometry=[], crs="EPSG:4326").to_parquet(tmp_path / "empty.parquet")
    for layer in ("districts", "parcels"):
        gpd.GeoDataFrame(geometry=[SQUARE], crs="EPSG:4326").to_file(tmp_path / "two.gpkg", layer=layer)

    with pytest.raises(InputError, match="holds no geometry"):
        read_zones(str(tmp_path / "empty.parquet"))
    with pytest.raises(InputError, match="cannot be read"):
        read_zones(str(tmp_path / "gone.gpkg"))
    with pytest.raises(InputError, match=r"2 layers \(districts, parcels\)"):
        read_zones(str(tmp_path / "two.gpkg"))
