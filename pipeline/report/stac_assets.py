"""What the STAC item of a run and the collection of a region share: extensions, files as assets, bounds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pystac

from model.safe_text import clean_values
from pipeline.storage.object_facts import ObjectFacts
from pipeline.tables.fields import read_description

EXTENSIONS = {
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "table": "https://stac-extensions.github.io/table/v1.2.0/schema.json",
}

MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".qml": "application/xml",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".jp2": "image/jp2",
}
_TITLES = {
    "tiles.parquet": "Every tile of the grid, with its status and what the model answered",
    "changes.parquet": "Changes as polygons, by kind",
    "zones.parquet": "Sums per zone",
    "changes.fgb": "Changes as polygons, by kind",
    "changes.qml": "Style of the changes for QGIS",
    "accuracy.json": "What people who looked at a sample say of the report's accuracy, with intervals",
    "index.html": "Map and tables for a browser",
    "timeline.parquet": "Every pair of dates, and what it tells",
}
_ROLES = {
    ".parquet": ["data"],
    ".fgb": ["data"],
    ".qml": ["metadata"],
    ".html": ["overview"],
    ".js": ["overview"],
    ".png": ["overview"],
}
_SHA256 = "1220"
# ^ The multihash prefix of a sha2-256 digest: its code, and its length in bytes.

Bounds = tuple[float, float, float, float]
"""West, south, east and north in degrees; west is above east where they reach over the date line (RFC 7946)."""


def encode_stac(values: Mapping[str, Any]) -> bytes:
    """Give the JSON of an item or a collection, its texts harmless for whoever shows them."""
    return json.dumps(clean_values(values), allow_nan=False, indent=2, ensure_ascii=False).encode() + b"\n"


def name_asset(place: PurePosixPath) -> str:
    """Name an asset after its file: tiles, changes, changes_fgb, index_html, plots_NAME_png."""
    stem = "_".join((*place.parts[:-1], place.stem))
    return stem if place.suffix == ".parquet" else f"{stem}_{place.suffix.removeprefix('.')}"


def describe_file(place: PurePosixPath, *, facts: ObjectFacts, schema: pa.Schema | None) -> pystac.Asset:
    """Describe a file of a report, with its size and checksum, and its columns where it is a table."""
    fields: dict[str, Any] = {
        "file:size": facts["size_bytes"],
        "file:checksum": f"{_SHA256}{facts['sha256']}",
    }
    if schema is not None:
        fields |= {"table:columns": list_columns(schema), "table:primary_geometry": "geometry"}
        if "geometry" not in schema.names:
            del fields["table:primary_geometry"]
    return pystac.Asset(
        str(place),
        title=_TITLES.get(place.name, place.stem.replace("_", " ")),
        media_type=MEDIA_TYPES.get(place.suffix, "application/octet-stream"),
        roles=_ROLES.get(place.suffix, ["metadata"]),
        extra_fields=fields,
    )


def list_columns(schema: pa.Schema) -> list[dict[str, str]]:
    """Give a table's columns as the table extension names them."""
    return [
        {"name": column.name, "description": read_description(column), "type": str(column.type)} for column in schema
    ]


def unite_bounds(bounds: Iterable[Bounds]) -> Bounds:
    """Give the narrowest bounds around all, over the date line where they are narrower so.

    Args:
        bounds: Bounds of at least one place.
    """
    found = list(bounds)
    south, north = min(bound[1] for bound in found), max(bound[3] for bound in found)
    widths = {(west, east): (east - west) % 360 if east != west + 360 else 360.0 for west, _, east, _ in found}
    # Bounds begin at the west of one of them, and reach as far eastwards as the last one does from there.
    reaches = {
        first: max((west - first) % 360 + width for (west, _), width in widths.items()) for first, _ in sorted(widths)
    }
    west = min(reaches, key=lambda first: reaches[first])
    if reaches[west] >= 360:
        return -180.0, south, 180.0, north
    # The very bound that reaches farthest, not one that was reckoned: its digits stay as they are.
    east = max(widths, key=lambda span: (span[0] - west) % 360 + widths[span])[1]
    return west, south, east, north
