"""What is less sure than asked for stays out of changes and areas, is told, and changes nothing else."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import shapely

from model.certainty import Certainty, OutlineFit
from pipeline.answers.outlines import Outline
from pipeline.answers.parts import decode_outlines, encode_outlines
from pipeline.findings.totals import Totals, sum_up
from pipeline.grid.grid import Grid
from pipeline.polygons.zones import Zones
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import FINDINGS_SCHEMA
from pipeline.tiles.store import TileStore

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=600_000.0,
    origin_y=3_300_000.0,
    tile_size_px=32,
    n_rows=1,
    n_cols=2,
    width_px=64,
    height_px=32,
)
STORE = TileStore(folder=RunFolder("nowhere"), grid=GRID, content_key="", shard_size_tiles=8)
BY_PEAK = Certainty(
    outlines=(
        OutlineFit(kind="building", means=(0, 0, 0), scales=(1, 1, 1), weights=(1, 0, 0), bias=-2, n_outlines=99),
    )
)
"""A peak of 0.88 is as probable as not."""


def make_findings() -> gpd.GeoDataFrame:
    plain: dict[str, Any] = {"status": "analysed", "valid_fraction": 1.0, "is_changed": True, "building_count": 3}
    plain |= {"change_confidence": 0.9, "row": 0, "model_id": "m", "run_id": "r", "building_cells": "center-left"}
    rows = [plain | {"tile_id": GRID.tile_id(0, c), "col": c, "road_cells": ("top-left", "")[c]} for c in range(2)]
    columns = {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"}
    return make_frame(
        columns, schema=FINDINGS_SCHEMA, geometry=np.array([GRID.tile_polygon(0, c) for c in (0, 1)]), crs=GRID.crs
    )


def draw(col: int, *, peak: float, kind: str = "building") -> Outline:
    """Draw a square of 4 pixels a side in a tile."""
    left = 32 * col + 8
    return Outline(
        tile_id=GRID.tile_id(0, col),
        kind=kind,
        first_row_px=8,
        first_col_px=left,
        n_pixels=16,
        n_seen_pixels=16,
        probability=0.6,
        peak_probability=peak,
        geometry=shapely.box(left, 8, left + 4, 12),
    )


def make_table(*outlines: Outline) -> pa.Table:
    return decode_outlines(encode_outlines(outlines, tiles=[]))


def total(certainty: Certainty | None, *, least: float, peaks: tuple[float, float] = (0.99, 0.6)) -> Totals:
    west, east = (GRID.tile_polygon(0, col) for col in range(2))
    zones = Zones(
        path="zones.gpkg",
        zone_ids=("west", "east"),
        names=(None, None),
        notes=(None, None),
        attributes=pa.table({"people": [1, 2]}),
        geometry=gpd.GeoSeries([west, east], crs=GRID.crs),
    )
    outlines = make_table(draw(0, peak=peaks[0]), draw(1, peak=peaks[1]))
    return sum_up(
        make_findings(), store=STORE, outlines=[outlines], zones=zones, certainty=certainty, min_confidence=least
    )


def test_what_is_less_sure_than_asked_for_is_left_out_and_told() -> None:
    totals, of_all = total(BY_PEAK, least=0.5), total(BY_PEAK, least=0.0)

    buildings, everything = (frame[frame["kind"] == "building"] for frame in (totals.changes, of_all.changes))
    assert buildings["tile_ids"].tolist() == ["r0000_c0000"]
    assert everything["confidence"].tolist() == pytest.approx([99 / (99 + np.e**2), 1.5 / (1.5 + np.e**2)])
    assert totals.left_out_counts == {"building": 1, "road": 0}
    assert totals.count()["change_counts"] == {"building": 1, "road": 1}
    assert of_all.left_out_counts == {"building": 0, "road": 0}


def test_zones_have_no_area_of_it_and_keep_what_their_tiles_count() -> None:
    totals = total(BY_PEAK, least=0.5)

    assert totals.zones is not None
    assert totals.zones["building_area_m2"].tolist() == [pytest.approx(4, rel=1e-2), 0]
    assert totals.zones["building_count"].tolist() == [3, 3]
    assert totals.thing_counts == {"building": 6, "road": None}


@pytest.mark.parametrize("certainty", [None, Certainty()])
def test_what_was_not_measured_is_not_left_out(certainty: Certainty | None) -> None:
    totals = total(certainty, least=1.0)

    assert totals.changes["confidence"].isna().all()
    assert totals.count()["change_counts"] == {"building": 2, "road": 1}
    assert set(totals.left_out_counts.values()) == {0}


def test_cells_are_kept_where_outlines_are_left_out() -> None:
    totals = total(BY_PEAK, least=0.5, peaks=(0.6, 0.6))

    assert totals.changes["geometry_source"].tolist() == ["cells"]
    assert totals.left_out_counts == {"building": 2, "road": 0}
