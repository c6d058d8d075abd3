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

ROWS_PER_GROUP = 100_000
_HILBERT_LEVEL = 16
_BBOX_FIELDS = ("xmin", "ymin", "xmax", "ymax")
_PANDAS_TYPES = {pa.string(): "str", pa.int32(): "Int32", pa.bool_(): "boolean", pa.float32(): "Float32"}


def describe_field(name: str, kind: pa.DataType, description: str, *, is_nullable: bool = True) -> pa.Field:
    """Make a column of a schema, with its description in the metadata of the file."""
    return pa.field(name, kind, nullable=is_nullable, metadata={"description": description})


def make_frame(
    columns: Mapping[str, Sequence[Any]], *, schema: pa.Schema, geometry: npt.NDArray[np.object_], crs: str
) -> gpd.GeoDataFrame:
    """Build a GeoDataFrame with the columns of a schema, in its order.

    Args:
        columns: Values of every column but the geometry; None where there is none.
        schema: The columns. Integers, booleans and 32-bit floats become pandas' nullable types.
        geometry: shapely geometries.
        crs: CRS of the geometries.
    """
    arrays = {
        column.name: pa.array(columns[column.name], type=column.type, from_pandas=True)
        for column in schema
        if column.name != "geometry"
    }
    series = {name: array.to_pandas(types_mapper=_choose_pandas_type) for name, array in arrays.items()}
    return gpd.GeoDataFrame(series, geometry=geometry, crs=crs)[schema.names]


def _choose_pandas_type(kind: pa.DataType) -> Any:
    name = _PANDAS_TYPES.get(kind)
    return None if name is None else pd.api.types.pandas_dtype(name)


def sort_along_hilbert(frame: gpd.GeoDataFrame, *, key: str) -> gpd.GeoDataFrame:
    """Put neighbours next to each other, so that a reader of one area skips most row groups.

    Args:
        frame: Rows in any order.
        key: Column of unique values that decides between rows at one place of the curve.
    """
    if frame.empty:
        return frame
    distance = frame.hilbert_distance(level=_HILBERT_LEVEL).to_numpy()
    order = np.lexsort((frame[key].to_numpy(dtype=object).astype(str), distance))
    return frame.iloc[order].reset_index(drop=True)


def encode_geoparquet(frame: gpd.GeoDataFrame, *, schema: pa.Schema) -> bytes:
    """Give the GeoParquet 1.1 file of a table.

    Args:
        frame: The rows, in the order they are written; the geometry column is ``geometry``.
        schema: The columns, with their descriptions; ``geometry`` is binary.

    Raises:
        pyarrow.ArrowInvalid: a column does not fit its type.
    """
    geometry = shapely.orient_polygons(frame.geometry.to_numpy())
    plain = pd.DataFrame({name: frame[name] for name in schema.names if name != "geometry"})
    plain["geometry"] = shapely.to_wkb(geometry, byte_order=1)
    table = pa.Table.from_pandas(plain, schema=schema, preserve_index=False)
    # ^ This also keeps pandas' types in the metadata, so that Int32 is read back as Int32 and not as float64.
    table = table.append_column(_describe_bbox(), _make_bbox(geometry))
    geo = _describe_geometry(geometry, crs=pyproj.CRS.from_user_input(frame.crs))
    metadata = {**table.schema.metadata, b"geo": json.dumps(geo, sort_keys=True).encode()}
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        # An empty row group would lack the statistics that readers skip by.
        if table.num_rows:
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    return bytes(sink.getvalue())


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
        "geometry_types": sorted({geom.geom_type for geom in geometry}),
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
