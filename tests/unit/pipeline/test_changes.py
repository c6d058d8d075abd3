from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from model.interface import CELL_NAMES
from pipeline.changes import CHANGES_SCHEMA, dissolve_changes, group_touching
from pipeline.findings import FINDINGS_SCHEMA
from pipeline.geoparquet import make_frame
from pipeline.grid import Grid


def make_grid(*, n_rows: int = 2, n_cols: int = 3, width_px: int = 48, height_px: int = 32) -> Grid:
    return Grid(
        crs="EPSG:32614",
        resolution_m=0.7,
        origin_x=600_000.3,
        origin_y=3_300_000.1,
        tile_size_px=16,
        n_rows=n_rows,
        n_cols=n_cols,
        width_px=width_px,
        height_px=height_px,
    )


def make_findings(grid: Grid, tiles: dict[tuple[int, int], dict[str, Any]]) -> gpd.GeoDataFrame:
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    plain = {"status": "analysed", "valid_fraction": 1.0, "is_changed": True, "model_id": "m", "run_id": "r"}
    rows = [
        plain | {"tile_id": grid.tile_id(*place), "row": place[0], "col": place[1]} | tiles.get(place, {})
        for place in places
    ]
    columns = {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"}
    geometry = np.array([grid.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=FINDINGS_SCHEMA, geometry=geometry, crs=grid.crs)


def test_cells_that_touch_over_a_tile_border_are_one_change() -> None:
    grid = make_grid()
    findings = make_findings(
        grid,
        {
            (0, 0): {"building_cells": "top-right;center-right", "building_count": 2, "change_confidence": 0.5,
                     "description": "two houses"},
            (0, 1): {"building_cells": "top-left;bottom-right", "building_count": 3, "change_confidence": 0.8,
                     "description": "three houses"},
        },
    )  # fmt: skip

    changes = dissolve_changes(findings, grid=grid)

    assert list(changes.columns) == CHANGES_SCHEMA.names
    first, second = changes.to_dict("records")
    expected = shapely.union_all(
        [
            grid.cell_polygon(0, 0, "top-right"),
            grid.cell_polygon(0, 0, "center-right"),
            grid.cell_polygon(0, 1, "top-left"),
        ]
    )
    assert first["geometry"].equals(expected)
    assert first["geometry"].area == pytest.approx(3 * (16 * 0.7 / 3) ** 2)
    assert first["change_id"] == "building_r0000_c0000_top-right"
    assert (first["cell_count"], first["tile_count"], first["count"]) == (3, 2, 5)
    assert first["confidence"] == pytest.approx((0.5 + 0.5 + 0.8) / 3)
    assert first["description"] == "three houses"
    assert first["tile_ids"] == "r0000_c0000;r0000_c0001"
    assert (second["change_id"], second["tile_ids"]) == ("building_r0000_c0001_bottom-right", "r0000_c0001")


def test_corners_do_not_join_kinds_do_not_mix_and_holes_stay() -> None:
    grid = make_grid()
    ring = ";".join(name for name in CELL_NAMES if name != "center-center")
    findings = make_findings(
        grid,
        {(0, 0): {"building_cells": "top-left;center-center"}, (1, 2): {"building_cells": "", "road_cells": ring}},
    )

    changes = dissolve_changes(findings, grid=grid)

    assert list(changes["kind"]) == ["building", "building", "road"]
    road = changes.geometry.iloc[2]
    assert [shapely.Polygon(hole).equals(grid.cell_polygon(1, 2, "center-center")) for hole in road.interiors] == [True]
    assert changes["count"].isna().all()
    assert changes["confidence"].isna().all()


def test_outlines_have_corners_only_where_they_turn() -> None:
    grid = make_grid()
    whole = ";".join(CELL_NAMES)
    findings = make_findings(grid, {(0, 0): {"road_cells": whole}, (0, 1): {"road_cells": whole}})

    (outline,) = dissolve_changes(findings, grid=grid).geometry

    assert len(outline.exterior.coords) == 5
    assert outline.equals(grid.tile_polygon(0, 0).union(grid.tile_polygon(0, 1)))


def test_tiles_called_unchanged_bring_no_cells_but_tiles_without_a_verdict_do() -> None:
    grid = make_grid()
    findings = make_findings(
        grid,
        {
            (0, 0): {"building_cells": "top-left", "is_changed": False},
            (1, 2): {"building_cells": "top-left", "is_changed": None, "status": "unreadable"},
        },
    )

    assert list(dissolve_changes(findings, grid=grid)["tile_ids"]) == ["r0001_c0002"]


def test_ground_beyond_the_scenes_is_cut_off() -> None:
    grid = make_grid(n_rows=1, n_cols=1, width_px=8, height_px=5)
    findings = make_findings(grid, {(0, 0): {"road_cells": ";".join(CELL_NAMES)}})

    (change,) = dissolve_changes(findings, grid=grid).to_dict("records")

    covered = shapely.box(600_000.3, 3_300_000.1 - 5 * 0.7, 600_000.3 + 8 * 0.7, 3_300_000.1)
    assert change["geometry"].symmetric_difference(covered).area == pytest.approx(0, abs=1e-6)
    assert change["cell_count"] == 2
    assert change["area_m2"] == pytest.approx(5 * 8 * 0.49)


def test_no_change_is_an_empty_table_with_all_columns_types_and_the_crs() -> None:
    grid = make_grid()

    changes = dissolve_changes(make_findings(grid, {}), grid=grid)

    assert changes.empty
    assert list(changes.columns) == CHANGES_SCHEMA.names
    assert changes.crs == "EPSG:32614"
    assert str(changes["cell_count"].dtype) == "Int32"


@settings(max_examples=8, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=1))
def test_changes_are_what_geopandas_makes_of_the_cells(cells: set[tuple[int, int]]) -> None:
    grid = make_grid()
    names: dict[tuple[int, int], list[str]] = {}
    for row, col in cells:
        names.setdefault((row // 3, col // 3), []).append(CELL_NAMES[3 * (row % 3) + col % 3])
    polygons = [grid.cell_polygon(*tile, name) for tile, listed in names.items() for name in listed]
    expected = gpd.GeoSeries([shapely.union_all(polygons)]).explode()

    findings = make_findings(grid, {tile: {"road_cells": ";".join(listed)} for tile, listed in names.items()})
    changes = dissolve_changes(findings, grid=grid)

    assert changes.geometry.is_valid.all()
    assert len(changes) == len(expected)
    assert shapely.union_all(changes.geometry).equals(shapely.union_all(polygons))
    assert changes["cell_count"].sum() == len(cells)
    assert changes["change_id"].is_unique


def test_groups_and_their_cells_are_row_major() -> None:
    groups = group_touching([(2, 2), (0, 1), (1, 1), (2, 1), (0, 5)])

    assert groups == [[(0, 1), (1, 1), (2, 1), (2, 2)], [(0, 5)]]


def test_constants_are_those_of_the_findings() -> None:
    grid = make_grid()
    findings = make_findings(grid, {(0, 0): {"road_cells": "top-left"}})
    findings["before_datetime"] = pd.Timestamp("2020-05-01T10:00:00Z").as_unit("us")

    (change,) = dissolve_changes(findings, grid=grid).to_dict("records")

    assert (change["model_id"], change["run_id"]) == ("m", "r")
    assert change["before_datetime"] == pd.Timestamp("2020-05-01T10:00:00Z")
