"""Shapes that lie too deep within each other for GEOS are found before it reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from model.errors import InputError
from pipeline.polygons.files import read_polygons
from pipeline.tables.nested_shapes import MAX_DEPTH, has_nested, is_nested, read_frame, read_wkt
from pipeline.tables.vector_formats import VECTOR_FORMATS, write_layer


def nest(depth: int, *, order: str = "<", innermost: bytes = b"") -> bytes:
    """Put a point, or another shape, into collections of one part."""
    head = struct.pack(f"{order}BII", order == "<", 7, 1)
    return head * depth + (innermost or shapely.to_wkb(shapely.Point(0, 0)))


def disk(*, holes: int = 0, has_z: bool = False) -> shapely.Polygon:
    rings = [shapely.Point(3 * hole, 0).buffer(1, quad_segs=32).exterior for hole in range(holes)]
    whole = shapely.Polygon(shapely.Point(0, 0).buffer(1000, quad_segs=256).exterior, rings)
    return shapely.force_3d(whole) if has_z else whole


def test_collections_are_found_under_any_code_that_geos_knows_them_by() -> None:
    deep = struct.pack("<BII", 1, 0x0001_0007, 1) * 20_000 + shapely.to_wkb(shapely.Point(0, 0))
    assert is_nested(deep)
    # GEOS takes the code for a collection.
    assert shapely.from_wkb(deep[-21 - 9 :]).geom_type == "GeometryCollection"


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_collections_are_found(order: str) -> None:
    assert is_nested(nest(20_000, order=order))
    assert not is_nested(nest(MAX_DEPTH - 1, order=order, innermost=shapely.to_wkb(disk())))


@pytest.mark.parametrize("flavor", ["iso", "extended"])
@pytest.mark.parametrize("has_z", [False, True])
@pytest.mark.parametrize("srid", [0, 4326])
def test_a_deep_part_behind_others_is_found(flavor: str, has_z: bool, srid: int) -> None:
    surface = shapely.MultiPolygon([disk(has_z=has_z)])
    shapes = [disk(holes=3, has_z=has_z), surface, disk().exterior, shapely.Point(1, 2)]
    include_srid = bool(srid) and flavor == "extended"
    plain = [
        shapely.to_wkb(shapely.set_srid(shape, srid), include_srid=include_srid, flavor=flavor) for shape in shapes
    ]
    head = struct.pack("<BII", 1, 7, len(plain) + 1)
    assert is_nested(head + b"".join(plain) + nest(1_000))
    whole = head + b"".join(plain) + nest(1)
    assert not is_nested(whole)
    assert shapely.get_num_geometries(shapely.from_wkb(whole)) == len(plain) + 1


def test_what_is_cut_off_is_left_to_those_who_read_it() -> None:
    assert not is_nested(shapely.to_wkb(disk())[:-5])
    assert not is_nested(b"\1" * 5000)


def test_tables_with_such_shapes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "zones.parquet"
    gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[disk(), disk(holes=2)], crs="EPSG:3857").to_parquet(path)
    table = pq.read_table(path)
    assert not has_nested(table)
    assert len(read_frame(path.read_bytes())) == 2
    deep = pa.array([shapely.to_wkb(disk()), nest(50_000)], table.schema.field("geometry").type)
    table = table.set_column(table.schema.get_field_index("geometry"), table.schema.field("geometry"), deep)
    pq.write_table(table, path)
    assert has_nested(table)
    with pytest.raises(ValueError, match="too many others"):
        read_frame(path.read_bytes())
    with pytest.raises(InputError, match="shapes within shapes"):
        read_polygons(str(path), key="zones")
    for name, kind in VECTOR_FORMATS.items():
        with path.open("rb") as source, pytest.raises(InputError, match="too many others"):
            write_layer(source, tmp_path / f"{name}{kind.suffix}", layer="changes", kind=kind)


def test_wkt_is_read_as_deep_as_polygons_go() -> None:
    assert shapely.equals_exact(read_wkt(disk(holes=2).wkt), disk(holes=2), 1e-9)
    with pytest.raises(ValueError, match="too many others"):
        read_wkt("GEOMETRYCOLLECTION(" * 50_000 + "POINT(0 0)" + ")" * 50_000)
    with pytest.raises(ValueError, match="no shape in WKT"):
        read_wkt("POLYGON((0 0, 1")
