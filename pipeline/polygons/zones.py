"""Zones as a person gives them: polygons with attributes in any vector file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from model.errors import InputError
from pipeline.polygons.files import has_shape, read_polygons, unwrap_date_line
from pipeline.tables.fields import describe_field, insert_fields
from pipeline.tables.schemas import ZONE_REVIEW_FIELDS, ZONES_SCHEMA

_ID_NAMES, _NAME_NAMES = ("zone_id", "id"), ("name", "zone_name")
# ^ Columns that ids and names are taken from where none is named, in any case.
_GIVEN_SUFFIX = "_given"
_TAKEN_NAMES = frozenset({*ZONES_SCHEMA.names, *(field.name for field in ZONE_REVIEW_FIELDS), "bbox", "fid"})
# ^ The last is the key that GeoPackage gives every row.
_MENDED = "its rings crossed or overlapped and were mended"
_WITHOUT_AREA = "no area is left of its rings"


@dataclass(frozen=True, kw_only=True, eq=False)
class Zones:
    """Polygons that findings are summed over, in the order of their file."""

    path: str
    """The file."""
    zone_ids: tuple[str, ...]
    """Unique ids."""
    names: tuple[str | None, ...]
    """Names, where there are any."""
    notes: tuple[str | None, ...]
    """What to know about each, such as that its rings were mended."""
    attributes: pa.Table
    """The file's own columns, as flat values, under names that zones.parquet has free."""
    geometry: gpd.GeoSeries
    """Valid polygons in the CRS of the file; empty where no area is left. In degrees they may run on beyond 180."""

    def __len__(self) -> int:
        return len(self.zone_ids)

    @property
    def schema(self) -> pa.Schema:
        """Columns of ``zones.parquet``: with the zones' own ones behind id, name and what was found out."""
        return insert_fields(ZONES_SCHEMA, self.attributes.schema, before="geometry")

    def compute_hash(self) -> str:
        """Hash all of the zones that a report shows, whatever file they come in."""
        digest = hashlib.sha256()
        columns = {"zone_id": self.zone_ids, "name": self.names, "crs": self.geometry.crs.to_json_dict()}
        columns |= {name: self.attributes[name].to_pylist() for name in self.attributes.column_names}
        digest.update(json.dumps(columns, sort_keys=True, default=str).encode())
        for shape in shapely.to_wkb(self.geometry.to_numpy(), byte_order=1):
            digest.update(shape)
        return digest.hexdigest()


def read_zones(path: str, *, id_column: str | None = None, name_column: str | None = None) -> Zones:
    """Read zones, mending what can be mended.

    Args:
        path: Polygons in any vector file, with a CRS.
        id_column: Column of their ids; left out, ``zone_id`` or ``id`` if it can serve, else they are numbered.
        name_column: Column of their names; left out, ``name`` or ``zone_name``, if there is one.

    Raises:
        InputError: the file cannot be read, has no CRS or other shapes than polygons, a column is not there, ids appear
            twice, or no zone has any area.
    """
    frame = read_polygons(path, key="zones").reset_index(drop=True)
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    geometry, notes = mend_rings(frame.geometry)
    if geometry.is_empty.all():
        raise InputError(
            f"zones {path}: {_WITHOUT_AREA.replace('its', 'the')} of any zone",
            expected="polygons with an area",
            remedy="draw them anew, or mend them in a GIS program",
        )
    ids = _read_ids(table, path=path, column=id_column)
    names = _read_names(table, path=path, column=name_column)
    return Zones(
        path=path,
        zone_ids=tuple(ids),
        names=tuple(names),
        notes=notes,
        attributes=_keep_attributes(table, ids=ids, names=names),
        geometry=geometry,
    )


def read_excluded(path: str) -> gpd.GeoSeries:
    """Read polygons in which nothing is to be told, mending what can be mended.

    Raises:
        InputError: the file cannot be read, has no CRS or other shapes than polygons.
    """
    return mend_rings(read_polygons(path, key="exclude").geometry)[0]


def mend_rings(geometry: gpd.GeoSeries) -> tuple[gpd.GeoSeries, tuple[str | None, ...]]:
    """Make polygons valid, and tell of each what was done, if anything was.

    Args:
        geometry: Polygons, or none.

    Returns:
        Valid polygons in two dimensions, empty where no area is left.
    """
    is_given = has_shape(geometry)
    shapes = geometry.where(is_given, shapely.Polygon()).force_2d()
    # ^ Before rings are looked at: a ring that jumps over the date line crosses itself as long as it is not unwrapped.
    unwrapped = unwrap_date_line(shapes)
    shapes = unwrapped.to_numpy()
    is_broken = ~shapely.is_valid(shapes)
    shapes[is_broken] = shapely.make_valid(shapes[is_broken], method="structure", keep_collapsed=False)
    shapes[shapely.area(shapes) == 0] = shapely.Polygon()
    is_empty = shapely.is_empty(shapes)
    notes = [
        _WITHOUT_AREA if empty and given else "it has no geometry" if empty else _MENDED if broken else None
        for empty, given, broken in zip(is_empty, is_given, is_broken, strict=True)
    ]
    return gpd.GeoSeries(shapes, crs=geometry.crs), tuple(notes)


def _read_ids(table: pd.DataFrame, *, path: str, column: str | None) -> list[str]:
    if column is not None:
        ids = _read_texts(table, path=path, column=column, key="zones_id_column")
        if fault := _find_fault(ids):
            raise InputError(
                f"zones {path}: column {column!r} {fault}",
                expected="an id of its own for every zone",
                remedy="correct the column, or name another one with zones_id_column",
            )
        return [text for text in ids if text is not None]
    for found in _find_columns(table, names=_ID_NAMES):
        ids = [_write_text(value) for value in table[found]]
        if not _find_fault(ids):
            return [text for text in ids if text is not None]
    return [str(number) for number in range(1, len(table) + 1)]


def _find_fault(ids: Sequence[str | None]) -> str | None:
    if None in ids:
        return f"is empty in row {ids.index(None) + 1}"
    text, n_times = Counter(ids).most_common(1)[0]
    return f"holds {text!r} {n_times} times" if n_times > 1 else None


def _read_names(table: pd.DataFrame, *, path: str, column: str | None) -> list[str | None]:
    if column is not None:
        return _read_texts(table, path=path, column=column, key="zones_name_column")
    found = _find_columns(table, names=_NAME_NAMES)
    return [_write_text(value) for value in table[found[0]]] if found else [None] * len(table)


def _find_columns(table: pd.DataFrame, *, names: Sequence[str]) -> list[str]:
    by_name = {str(column).lower(): column for column in reversed(table.columns)}
    return [by_name[name] for name in names if name in by_name]


def _read_texts(table: pd.DataFrame, *, path: str, column: str, key: str) -> list[str | None]:
    if column not in table.columns:
        raise InputError(
            f"zones {path} has no column {column!r}",
            expected=f"one of {', '.join(map(repr, table.columns)) or 'no columns at all'}",
            remedy=f"correct {key}",
        )
    return [_write_text(value) for value in table[column]]


def _write_text(value: Any) -> str | None:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    # Whole numbers become floats as soon as one row of the column has none.
    return str(value) or None


def _keep_attributes(table: pd.DataFrame, *, ids: Sequence[str], names: Sequence[str | None]) -> pa.Table:
    """Give the file's columns as flat values; those that only repeat ids or names are left out."""
    told = {"zone_id": pa.array(ids, pa.string()), "name": pa.array(names, pa.string())}
    fields, columns, taken = [], [], set(_TAKEN_NAMES)
    for column in table.columns:
        values = _flatten(table[column])
        name = str(column)
        if name in told and values.equals(told[name]):
            continue
        while name.lower() in taken:
            name += _GIVEN_SUFFIX
        taken.add(name.lower())
        fields.append(describe_field(name, values.type, f"Column {column} of the zones' file."))
        columns.append(values)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _flatten(values: pd.Series[Any]) -> pa.Array:
    """Give a column as texts, numbers, truths or times; what is none of these becomes text or JSON."""
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return _write_texts(values)
    kind = array.type
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array.cast(pa.string())
    if pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return array
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return array.cast(pa.int64())
    if pa.types.is_floating(kind):
        return array.cast(pa.float64())
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us", kind.tz), safe=False)
    return _write_texts(values)


def _write_texts(values: pd.Series[Any]) -> pa.Array:
    def write(value: Any) -> str | None:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return None
        if isinstance(value, str | bytes | dt.date | dt.time) or pd.api.types.is_scalar(value):
            return str(value)
        return json.dumps(value, ensure_ascii=False, default=_write_plain)

    return pa.array([write(value) for value in values], pa.string())


def _write_plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
