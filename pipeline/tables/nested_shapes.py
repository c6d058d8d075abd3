"""Shapes within shapes: GEOS reads each by calling itself, and some hundred kilobytes of them end the process.

So shapes of strangers are walked through before GEOS sees them. The forms are those of OGC's simple features (WKB, also
in PostGIS's dialect, and WKT).
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from model.errors import InputError

if TYPE_CHECKING:
    import geopandas as gpd

MAX_DEPTH = 16
"""Shapes that may lie within each other; a MultiPolygon has two, and its rings in WKT two more."""
_SMALL_BYTES = 4096
# ^ A shape within another takes 9 bytes: what is smaller can be read, however it is made.

_HAS_Z, _HAS_M, _HAS_SRID = 1 << 31, 1 << 30, 1 << 29
_POINT, _LINES, _POLYGONS = 1, frozenset({2, 8}), frozenset({3, 17})
_COLLECTIONS = frozenset({4, 5, 6, 7, 9, 10, 11, 12, 15, 16})
# ^ Those of curves and surfaces among them.


def is_nested(wkb: bytes) -> bool:
    """Tell whether shapes lie deeper within each other than `MAX_DEPTH`; of what is damaged, as far as it is sound."""
    if len(wkb) <= _SMALL_BYTES:
        return False
    try:
        return _walk(wkb)
    except (struct.error, IndexError):
        return False


def _walk(wkb: bytes) -> bool:
    position, left = 0, [1]
    # ^ How many shapes are still to come, from the outermost to the innermost.
    while left:
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        order = "<" if wkb[position] == 1 else ">"
        (code,) = struct.unpack_from(f"{order}I", wkb, position + 1)
        position += 9 if code & _HAS_SRID else 5
        # As GEOS takes it: what else stands in the upper half means nothing.
        iso, kind = divmod(code & 0xFFFF, 1000)
        n_axes = 2 + bool(code & _HAS_Z or iso in (1, 3)) + bool(code & _HAS_M or iso in (2, 3))
        if kind == _POINT:
            position += 8 * n_axes
            continue
        (n_parts,) = struct.unpack_from(f"{order}I", wkb, position)
        position += 4
        if kind in _LINES:
            position += 8 * n_axes * n_parts
        elif kind in _POLYGONS:
            for _ in range(n_parts):
                (n_points,) = struct.unpack_from(f"{order}I", wkb, position)
                position += 4 + 8 * n_axes * n_points
        elif kind in _COLLECTIONS:
            left.append(n_parts)
            if len(left) > MAX_DEPTH:
                return True
        else:
            # What is of no kind ends the reading of others as well.
            return False
    return False


def read_wkt(wkt: str) -> shapely.Geometry:
    """Read a shape in WKT.

    Raises:
        ValueError: it is none, or its brackets lie deeper within each other than `MAX_DEPTH`.
    """
    depth = 0
    for bracket in re.findall(r"[()]", wkt):
        depth += 1 if bracket == "(" else -1
        if depth > MAX_DEPTH:
            raise ValueError("a shape that lies in too many others")
    try:
        return shapely.from_wkt(wkt)
    except shapely.errors.GEOSException as problem:
        raise ValueError(f"no shape in WKT ({problem})") from None


def read_frame(data: bytes, *, columns: Sequence[str] | None = None) -> gpd.GeoDataFrame:
    """Read a GeoParquet table, of which others may have made the shapes.

    Args:
        data: The file.
        columns: Which to read; None: all.

    Raises:
        InputError: shapes lie too deep within each other.
        ValueError: it is no GeoParquet.
        pyarrow.ArrowException: it is damaged.
    """
    import geopandas as gpd

    source = pa.BufferReader(data)
    binary = [field.name for field in pq.read_schema(source) if _is_binary(field.type)]
    source.seek(0)
    refuse_nested(pq.read_table(source, columns=binary))
    return gpd.read_parquet(io.BytesIO(data), columns=columns)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def refuse_nested(table: pa.Table | pa.RecordBatch) -> None:
    """Refuse rows of a table that others may have made where shapes lie too deep within each other.

    Raises:
        InputError: they do.
    """
    if has_nested(table):
        raise InputError(
            "a shape in a table lies in too many others",
            expected="polygons, as this version writes them",
            remedy="make the report anew",
        )


def has_nested(table: pa.Table | pa.RecordBatch) -> bool:
    """Tell whether any value of the binary columns of a table is a shape that `is_nested`."""
    for column in table.columns:
        if not _is_binary(column.type):
            continue
        # Lengths first: there are few large shapes, and values are copied one by one.
        large = column.filter(pc.greater(pc.binary_length(column), _SMALL_BYTES))
        if any(is_nested(value.as_py()) for value in large):
            return True
    return False
