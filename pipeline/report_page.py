"""The report's page: one HTML file that needs nothing else, bounded in size whatever the region's.

First everything the page shows is worked out as plain values, then the template puts it down. The template
escapes all of it, and the page itself forbids any script but its own and anything from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from model.interface import Prompt
from pipeline.changes import count_owned
from pipeline.coverage import count_reasons
from pipeline.grid import Grid
from pipeline.plot_figures import PlotText
from pipeline.report_columns import (
    describe_changes,
    describe_frame,
    describe_tiles,
    note_shapes,
    write_json,
)
from pipeline.report_map import (
    MAX_DRAWN_CHANGES,
    MAX_MAP_SIZE_PX,
    MapFrame,
    describe_map,
    describe_place,
    find_unplaced,
    format_position,
    frame_close_up,
)
from pipeline.report_pictures import read_pictures
from pipeline.report_template import render_template
from pipeline.report_tiles import choose_told
from pipeline.report_zones import describe_zones, draw_zones
from pipeline.tile_store import TileStore
from pipeline.tile_table import TileStatus

MAX_CARDS = 12
MAX_TABLE_ROWS = 40
MAX_TEXT_LENGTH = 400
_CLOSE_UP_SIZE_PX = 300

KIND_LABELS = {"building": ("building", "buildings"), "road": ("road", "roads")}

STATUS_MEANINGS = {
    TileStatus.ANALYSED: "the model looked at both dates and its answers could be read",
    TileStatus.IDENTICAL: "the same pixels on both dates, so there was nothing to ask",
    TileStatus.UNREADABLE: "an answer could not be read; its words are kept",
    TileStatus.FAILED: "something went wrong; running again tries these tiles again",
    TileStatus.NO_DATA: "too little of the ground is visible on both dates",
    TileStatus.CLOUDY: "clouds hide the ground on one of the dates",
    TileStatus.OUTSIDE: "outside the area of interest",
}
"""What each status means, in the order of the page's table."""


def render_page(
    findings: gpd.GeoDataFrame,
    *,
    changes: gpd.GeoDataFrame,
    store: TileStore,
    prompts: Sequence[Prompt],
    before_name: str,
    after_name: str,
    zones: gpd.GeoDataFrame | None = None,
    plots: Mapping[str, PlotText] | None = None,
) -> str:
    """Give the page as HTML text.

    Args:
        findings: One row per tile of the grid.
        changes: What `dissolve_changes` made of them.
        store: The tile store, for the pictures.
        prompts: The questions of the run.
        before_name: What to call the before scene.
        after_name: Likewise the after scene.
        zones: What the findings sum up to per zone, when zones are given.
        plots: Words for the pictures in ``plots/`` beside the page, by the names of their files.
    """
    frame = MapFrame(grid=store.grid)
    is_visible = _find_visible(findings, grid=store.grid)
    ranked = changes.sort_values(["area_m2", "change_id"], ascending=[False, True], ignore_index=True)
    entries = _describe_changes(ranked.head(MAX_CARDS + MAX_TABLE_ROWS), grid=store.grid)
    pictures = read_pictures(store, is_visible=is_visible, window=frame.window, max_size_px=MAX_MAP_SIZE_PX)
    cards = [
        entry | _show_close_up(geometry, store=store, is_visible=is_visible)
        for entry, geometry in zip(entries, ranked.geometry.head(MAX_CARDS), strict=False)
    ]
    place = describe_place(store.grid)
    dates = describe_dates(findings, before_name=before_name, after_name=after_name)
    context = {
        "dates": dates,
        "place": place,
        "coverage": summarise_coverage(findings, grid=store.grid),
        "figures": summarise_changes(findings, changes=changes, grid=store.grid),
        "map": describe_map(findings, ranked=ranked, frame=frame, n_markers=MAX_CARDS),
        "map_note": note_shapes(changes["geometry_source"], cell=place["cell"]),
        "pictures": {"before": pictures.before_uri, "after": pictures.after_uri},
        "cards": cards,
        "rows": entries[MAX_CARDS:],
        "n_changes": len(ranked),
        "n_drawn": min(len(ranked), MAX_DRAWN_CHANGES),
        "troubles": list_troubles(findings),
        "max_troubles": MAX_TABLE_ROWS,
        "zones": describe_zones(zones),
        "plots": plots or {},
        "prompts": prompts,
        "run_id": findings["run_id"].iloc[0],
        "model_id": findings["model_id"].iloc[0],
        **_describe_explorer(findings, ranked=ranked, frame=frame, zones=zones, dates=dates),
    }
    return render_template("report_page.html", context, filters=FILTERS)


def _describe_explorer(
    findings: gpd.GeoDataFrame,
    *,
    ranked: gpd.GeoDataFrame,
    frame: MapFrame,
    zones: gpd.GeoDataFrame | None,
    dates: Mapping[str, Any],
) -> dict[str, Any]:
    """Give what the page's script works with, and the parts of the page that it works on."""
    kinds = list_kinds()
    tiles = describe_tiles(findings, grid=frame.grid, told=choose_told(findings))
    data = {
        "isRegion": False,
        "dates": {date: dates[date] for date in ("before", "after")},
        "kinds": kinds,
        "frame": describe_frame(frame),
        "tiles": tiles,
        "changes": describe_changes(ranked, frame=frame, kinds=list(KIND_LABELS)),
        "zones": draw_zones(zones, frame=frame),
    }
    return {"data": write_json(data), "kinds": kinds, "days": [], "has_tiles": tiles is not None}


def list_kinds() -> list[dict[str, Any]]:
    """Give the kinds of change in the order of their colours, with the words for one and for several."""
    return [{"name": name, "labels": labels} for name, labels in KIND_LABELS.items()]


def format_number(value: float) -> str:
    """Write a count; a part of one, where a tile's count is shared out, to a tenth."""
    return f"{round(value):,}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def format_percent(fraction: float) -> str:
    """Write a part of a whole; what is not nothing and not all is never written as 0 % or 100 %."""
    if 0 < fraction < 0.01:
        return "< 1 %"
    if 0.99 < fraction < 1:
        return "> 99 %"
    return f"{100 * fraction:.0f} %"


def format_area(area_m2: float) -> str:
    """Write an area in a unit that keeps it short."""
    if area_m2 >= 1e6:
        return f"{area_m2 / 1e6:,.2f} km²"
    return f"{area_m2 / 1e4:.1f} ha" if area_m2 >= 1e4 else f"{area_m2:.0f} m²"


def shorten_text(text: str) -> str:
    """Keep a text to what a page has room for; the tables have all of it."""
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1].rstrip() + "…"


def tidy_text(text: str) -> str:
    """Set a description as a sentence; the tables have the model's words as they came.

    The captions that models learn from are in lower case with blanks before each stop.
    """
    text = re.sub(r"\s+(?=[.,;:!?])", "", text.strip())
    return shorten_text(text[:1].upper() + text[1:])


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": format_number,
    "percent": format_percent,
    "area": format_area,
    "shorten": shorten_text,
    "tidy": tidy_text,
    "kind": lambda name, n: KIND_LABELS[name][n != 1],
}
"""How the templates write values."""


def describe_dates(findings: gpd.GeoDataFrame, *, before_name: str, after_name: str) -> dict[str, str | bool]:
    """Name both dates: by day where the findings know it, by scene where they do not."""
    days = [write_day(findings[f"{date}_datetime"].iloc[0]) for date in ("before", "after")]
    return {
        "before": days[0] or before_name,
        "after": days[1] or after_name,
        "before_name": before_name,
        "after_name": after_name,
        "is_known": None not in days,
    }


def write_day(moment: pd.Timestamp | None) -> str | None:
    """Write a day in words; None for none."""
    return None if pd.isna(moment) else f"{moment.day} {moment.month_name()} {moment.year}"


def summarise_coverage(findings: gpd.GeoDataFrame, *, grid: Grid) -> list[dict[str, Any]]:
    """Count tiles per status, in the order of `STATUS_MEANINGS`, leaving out what does not occur."""
    counts = findings["status"].value_counts()
    reasons = count_reasons(zip(findings["status"], findings["reason"].fillna(""), strict=True))
    return [
        {
            "status": status.value,
            "label": status.value.replace("_", " "),
            "meaning": meaning,
            "reasons": reasons.get(status.value, {}),
            "count": int(counts[status.value]),
            "fraction": int(counts[status.value]) / len(findings),
            "area_m2": int(counts[status.value]) * grid.tile_area_m2,
        }
        for status, meaning in STATUS_MEANINGS.items()
        if status.value in counts.index
    ]


def summarise_changes(findings: gpd.GeoDataFrame, *, changes: gpd.GeoDataFrame, grid: Grid) -> dict[str, Any]:
    """Sum up the findings in the few figures that stand at the top of the page."""
    verdicts, statuses = findings["is_changed"], findings["status"]
    is_answered = statuses.isin([TileStatus.ANALYSED.value, TileStatus.UNREADABLE.value])
    confidences = findings["change_confidence"][verdicts.fillna(value=False).astype(bool)].dropna()
    return {
        "tiles": len(findings),
        "looked_at": int(is_answered.sum()),
        "changed": int(verdicts.fillna(value=False).sum()),
        "unchanged": int((~verdicts.dropna().astype(bool)).sum()),
        "unknown": int(verdicts.isna().sum()),
        "has_blanks": bool(findings["valid_fraction"].lt(1).any()),
        "unplaced": int(find_unplaced(findings).sum()),
        "contradictions": int((findings["reason"].notna() & statuses.eq(TileStatus.ANALYSED.value)).sum()),
        "confidence": float(confidences.astype(float).mean()) if len(confidences) else None,
        "kinds": [
            {
                "kind": kind,
                "count": _sum_or_none(count_owned(findings, kind=kind, grid=grid)),
                "changes": int(changes["kind"].eq(kind).sum()),
                "area_m2": float(changes["area_m2"][changes["kind"].eq(kind)].sum()),
            }
            for kind in KIND_LABELS
        ],
    }


def _sum_or_none(counts: npt.NDArray[np.float64]) -> int | None:
    told = counts[~np.isnan(counts)]
    return round(float(told.sum())) if len(told) else None


def _describe_changes(changes: gpd.GeoDataFrame, *, grid: Grid) -> list[dict[str, Any]]:
    names = ["change_id", "kind", "area_m2", "cell_count", "tile_count", "count", "confidence", "description"]
    plain = pd.DataFrame(changes[[*names, "tile_ids"]]).astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return [
        {str(name): value for name, value in record.items()}
        | {
            "number": number,
            "first_tile_id": record["tile_ids"].partition(";")[0],
            "position": format_position(*shapely.get_coordinates(place)[0], crs=grid.crs),
        }
        for number, (record, place) in enumerate(
            zip(records, shapely.point_on_surface(changes.geometry.to_numpy()), strict=True), start=1
        )
    ]


def _show_close_up(geometry: shapely.Polygon, *, store: TileStore, is_visible: npt.NDArray[np.bool_]) -> dict[str, Any]:
    window = frame_close_up(geometry, grid=store.grid)
    return {
        "pictures": read_pictures(store, is_visible=is_visible, window=window, max_size_px=_CLOSE_UP_SIZE_PX),
        "window": window,
        "path": MapFrame(grid=store.grid).draw([geometry], tolerance_m=0),
    }


def _find_visible(findings: gpd.GeoDataFrame, *, grid: Grid) -> npt.NDArray[np.bool_]:
    """Tell which tiles have pixels to show, bool (row, col)."""
    is_visible = np.zeros((grid.n_rows, grid.n_cols), dtype=np.bool_)
    is_visible[findings["row"].to_numpy(np.int64), findings["col"].to_numpy(np.int64)] = findings["valid_fraction"] > 0
    return is_visible


def list_troubles(findings: gpd.GeoDataFrame) -> dict[str, Any]:
    """List the tiles whose answers are missing or could not be read, as many as the page has room for."""
    rows = findings[findings["status"].isin([TileStatus.UNREADABLE.value, TileStatus.FAILED.value])]
    shown = rows[["tile_id", "status", "reason"]].head(MAX_TABLE_ROWS).fillna({"reason": ""})
    return {"count": len(rows), "rows": shown.to_dict("records")}
