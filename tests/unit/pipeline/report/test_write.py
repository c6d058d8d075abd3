from __future__ import annotations

import dataclasses
import io
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
from geopandas.testing import assert_geodataframe_equal

from model.interface import Prompt, PromptKind
from pipeline.findings.columns import make_findings_schema
from pipeline.findings.totals import sum_up
from pipeline.grid.grid import Grid
from pipeline.report.result import Report
from pipeline.report.write import write_report
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import CHANGES_NAME, TILES_NAME
from pipeline.tables.geoparquet import encode_geoparquet, make_frame, order_along_hilbert
from pipeline.tables.schemas import CHANGES_SCHEMA, FINDINGS_SCHEMA, TileStatus
from pipeline.tiles.store import TileStore

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=16,
    n_rows=3,
    n_cols=4,
    width_px=60,
    height_px=48,
)
ASK = Prompt(name="trees", kind=PromptKind.ASK, text="Were trees felled?")


@dataclass(frozen=True, kw_only=True)
class GreyStore(TileStore):
    """A store whose pixels are all one grey, another one per date."""

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        size = self.grid.tile_size_px
        pairs = np.full((len(tiles), 2, 3, size, size), 90, dtype=np.uint8)
        pairs[:, 1] = 150
        return pairs


@dataclass(frozen=True, kw_only=True)
class CountingStore(GreyStore):
    """A grey store that knows how often each tile was read."""

    n_reads: Counter[str] = dataclasses.field(default_factory=Counter)

    def read_pairs(self, tiles: Any) -> npt.NDArray[np.uint8]:
        self.n_reads.update(tile.tile_id for tile in tiles)
        return super().read_pairs(tiles)


def make_findings(tiles: dict[tuple[int, int], dict[str, Any]] | None = None, **everywhere: Any) -> gpd.GeoDataFrame:
    schema = make_findings_schema([ASK])
    plain = {"status": "analysed", "valid_fraction": 1.0, "is_changed": False, "model_id": "m@0", "run_id": "abc"}
    places = [(row, col) for row in range(GRID.n_rows) for col in range(GRID.n_cols)]
    rows = [
        plain
        | {"tile_id": GRID.tile_id(*place), "row": place[0], "col": place[1]}
        | everywhere
        | (tiles or {}).get(place, {})
        for place in places
    ]
    columns = {name: [row.get(name) for row in rows] for name in schema.names if name != "geometry"}
    geometry = np.array([GRID.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=schema, geometry=geometry, crs=GRID.crs)


CHANGED = {
    (0, 1): {"is_changed": True, "change_confidence": 0.9, "building_cells": "top-left", "building_count": 1},
    (2, 3): {"is_changed": True, "road_cells": "bottom-left", "road_count": 2, "trees": "Yes."},
    (1, 1): {"is_changed": None, "status": "no_data", "reason": "nothing seen", "valid_fraction": 0.0},
}


def write(findings: gpd.GeoDataFrame, folder: Path) -> Report:
    store = GreyStore(folder=RunFolder(str(folder)), grid=GRID, content_key="key", shard_size_tiles=2)
    return write_with(store, findings)


def write_with(store: TileStore, findings: gpd.GeoDataFrame) -> Report:
    run, folder = store.folder, Path(store.folder.uri)
    report, summary = write_report(
        findings, totals=sum_up(findings, store=store), store=store, folder=run, prompts=[ASK]
    )
    assert summary.done == len(report.names)
    assert set(report.names) < report.files.keys()
    assert summary.bytes_written == sum((folder / name).stat().st_size for name in report.files)
    return report


def test_files_come_back_as_they_were_given(tmp_path: Path) -> None:
    findings = make_findings(CHANGED)

    write(findings, tmp_path)

    tiles = gpd.read_parquet(tmp_path / TILES_NAME)
    restored = tiles.sort_values("tile_id", ignore_index=True)
    assert_geodataframe_equal(restored, findings)
    changes = gpd.read_parquet(tmp_path / CHANGES_NAME)
    assert sorted(changes["kind"]) == ["building", "road"]
    assert list(changes.columns) == CHANGES_SCHEMA.names
    assert tiles.crs == changes.crs == "EPSG:32614"


def test_the_report_counts_every_status_and_kind(tmp_path: Path) -> None:
    report = write(make_findings(CHANGED), tmp_path)

    assert report.status_counts == {status.value: 0 for status in TileStatus} | {"analysed": 11, "no_data": 1}
    assert report.changed_tile_count == 2
    assert report.change_counts == {"building": 1, "road": 1}
    assert report.is_complete


@pytest.mark.parametrize("status", ["failed", "unreadable"])
def test_a_tile_without_a_read_answer_makes_the_report_incomplete(tmp_path: Path, status: str) -> None:
    report = write(make_findings({(0, 0): {"status": status, "is_changed": None}}), tmp_path)

    assert not report.is_complete


def test_equal_findings_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    findings = make_findings(CHANGED)

    first, second = write(findings, tmp_path / "a"), write(findings.iloc[::-1].reset_index(drop=True), tmp_path / "b")

    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert second.names == first.names


def test_map_close_ups_and_pictures_of_tiles_read_each_tile_once(tmp_path: Path) -> None:
    store = CountingStore(folder=RunFolder(str(tmp_path)), grid=GRID, content_key="key", shard_size_tiles=2)

    write_with(store, make_findings(CHANGED))

    visible = {GRID.tile_id(row, col) for row in range(GRID.n_rows) for col in range(GRID.n_cols)} - {"r0001_c0001"}
    assert store.n_reads == dict.fromkeys(visible, 1)


def test_files_beside_the_page_that_the_report_no_longer_has_are_removed(tmp_path: Path) -> None:
    (tmp_path / "report" / "page").mkdir(parents=True)
    (tmp_path / "report" / "page" / "tiles_r0099_c0099.js").write_text("deltavlmTiles({});")

    report = write(make_findings(), tmp_path)

    assert set(report.files) - set(report.names) == {"report/page/tiles_r0000_c0000.js"}
    assert sorted(path.name for path in (tmp_path / "report" / "page").iterdir()) == ["tiles_r0000_c0000.js"]


def test_a_region_without_changes_has_an_empty_table_with_schema_and_crs(tmp_path: Path) -> None:
    write(make_findings(), tmp_path)

    changes = gpd.read_parquet(tmp_path / CHANGES_NAME)
    assert len(changes) == 0
    assert changes.crs == "EPSG:32614"
    assert list(changes.columns) == CHANGES_SCHEMA.names


def test_findings_that_lack_or_repeat_a_tile_are_refused(tmp_path: Path) -> None:
    findings = make_findings()

    with pytest.raises(ValueError, match="11 rows for 11 tiles; expected each of the grid's 12"):
        write(findings.iloc[1:], tmp_path)
    with pytest.raises(ValueError, match="13 rows for 12 tiles"):
        write(pd.concat([findings, findings.iloc[:1]]), tmp_path)


def test_columns_are_flat_typed_and_described_in_the_file(tmp_path: Path) -> None:
    write(make_findings(CHANGED), tmp_path)

    schema = pq.read_schema(tmp_path / TILES_NAME)
    at = FINDINGS_SCHEMA.names.index("model_id")
    assert schema.names == [*FINDINGS_SCHEMA.names[:at], "trees", *FINDINGS_SCHEMA.names[at:], "bbox"]
    for field in make_findings_schema([ASK]):
        assert schema.field(field.name).type == field.type
        assert schema.field(field.name).metadata[b"description"] == field.metadata[b"description"]
    assert str(schema.field("building_count").type) == "int32"
    assert str(schema.field("is_changed").type) == "bool"


def test_metadata_name_version_crs_orientation_and_covering(tmp_path: Path) -> None:
    write(make_findings(), tmp_path)

    geo = json.loads(pq.read_schema(tmp_path / TILES_NAME).metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert (geo["version"], geo["primary_column"], column["encoding"]) == ("1.1.0", "geometry", "WKB")
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32614}
    assert column["bbox"] == [600_000.0, 3_299_976.0, 600_032.0, 3_300_000.0]
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    boxes = pq.read_table(tmp_path / TILES_NAME, columns=["bbox"]).column("bbox").to_pylist()
    assert boxes[0].keys() == {"xmin", "ymin", "xmax", "ymax"}


def test_neighbours_lie_together() -> None:
    places = [(row, col) for row in range(16) for col in range(16)]
    grid = replace(GRID, n_rows=16, n_cols=16)
    frame = gpd.GeoDataFrame(
        {"tile_id": [grid.tile_id(*place) for place in places]},
        geometry=[grid.tile_polygon(*place) for place in places],
        crs=grid.crs,
    )

    ordered = frame.iloc[order_along_hilbert(frame, key="tile_id")]

    steps = np.abs(np.diff([(point.x, point.y) for point in ordered.geometry.centroid], axis=0)).sum(axis=1)
    assert sorted(ordered["tile_id"]) == list(frame["tile_id"])
    assert steps.max() == pytest.approx(8.0)


def test_a_crs_without_a_code_is_kept() -> None:
    wkt = gpd.GeoSeries([], crs="+proj=laea +lat_0=10 +lon_0=20 +units=m").crs.to_wkt()
    findings = make_findings().to_crs(wkt)

    data = encode_geoparquet(findings, schema=make_findings_schema([ASK]), order=np.arange(len(findings)))

    assert gpd.read_parquet(io.BytesIO(data)).crs == findings.crs
