"""The sixth verb: findings become the files that people and programs take away from a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import pyarrow as pa

from model.interface import Prompt
from pipeline.changes import dissolve_changes
from pipeline.coverage import count_reasons
from pipeline.findings import make_findings_schema
from pipeline.geoparquet import encode_geoparquet, order_along_hilbert
from pipeline.grid import Grid
from pipeline.report_page import render_page
from pipeline.run_folder import RunFolder
from pipeline.schemas import CHANGE_KINDS, CHANGES_SCHEMA
from pipeline.summary import StageSummary
from pipeline.tile_store import TileStore
from pipeline.tile_table import TileStatus

STAGE = "write_report"

TILES_NAME = "report/tiles.parquet"
CHANGES_NAME = "report/changes.parquet"
PAGE_NAME = "report/index.html"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run leaves for people and programs."""

    folder: RunFolder
    """Folder of the run."""
    tiles_name: str
    """Name in the folder of the table with one row per tile."""
    changes_name: str
    """Name in the folder of the table with one row per change."""
    page_name: str
    """Name in the folder of the page for a browser."""
    status_counts: Mapping[str, int]
    """Tiles of the grid per status, all statuses named."""
    reason_counts: Mapping[str, Mapping[str, int]]
    """Tiles per status and kind of reason."""
    changed_tile_count: int
    """Tiles with ``is_changed`` true."""
    change_counts: Mapping[str, int]
    """Changes per kind, all kinds named."""
    item_name: str | None = None
    """Name in the folder of the STAC item of the run; None as long as there is none."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the folder of all files of the report."""
        item = (self.item_name,) if self.item_name is not None else ()
        return self.tiles_name, self.changes_name, self.page_name, *item

    @property
    def is_complete(self) -> bool:
        """Whether every tile that was to be looked at has an answer that could be read."""
        return not (self.status_counts[TileStatus.FAILED] or self.status_counts[TileStatus.UNREADABLE])


def write_report(
    findings: gpd.GeoDataFrame,
    *,
    store: TileStore,
    folder: RunFolder,
    prompts: Sequence[Prompt],
    outlines: Iterable[pa.Table] = (),
    before_name: str = "before",
    after_name: str = "after",
) -> tuple[Report, StageSummary]:
    """Write ``tiles.parquet``, ``changes.parquet`` and ``index.html`` into the run's folder, in ``report/``.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        store: The tile store, for its grid and the pictures of the page.
        folder: Folder of the run.
        prompts: The questions of the run; those of kind `ask` have columns.
        outlines: Outlines of what changed in the tiles, with the columns of `OUTLINES_SCHEMA`.
        before_name: What to call the before scene on the page.
        after_name: Likewise the after scene.

    Raises:
        ValueError: the findings do not hold every tile of the grid exactly once.
    """
    start = time.perf_counter()
    _check_complete(findings, grid=store.grid)
    changes = dissolve_changes(findings, grid=store.grid, outlines=outlines)
    page = render_page(
        findings,
        changes=changes,
        store=store,
        prompts=prompts,
        before_name=before_name,
        after_name=after_name,
    )
    change_counts = {kind: int((changes["kind"] == kind).sum()) for kind in CHANGE_KINDS}
    n_bytes = folder.put(PAGE_NAME, page.encode())
    n_bytes += folder.put(
        CHANGES_NAME,
        encode_geoparquet(changes, schema=CHANGES_SCHEMA, order=order_along_hilbert(changes, key="change_id")),
    )
    # A large region's changes and its tiles are not both in hand while either is encoded.
    del changes, page
    order = order_along_hilbert(findings, key="tile_id")
    n_bytes += folder.put(TILES_NAME, encode_geoparquet(findings, schema=make_findings_schema(prompts), order=order))
    statuses = findings["status"].value_counts()
    report = Report(
        folder=folder,
        tiles_name=TILES_NAME,
        changes_name=CHANGES_NAME,
        page_name=PAGE_NAME,
        status_counts={status.value: int(statuses.get(status.value, 0)) for status in TileStatus},
        reason_counts=count_reasons(zip(findings["status"], findings["reason"].fillna(""), strict=True)),
        changed_tile_count=int(findings["is_changed"].fillna(value=False).sum()),
        change_counts=change_counts,
    )
    summary = StageSummary(
        stage=STAGE,
        done=len(report.names),
        total=len(report.names),
        seconds=time.perf_counter() - start,
        bytes_written=n_bytes,
    )
    return report, summary


def _check_complete(findings: gpd.GeoDataFrame, *, grid: Grid) -> None:
    n_tiles = grid.n_rows * grid.n_cols
    places = findings[["row", "col"]].drop_duplicates()
    n_found = int((places["row"].between(0, grid.n_rows - 1) & places["col"].between(0, grid.n_cols - 1)).sum())
    if not len(findings) == len(places) == n_found == n_tiles:
        raise ValueError(
            f"findings hold {len(findings)} rows for {len(places)} tiles; expected each of the grid's "
            f"{n_tiles} tiles once; pass what extract_findings gave"
        )
