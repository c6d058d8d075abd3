"""What was seen and what was not, counted by status and by kind of reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import geopandas as gpd
import pandas as pd
import pyproj

from model.instances import Direction
from model.parsing import close_stops
from model.redaction import shorten_text
from model.safe_text import clean_line
from pipeline.findings.coverage import COARSE, OFF, Coverage, Share
from pipeline.findings.dates import find_date
from pipeline.grid.grid import Grid
from pipeline.tables.schemas import TileStatus

MAX_REASONS_PER_STATUS = 20
OTHER_REASONS = "other reasons"

_DETAIL = re.compile(r" *\([^()]*\)")


def classify_reason(reason: str) -> str:
    """Give the kind of a reason: its words without what stands in brackets, which tells of one tile."""
    return _shorten(_DETAIL.sub("", clean_line(reason)).strip())


def count_reasons(outcomes: Iterable[tuple[str, str | None]]) -> dict[str, dict[str, int]]:
    """Count tiles per status and kind of reason.

    Args:
        outcomes: Status and reason of each tile.

    Returns:
        Per status, the kinds of reason, the most frequent first; of more than `MAX_REASONS_PER_STATUS` the rest stand
        together as `OTHER_REASONS`. Tiles without a reason are left out.
    """
    counts: dict[str, Counter[str]] = {}
    for status, reason in outcomes:
        if reason:
            counts.setdefault(status, Counter())[classify_reason(reason)] += 1
    return {status: _keep_most_frequent(counts[status]) for status in sorted(counts)}


def _keep_most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= MAX_REASONS_PER_STATUS:
        return dict(ranked)
    kept, rest = ranked[: MAX_REASONS_PER_STATUS - 1], ranked[MAX_REASONS_PER_STATUS - 1 :]
    return {**dict(kept), OTHER_REASONS: sum(count for _, count in rest)}


def describe_place(grid: Grid) -> dict[str, str]:
    """Name the place in words: centre, extent and grid."""
    width_m, height_m = grid.width_px * grid.resolution_m, grid.height_px * grid.resolution_m
    tile_m = grid.tile_size_px * grid.resolution_m
    centre = grid.transform @ (grid.left_px + grid.width_px / 2, grid.top_px + grid.height_px / 2)
    crs = pyproj.CRS.from_user_input(grid.crs)
    authority = crs.to_authority()
    return {
        "centre": format_position(*centre, crs=grid.crs),
        "extent": f"{_format_length(width_m)} by {_format_length(height_m)}",
        "crs": ":".join(authority) if authority else crs.name,
        "tile": f"{tile_m:g} m",
        "cell": f"{tile_m / 3:.0f} m",
        "resolution": f"{grid.resolution_m:g} m",
    }


def format_position(x: float, y: float, *, crs: str) -> str:
    """Write coordinates of a CRS as latitude and longitude."""
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return f"{abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'}"


def _format_length(length_m: float) -> str:
    return f"{length_m / 1000:.2f} km" if length_m >= 1000 else f"{length_m:.0f} m"


MAX_TEXT_LENGTH = 400
"""Characters of a text that a page has room for; the tables have all of it."""

KIND_LABELS = {"building": ("building", "buildings"), "road": ("road", "roads")}

STATUS_MEANINGS: Mapping[str, str] = {
    TileStatus.ANALYSED: "the model looked at both dates and its answers could be read",
    TileStatus.IDENTICAL: "the same pixels on both dates, so there was nothing to ask",
    COARSE: "the model looked and saw no change, but was not made for ground as coarse: it may have changed",
    TileStatus.UNREADABLE: "an answer could not be read; its words are kept",
    TileStatus.FAILED: "something went wrong; running again tries these tiles again",
    TileStatus.NO_DATA: "not visible on both dates: tiles with too little to look at, and gaps in others",
    TileStatus.CLOUDY: "clouds hide the ground on one of the dates",
    OFF: "ground of the area of interest that lies off what both scenes show",
    TileStatus.OUTSIDE: "tiles outside the area of interest",
}
"""What became of ground, in the order of the page's table."""


_OTHER_LABELS = {OFF: "off the scenes", COARSE: "too coarse to tell"}


def label_status(status: str) -> str:
    """Write a status, or what stands among the statuses for other ground, in words."""
    return _OTHER_LABELS.get(status) or status.replace("_", " ")


def write_share(share: Share) -> tuple[str, str, str, str]:
    """Write status, tiles, part and area of one part of the ground."""
    measures = (format_percent(share.fraction), format_area(share.area_m2)) if share.area_m2 else ("-", "-")
    return label_status(share.status), f"{share.n_tiles:,}", *measures


def describe_changed(n_changed: int, coverage: Coverage) -> str:
    """Say how many tiles changed, and of how many nobody can tell that they did not."""
    told = f"{n_changed:,} of {coverage.n_tiles_inside:,} tiles changed"
    n_withheld = sum(coverage.withheld_counts.values())
    return f"{told}, {n_withheld:,} are too coarse to tell" if n_withheld else told


def describe_coverage(coverage: Coverage) -> str:
    """Say in a sentence how much of the ground was seen."""
    if not coverage.ground_m2:
        return "How much of the ground was seen was not measured."
    seen = f"Seen: {format_percent(coverage.seen_fraction)} of the ground"
    unseen_m2 = coverage.total_m2 - coverage.seen_m2
    return f"{seen}; nothing is known about {format_area(unseen_m2)}." if unseen_m2 >= 0.5 else f"{seen}."


def list_directions(changes: pd.DataFrame) -> list[str]:
    """Give what may have become of the ground, in the order of its colours; nothing where no change tells it.

    Args:
        changes: Changes; reports of former versions have no column that tells it.
    """
    is_told = "change" in changes and changes["change"].notna().any()
    return [direction.value for direction in Direction] if is_told else []


def describe_directions(changes: pd.DataFrame) -> str:
    """Say of how many changes what became of the ground, such as 3 built, 1 removed; empty where nobody tells."""
    counts = {name: int(changes["change"].eq(name).sum()) for name in list_directions(changes)}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


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


def tidy_text(text: str) -> str:
    """Set a description as a sentence; the captions that models learn from are in lower case."""
    text = close_stops(text)
    return _shorten(text[:1].upper() + text[1:])


_shorten = partial(shorten_text, max_length=MAX_TEXT_LENGTH)

FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": format_number,
    "percent": format_percent,
    "area": format_area,
    "shorten": _shorten,
    "tidy": tidy_text,
    "kind": lambda name, n: KIND_LABELS[name][n != 1],
}
"""How the templates write values."""


def describe_dates(findings: gpd.GeoDataFrame, *, before_name: str, after_name: str) -> dict[str, str | bool]:
    """Name both dates: by day where the findings know it, by scene where they do not."""
    days = [write_day(find_date(findings, f"{date}_datetime")) for date in ("before", "after")]
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
