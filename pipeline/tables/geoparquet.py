"""Tables with geometry as GeoParquet 1.1: one schema per table, and equal tables give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

from pipeline.tables.fields import DESCRIPTIONS_KEY, describe_field, read_description

ROWS_PER_GROUP = 100_000
_HILBERT_LEVEL = 16
_BBOX_FIELDS = ("xmin", "ymin", "xmax", "ymax")
_GEOMETRY_TYPES = {3: "Polygon", 6: "MultiPolygon"}
_PANDAS_TYPES = {
    pa.string(): "str",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.bool_(): "boolean",
    pa.float32(): "Float32",
}


def make_frame(
    columns: Mapping[str, Sequence[Any] | pa.Array], *, schema: pa.Schema, geometry: npt.NDArray[np.object_], crs: str
) -> gpd.GeoDataFrame:
    """Build a GeoDataFrame with the columns of a schema, in its order.

    Args:
        columns: Values of every column but the geometry, as arrays of Arrow or lists; None where there is none.
        schema: The columns. Integers, booleans and 32-bit floats become pandas' nullable types.
        geometry: shapely geometries.
        crs: CRS of the geometries.
    """
    arrays = {
        column.name: _make_array(columns[column.name], data_type=column.type)
        for column in schema
        if column.name != "geometry"
    }
    series = {name: array.to_pandas(types_mapper=_choose_pandas_type) for name, array in arrays.items()}
    return gpd.GeoDataFrame(series, geometry=geometry, crs=crs)[schema.names]


def _make_array(values: Sequence[Any] | pa.Array, *, data_type: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(data_type)
    return pa.array(values, type=data_type, from_pandas=True)


def _choose_pandas_type(kind: pa.DataType) -> Any:
    name = _PANDAS_TYPES.get(kind)
    return None if name is None else pd.api.types.pandas_dtype(name)


def order_along_hilbert(frame: gpd.GeoDataFrame, *, key: str) -> npt.NDArray[np.int64]:
    """Put neighbours next to each other, so that a reader of one area skips most row groups.

    Args:
        frame: Rows in any order; those with an empty geometry come last.
        key: Column of unique values that decides between rows at one place of the curve.

    Returns:
        Positions of the rows in the order of the curve.
    """
    if frame.empty:
        return np.empty(0, dtype=np.int64)
    distance = np.full(len(frame), np.iinfo(np.int64).max)
    is_there = ~frame.geometry.is_empty.to_numpy()
    if is_there.any():
        distance[is_there] = frame.geometry[is_there].hilbert_distance(level=_HILBERT_LEVEL).to_numpy()
    order: npt.NDArray[np.int64] = np.lexsort((frame[key].to_numpy(dtype=object).astype(str), distance))
    return order


def encode_geoparquet(frame: gpd.GeoDataFrame, *, schema: pa.Schema, order: npt.NDArray[np.int64]) -> bytes:
    """Give the GeoParquet 1.1 file of a table.

    Row groups are made one after the other, so that beside the frame no more than one of them is in memory.

    Args:
        frame: The rows; the geometry column is ``geometry``.
        schema: The columns, with their descriptions; ``geometry`` is binary.
        order: Positions of the rows in the order they are written, as `order_along_hilbert` gives them.

    Raises:
        pyarrow.ArrowInvalid: a column does not fit its type.
    """
    geo = _describe_geometry(frame.geometry.to_numpy(), crs=pyproj.CRS.from_user_input(frame.crs))
    sink = pa.BufferOutputStream()
    empty = _make_group(frame, order[:0], schema=schema)
    metadata = {
        **empty.schema.metadata,
        b"geo": json.dumps(geo, sort_keys=True).encode(),
        **_describe_table(schema, columns=empty.schema),
    }
    with pq.ParquetWriter(sink, empty.schema.with_metadata(metadata), compression="zstd") as writer:
        # None for a table without rows: an empty row group would lack the statistics that readers skip by.
        for start in range(0, len(order), ROWS_PER_GROUP):
            group = _make_group(frame, order[start : start + ROWS_PER_GROUP], schema=schema)
            writer.write_table(group.replace_schema_metadata(metadata), row_group_size=ROWS_PER_GROUP)
    return bytes(sink.getvalue())


def encode_table(frame: pd.DataFrame, *, schema: pa.Schema) -> bytes:
    """Give the Parquet file of a table without geometry, with the descriptions of its columns.

    Args:
        frame: The rows.
        schema: The columns, with their descriptions.

    Raises:
        pyarrow.ArrowInvalid: a column does not fit its type.
    """
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(_describe_table(schema, columns=schema)), sink, compression="zstd")
    return bytes(sink.getvalue())


def _describe_table(schema: pa.Schema, *, columns: pa.Schema) -> dict[bytes, bytes]:
    """Give what a file tells of its table: kind and version, as its schema has them, and what the columns mean."""
    descriptions = {field.name: read_description(field) for field in columns}
    told = {DESCRIPTIONS_KEY.encode(): json.dumps(descriptions, ensure_ascii=False).encode()}
    return {**told, **(schema.metadata or {})}


def _make_group(frame: gpd.GeoDataFrame, order: npt.NDArray[np.int64], *, schema: pa.Schema) -> pa.Table:
    rows = frame.iloc[order]
    geometry = shapely.orient_polygons(rows.geometry.to_numpy())
    plain = pd.DataFrame({name: rows[name] for name in schema.names if name != "geometry"})
    plain["geometry"] = shapely.to_wkb(geometry, byte_order=1)
    table = pa.Table.from_pandas(plain, schema=schema, preserve_index=False)
    # ^ This also keeps pandas' types in the metadata, so that Int32 is read back as Int32 and not as float64.
    return table.append_column(_describe_bbox(), _make_bbox(geometry))


def _describe_bbox() -> pa.Field:
    struct = pa.struct([pa.field(name, pa.float64(), nullable=False) for name in _BBOX_FIELDS])
    return describe_field("bbox", struct, "Bounds of the geometry, for readers that skip.", is_nullable=False)


def _make_bbox(geometry: npt.NDArray[np.object_]) -> pa.StructArray:
    bounds = shapely.bounds(geometry).reshape(-1, 4)
    return pa.StructArray.from_arrays(
        [pa.array(np.ascontiguousarray(column)) for column in bounds.T], fields=list(_describe_bbox().type)
    )


def _describe_geometry(geometry: npt.NDArray[np.object_], *, crs: pyproj.CRS) -> dict[str, Any]:
    """Give the ``geo`` metadata of https://geoparquet.org/releases/v1.1.0/."""
    projjson = crs.to_json_dict()
    _remove_member_ids(projjson)
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(_GEOMETRY_TYPES[kind] for kind in np.unique(shapely.get_type_id(geometry))),
        "crs": projjson,
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {name: ["bbox", name] for name in _BBOX_FIELDS}},
    }
    if len(geometry):
        column["bbox"] = [float(value) for value in shapely.total_bounds(geometry)]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _remove_member_ids(projjson: dict[str, Any]) -> None:
    # Older PROJ fails on ids of ensemble members newer than itself; geopandas and GDAL leave them out too.
    for key, value in projjson.items():
        if key == "members":
            for member in value:
                member.pop("id", None)
        elif isinstance(value, dict):
            _remove_member_ids(value)
