"""The sixth verb: findings become the files that people and programs take away from a run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa

from model.interface import Prompt
from model.sealing import encode_sealed
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.dates import is_composed
from pipeline.findings.doubts import list_doubts
from pipeline.findings.totals import Totals
from pipeline.grid.grid import Grid
from pipeline.report.page.page import render_page
from pipeline.report.page.tile_files import TilePictures, choose_told, make_tile_files
from pipeline.report.plot_figures import summarise_run
from pipeline.report.plots import PLOTS_FOLDER, describe_plots, draw_plots
from pipeline.report.result import STAGE, Report
from pipeline.report.reviewed import ReviewMarks, add_review_fields, mark_tiles, mark_totals, summarise_reviews
from pipeline.report.words import count_reasons
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import (
    ACCURACY_NAME,
    CHANGES_NAME,
    FLATGEOBUF_NAME,
    PAGE_FILES_FOLDER,
    PAGE_NAME,
    STYLE_NAME,
    TILES_NAME,
    ZONES_NAME,
    is_run_file,
)
from pipeline.storage.object_facts import ObjectFacts, describe_bytes, describe_file
from pipeline.summary import StageSummary
from pipeline.tables.geoparquet import encode_geoparquet, order_along_hilbert
from pipeline.tables.schemas import CHANGE_REVIEW_FIELDS, CHANGES_SCHEMA, TILE_REVIEW_FIELDS
from pipeline.tables.vector_formats import write_flatgeobuf
from pipeline.tiles.store import TileStore


@dataclass(frozen=True, kw_only=True)
class _ReportWriter:
    """Writes the files of one report, and knows what it wrote."""

    folder: RunFolder
    files: dict[str, ObjectFacts] = field(default_factory=dict)

    def put(self, name: str, data: bytes) -> None:
        self.folder.put(name, data)
        self.files[name] = describe_bytes(data)

    def put_table(self, name: str, frame: gpd.GeoDataFrame, *, schema: pa.Schema, key: str) -> None:
        self.put(name, encode_geoparquet(frame, schema=schema, order=order_along_hilbert(frame, key=key)))

    def put_for_gis(self) -> None:
        """Write the changes once more as FlatGeobuf, and the style for it."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "changes.fgb")
            write_flatgeobuf(self.folder.read(CHANGES_NAME), path)
            self.folder.put_file(FLATGEOBUF_NAME, path)
            self.files[FLATGEOBUF_NAME] = describe_file(path)
        self.put(STYLE_NAME, resources.files("pipeline.report").joinpath("style.qml").read_bytes())

    def remove_former(self) -> None:
        """Remove what a former report of the run had and this one does not have."""
        former = {ZONES_NAME, ACCURACY_NAME, *filter(is_run_file, self.folder.list_names(PAGE_FILES_FOLDER))}
        self.folder.delete(sorted(former - self.files.keys()))


def write_report(
    findings: gpd.GeoDataFrame,
    *,
    totals: Totals,
    store: TileStore,
    folder: RunFolder,
    prompts: Sequence[Prompt],
    before_name: str = "before",
    after_name: str = "after",
    notes: Sequence[str] = (),
    assess: Callable[[Totals], Mapping[str, Any] | None] | None = None,
    review: Callable[[Totals], ReviewMarks | None] | None = None,
    min_confidence: float = 0.0,
    before_writing: Callable[[], None] | None = None,
) -> tuple[Report, StageSummary]:
    """Write the tables, the page and the plots into the run's folder, in ``report/``.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        totals: What `sum_up` made of them; given up while the files are written, if nobody else holds it.
        store: The tile store, for its grid and the pictures of the page.
        folder: Folder of the run.
        prompts: The questions of the run; those of kind `ask` have columns.
        before_name: What to call the before scene on the page.
        after_name: Likewise the after scene.
        notes: What whoever reads it has to know of all of it.
        assess: Gives what people's reviews say of the totals, or None; None: there are no reviews.
        review: Likewise what they say of each tile and change.
        min_confidence: What `sum_up` was given.
        before_writing: Called once, before the first file of a former report is replaced.

    Raises:
        ValueError: the findings do not hold every tile of the grid exactly once.
    """
    start = time.perf_counter()
    _check_complete(findings, grid=store.grid)
    writer = _ReportWriter(folder=folder)
    figures, told = summarise_run(findings, totals.changes, grid=store.grid), choose_told(findings)
    accuracy = None if assess is None else assess(totals)
    marks = None if review is None else review(totals)
    if marks is not None:
        totals, findings = mark_totals(totals, marks), mark_tiles(findings, marks.tiles)
    reviews = None if marks is None else summarise_reviews(marks, n_changes=len(totals.changes))
    pictures = TilePictures(findings, told=told)
    words: dict[str, Any] = {"before_name": before_name, "after_name": after_name, "plots": describe_plots(figures)}
    doubts = list_doubts(findings, changes=totals.changes, prompts=prompts)
    notes = tuple(dict.fromkeys([*notes, *doubts]))
    words |= {"notes": notes, "accuracy": accuracy, "reviews": reviews}
    words |= {"changes": totals.changes, "coverage": totals.coverage, "zones": totals.zones}
    words |= {"n_left_out": sum(totals.left_out_counts.values()), "min_confidence": min_confidence}
    page = render_page(findings, store=store, prompts=prompts, told=told, on_tile=pictures.add, **words)
    if before_writing is not None:
        before_writing()
    writer.put(PAGE_NAME, page.encode())
    if accuracy is not None:
        writer.put(ACCURACY_NAME, encode_sealed(accuracy))
    if totals.zones is not None:
        writer.put_table(ZONES_NAME, totals.zones, schema=totals.zones_schema, key="zone_id")
    changes_schema = add_review_fields(CHANGES_SCHEMA, CHANGE_REVIEW_FIELDS, is_reviewed=marks is not None)
    writer.put_table(CHANGES_NAME, totals.changes, schema=changes_schema, key="change_id")
    counts = totals.count()
    # A large region's changes and its tiles are not both in hand while either is encoded.
    del totals, page, words
    for name, png in draw_plots(figures).items():
        writer.put(f"{PLOTS_FOLDER}/{name}", png)
    schema = make_findings_schema(prompts, is_composed=is_composed(findings))
    schema = add_review_fields(schema, TILE_REVIEW_FIELDS, is_reviewed=marks is not None)
    writer.put_table(TILES_NAME, findings, schema=schema, key="tile_id")
    writer.put_for_gis()
    for name, data in make_tile_files(findings, store=store, prompts=prompts, told=told, pictures=pictures):
        writer.put(name, data)
    writer.remove_former()
    report = Report(
        folder=folder,
        files=writer.files,
        reason_counts=count_reasons(zip(findings["status"], findings["reason"].fillna(""), strict=True)),
        model_fit_counts={str(fit): int(count) for fit, count in sorted(findings["model_fit"].value_counts().items())},
        notes=notes,
        accuracy=accuracy,
        reviews=reviews,
        changed_tile_count=int(findings["is_changed"].fillna(value=False).sum()),
        **counts,
    )
    n_files, n_bytes = len(report.names), sum(int(facts["size_bytes"]) for facts in writer.files.values())
    seconds = time.perf_counter() - start
    return report, StageSummary(stage=STAGE, done=n_files, total=n_files, seconds=seconds, bytes_written=n_bytes)


def _check_complete(findings: gpd.GeoDataFrame, *, grid: Grid) -> None:
    n_tiles = grid.n_rows * grid.n_cols
    places = findings[["row", "col"]].drop_duplicates()
    n_found = int((places["row"].between(0, grid.n_rows - 1) & places["col"].between(0, grid.n_cols - 1)).sum())
    if not len(findings) == len(places) == n_found == n_tiles:
        raise ValueError(
            f"findings hold {len(findings)} rows for {len(places)} tiles; expected each of the grid's "
            f"{n_tiles} tiles once; pass what extract_findings gave"
        )
