"""The report's page: one HTML file that needs nothing else, bounded in size whatever the region's.

First everything the page shows is worked out as plain values, then the template puts it down. The template
escapes all of it, and the page itself forbids any script but its own and anything from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from model.interface import Prompt
from pipeline.findings.changes import count_owned, rank_changes
from pipeline.findings.coverage import Coverage
from pipeline.findings.decide import BARE_YES, CONTRADICTION
from pipeline.grid.grid import Grid
from pipeline.report.accuracy_words import describe_accuracy
from pipeline.report.page.columns import (
    describe_changes,
    describe_frame,
    describe_tiles,
    list_records,
    note_shapes,
    write_json,
)
from pipeline.report.page.map import (
    MAX_DRAWN_CHANGES,
    MAX_MAP_SIZE_PX,
    MapFrame,
    describe_map,
    find_unplaced,
    frame_close_up,
)
from pipeline.report.page.pictures import TileCallback, View, find_visible, read_views
from pipeline.report.page.template import render_template
from pipeline.report.page.zones import describe_zones, draw_zones
from pipeline.report.plot_figures import PlotText
from pipeline.report.reviewed import ReviewSummary, word_reviews
from pipeline.report.words import (
    FILTERS,
    KIND_LABELS,
    STATUS_MEANINGS,
    count_reasons,
    describe_dates,
    describe_directions,
    describe_place,
    format_position,
    label_status,
    list_directions,
    list_kinds,
)
from pipeline.tables.schemas import CHANGE_REVIEW_FIELDS, TileStatus
from pipeline.tiles.store import TileStore

MAX_CARDS = 12
MAX_TABLE_ROWS = 40
_CLOSE_UP_SIZE_PX = 300


def render_page(
    findings: gpd.GeoDataFrame,
    *,
    changes: gpd.GeoDataFrame,
    coverage: Coverage,
    store: TileStore,
    prompts: Sequence[Prompt],
    told: npt.NDArray[np.uint8],
    before_name: str,
    after_name: str,
    zones: gpd.GeoDataFrame | None = None,
    plots: Mapping[str, PlotText] | None = None,
    notes: Sequence[str] = (),
    accuracy: Mapping[str, Any] | None = None,
    reviews: ReviewSummary | None = None,
    on_tile: TileCallback | None = None,
    n_left_out: int = 0,
    min_confidence: float = 0.0,
) -> str:
    """Give the page as HTML text.

    Args:
        findings: One row per tile of the grid.
        changes: What `dissolve_changes` made of them.
        coverage: What became of the ground.
        store: The tile store, for the pictures.
        prompts: The questions of the run.
        told: What `choose_told` gave: the tiles that the files beside the page tell of.
        before_name: What to call the before scene.
        after_name: Likewise the after scene.
        zones: What the findings sum up to per zone, when zones are given.
        plots: Words for the pictures in ``plots/`` beside the page, by the names of their files.
        notes: What whoever reads it has to know of all of it.
        accuracy: The content of ``accuracy.json``; None without.
        reviews: How far people have reviewed the report; None: not at all.
        on_tile: As of `read_views`.
        n_left_out: Changes that are not among them, as they are less sure than `min_confidence`.
        min_confidence: Least confidence of those that are.
    """
    frame = MapFrame(grid=store.grid)
    is_visible = find_visible(findings, grid=store.grid)
    ranked = rank_changes(changes)
    entries = _describe_changes(ranked.head(MAX_CARDS + MAX_TABLE_ROWS), grid=store.grid)
    shown = ranked.geometry.head(MAX_CARDS).tolist()
    windows = [frame_close_up(geometry, grid=store.grid) for geometry in shown]
    views = [View(window=window, max_size_px=_CLOSE_UP_SIZE_PX) for window in windows]
    whole = View(window=frame.window, max_size_px=MAX_MAP_SIZE_PX)
    pictures, *close_ups = read_views(store, is_visible=is_visible, views=[whole, *views], on_tile=on_tile)
    cards = [
        entry | {"pictures": close_up, "window": window, "path": frame.draw([geometry], tolerance_m=0)}
        for entry, close_up, window, geometry in zip(entries, close_ups, windows, shown, strict=False)
    ]
    place = describe_place(store.grid)
    dates = describe_dates(findings, before_name=before_name, after_name=after_name)
    context = {
        "dates": dates,
        "notes": notes,
        "accuracy": None if accuracy is None else describe_accuracy(accuracy),
        "reviews": None if reviews is None else word_reviews(reviews),
        "n_left_out": n_left_out,
        "min_confidence": min_confidence,
        "place": place,
        "coverage": coverage,
        "shares": describe_shares(coverage, findings=findings),
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
        **_describe_explorer(findings, ranked=ranked, frame=frame, told=told, zones=zones, dates=dates),
    }
    return render_template("report/page/page.html", context, filters=FILTERS)


def _describe_explorer(
    findings: gpd.GeoDataFrame,
    *,
    ranked: gpd.GeoDataFrame,
    frame: MapFrame,
    told: npt.NDArray[np.uint8],
    zones: gpd.GeoDataFrame | None,
    dates: Mapping[str, Any],
) -> dict[str, Any]:
    """Give what the page's script works with, and the parts of the page that it works on."""
    kinds = list_kinds()
    tiles = describe_tiles(findings, grid=frame.grid, told=told)
    data = {
        "isRegion": False,
        "dates": {date: dates[date] for date in ("before", "after")},
        "kinds": kinds,
        "directions": list_directions(ranked),
        "frame": describe_frame(frame),
        "tiles": tiles,
        "changes": describe_changes(ranked, frame=frame, kinds=list(KIND_LABELS)),
        "zones": draw_zones(zones, frame=frame),
    }
    return {
        "data": write_json(data),
        "kinds": kinds,
        "directions": data["directions"],
        "days": [],
        "has_tiles": tiles is not None,
    }


def describe_shares(coverage: Coverage, *, findings: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """Give what became of the ground in the order of `STATUS_MEANINGS`, leaving out what does not occur."""
    reasons = count_reasons(zip(findings["status"], findings["reason"].fillna(""), strict=True))
    shares = {share.status: share for share in coverage.list_shares() if share.is_there}
    return [
        {"share": shares[status], "label": label_status(status), "meaning": meaning, "reasons": reasons.get(status, {})}
        for status, meaning in STATUS_MEANINGS.items()
        if status in shares
    ]


def summarise_changes(findings: gpd.GeoDataFrame, *, changes: gpd.GeoDataFrame, grid: Grid) -> dict[str, Any]:
    """Sum up the findings in the few figures that stand at the top of the page."""
    verdicts, statuses = findings["is_changed"], findings["status"]
    is_inside = statuses.ne(TileStatus.OUTSIDE.value)
    is_answered = statuses.isin([TileStatus.ANALYSED.value, TileStatus.UNREADABLE.value])
    confidences = findings["change_confidence"][verdicts.fillna(value=False).astype(bool)].dropna()
    return {
        "tiles": len(findings),
        "inside": int(is_inside.sum()),
        "looked_at": int(is_answered.sum()),
        "changed": int(verdicts.fillna(value=False).sum()),
        "unchanged": int((~verdicts.dropna().astype(bool)).sum()),
        "unknown": int((verdicts.isna() & is_inside).sum()),
        "has_blanks": bool(findings["valid_fraction"].lt(1).any()),
        "unplaced": int(find_unplaced(findings).sum()),
        "contradictions": int(findings["reason"].fillna("").str.startswith(CONTRADICTION).sum()),
        "bare": int(findings["reason"].eq(BARE_YES).sum()),
        "confidence": float(confidences.astype(float).mean()) if len(confidences) else None,
        "kinds": [
            {
                "kind": kind,
                "count": _sum_or_none(count_owned(findings, kind=kind, grid=grid)),
                "changes": int(changes["kind"].eq(kind).sum()),
                "area_m2": float(changes["area_m2"][changes["kind"].eq(kind)].sum()),
                "directions": describe_directions(changes[changes["kind"].eq(kind)]),
            }
            for kind in KIND_LABELS
        ],
    }


def _sum_or_none(counts: npt.NDArray[np.float64]) -> int | None:
    told = counts[~np.isnan(counts)]
    return round(float(told.sum())) if len(told) else None


def _describe_changes(changes: gpd.GeoDataFrame, *, grid: Grid) -> list[dict[str, Any]]:
    names = ["change_id", "kind", "change", "area_m2", "cell_count", "tile_count", "confidence", "description"]
    reviewed = [field.name for field in CHANGE_REVIEW_FIELDS if field.name in changes]
    records = list_records(pd.DataFrame(changes[[*names, *reviewed, "tile_ids"]]))
    return [
        dict.fromkeys(field.name for field in CHANGE_REVIEW_FIELDS)
        | record
        | {
            "number": number,
            "first_tile_id": record["tile_ids"].partition(";")[0],
            "position": format_position(*shapely.get_coordinates(place)[0], crs=grid.crs),
        }
        for number, (record, place) in enumerate(
            zip(records, shapely.point_on_surface(changes.geometry.to_numpy()), strict=True), start=1
        )
    ]


def list_troubles(findings: gpd.GeoDataFrame) -> dict[str, Any]:
    """List the tiles whose answers are missing or could not be read, as many as the page has room for."""
    rows = findings[findings["status"].isin([TileStatus.UNREADABLE.value, TileStatus.FAILED.value])]
    shown = rows[["tile_id", "status", "reason"]].head(MAX_TABLE_ROWS).fillna({"reason": ""})
    return {"count": len(rows), "rows": shown.to_dict("records")}
