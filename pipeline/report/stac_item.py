"""``item.json`` of a run and ``collection.json`` of a region: what a STAC catalogue needs to know of a report.

A run is an item that was made from scenes: the processing extension tells by what and how, the file extension which
bytes belong to it, the table extension what the columns mean, the projection extension which grid it lies on. The
machine learning model extension (mlm) is for items that are models, and an item of results has no place in it; which
weights answered is in the processing extension's terms, and once more under ``deltavlm:``.

Paths to the run's own files are relative, nothing in an item tells when or where the run was made, and no URI in it
keeps credentials: equal runs have equal items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import antimeridian
import pyarrow as pa
import pyproj
import pystac
import shapely

from model.interface import ENGINE_VERSION, ModelIdentity, Prompt
from model.redaction import redact_uri, shorten_text
from model.safe_text import clean_line, clean_values
from pipeline.dates import parse_moment
from pipeline.findings.extract import make_findings_schema
from pipeline.grid.grid import Grid, compute_footprint
from pipeline.report.accuracy_words import summarise_accuracy
from pipeline.report.write import Report
from pipeline.scenes.pair import ScenePair
from pipeline.scenes.scene import Scene
from pipeline.storage.folder import ObjectFacts, describe_bytes
from pipeline.storage.names import STORE_NAME
from pipeline.tables.schemas import (
    CHANGELOG_SCHEMA,
    CHANGES_SCHEMA,
    EVENTS_SCHEMA,
    REGION_CHANGES_SCHEMA,
    TIMELINE_SCHEMA,
    read_description,
)

ITEM_NAME = "report/item.json"
COLLECTION_NAME = "report/collection.json"

EXTENSIONS = {
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "table": "https://stac-extensions.github.io/table/v1.2.0/schema.json",
}

_PACKAGE = "deltavlm-monitor"
_LONGEST_NAME = 200
_MEDIA_TYPES = {
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


def write_item(
    report: Report,
    *,
    pair: ScenePair,
    prompts: Sequence[Prompt],
    identity: ModelIdentity,
    run_id: str,
    zones_schema: pa.Schema | None = None,
) -> tuple[Report, int]:
    """Write ``item.json`` beside the other files of a report.

    Args:
        report: The report.
        pair: The scenes and their grid.
        prompts: The questions of the run.
        identity: Which weights answered.
        run_id: Identifier of the run.
        zones_schema: Columns of ``zones.parquet``, where there is one.

    Returns:
        The report with the item, and its bytes; without one where neither scene has a date, as no item may.
    """
    if pair.before.datetime is None and pair.after.datetime is None:
        # Of an earlier report of the run, whose dates were given.
        report.folder.delete([ITEM_NAME])
        return report, 0
    item = make_item(
        pair=pair,
        prompts=prompts,
        identity=identity,
        run_id=run_id,
        zones_schema=zones_schema,
        files=report.files,
        status_counts=report.status_counts,
        change_counts=report.change_counts,
        model_fit_counts=report.model_fit_counts,
        notes=report.notes,
        accuracy=report.accuracy,
    )
    data = encode_stac(item)
    n_bytes = report.folder.put(ITEM_NAME, data)
    return replace(report, files={**report.files, ITEM_NAME: describe_bytes(data)}), n_bytes


def encode_stac(values: Mapping[str, Any]) -> bytes:
    """Give the JSON of an item or a collection, its texts harmless for whoever shows them."""
    return json.dumps(clean_values(values), allow_nan=False, indent=2, ensure_ascii=False).encode() + b"\n"


def make_item(
    *,
    pair: ScenePair,
    prompts: Sequence[Prompt],
    identity: ModelIdentity,
    run_id: str,
    files: Mapping[str, ObjectFacts],
    status_counts: Mapping[str, int],
    change_counts: Mapping[str, int],
    zones_schema: pa.Schema | None = None,
    model_fit_counts: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    accuracy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a run as a STAC 1.1 item.

    Args:
        pair: The scenes and their grid; one of them has a date.
        prompts: The questions of the run.
        identity: Which weights answered.
        run_id: Identifier of the run.
        files: Size and sha256 of the report's files, by their names in the run's folder.
        status_counts: Tiles per status.
        change_counts: Changes per kind.
        zones_schema: Columns of ``zones.parquet``, where there is one.
        model_fit_counts: Tiles by how they lie beside what the model was made for.
        notes: What whoever reads the report has to know of all of it.
        accuracy: The content of ``accuracy.json``; None without.
    """
    geometry, bbox = outline_grid(pair.grid)
    item = pystac.Item(
        id=f"deltavlm-{run_id}",
        geometry=geometry,
        bbox=list(bbox),
        properties={
            "title": f"Changes from {_name(pair.before)} to {_name(pair.after)}",
            "gsd": float(f"{pair.grid.ground_resolution_m:.3g}"),
            **_describe_projection(pair.grid),
            **_describe_processing(prompts, identity=identity),
            "deltavlm:run_id": run_id,
            **({"deltavlm:notes": list(notes)} if notes else {}),
            **({"deltavlm:accuracy": told} if accuracy and (told := summarise_accuracy(accuracy)) else {}),
            "deltavlm:weight_hash": identity.weight_hash,
            "deltavlm:tile_counts": dict(status_counts),
            "deltavlm:change_counts": dict(change_counts),
            **({"deltavlm:model_fit_counts": dict(model_fit_counts)} if model_fit_counts else {}),
        },
        **_describe_dates(pair),
        stac_extensions=sorted(EXTENSIONS.values()),
    )
    schemas = {
        "tiles.parquet": make_findings_schema(prompts),
        "changes.parquet": CHANGES_SCHEMA,
        "zones.parquet": zones_schema,
    }
    for name, facts in sorted(files.items()):
        place = PurePosixPath(name).relative_to("report")
        if len(place.parts) == 1 or place.parts[0] in ("plots", "page"):
            item.add_asset(_name_asset(place), _describe_file(place, facts=facts, schema=schemas.get(place.name)))
    item.add_asset(
        "tile_store",
        pystac.Asset(
            f"../{STORE_NAME}",
            title="Pixels of both dates on the grid, with what is valid of each",
            media_type="application/vnd.zarr; version=3",
            roles=["data", "visual"],
        ),
    )
    item.add_asset(
        "record",
        pystac.Asset("../run.json", title="Record of the run", media_type="application/json", roles=["metadata"]),
    )
    for date, scene in (("before", pair.before), ("after", pair.after)):
        item.add_links(_link_sources(scene, date=date))
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def make_region_collection(
    *,
    region_id: str,
    title: str,
    description: str,
    items: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, ObjectFacts] | None = None,
    event_counts: Mapping[str, int] | None = None,
    license: str = "other",  # noqa: A002 - STAC's word
) -> dict[str, Any]:
    """Describe a region as a STAC 1.1 collection of its pairs' items.

    Args:
        region_id: Identifier of the region.
        title: What to call it.
        description: What is watched there, in Markdown.
        items: At least one item as `make_item` gives it, by its place relative to the collection, such as
            ``../pairs/PAIR/report/item.json``.
        files: Size and sha256 of files of the region's report, by their names in the region's folder.
        event_counts: Events of the region per status; left out, nothing is said of them.
        license: SPDX identifier of the licence of the data, or other.

    Raises:
        ValueError: there is no item, and so no extent.
    """
    if not items:
        raise ValueError(f"region {region_id} has no item; expected at least one pair that was analysed")
    described = list(items.values())
    collection = pystac.Collection(
        id=region_id,
        title=title,
        description=description,
        license=license,
        extent=pystac.Extent(
            pystac.SpatialExtent([list(unite_bounds(tuple(item["bbox"]) for item in described))]),
            pystac.TemporalExtent([_find_interval(described)]),
        ),
        summaries=pystac.Summaries(_summarise(described) | _summarise_events(event_counts), maxcount=1000),
        stac_extensions=[EXTENSIONS["file"], EXTENSIONS["table"]],
        extra_fields={} if event_counts is None else {"deltavlm:event_counts": dict(event_counts)},
    )
    changes = pystac.Asset(
        "changes/",
        title="Changes as polygons, a partitioned dataset",
        media_type=_MEDIA_TYPES[".parquet"],
        roles=["data"],
        extra_fields={"table:columns": _list_columns(REGION_CHANGES_SCHEMA)},
    )
    collection.add_asset("changes", changes)
    schemas = {
        "timeline.parquet": TIMELINE_SCHEMA,
        "events.parquet": EVENTS_SCHEMA,
        "changelog.parquet": CHANGELOG_SCHEMA,
    }
    for name, facts in sorted((files or {}).items()):
        place = PurePosixPath(name).relative_to("report")
        if place.parts[0] != "changes" and (len(place.parts) == 1 or place.parts[0] == "plots"):
            collection.add_asset(_name_asset(place), _describe_file(place, facts=facts, schema=schemas.get(place.name)))
    for href, item in sorted(items.items()):
        collection.add_link(
            pystac.Link("item", href, media_type="application/geo+json", title=item["properties"].get("title"))
        )
    return collection.to_dict(include_self_link=False, transform_hrefs=False)


def _name(scene: Scene) -> str:
    return shorten_text(clean_line(scene.scene_id), max_length=_LONGEST_NAME)


def _describe_dates(pair: ScenePair) -> dict[str, Any]:
    before, after = (parse_moment(scene.datetime) if scene.datetime else None for scene in (pair.before, pair.after))
    if before is None or after is None:
        return {"datetime": before or after}
    return {"datetime": None, "start_datetime": before, "end_datetime": after}


def _describe_projection(grid: Grid) -> dict[str, Any]:
    crs = pyproj.CRS.from_user_input(grid.crs)
    code = crs.to_authority()
    named = {"proj:code": ":".join(code)} if code else {"proj:code": None, "proj:wkt2": crs.to_wkt("WKT2_2019")}
    return named | {
        "proj:bbox": list(grid.shared_bounds),
        "proj:shape": [grid.height_px, grid.width_px],
        "proj:transform": [float(value) for value in grid.shared_transform[:6]],
    }


def _describe_processing(prompts: Sequence[Prompt], *, identity: ModelIdentity) -> dict[str, Any]:
    asked = [{"name": prompt.name, "kind": prompt.kind.value, "text": prompt.text} for prompt in prompts]
    return {
        "processing:lineage": (
            "Two scenes of one place were read on one grid and cut into tiles. A vision-language model answered the "
            "prompts about every pair of tiles; its answers, and its masks where it has some, are the tables."
        ),
        "processing:software": {
            _PACKAGE: version(_PACKAGE),
            "answering engine": str(ENGINE_VERSION),
            "model": identity.model_id,
        },
        "processing:expression": {"format": "deltavlm-prompts", "expression": asked},
    }


def _name_asset(place: PurePosixPath) -> str:
    """Name an asset after its file: tiles, changes, changes_fgb, index_html, plots_NAME_png."""
    stem = "_".join((*place.parts[:-1], place.stem))
    return stem if place.suffix == ".parquet" else f"{stem}_{place.suffix.removeprefix('.')}"


def _describe_file(place: PurePosixPath, *, facts: ObjectFacts, schema: pa.Schema | None) -> pystac.Asset:
    fields: dict[str, Any] = {
        "file:size": facts["size_bytes"],
        "file:checksum": f"{_SHA256}{facts['sha256']}",
    }
    if schema is not None:
        fields |= {"table:columns": _list_columns(schema), "table:primary_geometry": "geometry"}
        if "geometry" not in schema.names:
            del fields["table:primary_geometry"]
    return pystac.Asset(
        str(place),
        title=_TITLES.get(place.name, place.stem.replace("_", " ")),
        media_type=_MEDIA_TYPES.get(place.suffix, "application/octet-stream"),
        roles=_ROLES.get(place.suffix, ["metadata"]),
        extra_fields=fields,
    )


def _list_columns(schema: pa.Schema) -> list[dict[str, str]]:
    return [
        {"name": column.name, "description": read_description(column), "type": str(column.type)} for column in schema
    ]


def _link_sources(scene: Scene, *, date: str) -> list[pystac.Link]:
    return [
        pystac.Link(
            "derived_from",
            Path(uri).as_uri() if "://" not in uri and Path(uri).is_absolute() else redact_uri(uri),
            media_type=_MEDIA_TYPES.get(PurePosixPath(uri.partition("?")[0]).suffix.lower()),
            title=f"{date} scene {_name(scene)}",
        )
        for uri in scene.uris
    ]


def _find_interval(items: Iterable[Mapping[str, Any]]) -> list[Any]:
    names = ("datetime", "start_datetime", "end_datetime")
    moments = [parse_moment(told) for item in items for name in names if (told := item["properties"].get(name))]
    return [min(moments), max(moments)]


def _summarise(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    properties = [item["properties"] for item in items]
    software = sorted({values["processing:software"]["model"] for values in properties})
    return {
        "gsd": sorted({values["gsd"] for values in properties}),
        "proj:code": sorted({values["proj:code"] for values in properties if values["proj:code"]}),
        "deltavlm:model_id": software,
        "deltavlm:kinds": sorted({kind for values in properties for kind in values["deltavlm:change_counts"]}),
    }


def _summarise_events(counts: Mapping[str, int] | None) -> dict[str, Any]:
    found = sorted(status for status, count in (counts or {}).items() if count)
    return {"deltavlm:event_status": found} if found else {}


_DIGITS = 7
# ^ About a centimetre.
_TOLERANCE_DEG = 1e-7

Bounds = tuple[float, float, float, float]
"""West, south, east and north in degrees; west is above east where they reach over the date line (RFC 7946)."""


def outline_grid(grid: Grid) -> tuple[dict[str, Any], Bounds]:
    """Give what both scenes of a grid show as GeoJSON, and its bounds.

    Args:
        grid: The grid.

    Returns:
        A Polygon, or a MultiPolygon with a part on each side of the date line, rings counterclockwise.
    """
    size = {"width": grid.width_px, "height": grid.height_px}
    footprint = compute_footprint(crs=grid.crs, transform=grid.shared_transform, **size)
    # The edges were cut into many pieces; those that do not bend are put together again.
    outline = shapely.orient_polygons(footprint.simplify(_TOLERANCE_DEG))
    fixed = shapely.orient_polygons(shapely.geometry.shape(antimeridian.fix_polygon(outline)))
    rounded = shapely.transform(fixed, lambda places: places.round(_DIGITS))
    west, south, east, north = (round(float(bound), _DIGITS) for bound in antimeridian.bbox(rounded))
    return shapely.geometry.mapping(rounded), (west, south, east, north)


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
