"""A report's tables in the formats of GIS programs and spreadsheets, written by GDAL and pyarrow.

Tables are streamed from GeoParquet, some rows at a time, so that memory does not grow with the region. What the model
wrote is other people's text: where a program would take it for a formula or for markup, it is made harmless.
"""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyproj
import shapely

from model.safe_text import clean_line, clean_text, disarm_formula
from pipeline.tables.kml import append_kml, begin_kml
from pipeline.tables.nested_shapes import refuse_nested

_ROWS_AT_ONCE = 50_000
_CELL_LENGTH = 32_767
# ^ Characters that a cell of a spreadsheet holds; Excel puts what is longer into the next row.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# ^ Without it, Excel does not take a CSV file for UTF-8.


def disarm_cell(text: str) -> str:
    """Make a text harmless in a cell of a spreadsheet, and as short as it has to be there."""
    return disarm_formula(text)[:_CELL_LENGTH]


def clean_column(texts: pa.Array, *, clean: Callable[[str], str]) -> pa.Array:
    """Make the texts of a column harmless; null stays null."""
    return pa.array([None if text is None else clean(text) for text in texts.to_pylist()], pa.string())


KML = "KML"
StylePlace = Literal["table", "beside"]


@dataclass(frozen=True, kw_only=True)
class VectorFormat:
    """A format that a table can be written in."""

    suffix: str
    """End of a file's name."""
    driver: str | None
    """Name of GDAL's driver; None: CSV, by pyarrow."""
    has_layers: bool = False
    """Whether one file holds all tables; else each table has its own."""
    clean: Callable[[str], str] = clean_text
    """What makes a text harmless in it."""
    styles: StylePlace | None = None
    """Where QGIS finds the style of a layer: in a table of the file, or in a file of its own beside it."""
    layer_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the driver for a layer."""
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the driver for a file."""
    empty_options: Mapping[str, Any] = field(default_factory=dict)
    """Those on top for a file without a row."""
    own_names: frozenset[str] = frozenset()
    """Columns, in small letters, that the format has a meaning of its own for; others of these names get another."""


VECTOR_FORMATS: Mapping[str, VectorFormat] = {
    "gpkg": VectorFormat(
        suffix=".gpkg",
        driver="GPKG",
        has_layers=True,
        styles="table",
        layer_options={"GEOMETRY_NAME": "geometry"},
        own_names=frozenset({"fid"}),
    ),
    # Longitude and latitude, cut at the date line, as RFC 7946 has it.
    "geojson": VectorFormat(suffix=".geojson", driver="GeoJSON", layer_options={"RFC7946": "YES"}),
    "flatgeobuf": VectorFormat(suffix=".fgb", driver="FlatGeobuf", styles="beside"),
    "kml": VectorFormat(suffix=".kml", driver=KML, has_layers=True),
    # Vector tiles for maps on the web. At zoom 14 a tile has steps of 0.6 m, about a pixel of the shipped model's home.
    "pmtiles": VectorFormat(
        suffix=".pmtiles",
        driver="PMTiles",
        dataset_options={"MINZOOM": "0", "MAXZOOM": "14"},
        empty_options={"BOUNDS": "-180,-85,180,85"},
    ),
    "csv": VectorFormat(suffix=".csv", driver=None, clean=disarm_cell),
}
"""By the name that people call them by."""


def write_layer(source: BinaryIO | pa.BufferReader, path: Path, *, layer: str, kind: VectorFormat) -> None:
    """Write a GeoParquet table in another format; geometries are MultiPolygons, so that every report has one type.

    Args:
        source: The GeoParquet file.
        path: Where to write; a file that is there gets a further layer if the format has layers.
        layer: Name of the table.
        kind: The format.

    Raises:
        InputError: shapes lie too deep within each other.
    """
    with pq.ParquetFile(source) as file:
        if kind.driver is None:
            _write_csv(file, path, kind=kind)
            return
        # Before GDAL asks for rows: it would have another word for what is raised then.
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=["geometry"]):
            refuse_nested(batch)
        crs = _read_crs(file)
        names = _rename(
            [column.name for column in file.schema_arrow if column.name != "bbox"], own_names=kind.own_names
        )
        schema = pa.schema([_describe(file.schema_arrow.field(name), name=names[name]) for name in names])
        if kind.driver == KML:
            if not path.exists():
                begin_kml(path)
            batches = _turn_to_degrees(_read_batches(file, schema=schema, kind=kind), crs=crs)
            append_kml(path, layer=layer, batches=batches, schema=schema)
            return
        reader = pa.RecordBatchReader.from_batches(schema, _read_batches(file, schema=schema, kind=kind))
        _write_by_gdal(reader, path, layer=layer, kind=kind, crs=crs, is_empty=not file.metadata.num_rows)


def _write_by_gdal(
    reader: pa.RecordBatchReader, path: Path, *, layer: str, kind: VectorFormat, crs: pyproj.CRS, is_empty: bool
) -> None:
    # Not before it is needed: it brings a GDAL of its own, of 30 MB.
    import pyogrio

    authority = crs.to_authority()
    with warnings.catch_warnings():
        # GDAL takes BOUNDS, and does not list it.
        warnings.filterwarnings("ignore", "driver PMTiles does not support creation option", RuntimeWarning)
        pyogrio.write_arrow(
            reader,
            path,
            layer=layer,
            driver=kind.driver,
            geometry_name="geometry",
            geometry_type="MultiPolygon",
            crs=":".join(authority) if authority else crs.to_wkt(),
            append=kind.has_layers and path.exists(),
            dataset_options={**kind.dataset_options, **(kind.empty_options if is_empty else {})},
            layer_options=dict(kind.layer_options),
        )


_STYLES_TABLE = """CREATE TABLE IF NOT EXISTS layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT, f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT,
    f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
    owner TEXT, ui TEXT, update_time DATETIME)"""
# ^ As QGIS makes it.


def write_style(path: Path, qml: str, *, layer: str) -> None:
    """Put the style of a layer into a GeoPackage, where QGIS looks for it."""
    values = ("", "", layer, "geometry", layer, qml, "", True, "DeltaVLM", "", None)
    names = "f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, "
    names += "useAsDefault, description, owner, ui"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(_STYLES_TABLE)
        database.execute(f"INSERT INTO layer_styles ({names}) VALUES ({', '.join('?' * len(values))})", values)


def _rename(names: Sequence[str], *, own_names: frozenset[str]) -> dict[str, str]:
    """Give every column a name that the format has free; most keep theirs."""
    taken = own_names | {name.casefold() for name in names}
    renamed = {}
    for name in names:
        free = name
        while free.casefold() in own_names or (free != name and free.casefold() in taken):
            free += "_"
        renamed[name] = free
    return renamed


def _describe(column: pa.Field, *, name: str) -> pa.Field:
    # Of the metadata GDAL would take some for its own.
    return pa.field(clean_line(name), column.type)


def _read_batches(file: pq.ParquetFile, *, schema: pa.Schema, kind: VectorFormat) -> Iterator[pa.RecordBatch]:
    # By their place: what a file calls them may be other than what its source does.
    names = [column.name for column in file.schema_arrow if column.name != "bbox"]
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
        columns = [
            _make_multipolygons(batch[name]) if name == "geometry" else _clean(batch[name], clean=kind.clean)
            for name in names
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _turn_to_degrees(batches: Iterator[pa.RecordBatch], *, crs: pyproj.CRS) -> Iterator[pa.RecordBatch]:
    transformer = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    for batch in batches:
        shapes = shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False))
        turned = shapely.transform(shapes, transformer.transform, interleaved=False)
        index = batch.schema.get_field_index("geometry")
        yield batch.set_column(index, "geometry", pa.array(shapely.to_wkb(turned), pa.binary()))


def _clean(column: pa.Array, *, clean: Callable[[str], str]) -> pa.Array:
    return clean_column(column, clean=clean) if pa.types.is_string(column.type) else column


def _make_multipolygons(geometry: pa.Array) -> pa.Array:
    shapes = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False))
    is_single = shapely.get_type_id(shapes) == 3
    shapes[is_single] = shapely.multipolygons(shapes[is_single][:, np.newaxis])
    return pa.array(shapely.to_wkb(shapes, byte_order=1), pa.binary())


PLACE_NAMES = ("lon", "lat")
"""Columns that stand for a geometry where there is none: a place inside it, in degrees."""


def read_placed(file: pq.ParquetFile, *, clean: Callable[[str], str]) -> pa.RecordBatchReader:
    """Give a table some rows at a time, with `PLACE_NAMES` in the stead of its geometry, where it has one.

    Args:
        file: The table; a column of its own with such a name gets another.
        clean: What makes a text harmless, those of the columns' names among them.
    """
    plain = [column for column in file.schema_arrow if column.name not in {"geometry", "bbox"}]
    names = _rename([column.name for column in plain], own_names=frozenset(PLACE_NAMES))
    heads = [pa.field(clean(clean_line(names[column.name])), column.type) for column in plain]
    has_places = len(plain) < len(file.schema_arrow)
    schema = pa.schema([*heads, *(pa.field(name, pa.float64()) for name in PLACE_NAMES if has_places)])

    def read() -> Iterator[pa.RecordBatch]:
        to_degrees = pyproj.Transformer.from_crs(_read_crs(file), "OGC:CRS84", always_xy=True) if has_places else None
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            refuse_nested(batch)
            texts = [_clean(batch[column.name], clean=clean) for column in plain]
            places = _locate(batch["geometry"], to_degrees) if to_degrees is not None else []
            yield pa.RecordBatch.from_arrays([*texts, *places], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, read())


def _read_crs(file: pq.ParquetFile) -> pyproj.CRS:
    return pyproj.CRS.from_json_dict(json.loads(file.metadata.metadata[b"geo"])["columns"]["geometry"]["crs"])


def _write_csv(file: pq.ParquetFile, path: Path, *, kind: VectorFormat) -> None:
    reader = read_placed(file, clean=kind.clean)
    with path.open("wb") as output:
        output.write(_BYTE_ORDER_MARK)
        with pa.csv.CSVWriter(output, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)


def _locate(geometry: pa.Array, transformer: pyproj.Transformer) -> list[pa.Array]:
    shapes = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False))
    xs, ys = shapely.get_coordinates(shapely.point_on_surface(shapes)).T if len(shapes) else np.empty((2, 0))
    return [pa.array(np.round(values, 7)) for values in transformer.transform(xs, ys)]


def write_flatgeobuf(geoparquet: bytes, path: Path) -> None:
    """Write a GeoParquet table as FlatGeobuf with its spatial index, which needs a file of its own to be made in."""
    write_layer(pa.BufferReader(geoparquet), path, layer=path.stem, kind=VECTOR_FORMATS["flatgeobuf"])
