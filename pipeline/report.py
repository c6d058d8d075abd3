"""The sixth verb: findings become the files that people and programs take away from a run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import geopandas as gpd

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
from pipeline.vector_formats import write_flatgeobuf
from pipeline.zone_files import Zones
from pipeline.zones import ZONE_STATUSES, sum_over_zones

STAGE = "write_report"

TILES_NAME = "report/tiles.parquet"
CHANGES_NAME = "report/changes.parquet"
ZONES_NAME = "report/zones.parquet"
FLATGEOBUF_NAME = "report/changes.fgb"
STYLE_NAME = "report/changes.qml"
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
    zones_name: str | None
    """Name in the folder of the table with one row per zone; None without zones."""
    flatgeobuf_name: str
    """Name in the folder of the changes for GIS programs that cannot read Parquet."""
    style_name: str
    """Name in the folder of what QGIS draws them with: it looks for a style of the same name beside a file."""
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
    zone_counts: Mapping[str, int]
    """Zones per status: seen, partly_seen or not_seen; empty without zones."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the folder of all files of the report."""
        zones = (self.zones_name,) if self.zones_name is not None else ()
        return self.tiles_name, self.changes_name, *zones, self.flatgeobuf_name, self.style_name, self.page_name

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
    zones: Zones | None = None,
    before_name: str = "before",
    after_name: str = "after",
) -> tuple[Report, StageSummary]:
    """Write the tables and the page into the run's folder, in ``report/``.

    Args:
        findings: One row per tile of the grid, as `extract_findings` gives them.
        store: The tile store, for its grid and the pictures of the page.
        folder: Folder of the run.
        prompts: The questions of the run; those of kind `ask` have columns.
        zones: Polygons to sum the findings over; None without.
        before_name: What to call the before scene on the page.
        after_name: Likewise the after scene.

    Raises:
        ValueError: the findings do not hold every tile of the grid exactly once.
    """
    start = time.perf_counter()
    _check_complete(findings, grid=store.grid)
    changes = dissolve_changes(findings, grid=store.grid)
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
    zone_counts: Mapping[str, int] = {}
    if zones is not None:
        n_zone_bytes, zone_counts = _write_zones(zones, findings=findings, changes=changes, store=store, folder=folder)
        n_bytes += n_zone_bytes
    else:
        # Of an earlier report of the run that had some.
        folder.delete([ZONES_NAME])
    # A large region's changes and its tiles are not both in hand while either is encoded.
    del changes, page
    order = order_along_hilbert(findings, key="tile_id")
    n_bytes += folder.put(TILES_NAME, encode_geoparquet(findings, schema=make_findings_schema(prompts), order=order))
    n_bytes += _write_for_gis(folder)
    statuses = findings["status"].value_counts()
    report = Report(
        folder=folder,
        tiles_name=TILES_NAME,
        changes_name=CHANGES_NAME,
        zones_name=ZONES_NAME if zones is not None else None,
        flatgeobuf_name=FLATGEOBUF_NAME,
        style_name=STYLE_NAME,
        page_name=PAGE_NAME,
        status_counts={status.value: int(statuses.get(status.value, 0)) for status in TileStatus},
        reason_counts=count_reasons(zip(findings["status"], findings["reason"].fillna(""), strict=True)),
        changed_tile_count=int(findings["is_changed"].fillna(value=False).sum()),
        change_counts=change_counts,
        zone_counts=zone_counts,
    )
    summary = StageSummary(
        stage=STAGE,
        done=len(report.names),
        total=len(report.names),
        seconds=time.perf_counter() - start,
        bytes_written=n_bytes,
    )
    return report, summary


def _write_for_gis(folder: RunFolder) -> int:
    """Write the changes once more as FlatGeobuf, and the style for it; give the bytes of both."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "changes.fgb")
        write_flatgeobuf(folder.read(CHANGES_NAME), path)
        n_bytes = folder.put_file(FLATGEOBUF_NAME, path)
    style = resources.files("pipeline").joinpath("report_style.qml").read_bytes()
    return n_bytes + folder.put(STYLE_NAME, style)


def _write_zones(
    zones: Zones, *, findings: gpd.GeoDataFrame, changes: gpd.GeoDataFrame, store: TileStore, folder: RunFolder
) -> tuple[int, dict[str, int]]:
    """Write ``zones.parquet``; give its bytes and the zones per status."""
    sums = sum_over_zones(zones, findings=findings, changes=changes, grid=store.grid)
    order = order_along_hilbert(sums, key="zone_id")
    n_bytes = folder.put(ZONES_NAME, encode_geoparquet(sums, schema=zones.schema, order=order))
    return n_bytes, {status: int((sums["status"] == status).sum()) for status in ZONE_STATUSES}


def _check_complete(findings: gpd.GeoDataFrame, *, grid: Grid) -> None:
    n_tiles = grid.n_rows * grid.n_cols
    places = findings[["row", "col"]].drop_duplicates()
    n_found = int((places["row"].between(0, grid.n_rows - 1) & places["col"].between(0, grid.n_cols - 1)).sum())
    if not len(findings) == len(places) == n_found == n_tiles:
        raise ValueError(
            f"findings hold {len(findings)} rows for {len(places)} tiles; expected each of the grid's "
            f"{n_tiles} tiles once; pass what extract_findings gave"
        )
