"""``item.json`` of a run: what a STAC catalogue needs to know of a report.

A run is an item that was made from scenes: the processing extension tells by what and how, the file extension which
bytes belong to it, the table extension what the columns mean, the projection extension which grid it lies on. The
machine learning model extension (mlm) is for items that are models, and an item of results has no place in it; which
weights answered is in the processing extension's terms, and once more under ``deltavlm:``.

Paths to the run's own files are relative, nothing in an item tells when or where the run was made, and no URI in it
keeps credentials: equal runs have equal items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
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
from model.safe_text import clean_line
from pipeline.dates import parse_moment
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.coverage import Coverage
from pipeline.grid.grid import Grid, compute_footprint
from pipeline.report.accuracy_words import summarise_accuracy
from pipeline.report.result import Report
from pipeline.report.reviewed import ReviewSummary, add_review_fields
from pipeline.report.stac_assets import EXTENSIONS, MEDIA_TYPES, Bounds, describe_file, encode_stac, name_asset
from pipeline.scenes.composite import CompositeScene
from pipeline.scenes.pair import ScenePair
from pipeline.scenes.scene import Scene
from pipeline.storage.names import STORE_NAME
from pipeline.storage.object_facts import ObjectFacts, describe_bytes
from pipeline.tables.schemas import CHANGE_REVIEW_FIELDS, CHANGES_SCHEMA, TILE_REVIEW_FIELDS, ZONE_REVIEW_FIELDS

ITEM_NAME = "report/item.json"

_PACKAGE = "deltavlm-monitor"
_LONGEST_NAME = 200


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
        coverage=report.coverage,
        change_counts=report.change_counts,
        left_out_counts=report.left_out_counts,
        model_fit_counts=report.model_fit_counts,
        notes=report.notes,
        accuracy=report.accuracy,
        reviews=report.reviews,
    )
    data = encode_stac(item)
    n_bytes = report.folder.put(ITEM_NAME, data)
    return replace(report, files={**report.files, ITEM_NAME: describe_bytes(data)}), n_bytes


def make_item(
    *,
    pair: ScenePair,
    prompts: Sequence[Prompt],
    identity: ModelIdentity,
    run_id: str,
    files: Mapping[str, ObjectFacts],
    coverage: Coverage,
    change_counts: Mapping[str, int],
    left_out_counts: Mapping[str, int],
    zones_schema: pa.Schema | None = None,
    model_fit_counts: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    accuracy: Mapping[str, Any] | None = None,
    reviews: ReviewSummary | None = None,
) -> dict[str, Any]:
    """Describe a run as a STAC 1.1 item.

    Args:
        pair: The scenes and their grid; one of them has a date.
        prompts: The questions of the run.
        identity: Which weights answered.
        run_id: Identifier of the run.
        files: Size and sha256 of the report's files, by their names in the run's folder.
        coverage: What became of the ground and of the tiles.
        change_counts: Changes per kind.
        left_out_counts: Changes per kind that are less sure than the report asks for; told where there are any.
        zones_schema: Columns of ``zones.parquet``, where there is one.
        model_fit_counts: Tiles by how they lie beside what the model was made for.
        notes: What whoever reads the report has to know of all of it.
        accuracy: The content of ``accuracy.json``; None without.
        reviews: How far people have reviewed the report; None: not at all.
    """
    geometry, bbox = outline_grid(pair.grid)
    item = pystac.Item(
        id=f"deltavlm-{run_id}",
        geometry=geometry,
        bbox=list(bbox),
        properties={
            "title": f"Changes from {_name(pair.before)} to {_name(pair.after)}",
            "gsd": float(f"{pair.grid.ground_resolution_m:.3g}"),
            **_describe_composites(pair),
            **_describe_projection(pair.grid),
            **_describe_processing(prompts, identity=identity),
            "deltavlm:run_id": run_id,
            **({"deltavlm:notes": list(notes)} if notes else {}),
            **({"deltavlm:accuracy": told} if accuracy and (told := summarise_accuracy(accuracy)) else {}),
            **({"deltavlm:reviews": reviews.to_dict()} if reviews is not None else {}),
            "deltavlm:weight_hash": identity.weight_hash,
            "deltavlm:tile_counts": dict(coverage.tile_counts),
            # By ground, as tiles at an edge are small: of the area of interest, or of what both scenes reach.
            "deltavlm:seen_fraction": round(coverage.seen_fraction, 6),
            "deltavlm:ground_m2": {status: round(area_m2, 1) for status, area_m2 in coverage.ground_m2.items()},
            "deltavlm:change_counts": dict(change_counts),
            **({"deltavlm:left_out_counts": dict(left_out_counts)} if any(left_out_counts.values()) else {}),
            **({"deltavlm:model_fit_counts": dict(model_fit_counts)} if model_fit_counts else {}),
        },
        **_describe_dates(pair),
        stac_extensions=sorted(EXTENSIONS.values()),
    )
    extend = partial(add_review_fields, is_reviewed=reviews is not None)
    schemas = {
        "tiles.parquet": extend(make_findings_schema(prompts, is_composed=pair.is_composed), TILE_REVIEW_FIELDS),
        "changes.parquet": extend(CHANGES_SCHEMA, CHANGE_REVIEW_FIELDS),
        "zones.parquet": None if zones_schema is None else extend(zones_schema, ZONE_REVIEW_FIELDS),
    }
    for name, facts in sorted(files.items()):
        place = PurePosixPath(name).relative_to("report")
        if len(place.parts) == 1 or place.parts[0] in ("plots", "page"):
            item.add_asset(name_asset(place), describe_file(place, facts=facts, schema=schemas.get(place.name)))
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


def _name(scene: Scene) -> str:
    return shorten_text(clean_line(scene.scene_id), max_length=_LONGEST_NAME)


def _describe_dates(pair: ScenePair) -> dict[str, Any]:
    before, after = (parse_moment(scene.datetime) if scene.datetime else None for scene in (pair.before, pair.after))
    if before is None or after is None:
        return {"datetime": before or after}
    return {"datetime": None, "start_datetime": before, "end_datetime": after}


def _describe_composites(pair: ScenePair) -> dict[str, Any]:
    """Tell which dates composites are made of; the item's own times are those of the middle ones."""
    told = {}
    for date, scene in (("before", pair.before), ("after", pair.after)):
        if isinstance(scene, CompositeScene):
            told[f"deltavlm:{date}"] = {
                "rule": scene.rule,
                "cloud_buffer_m": scene.cloud_buffer_m,
                "from": min(scene.moments),
                "to": max(scene.moments),
                "n_scenes": len(scene.dates),
            }
    return told


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


def _link_sources(scene: Scene, *, date: str) -> list[pystac.Link]:
    return [
        pystac.Link(
            "derived_from",
            Path(uri).as_uri() if "://" not in uri and Path(uri).is_absolute() else redact_uri(uri),
            media_type=MEDIA_TYPES.get(PurePosixPath(uri.partition("?")[0]).suffix.lower()),
            title=f"{date} scene {_name(scene)}",
        )
        for uri in scene.uris
    ]


_DIGITS = 7
# ^ About a centimetre.
_TOLERANCE_DEG = 1e-7


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
