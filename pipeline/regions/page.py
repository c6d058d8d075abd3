"""The page of a region: the changes of all its pairs on one map, and how they came about over time.

It is the page of a run without a tile store: pictures and answers come from the pages of the pairs' own runs, which
lie beside it in the region's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj

from pipeline.grid.grid import Grid
from pipeline.regions.blocks import RegionBlock
from pipeline.regions.events.status import EventStatus
from pipeline.regions.ground import GroundPictures, Span
from pipeline.regions.page_blocks import describe_blocks
from pipeline.regions.pair_records import PairState
from pipeline.report.accuracy_words import N_FIGURES, describe_accuracy
from pipeline.report.page.columns import describe_changes, describe_frame, list_records, note_shapes, write_json
from pipeline.report.page.map import MapFrame, choose_scale_bar, draw_changes
from pipeline.report.page.template import render_template
from pipeline.report.page.zones import describe_zones, draw_zones
from pipeline.report.plot_figures import PlotText
from pipeline.report.reviewed import ReviewSummary, word_reviews
from pipeline.report.words import (
    FILTERS,
    KIND_LABELS,
    format_area,
    format_position,
    list_directions,
    list_kinds,
    write_day,
)

MAX_LATEST_ROWS = 40
"""Changes in the still table: the largest of those that are new in the last pair with any."""

_FREE_FRAME_SIDE_PX = 2**20
_MARGIN = 0.05
# ^ Part of the longer side that is shown around the changes where no area is given.
_BAR_HEIGHT = 130


def render_region_page(
    changes: gpd.GeoDataFrame,
    *,
    timeline: pd.DataFrame,
    name: str,
    overview: pd.DataFrame | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    blocks: Sequence[RegionBlock] = (),
    states: Sequence[PairState] = (),
    ground: GroundPictures | None = None,
    zones: gpd.GeoDataFrame | None = None,
    zones_file: str = "zones.parquet",
    plots: Mapping[str, PlotText] | None = None,
    accuracy: Mapping[str, Mapping[str, Any]] | None = None,
    reviews: ReviewSummary | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Give the page as HTML text, to lie in ``report/`` of the region's folder.

    Args:
        changes: The region's changes, of all pairs, in a CRS in metres.
        timeline: One row per pair.
        name: What to call the region.
        overview: The rows to show of the time line; None: all of it.
        bounds: Left, bottom, right and top of the map where there is no ground to show; None: around the changes.
        blocks: Its blocks; none where it is a single one.
        states: The pairs of the blocks.
        ground: The region at an early and a late date; without it the map is that of the changes, without pictures.
        zones: What the changes sum up to per zone, when zones are given.
        zones_file: The table that has all of them, as seen from the page.
        plots: Words for the pictures in ``plots/`` beside the page, by the names of their files.
        reviews: How far people have reviewed its events; None: not at all.
        accuracy: The content of ``accuracy.json`` of the pairs that were assessed, by their ids.
        notes: What whoever reads it has to know of the last pair's run.
    """
    pairs = timeline.sort_values(["after_datetime", "pair_id"], ignore_index=True)
    shown = pairs if overview is None else overview
    framed = bounds if ground is None and bounds is not None else _choose_bounds(changes, ground=ground)
    frame = MapFrame(grid=frame_ground(framed, crs=str(changes.crs.to_string())))
    ranked = changes.sort_values(
        ["is_new", "after_datetime", "area_m2", "change_id"], ascending=[False, False, False, True], ignore_index=True
    )
    days = list_days(changes)
    context = {
        "name": name,
        "place": _describe_place(frame),
        "dates": _describe_dates(pairs),
        "figures": summarise_region(changes, pairs=shown),
        "pairs": describe_pairs(shown),
        "blocks": _describe_blocks(blocks, states=states, pairs=pairs, frame=frame),
        "map": _describe_map(ranked, frame=frame),
        "map_note": note_shapes(changes["geometry_source"], cell=None),
        "pictures": None
        if ground is None
        else {"before": ground.pictures.before_uri, "after": ground.pictures.after_uri},
        "picture_dates": _describe_pictures(ground, pairs=pairs),
        "latest": describe_latest(ranked, frame=frame),
        "zones": describe_zones(zones),
        "zones_file": zones_file,
        "plots": plots or {},
        "reviews": None if reviews is None else word_reviews(reviews, noun="event"),
        "assessed": _describe_assessed(pairs, accuracy=accuracy or {}),
        "notes": notes,
        "kinds": list_kinds(),
        "directions": list_directions(changes),
        "days": days,
        "has_tiles": False,
        "data": write_json(_describe_data(ranked, pairs=pairs, frame=frame, zones=zones, ground=ground)),
    }
    return render_template("regions/page.html", context, filters=FILTERS)


def frame_ground(bounds: tuple[float, float, float, float], *, crs: str) -> Grid:
    """Lay a grid of one tile over some ground, with pixels finer than any map needs.

    Args:
        bounds: Left, bottom, right and top, in the CRS.
        crs: A CRS in metres.
    """
    left, bottom, right, top = bounds
    width_m, height_m = max(right - left, 1.0), max(top - bottom, 1.0)
    resolution_m = max(width_m, height_m) / _FREE_FRAME_SIDE_PX
    return Grid(
        crs=crs,
        resolution_m=resolution_m,
        origin_x=left,
        origin_y=top,
        tile_size_px=_FREE_FRAME_SIDE_PX,
        n_rows=1,
        n_cols=1,
        width_px=max(1, round(width_m / resolution_m)),
        height_px=max(1, round(height_m / resolution_m)),
    )


def _choose_bounds(changes: gpd.GeoDataFrame, *, ground: GroundPictures | None) -> tuple[float, float, float, float]:
    if ground is not None:
        return ground.bounds
    if changes.empty:
        # A region in which nothing changed, and whose area nobody told: any ground that the CRS is made for.
        area = pyproj.CRS.from_user_input(changes.crs).area_of_use
        lon, lat = ((area.west + area.east) / 2, (area.south + area.north) / 2) if area else (0.0, 0.0)
        x, y = pyproj.Transformer.from_crs("EPSG:4326", changes.crs, always_xy=True).transform(lon, lat)
        return x - 500, y - 500, x + 500, y + 500
    left, bottom, right, top = (float(value) for value in changes.total_bounds)
    margin = _MARGIN * max(right - left, top - bottom)
    return left - margin, bottom - margin, right + margin, top + margin


def _describe_place(frame: MapFrame) -> dict[str, str]:
    grid = frame.grid
    centre = grid.transform @ (grid.width_px / 2, grid.height_px / 2)
    sides = (side * frame.grid.ground_resolution_m for side in (grid.width_px, grid.height_px))
    authority = pyproj.CRS.from_user_input(grid.crs).to_authority()
    return {
        "centre": format_position(*centre, crs=grid.crs),
        "extent": " by ".join(f"{side / 1000:.2f} km" for side in sides),
        "crs": ":".join(authority) if authority else pyproj.CRS.from_user_input(grid.crs).name,
    }


def _describe_dates(pairs: pd.DataFrame) -> dict[str, str]:
    if pairs.empty:
        return {"before": "date not known", "after": "date not known"}
    first, last = pairs["before_datetime"].min(), pairs["after_datetime"].max()
    return {"before": write_day(first) or "date not known", "after": write_day(last) or "date not known"}


def _describe_pictures(ground: GroundPictures | None, *, pairs: pd.DataFrame) -> dict[str, str]:
    """Give the dates that the pictures show, which need not be the region's first and last."""
    if ground is None:
        return _describe_dates(pairs)
    return {"before": _write_span(ground.before), "after": _write_span(ground.after)}


def _write_span(span: Span) -> str:
    """Give a day, or the first and the last where blocks have days of their own."""
    first, last = (write_day(pd.Timestamp(moment)) or "date not known" for moment in (span.first, span.last))
    return first if first == last else f"{first} to {last}"


def list_days(changes: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """Give the later dates of all pairs with changes, the first first, as days since 1970 and in words."""
    moments = changes["after_datetime"].dropna().dt.floor("D").drop_duplicates().sort_values()
    return [{"number": _count_days(moment), "words": write_day(moment)} for moment in moments]


def _count_days(moment: pd.Timestamp) -> int:
    return (moment - pd.Timestamp(0, tz="UTC")).days


def summarise_region(changes: gpd.GeoDataFrame, *, pairs: pd.DataFrame) -> dict[str, Any]:
    """Sum up a region in the few figures at the top of its page."""
    with_result = pairs[pairs["status"].ne("failed")]
    is_new = changes["is_new"].fillna(value=False).astype(bool)
    last = with_result.iloc[-1] if len(with_result) else None
    return {
        "pairs": len(pairs),
        "with_result": len(with_result),
        "failed": len(pairs) - len(with_result),
        "changes": len(changes),
        "new": int(is_new.sum()),
        "last_new": None if last is None or pd.isna(last["n_new_changes"]) else int(last["n_new_changes"]),
        "last_day": None if last is None else write_day(last["after_datetime"]),
        "last_coverage": None if last is None or pd.isna(last["analysed_fraction"]) else last["analysed_fraction"],
        "events": count_events(changes),
        "kinds": [
            {
                "kind": kind,
                "changes": int((changes["kind"].eq(kind) & is_new).sum()),
                "area_m2": float(changes["area_m2"][changes["kind"].eq(kind) & is_new].sum()),
            }
            for kind in KIND_LABELS
        ],
    }


def count_events(changes: gpd.GeoDataFrame) -> dict[str, int]:
    """Count the events that changes are sightings of by their status."""
    statuses = changes.drop_duplicates("event_id")["event_status"]
    return {status.value: int(statuses.eq(status.value).sum()) for status in EventStatus}


def describe_pairs(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the time line: per pair its dates, figures, bars and a link to its own page.

    Args:
        pairs: One row per pair, in the order of time.
    """
    areas = {kind: pairs[f"{kind}_area_m2"].astype("Float64") for kind in KIND_LABELS}
    largest = max((float(values.max()) for values in areas.values() if values.notna().any()), default=0.0)
    return [
        {
            "pair_id": row["pair_id"],
            "before": write_day(row["before_datetime"]) or row["before_id"],
            "after": write_day(row["after_datetime"]) or row["after_id"],
            "day": None if pd.isna(row["after_datetime"]) else _count_days(row["after_datetime"].floor("D")),
            "status": row["status"],
            "reason": None if pd.isna(row["reason"]) else row["reason"],
            "coverage": None if pd.isna(row["analysed_fraction"]) else float(row["analysed_fraction"]),
            "n_changes": None if pd.isna(row["n_changes"]) else int(row["n_changes"]),
            "n_new": None if pd.isna(row["n_new_changes"]) else int(row["n_new_changes"]),
            "areas": {kind: None if pd.isna(value) else format_area(float(value)) for kind, value in _pick(areas, at)},
            "bars": _draw_bars(dict(_pick(areas, at)), largest=largest),
            "base": link_run(row["run"]),
        }
        for at, row in enumerate(pairs.to_dict("records"))
    ]


def _pick(columns: Mapping[str, pd.Series[Any]], at: int) -> list[tuple[str, Any]]:
    return [(kind, values.iloc[at]) for kind, values in columns.items()]


def _draw_bars(areas: Mapping[str, Any], *, largest: float) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "x": 12 + 40 * at, "height": round(_BAR_HEIGHT * float(area) / largest, 1)}
        for at, (kind, area) in enumerate(areas.items())
        if not pd.isna(area) and largest > 0
    ]


def link_run(run: Any) -> str | None:
    """Give the report of a pair's run as seen from the region's page; None where there is none any more.

    Args:
        run: Folder of the run below the region's, or nothing.
    """
    if pd.isna(run) or not run:
        return None
    parts = str(run).strip("/").split("/")
    # What leads elsewhere is no folder of the region's.
    if ".." in parts:
        return None
    return "../" + quote("/".join(parts), safe="/") + "/report/"


def _describe_blocks(
    blocks: Sequence[RegionBlock], *, states: Sequence[PairState], pairs: pd.DataFrame, frame: MapFrame
) -> dict[str, Any] | None:
    if not blocks:
        return None
    described = describe_blocks(blocks, states=states, time_line=pairs, frame=frame)
    return described | {"rows": [row | {"base": link_run(row["run"])} for row in described["rows"]]}


def _describe_assessed(pairs: pd.DataFrame, *, accuracy: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the pairs that people have assessed, in the order of time, each with its figures in words."""
    rows = zip(pairs["pair_id"], pairs["after_datetime"], strict=True)
    return [
        {"after": write_day(moment) or pair_id, "rows": words.rows[:N_FIGURES], "problems": words.problems}
        for pair_id, moment in rows
        if pair_id in accuracy and (words := describe_accuracy(accuracy[pair_id]))
    ]


def _describe_map(ranked: gpd.GeoDataFrame, *, frame: MapFrame) -> dict[str, Any]:
    drawn = draw_changes(ranked, frame=frame, n_markers=0)
    drawn["scale"] = choose_scale_bar(frame.window.width * frame.grid.ground_resolution_m)
    return drawn | {"tiles": {}, "unplaced": ""}


def describe_latest(ranked: gpd.GeoDataFrame, *, frame: MapFrame) -> list[dict[str, Any]]:
    """Give the rows of the still table: of the last date with new changes the largest of them.

    Args:
        ranked: Changes, new ones first, of these the latest, of these the largest.
        frame: The map, for places in words.
    """
    fresh = ranked[ranked["is_new"].fillna(value=False).astype(bool)]
    if fresh.empty:
        return []
    latest = fresh[fresh["after_datetime"].eq(fresh["after_datetime"].iloc[0])].head(MAX_LATEST_ROWS)
    names = ["change_id", "kind", "change", "area_m2", "confidence", "description", "after_datetime", "event_status"]
    places = latest.geometry.representative_point()
    return [
        record
        | {
            "day": write_day(record["after_datetime"]),
            "position": format_position(place.x, place.y, crs=frame.grid.crs),
        }
        for record, place in zip(list_records(pd.DataFrame(latest[names])), places, strict=True)
    ]


def _describe_data(
    ranked: gpd.GeoDataFrame,
    *,
    pairs: pd.DataFrame,
    frame: MapFrame,
    zones: gpd.GeoDataFrame | None,
    ground: GroundPictures | None,
) -> dict[str, Any]:
    described = describe_pairs(pairs)
    index = {pair["pair_id"]: at for at, pair in enumerate(described)}
    runs: npt.NDArray[np.int32] = ranked["pair_id"].map(index).to_numpy(np.int32)
    return {
        "isRegion": True,
        "dates": _describe_pictures(ground, pairs=pairs),
        "kinds": list_kinds(),
        "directions": list_directions(ranked),
        "frame": describe_frame(frame),
        "tiles": None,
        "changes": describe_changes(ranked, frame=frame, kinds=list(KIND_LABELS), runs=runs),
        "zones": draw_zones(zones, frame=frame),
        "runs": [{key: pair[key] for key in ("pair_id", "before", "after", "base")} for pair in described],
    }
