"""A report's tables as one KML document for Google Earth: a folder per table, one style per kind or status.

Shapes are outlines over the ground, with a light fill for changes alone, so that the picture beneath stays in sight.
A time span lets the changes be played.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import shapely

from model.safe_text import clean_line, clean_text

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
_TAIL = "</Document></kml>\n"
# ^ Colours are alpha, blue, green, red.
_STYLES = {
    "building": ("ff0f43b1", "552c6bff"),
    "road": ("ff8f7009", "40eec322"),
    # What is gone is hollow.
    "building_removed": ("ff0f43b1", None),
    "road_removed": ("ff8f7009", None),
    "zones": ("ffffffff", None),
    "tiles": ("80c8c8c8", None),
}
_TYPES = {"bool": "bool", "int32": "int", "int64": "int", "float": "float", "double": "double"}
_DIGITS = 7
# ^ About a centimetre.


def begin_kml(path: Path) -> None:
    """Write a document without any table."""
    styles = "".join(_write_style(name, line=line, fill=fill) for name, (line, fill) in _STYLES.items())
    path.write_text(f"{_HEAD}{styles}{_TAIL}", encoding="utf-8")


def _write_style(name: str, *, line: str, fill: str | None) -> str:
    poly = f"<color>{fill}</color>" if fill else "<fill>0</fill>"
    lines = f"<LineStyle><color>{line}</color><width>2</width></LineStyle>"
    return f'<Style id="{name}">{lines}<PolyStyle>{poly}</PolyStyle></Style>\n'


def append_kml(path: Path, *, layer: str, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
    """Put a folder with the rows of one table at the end of a document.

    Args:
        path: A document as `begin_kml` writes it.
        layer: Name of the table.
        batches: Its rows, with texts as they are and geometries as WKB in longitude and latitude.
        schema: Their columns; ``geometry`` is one, the first is what rows are called by.
    """
    fields = [column for column in schema if column.name not in {"geometry", "description"}]
    with path.open("r+", encoding="utf-8") as file:
        file.seek(path.stat().st_size - len(_TAIL.encode()))
        file.write(f'<Schema name="{layer}" id="{layer}">')
        for column in fields:
            file.write(f'<SimpleField name="{_quote(column.name)}" type="{_TYPES.get(str(column.type), "string")}"/>')
        # Google Earth draws a folder that is switched off only when somebody asks for it.
        visibility = "0" if layer == "tiles" else "1"
        file.write(f"</Schema>\n<Folder><name>{layer}</name><visibility>{visibility}</visibility>\n")
        for batch in batches:
            shapes = shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False))
            columns = {name: batch[name].to_pylist() for name in schema.names if name != "geometry"}
            for index, shape in enumerate(shapes):
                row = {name: values[index] for name, values in columns.items()}
                _write_placemark(file, row, shape=shape, layer=layer, names=[column.name for column in fields])
        file.write(f"</Folder>\n{_TAIL}")


def _write_placemark(
    file: TextIO, row: Mapping[str, Any], *, shape: shapely.Geometry, layer: str, names: list[str]
) -> None:
    style = _choose_style(row, layer=layer)
    file.write(f"<Placemark><name>{_quote(next(iter(row.values())))}</name>")
    if row.get("description") is not None:
        # Google Earth shows it as HTML.
        file.write(f"<description>{_quote(escape(clean_text(row['description'])))}</description>")
    if (span := _write_span(row)) and layer == "changes":
        file.write(span)
    file.write(f'<styleUrl>#{style}</styleUrl><ExtendedData><SchemaData schemaUrl="#{layer}">')
    for name in names:
        if row[name] is not None:
            file.write(f'<SimpleData name="{_quote(name)}">{_write_value(row[name])}</SimpleData>')
    file.write("</SchemaData></ExtendedData><MultiGeometry>")
    for part in shapely.get_parts(shape):
        inner = "".join(f"<innerBoundaryIs>{_write_ring(ring)}</innerBoundaryIs>" for ring in part.interiors)
        file.write(f"<Polygon><outerBoundaryIs>{_write_ring(part.exterior)}</outerBoundaryIs>{inner}</Polygon>")
    file.write("</MultiGeometry></Placemark>\n")


def _choose_style(row: Mapping[str, Any], *, layer: str) -> str:
    named = f"{row.get('kind')}_{row.get('change')}", str(row.get("kind"))
    return next((name for name in named if name in _STYLES), layer)


def _write_span(row: Mapping[str, Any]) -> str:
    """Say since when a change has been there: from the later date on."""
    begin = row.get("after_datetime")
    return "" if begin is None else f"<TimeSpan><begin>{begin:%Y-%m-%dT%H:%M:%SZ}</begin></TimeSpan>"


def _write_ring(ring: shapely.LinearRing) -> str:
    corners = " ".join(f"{x:.{_DIGITS}f},{y:.{_DIGITS}f}" for x, y in shapely.get_coordinates(ring).tolist())
    return f"<LinearRing><coordinates>{corners}</coordinates></LinearRing>"


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # Texts are shown as HTML as well.
    return _quote(escape(clean_text(value)) if isinstance(value, str) else value)


def _quote(value: Any) -> str:
    return escape(clean_line(str(value)))
