"""A run's report in a few pages for Word: what was compared, what changed, and what nobody could see."""

from __future__ import annotations

import base64
import datetime as dt
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import docx
import geopandas as gpd
import numpy as np
import pandas as pd
from docx.document import Document
from docx.shared import Cm, Pt
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from PIL import Image

from model.errors import FolderError
from model.redaction import shorten_text
from model.safe_text import clean_line
from pipeline.findings.changes import rank_changes
from pipeline.findings.coverage import COARSE, SEEN
from pipeline.findings.seen_ground import find_withheld
from pipeline.grid.grid import Grid
from pipeline.grid.window import UInt8Array
from pipeline.report.accuracy_words import HEADINGS, AccuracyWords, describe_accuracy
from pipeline.report.colours import KIND_COLOURS, KIND_INKS
from pipeline.report.page.map import choose_scale_bar
from pipeline.report.page.pictures import find_visible, read_pictures
from pipeline.report.reviewed import ReviewSummary, describe_reviews
from pipeline.report.words import (
    MAX_TEXT_LENGTH,
    describe_changed,
    describe_coverage,
    describe_directions,
    label_status,
    write_share,
)
from pipeline.runs.record import RunRecord
from pipeline.tables.schemas import TileStatus
from pipeline.tiles.store import TileStore

N_LARGEST_CHANGES = 10
MAX_ZONES = 40
MAX_DRAWN_CHANGES = 5_000
_PICTURE_PX = 1_200
_KIND_STYLES: dict[str, dict[str, Any]] = {
    "building": {"facecolor": KIND_COLOURS["building"], "edgecolor": KIND_COLOURS["building"]},
    # Buildings often fill the same cells.
    "road": {"facecolor": "none", "edgecolor": KIND_INKS["road"], "hatch": "////"},
}
_COLOURS: dict[str, str] = {
    TileStatus.ANALYSED: "#e9eef2",
    TileStatus.IDENTICAL: "#dfe9df",
    TileStatus.UNREADABLE: "#c9a4d8",
    TileStatus.NO_DATA: "#8d9299",
    TileStatus.CLOUDY: "#b7bcc4",
    TileStatus.OUTSIDE: "#ffffff",
    TileStatus.FAILED: "#d64550",
    COARSE: "#e3c04a",
}
_STATES = tuple(_COLOURS)


def make_summary(
    record: RunRecord,
    *,
    tiles: pd.DataFrame,
    changes: gpd.GeoDataFrame,
    zones: gpd.GeoDataFrame | None,
    picture: UInt8Array | None = None,
    accuracy: Mapping[str, Any] | None = None,
) -> bytes:
    """Give the summary as a DOCX file.

    Args:
        record: The run's record.
        tiles: Columns ``row``, ``col``, ``status``, ``is_changed`` and ``model_fit`` of its tiles.
        changes: Its changes.
        zones: Its zones; None without.
        picture: The ground at the later date, as `read_ground` gives it; None where its pixels are gone.
        accuracy: The content of its ``accuracy.json``; None without.
    """
    document = docx.Document()
    made = dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)
    document.core_properties.created = document.core_properties.modified = made
    # ^ In UTC, without a zone, as python-docx writes it; the template has a day of its own.
    document.styles["Normal"].font.size = Pt(10)
    document.core_properties.title = f"Change report {record.run_id}"
    document.core_properties.author = "DeltaVLM"
    document.add_heading("Change report", 0)
    _describe_scenes(document, record)
    drawn = draw_map(Grid.from_dict(record.grid), tiles=tiles, changes=changes, zones=zones, picture=picture)
    document.add_picture(io.BytesIO(drawn), width=Cm(15.5))
    if picture is not None:
        document.add_paragraph("The ground at the later date; tiles are tinted where nothing is known about them.")
    _describe_changes(document, record, changes=changes)
    _describe_coverage(document, record)
    if accuracy is not None:
        _describe_accuracy(document, describe_accuracy(accuracy))
    if zones is not None:
        _describe_zones(document, zones)
    _list_largest(document, changes)
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


def _describe_scenes(document: Document, record: RunRecord) -> None:
    rows = []
    for date in ("before", "after"):
        scene = record.inputs[date]
        rows.append((date, _clean(scene.get("scene_id")), _clean(scene.get("datetime")) or "unknown"))
    _add_table(document, ("scene", "id", "acquired"), rows)
    document.add_paragraph(f"Model {_clean(record.model['model_id'])}, run {record.run_id}.")
    for note in record.notes:
        document.add_paragraph(f"Note: {_clean(note)}.", style="Intense Quote")


def _describe_changes(document: Document, record: RunRecord, *, changes: gpd.GeoDataFrame) -> None:
    document.add_heading("What changed", 1)
    document.add_paragraph(f"{describe_changed(record.changed_tile_count, record.coverage)}.")
    rows = []
    for kind in record.change_counts:
        of_kind = changes[changes["kind"] == kind]
        rows.append(
            (kind, f"{len(of_kind):,}", _write(record.thing_counts.get(kind)), _write(of_kind["area_m2"].sum()))
        )
    _add_table(document, ("kind", "changes", "counted in tiles", "area in m²"), rows)
    if directions := describe_directions(changes):
        document.add_paragraph(f"Of these changes: {directions}.")
    if record.reviews is not None:
        summary = ReviewSummary.from_dict(record.reviews)
        document.add_paragraph(f"{describe_reviews(summary)}. Rejected changes are in the figures above all the same.")
        for note in summary.notes:
            document.add_paragraph(f"{_clean(note)}.")
    if n_left_out := sum(record.left_out_counts.values()):
        least = record.config["report"]["min_confidence"]
        document.add_paragraph(f"{n_left_out:,} further changes have a confidence below {least:g} and are left out.")


def _describe_coverage(document: Document, record: RunRecord) -> None:
    document.add_heading("What was seen", 1)
    document.add_paragraph(describe_coverage(record.coverage))
    rows = [
        (*write_share(share), "; ".join(map(_clean, record.reason_counts.get(share.status, {}))))
        for share in record.coverage.list_shares()
        if share.is_there
    ]
    _add_table(document, ("tiles", "count", "share", "area", "why"), rows)
    document.add_paragraph("Where nothing was seen nothing is known: it may have changed as well.")


def _describe_accuracy(document: Document, words: AccuracyWords) -> None:
    document.add_heading("How accurate this is", 1)
    for sentence in words.sentences:
        document.add_paragraph(sentence)
    for problem in words.problems:
        document.add_paragraph(f"No figures yet: {_clean(problem)}.", style="Intense Quote")
    if words.rows:
        _add_table(document, HEADINGS, words.rows)
    if words.zones:
        rows = [tuple(map(_clean, row)) for row in words.zones[:MAX_ZONES]]
        _add_table(document, ("ground of changed tiles in zone", *HEADINGS[1:]), rows)
    for note in words.notes[:MAX_ZONES]:
        document.add_paragraph(f"{_clean(note)}.")


def _describe_zones(document: Document, zones: gpd.GeoDataFrame) -> None:
    document.add_heading("Zones", 1)
    areas = zones["building_area_m2"].fillna(0) + zones["road_area_m2"].fillna(0)
    ranked = zones.iloc[np.lexsort((zones["zone_id"].to_numpy(dtype=object).astype(str), -areas.to_numpy()))]
    rows = []
    for zone in ranked.head(MAX_ZONES).to_dict("records"):
        seen = f"{zone['seen_fraction']:.0%}" if zone["status"] != "not_seen" else "not seen"
        sums = [zone["building_count"], zone["building_area_m2"], zone["road_count"], zone["road_area_m2"]]
        rows.append((_clean(zone["name"]) or _clean(zone["zone_id"]), seen, *map(_write, sums)))
    _add_table(document, ("zone", "seen", "buildings", "in m²", "roads", "in m²"), rows)
    if len(zones) > MAX_ZONES:
        document.add_paragraph(f"The {MAX_ZONES} of {len(zones):,} zones with most change; all are in zones.parquet.")


def _list_largest(document: Document, changes: gpd.GeoDataFrame) -> None:
    document.add_heading("The largest changes", 1)
    if changes.empty:
        document.add_paragraph("None.")
        return
    largest = rank_changes(changes).head(N_LARGEST_CHANGES)
    places = largest.geometry.representative_point().to_crs("OGC:CRS84")
    for change, place in zip(largest.to_dict("records"), places, strict=True):
        what = " ".join(filter(None, (change["kind"].capitalize(), _clean(change.get("change")))))
        document.add_heading(f"{what}, {change['area_m2']:,.0f} m²", 2)
        words = _clean(change["description"])
        if words:
            document.add_paragraph(f"“{words}”", style="Intense Quote")
        document.add_paragraph(
            f"Confidence {_write(change['confidence'], digits=2)}, at {place.y:.5f}, {place.x:.5f} (latitude, "
            f"longitude); tiles: {change['tile_count']}; {change['change_id']}{_describe_review(change)}."
        )


def _describe_review(change: Mapping[Any, Any]) -> str:
    verdict = change.get("review")
    return "" if verdict is None or pd.isna(verdict) else f"; reviewed: {verdict}"


def _add_table(document: Document, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = document.add_table(rows=1, cols=len(heads), style="Light List Accent 1")
    for cells, texts in [(table.rows[0].cells, heads), *((table.add_row().cells, row) for row in rows)]:
        for cell, text in zip(cells, texts, strict=True):
            cell.text = str(text)
    document.add_paragraph()


def _clean(text: Any) -> str:
    """Give a text without what XML does not know, and not endlessly long; markup is the library's to escape."""
    if text is None or (not isinstance(text, str) and pd.isna(text)):
        return ""
    return shorten_text(clean_line(str(text)), max_length=MAX_TEXT_LENGTH)


def _write(value: Any, *, digits: int = 0) -> str:
    return "not told" if pd.isna(value) else f"{value:,.{digits}f}"


def read_ground(store: TileStore, *, tiles: pd.DataFrame) -> UInt8Array | None:
    """Read what both scenes reach as the later date shows it, (y, x, 3); None where the pixels are gone.

    Args:
        store: The tile store.
        tiles: Columns ``row``, ``col`` and ``valid_fraction`` of its tiles.
    """
    try:
        pictures = read_pictures(
            store,
            is_visible=find_visible(tiles, grid=store.grid),
            window=store.grid.shared_window,
            max_size_px=_PICTURE_PX,
        )
    except (FileNotFoundError, FolderError):
        return None
    data = base64.b64decode(pictures.after_uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.uint8)


def draw_map(
    grid: Grid,
    *,
    tiles: pd.DataFrame,
    changes: gpd.GeoDataFrame,
    zones: gpd.GeoDataFrame | None = None,
    picture: UInt8Array | None = None,
) -> bytes:
    """Draw the ground, tiles by status, changes by kind and the borders of zones as PNG, with a scale and north.

    Args:
        grid: The grid.
        tiles: Columns ``row``, ``col``, ``status``, ``is_changed`` and ``model_fit`` of its tiles.
        changes: The changes; of very many the largest are drawn.
        zones: The zones; None without.
        picture: The ground, as `read_ground` gives it; None without.
    """
    codes = np.zeros((grid.n_rows, grid.n_cols), dtype=np.uint8)
    states = tiles["status"].mask(find_withheld(tiles), COARSE)
    codes[tiles["row"], tiles["col"]] = pd.Categorical(states, categories=list(map(str, _STATES))).codes
    left, _, _, top = grid.tile_bounds(0, 0)
    _, bottom, right, _ = grid.tile_bounds(grid.n_rows - 1, grid.n_cols - 1)
    figure = Figure(figsize=(8, np.clip(8 * grid.n_rows / grid.n_cols, 3, 9)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    colours = ListedColormap(list(_COLOURS.values()))
    tint: Any = 1.0
    if picture is not None:
        west, south, east, north = grid.shared_bounds
        axes.imshow(picture, extent=(west, east, south, north))
        tint = np.where(np.isin(codes, [_STATES.index(status) for status in SEEN]), 0.0, 0.6)
    extent = (left, right, bottom, top)
    axes.imshow(codes, cmap=colours, vmin=-0.5, vmax=len(_STATES) - 0.5, extent=extent, alpha=tint)
    drawn = changes.nlargest(MAX_DRAWN_CHANGES, "area_m2")
    for kind, style in _KIND_STYLES.items():
        shapes = _collect(drawn.geometry[drawn["kind"] == kind])
        axes.add_collection(PatchCollection(shapes, linewidth=0.6, alpha=0.8, **style))
    if zones is not None:
        axes.add_collection(PatchCollection(_collect(zones.geometry), facecolor="none", edgecolor="#222222"))
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    _add_scale(axes, grid=grid)
    is_there = np.unique(codes)
    legend = [
        Patch(facecolor=_COLOURS[_STATES[code]], edgecolor="#999999", label=label_status(_STATES[code]))
        for code in is_there
    ]
    legend += [Patch(label=kind, **style) for kind, style in _KIND_STYLES.items() if (changes["kind"] == kind).any()]
    figure.legend(handles=legend, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _add_scale(axes: Axes, *, grid: Grid) -> None:
    """Draw a bar of a round length and an arrow to the grid's north."""
    scale = choose_scale_bar(grid.width_px * grid.ground_resolution_m)
    part, text = scale["percent"] / 100 * grid.width_px / (grid.n_cols * grid.stride_px), scale["label"]
    style: dict[str, Any] = {
        "color": "#111111",
        "fontsize": 9,
        "path_effects": [withStroke(linewidth=3, foreground="white")],
    }
    axes.plot([0.03, 0.03 + part], [0.03, 0.03], transform=axes.transAxes, color="white", linewidth=5)
    axes.plot([0.03, 0.03 + part], [0.03, 0.03], transform=axes.transAxes, color="#111111", linewidth=2.5)
    axes.text(0.03, 0.045, text, transform=axes.transAxes, ha="left", va="bottom", **style)
    axes.text(0.97, 0.03, "N", transform=axes.transAxes, ha="center", va="bottom", **style)
    arrow = {"arrowstyle": "-|>", "color": "#111111", "linewidth": 1.5}
    ends: dict[str, Any] = {
        "xy": (0.97, 0.17),
        "xytext": (0.97, 0.08),
        "xycoords": "axes fraction",
        "textcoords": "axes fraction",
    }
    axes.annotate("", arrowprops=arrow, **ends)


def _collect(geometry: gpd.GeoSeries) -> list[PathPatch]:
    parts = geometry[~geometry.is_empty].explode(index_parts=False)
    return [
        PathPatch(
            Outline.make_compound_path(*(Outline(np.asarray(ring.coords)) for ring in (part.exterior, *part.interiors)))
        )
        for part in parts
    ]
