"""A run as a page of Markdown: what changed, a map, the largest changes, what was not seen, and where the files are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import pandas as pd

from flows.artifacts.markdown import escape_markdown, make_link
from flows.artifacts.pictures import PICTURE_SIZES, SummaryPictures, draw_pictures
from model.redaction import redact_text, shorten_text
from model.safe_text import clean_line
from pipeline.grid.grid import Grid
from pipeline.report.result import Report
from pipeline.report.reviewed import describe_reviews
from pipeline.report.words import (
    describe_changed,
    describe_coverage,
    describe_dates,
    describe_directions,
    describe_place,
    format_area,
    tidy_text,
    write_share,
)
from pipeline.tiles.store import TileStore

MAX_ARTIFACT_BYTES = 190_000
"""Of one artifact's body, as it is stored."""
N_LARGEST_CHANGES = 5
MAX_WORDS_LENGTH = 300


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What the page of one run tells, but for its pictures."""

    run_id: str
    """Name of the run."""
    report: Report
    """Its report."""
    findings: gpd.GeoDataFrame
    """One row per tile of the grid."""
    largest: gpd.GeoDataFrame
    """Its changes, the largest first."""
    grid: Grid
    """The grid."""
    before_name: str
    """What to call the before scene where its date is not known."""
    after_name: str
    """Likewise the after scene."""


def tabulate_coverage(report: Report) -> list[dict[str, Any]]:
    """Give one row per status: what became of how much ground and how many tiles, and why."""
    rows = []
    for share in report.coverage.list_shares():
        row = dict(zip(("status", "tiles", "share", "area"), write_share(share), strict=True))
        reasons = _join_reasons(report.reason_counts.get(share.status, {}))
        rows.append({**row, "tiles": share.n_tiles, "reasons": reasons})
    return rows


def _join_reasons(counts: Mapping[str, int]) -> str:
    text = "; ".join(f"{clean_line(redact_text(reason))} ({count:,})" for reason, count in counts.items())
    return shorten_text(text, max_length=MAX_WORDS_LENGTH)


def write_summary(facts: RunFacts, *, store: TileStore) -> str:
    """Write the summary with the largest pictures that keep it below `MAX_ARTIFACT_BYTES`."""
    text = ""
    for sizes in PICTURE_SIZES:
        pictures = draw_pictures(
            facts.largest, findings=facts.findings, store=store, n_close_ups=N_LARGEST_CHANGES, sizes=sizes
        )
        text = describe_run(facts, pictures=pictures)
        if len(json.dumps(text).encode()) <= MAX_ARTIFACT_BYTES:
            break
    return text


def describe_run(facts: RunFacts, *, pictures: SummaryPictures) -> str:
    """Give the page as Markdown; all that comes from a model or a user is escaped."""
    report, dates, place = facts.report, _name_dates(facts), describe_place(facts.grid)
    lines = [
        f"# {describe_changed(report.changed_tile_count, report.coverage)}",
        "",
        *(line for note in report.notes for line in (f"> **Note:** {escape_markdown(note)}.", "")),
        f"Between **{dates['before']}** and **{dates['after']}**, around {place['centre']}, {place['extent']}.",
        "",
        _describe_kinds(facts),
        "",
        *([f"**{describe_reviews(report.reviews)}.**", ""] if report.reviews is not None else []),
        _describe_coverage(report),
        "",
    ]
    if pictures.map_uri is not None:
        lines += [f"![Map of the later date with the changes outlined]({pictures.map_uri})", ""]
    lines += [*_describe_largest(facts, pictures=pictures), *_describe_files(facts)]
    return "\n".join(lines)


def _name_dates(facts: RunFacts) -> dict[str, str]:
    found = describe_dates(facts.findings, before_name=facts.before_name, after_name=facts.after_name)
    return {date: escape_markdown(redact_text(str(found[date]))) for date in ("before", "after")}


def _describe_kinds(facts: RunFacts) -> str:
    parts = []
    for kind, count in facts.report.change_counts.items():
        changes = facts.largest[facts.largest["kind"].eq(kind)]
        facts_of_kind = format_area(float(changes["area_m2"].sum())), describe_directions(changes)
        told = ", ".join(filter(None, facts_of_kind))
        parts.append(f"**{count:,}** of kind {kind}{f' ({told})' if count else ''}")
    n_left_out = sum(facts.report.left_out_counts.values())
    left_out = (
        f" {n_left_out:,} more left out, as their confidence is below `report.min_confidence`." if n_left_out else ""
    )
    return f"Changes: {', '.join(parts)}.{left_out}"


def _describe_coverage(report: Report) -> str:
    sentence = describe_coverage(report.coverage)
    if not report.is_complete:
        sentence += " **Partly failed:** the table *coverage* and the report say which tiles and why."
    return sentence


def _describe_largest(facts: RunFacts, *, pictures: SummaryPictures) -> list[str]:
    rows = facts.largest.head(N_LARGEST_CHANGES)
    if rows.empty:
        if facts.report.coverage.withheld_counts:
            return ["The model tells of no change, but was not made to see any on ground as coarse.", ""]
        return ["No change was found where the model looked.", ""]
    lines = ["## The largest changes", ""]
    for place, row in enumerate(rows.to_dict("records")):
        lines += [f"**{place + 1}.** {_describe_change(row)}", ""]
        if place < len(pictures.close_ups):
            lines += [f"![Change {place + 1}, before and after]({pictures.close_ups[place]})", ""]
        if not pd.isna(row["description"]):
            lines += [f"> {_quote(row['description'])}", ""]
    n_more = len(facts.largest) - len(rows)
    return [*lines, *([f"The report has {n_more:,} more.", ""] if n_more else [])]


def _describe_change(change: Mapping[Any, Any]) -> str:
    confidence = change["confidence"]
    direction = "" if pd.isna(change["change"]) else f" {change['change']}"
    what = [f"{change['kind']}{direction}", format_area(change["area_m2"])]
    if not pd.isna(confidence):
        what.append(f"confidence {confidence:.2f}")
    first_tile_id, _, others = str(change["tile_ids"]).partition(";")
    what.append(f"{'from ' if others else ''}tile {first_tile_id}")
    return escape_markdown(", ".join(what))


def _quote(description: str) -> str:
    return escape_markdown(shorten_text(tidy_text(redact_text(description)), max_length=MAX_WORDS_LENGTH))


def _describe_files(facts: RunFacts) -> list[str]:
    links = [_link(facts.report.folder.join(name)) for name in facts.report.names]
    model_id = escape_markdown(redact_text(str(facts.findings["model_id"].iloc[0])))
    return ["## Files", "", *(f"- {link}" for link in links), "", f"Run {facts.run_id}, model {model_id}."]


def _link(path: str) -> str:
    uri = make_link(path)
    # A browser may refuse to follow it from another site's page, so what can be copied is there as well.
    return f"[{escape_markdown(redact_text(path))}](<{uri}>)"
