"""``collection.json`` of a region: a STAC collection of its pairs' items, with the region's own tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pystac

from pipeline.dates import parse_moment
from pipeline.regions.schemas import (
    CHANGELOG_SCHEMA,
    choose_time_line_schema,
    make_events_schema,
    make_region_changes_schema,
)
from pipeline.report.stac_assets import EXTENSIONS, MEDIA_TYPES, describe_file, list_columns, name_asset, unite_bounds
from pipeline.storage.object_facts import ObjectFacts

COLLECTION_NAME = "report/collection.json"


def make_region_collection(
    *,
    region_id: str,
    title: str,
    description: str,
    items: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, ObjectFacts] | None = None,
    event_counts: Mapping[str, int] | None = None,
    is_reviewed: bool = False,
    has_blocks: bool = False,
    zones_schema: pa.Schema | None = None,
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
        is_reviewed: Whether people have reviewed events of the region.
        has_blocks: Whether the time line tells blocks.
        zones_schema: Columns of ``zones.parquet``, where there is one.
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
        media_type=MEDIA_TYPES[".parquet"],
        roles=["data"],
        extra_fields={"table:columns": list_columns(make_region_changes_schema(is_reviewed=is_reviewed))},
    )
    collection.add_asset("changes", changes)
    schemas = {
        "timeline.parquet": choose_time_line_schema(has_blocks=has_blocks),
        "events.parquet": make_events_schema(is_reviewed=is_reviewed),
        "changelog.parquet": CHANGELOG_SCHEMA,
        "zones.parquet": zones_schema,
    }
    for name, facts in sorted((files or {}).items()):
        place = PurePosixPath(name).relative_to("report")
        if place.parts[0] != "changes" and (len(place.parts) == 1 or place.parts[0] == "plots"):
            collection.add_asset(name_asset(place), describe_file(place, facts=facts, schema=schemas.get(place.name)))
    for href, item in sorted(items.items()):
        collection.add_link(
            pystac.Link("item", href, media_type="application/geo+json", title=item["properties"].get("title"))
        )
    return collection.to_dict(include_self_link=False, transform_hrefs=False)


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
