from __future__ import annotations

from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cells import draw_cell

from model.interface import CELL_NAMES
from pipeline.findings.changes import count_owned, dissolve_changes
from pipeline.grid.cells import label_touching
from pipeline.grid.grid import Grid
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGE_KINDS, DISSOLVED_SCHEMA, FINDINGS_SCHEMA


def make_grid(*, n_rows: int = 2, n_cols: int = 3, width_px: int = 48, height_px: int = 32, **options: Any) -> Grid:
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
        **options,
    )


def measure_on_ground(geometry: Any) -> float:
    """Give the area of a polygon on the ellipsoid, by geodesics."""
    lon_lat = gpd.GeoSeries([geometry], crs="EPSG:32614").to_crs("EPSG:4326").iloc[0]
    return abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(lon_lat)[0])


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

    assert list(changes.columns) == DISSOLVED_SCHEMA.names
    first, second = changes.to_dict("records")
    expected = shapely.union_all(
        [
            draw_cell(grid, 0, 0, "top-right"),
            draw_cell(grid, 0, 0, "center-right"),
            draw_cell(grid, 0, 1, "top-left"),
        ]
    )
    assert first["geometry"].equals(expected)
    assert first["geometry"].area == pytest.approx(3 * (16 * 0.7 / 3) ** 2)
    assert first["change_id"] == "building_r0000_c0000_top-right"
    assert (first["cell_count"], first["tile_count"], first["count"]) == (3, 2, 2 + 3 / 2)
    assert pd.isna(first["confidence"])  # nothing is measured of cells
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
    assert [shapely.Polygon(hole).equals(draw_cell(grid, 1, 2, "center-center")) for hole in road.interiors] == [True]
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
    assert change["area_m2"] == pytest.approx(measure_on_ground(covered), rel=1e-6)


def test_no_change_is_an_empty_table_with_all_columns_types_and_the_crs() -> None:
    grid = make_grid()

    changes = dissolve_changes(make_findings(grid, {}), grid=grid)

    assert changes.empty
    assert list(changes.columns) == DISSOLVED_SCHEMA.names
    assert changes.crs == "EPSG:32614"
    assert str(changes["cell_count"].dtype) == "Int32"


@settings(max_examples=8, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=1))
def test_changes_are_what_geopandas_makes_of_the_cells(cells: set[tuple[int, int]]) -> None:
    grid = make_grid()
    names: dict[tuple[int, int], list[str]] = {}
    for row, col in cells:
        names.setdefault((row // 3, col // 3), []).append(CELL_NAMES[3 * (row % 3) + col % 3])
    polygons = [draw_cell(grid, *tile, name) for tile, listed in names.items() for name in listed]
    expected = gpd.GeoSeries([shapely.union_all(polygons)]).explode()

    findings = make_findings(grid, {tile: {"road_cells": ";".join(listed)} for tile, listed in names.items()})
    changes = dissolve_changes(findings, grid=grid)

    assert changes.geometry.is_valid.all()
    assert len(changes) == len(expected)
    assert shapely.union_all(changes.geometry).equals(shapely.union_all(polygons))
    assert changes["cell_count"].sum() == len(cells)
    assert changes["change_id"].is_unique


def test_groups_are_numbered_by_their_first_cell() -> None:
    cells = [(0, 1), (0, 5), (1, 1), (2, 1), (2, 2), (3, 0)]

    labels = label_touching(*(np.array(places) for places in zip(*cells, strict=True)))

    assert labels.tolist() == [0, 1, 0, 0, 0, 2]


def test_a_count_is_shared_among_the_changes_of_its_tile() -> None:
    grid = make_grid()
    findings = make_findings(
        grid,
        {
            # Three cells in one change, which goes on in the next tile, and one in another.
            (0, 0): {"building_cells": "top-right;center-right;bottom-right;top-left", "building_count": 6},
            (0, 1): {"building_cells": "center-left", "building_count": 2},
            # Nobody counted here, and here nobody said where.
            (1, 2): {"building_cells": "bottom-left"},
            (1, 0): {"building_count": 9},
        },
    )

    changes = dissolve_changes(findings, grid=grid).set_index("change_id")["count"]

    assert changes["building_r0000_c0000_top-left"] == 1.5
    assert changes["building_r0000_c0000_top-right"] == 4.5 + 2
    assert pd.isna(changes["building_r0001_c0002_bottom-left"])


def test_overlapping_tiles_own_their_ground_and_what_lies_on_it() -> None:
    # Tiles of 48 px that share 12: each owns 36 px, its outer cells 10, the middle one 16.
    grid = Grid(
        crs="EPSG:32614", resolution_m=1.0, origin_x=600_000.0, origin_y=3_300_000.0, tile_size_px=48, n_rows=1,
        n_cols=2, width_px=72, height_px=36, overlap_px=12,
    )  # fmt: skip
    findings = make_findings(
        grid,
        {
            (0, 0): {"building_cells": "center-right", "building_count": 16},
            (0, 1): {"building_cells": "center-left", "building_count": 16},
        },
    )

    (change,) = dissolve_changes(findings, grid=grid).to_dict("records")

    left, top = 600_000.0, 3_300_000.0
    assert change["geometry"].equals(shapely.box(left + 26, top - 26, left + 46, top - 10))
    # Of a cell of 16 px, 10 are the tile's own; the other 6 lie with the neighbour, which counts them too.
    assert change["count"] == 2 * 16 * 10 / 16
    assert count_owned(findings, kind="building", grid=grid).tolist() == [10.0, 10.0]


def test_constants_are_those_of_the_findings() -> None:
    grid = make_grid()
    findings = make_findings(grid, {(0, 0): {"road_cells": "top-left"}})
    findings["before_datetime"] = pd.Timestamp("2020-05-01T10:00:00Z").as_unit("us")

    (change,) = dissolve_changes(findings, grid=grid).to_dict("records")

    assert (change["model_id"], change["run_id"]) == ("m", "r")
    assert change["before_datetime"] == pd.Timestamp("2020-05-01T10:00:00Z")


GRIDS = st.builds(
    lambda tile, half, rows, cols, top, left: Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=600_000.0,
        origin_y=3_300_000.0,
        tile_size_px=tile,
        n_rows=rows,
        n_cols=cols,
        width_px=cols * (tile - 2 * half) - left,
        height_px=rows * (tile - 2 * half) - top,
        top_px=top,
        left_px=left,
        overlap_px=2 * half,
    ),
    st.sampled_from([16, 48]),
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(0, 7),
    st.integers(0, 7),
)


def draw_findings(draw: st.DrawFn, *, grid: Grid) -> gpd.GeoDataFrame:
    cells = st.sets(st.sampled_from(CELL_NAMES), max_size=5).map(lambda names: ";".join(sorted(names)))
    counts = st.none() | st.integers(0, 30)
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    told = {
        place: {
            f"{kind}_{name}": draw(of) for kind in CHANGE_KINDS for name, of in (("cells", cells), ("count", counts))
        }
        | {"is_changed": draw(st.sampled_from([True, True, None, False]))}
        for place in places
    }
    return make_findings(grid, told)


@settings(max_examples=12, deadline=None)
@given(st.data(), GRIDS)
def test_a_region_in_two_runs_changes_as_much_as_in_one(data: st.DataObject, grid: Grid) -> None:
    findings = draw_findings(data.draw, grid=grid)
    n_west = data.draw(st.integers(1, grid.n_cols - 1))
    split_px = n_west * grid.stride_px
    west = replace(grid, n_cols=n_west, width_px=split_px - grid.left_px)
    east = replace(
        grid,
        n_cols=grid.n_cols - n_west,
        origin_x=grid.origin_x + split_px * grid.resolution_m,
        width_px=grid.left_px + grid.width_px - split_px,
        left_px=0,
    )
    is_west = findings["col"] < n_west
    eastern = findings[~is_west].assign(col=findings["col"] - n_west)

    whole = dissolve_changes(findings, grid=grid)
    parts = [dissolve_changes(findings[is_west], grid=west), dissolve_changes(eastern, grid=east)]

    for kind in CHANGE_KINDS:
        one = whole[whole["kind"] == kind]
        two = pd.concat([part[part["kind"] == kind] for part in parts])
        assert one["cell_count"].sum() == two["cell_count"].sum()
        assert one["area_m2"].sum() == pytest.approx(two["area_m2"].sum(), rel=1e-12)
        assert one.union_all().symmetric_difference(shapely.union_all(two.geometry)).area < 1e-6
        if not grid.overlap_px:
            assert one["count"].sum() == pytest.approx(two["count"].sum(), rel=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.data(), GRIDS)
def test_changes_never_overlap_and_never_count_more_than_their_tiles(data: st.DataObject, grid: Grid) -> None:
    findings = draw_findings(data.draw, grid=grid)

    changes = dissolve_changes(findings, grid=grid)

    covered = shapely.box(
        *grid.transform @ (grid.left_px, grid.top_px + grid.height_px),
        *grid.transform @ (grid.left_px + grid.width_px, grid.top_px),
    )
    for kind in CHANGE_KINDS:
        of_kind = changes[changes["kind"] == kind]
        assert of_kind.area.sum() == pytest.approx(of_kind.union_all().area, abs=1e-6)
        assert covered.buffer(1e-6).covers(of_kind.geometry).all()
        for geometry, area_m2 in zip(of_kind.geometry, of_kind["area_m2"], strict=True):
            # The geodesic sum itself is good to some square centimetres.
            assert area_m2 == pytest.approx(measure_on_ground(geometry), rel=1e-5, abs=1e-4)
        owned = count_owned(findings, kind=kind, grid=grid)
        told = findings[f"{kind}_count"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
        assert (np.nan_to_num(owned) <= np.nan_to_num(told) + 1e-9).all()
        assert of_kind["count"].sum() <= np.nansum(owned) + 1e-9
        if not grid.overlap_px:
            np.testing.assert_array_equal(owned, told)


def test_without_overlap_changes_count_just_what_their_tiles_do() -> None:
    grid = make_grid()
    rng = np.random.default_rng(3)
    tiles = {
        (row, col): {
            "road_cells": ";".join(rng.permutation(CELL_NAMES)[: rng.integers(1, 9)]),
            "road_count": int(rng.integers(1, 9)),
        }
        for row in range(2)
        for col in range(3)
    }

    changes = dissolve_changes(make_findings(grid, tiles), grid=grid)

    assert changes["count"].sum() == pytest.approx(sum(tile["road_count"] for tile in tiles.values()))
