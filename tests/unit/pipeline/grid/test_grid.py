"""The grid against hand-made figures, rasterio's windows, pyproj's zones and geopandas' reprojection."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio.warp
import rasterio.windows
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from made_cells import draw_cell
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from rasterio.windows import Window

from model.errors import InputError
from model.interface import CELL_NAMES
from pipeline.grid.grid import Grid, build_grid, compute_footprint, compute_warp_scale, parse_tile_id
from pipeline.grid.projections import check_grid_crs, compute_area_scale

GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.3,
    origin_x=600_000.3,
    origin_y=3_300_000.9,
    tile_size_px=256,
    n_rows=5,
    n_cols=7,
    width_px=1700,
    height_px=1200,
)


def make_footprint(
    left: float, top: float, *, size: tuple[int, int], crs: str = "EPSG:32614", step: float = 1.0
) -> Any:
    height, width = size
    return compute_footprint(crs=crs, transform=Affine(step, 0, left, 0, -step, top), width=width, height=height)


def test_build_grid_covers_the_overlap_and_no_pixel_more() -> None:
    before = make_footprint(600_000, 3_300_000, size=(300, 400))
    after = make_footprint(600_100, 3_299_950, size=(300, 400))
    grid = build_grid(before, after, crs="auto", resolution_m=0.5, tile_size_px=256)
    expected = Grid(
        crs="EPSG:32614",
        resolution_m=0.5,
        origin_x=600_100.0,
        origin_y=3_299_950.0,
        tile_size_px=256,
        n_rows=2,
        n_cols=3,
        width_px=600,
        height_px=500,
    )
    assert grid == expected


def test_build_grid_snaps_outwards_to_whole_pixels() -> None:
    footprint = make_footprint(600_000.7, 3_300_000.2, size=(10, 10))
    grid = build_grid(footprint, footprint, crs="auto", resolution_m=1.0, tile_size_px=16)
    assert (grid.origin_x, grid.origin_y, grid.width_px, grid.height_px) == (600_000.0, 3_300_001.0, 11, 11)


def test_build_grid_takes_another_crs_and_keeps_the_whole_overlap() -> None:
    before = make_footprint(-98.0, 30.2, size=(1000, 1000), crs="EPSG:4326", step=5e-6)
    grid = build_grid(before, before, crs="EPSG:3083", resolution_m=2.0, tile_size_px=64)
    bounds = rasterio.warp.transform_bounds("EPSG:4326", "EPSG:3083", *before.bounds, densify_pts=200)
    right, bottom = grid.origin_x + grid.width_px * 2, grid.origin_y - grid.height_px * 2
    assert grid.crs == "EPSG:3083"
    assert np.abs(np.subtract((grid.origin_x, bottom, right, grid.origin_y), bounds)).max() <= 2.0
    assert shapely.box(grid.origin_x, bottom, right, grid.origin_y).covers(shapely.box(*bounds).buffer(-1e-3))


@pytest.mark.parametrize("overlap_px", [0, 64])
def test_on_a_lattice_grids_of_different_scenes_have_their_tiles_in_common(overlap_px: int) -> None:
    spacing_m = (256 - overlap_px) * 0.5
    grids = []
    for left, top in ((600_010.0, 3_300_020.0), (600_233.5, 3_299_871.0)):
        footprint = make_footprint(left, top, size=(500, 700))
        grid = build_grid(
            footprint,
            footprint,
            crs="auto",
            resolution_m=0.5,
            tile_size_px=256,
            overlap_px=overlap_px,
            anchor="lattice",
        )
        grids.append(grid)
        assert (grid.origin_x % spacing_m, grid.origin_y % spacing_m) == (0, 0)
        # What both scenes show lies where it lay: some pixels down and to the right of the grid's corner.
        assert grid.transform @ (grid.left_px, grid.top_px) == pytest.approx((left, top))
        assert (grid.width_px, grid.height_px) == (1400, 1000)
        assert 0 <= grid.left_px < 256 - overlap_px
        assert 0 <= grid.shape_px[0] - (grid.top_px + grid.height_px) < 256 - overlap_px
        assert 0 <= grid.shape_px[1] - (grid.left_px + grid.width_px) < 256 - overlap_px
    owned = [{grid.tile_bounds(r, c) for r in range(grid.n_rows) for c in range(grid.n_cols)} for grid in grids]
    shared = owned[0] & owned[1]
    between = grids[0].tile_polygon(0, 0).envelope
    assert len(shared) > 4
    assert all(shapely.box(*tile).intersection(between).area in (0, between.area) for tile in owned[1])


def test_tiles_overlap_and_own_every_pixel_once() -> None:
    footprint = make_footprint(600_000, 3_300_000, size=(1000, 1400))
    grid = build_grid(footprint, footprint, crs="auto", resolution_m=1.0, tile_size_px=256, overlap_px=64)
    owners, seen = np.zeros(grid.shape_px, int), np.zeros(grid.shape_px, int)
    for row in range(grid.n_rows):
        for col in range(grid.n_cols):
            left, bottom, right, top = grid.tile_bounds(row, col)
            y, x = round(grid.origin_y - top), round(left - grid.origin_x)
            owners[y : y + round(top - bottom), x : x + round(right - left)] += 1
            y, x, height, width = grid.tile_window(row, col)
            assert (height, width) == (256, 256)
            # The ground that a tile owns lies in the middle of what is seen of it.
            assert (y, x) == (round(grid.origin_y - top) - 32, round(left - grid.origin_x) - 32)
            seen[max(y, 0) : y + height, max(x, 0) : x + width] += 1
    assert (owners == 1).all()
    # Inside, every border between two tiles is seen by both, 32 pixels deep, and every corner by four.
    assert seen[192 - 32 : 192 + 32, 300].tolist() == [2] * 64
    assert (seen[192 - 33, 300], seen[192 + 32, 300]) == (1, 1)
    assert seen[192, 384] == 4
    assert grid.n_rows == -(-1000 // 192)


def test_cells_of_overlapping_tiles_are_cut_to_the_ground_the_tile_owns() -> None:
    grid = replace(GRID, tile_size_px=48, overlap_px=12, resolution_m=1.0, origin_x=0.0, origin_y=0.0)
    cells = {name: draw_cell(grid, 1, 2, name) for name in CELL_NAMES}
    # A tile begins 6 px before the ground it owns; its cells are 16 px wide.
    assert cells["top-left"].bounds == (72.0, -46.0, 82.0, -36.0)
    assert cells["center-center"].bounds == (82.0, -62.0, 98.0, -46.0)
    assert cells["bottom-right"].bounds == (98.0, -72.0, 108.0, -62.0)
    assert shapely.union_all(list(cells.values())).equals(grid.tile_polygon(1, 2))


@pytest.mark.parametrize(
    ("crs", "place"),
    [("EPSG:32755", (-97.9, 30.1)), ("EPSG:2056", (-97.9, 30.1)), ("EPSG:3413", (-97.9, 30.1))],
)
def test_a_crs_for_another_place_is_refused(crs: str, place: tuple[float, float]) -> None:
    footprint = make_footprint(*place, size=(100, 100), crs="EPSG:4326", step=1e-5)
    with pytest.raises(InputError) as caught:
        build_grid(footprint, footprint, crs=crs, resolution_m=1.0, tile_size_px=64)
    assert "grid.crs" in caught.value.found


def test_the_zone_next_door_is_near_enough() -> None:
    footprint = make_footprint(-95.9, 30.1, size=(100, 100), crs="EPSG:4326", step=1e-5)
    grid = build_grid(footprint, footprint, crs="EPSG:32614", resolution_m=1.0, tile_size_px=64)
    assert grid.crs == "EPSG:32614"
    assert grid.scale_note is None


def test_web_mercator_is_told_for_what_it_is() -> None:
    footprint = make_footprint(25.0, 60.2, size=(1000, 1000), crs="EPSG:4326", step=1e-5)
    grid = build_grid(footprint, footprint, crs="EPSG:3857", resolution_m=1.0, tile_size_px=64)
    note = grid.scale_note
    assert note is not None
    assert "is 0.498 m wide" in note
    lon_lat = gpd.GeoSeries([grid.tile_polygon(grid.n_rows // 2, grid.n_cols // 2)], crs=3857).to_crs(4326).iloc[0]
    on_ground = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(lon_lat)[0])
    assert grid.tile_area_m2 == pytest.approx(on_ground, rel=1e-5)


@pytest.mark.parametrize("crs", ["EPSG:32614", "EPSG:3083", "EPSG:3857", "EPSG:5070"])
def test_area_scale_is_what_geodesics_say(crs: str) -> None:
    xs, ys = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(
        np.array([-101.0, -99.0, -96.5]), np.array([28.0, 31.0, 33.0])
    )
    boxes = gpd.GeoSeries(shapely.box(xs - 10, ys - 10, xs + 10, ys + 10), crs=crs).to_crs("EPSG:4326")
    on_ground = [abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(box)[0]) for box in boxes]
    assert 400 / compute_area_scale(crs, xs=xs, ys=ys) == pytest.approx(on_ground, rel=1e-5)


@pytest.mark.parametrize(
    ("lon", "lat"),
    [(-97.9, 30.1), (0.0, 0.5), (-0.001, -0.5), (179.99, -45.0), (-179.99, 66.0), (13.4, 52.5), (151.2, -33.8)],
)
def test_auto_crs_is_the_zone_that_pyproj_finds(lon: float, lat: float) -> None:
    found = query_utm_crs_info(
        datum_name="WGS 84",
        area_of_interest=AreaOfInterest(lon, lat, lon, lat),
    )
    footprint = make_footprint(lon - 5e-4, lat + 5e-4, size=(100, 100), crs="EPSG:4326", step=1e-5)
    grid = build_grid(footprint, footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
    assert grid.crs in {f"EPSG:{info.code}" for info in found}


def test_scenes_on_both_sides_of_the_antimeridian_meet() -> None:
    to_east = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32760", always_xy=True)
    to_west = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32701", always_xy=True)
    (east_x, y), (west_x, west_y) = to_east.transform(180.0, -16.5), to_west.transform(-180.0, -16.5)
    before = make_footprint(east_x - 500, y + 500, size=(1000, 1000), crs="EPSG:32760")
    after = make_footprint(west_x - 500, west_y + 500, size=(1000, 1000), crs="EPSG:32701")
    grid = build_grid(before, after, crs="auto", resolution_m=1.0, tile_size_px=256)
    assert grid.crs in {"EPSG:32760", "EPSG:32701"}
    assert 950 <= grid.width_px <= 1060
    assert 950 <= grid.height_px <= 1060


def test_a_mosaic_of_the_whole_earth_overlaps_with_a_small_scene() -> None:
    world = make_footprint(-180.0, 90.0, size=(180, 360), crs="EPSG:4326")
    scene = make_footprint(600_000, 3_300_000, size=(300, 400))
    grid = build_grid(world, scene, crs="auto", resolution_m=1.0, tile_size_px=256)
    assert (grid.origin_x, grid.origin_y, grid.width_px, grid.height_px) == (600_000.0, 3_300_000.0, 400, 300)


def test_scenes_apart_or_side_by_side_are_refused() -> None:
    before = make_footprint(600_000, 3_300_000, size=(100, 100))
    for after in (make_footprint(700_000, 3_300_000, size=(100, 100)), make_footprint(-98, 30, size=(9, 9), step=1)):
        with pytest.raises(InputError, match="overlap"):
            build_grid(before, after, crs="auto", resolution_m=0.5, tile_size_px=256)


@pytest.mark.parametrize(
    ("crs", "words"),
    [("EPSG:4326", "degree"), ("EPSG:2277", "foot"), ("EPSG:1", "not understood"), ("nonsense", "not understood")],
)
def test_crs_that_is_not_in_metres_is_refused(crs: str, words: str) -> None:
    footprint = make_footprint(600_000, 3_300_000, size=(100, 100))
    with pytest.raises(InputError, match=words) as caught:
        build_grid(footprint, footprint, crs=crs, resolution_m=0.5, tile_size_px=256)
    assert "grid.crs" in str(caught.value)


def test_a_pole_has_no_utm_zone() -> None:
    footprint = make_footprint(-1000, 1000, size=(400, 400), crs="EPSG:3413")
    with pytest.raises(InputError, match="no UTM zone"):
        build_grid(footprint, footprint, crs="auto", resolution_m=1.0, tile_size_px=256)


def test_a_place_on_mars_is_refused() -> None:
    with pytest.raises(InputError, match="on Earth"):
        make_footprint(0, 0, size=(10, 10), crs="+proj=eqc +R=3396190 +units=m +no_defs")


# rasterio 1.4 multiplies transforms in a way that affine 3 means to retire.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_tiles_are_where_rasterio_puts_the_same_windows() -> None:
    for row, col in ((0, 0), (2, 3), (4, 6)):
        window = Window(col * 256, row * 256, 256, 256)
        assert GRID.tile_bounds(row, col) == pytest.approx(rasterio.windows.bounds(window, GRID.transform), abs=1e-9)
        polygon = gpd.GeoSeries([GRID.tile_polygon(row, col)], crs=GRID.crs).to_crs("EPSG:4326").iloc[0]
        left, bottom, right, top = rasterio.windows.bounds(window, GRID.transform)
        lons, lats = rasterio.warp.transform(
            GRID.crs, "EPSG:4326", [left, left, right, right], [bottom, top, top, bottom]
        )
        corners = {(round(x, 6), round(y, 6)) for x, y in shapely.get_coordinates(polygon)}
        assert corners == {(round(x, 6), round(y, 6)) for x, y in zip(lons, lats, strict=True)}


@given(
    tile_size_px=st.integers(1, 200).map(lambda n: 16 * n),
    resolution_m=st.floats(0.05, 100),
    origin=st.tuples(st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7)),
    tile=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
)
def test_cells_that_meet_share_the_same_floats(
    tile_size_px: int, resolution_m: float, origin: tuple[int, int], tile: tuple[int, int]
) -> None:
    grid = Grid(
        crs="EPSG:32614",
        resolution_m=resolution_m,
        origin_x=origin[0] * resolution_m,
        origin_y=origin[1] * resolution_m,
        tile_size_px=tile_size_px,
        n_rows=9999,
        n_cols=9999,
        width_px=1,
        height_px=1,
    )
    row, col = tile
    lines = {"left": 0, "center": 1, "right": 2}
    across = [draw_cell(grid, row, col + n // 3, f"top-{list(lines)[n % 3]}").bounds for n in range(6)]
    down = [draw_cell(grid, row + n // 3, col, f"{('top', 'center', 'bottom')[n % 3]}-left").bounds for n in range(6)]
    assert all(left[2] == right[0] for left, right in pairwise(across))
    assert all(upper[1] == lower[3] for upper, lower in pairwise(down))
    assert (across[0][0], across[2][2]) == (grid.tile_bounds(row, col)[0], grid.tile_bounds(row, col)[2])
    assert grid.tile_bounds(row, col)[2] == grid.tile_bounds(row, col + 1)[0]


def test_nine_cells_make_the_tile() -> None:
    cells = [draw_cell(GRID, 2, 3, name) for name in CELL_NAMES]
    assert shapely.union_all(cells).equals(GRID.tile_polygon(2, 3))
    assert sum(cell.area for cell in cells) == pytest.approx((256 * 0.3) ** 2)
    assert cells[0].bounds[0] == cells[6].bounds[0] == GRID.tile_polygon(2, 3).bounds[0]
    assert cells[CELL_NAMES.index("bottom-right")].centroid.y < cells[CELL_NAMES.index("top-left")].centroid.y


def test_tile_ids_go_there_and_back() -> None:
    assert GRID.tile_id(12, 34) == "r0012_c0034"
    assert parse_tile_id("r0012_c0034") == (12, 34)
    assert parse_tile_id(GRID.tile_id(123456, 0)) == (123456, 0)


@pytest.mark.parametrize("text", ["", "r12_c34", "r0012c0034", "r0012_c0034 ", "c0034_r0012"])
def test_other_words_are_no_tile_id(text: str) -> None:
    with pytest.raises(ValueError, match="expected one like r0012_c0034"):
        parse_tile_id(text)


def test_grid_survives_json() -> None:
    assert Grid.from_dict(json.loads(json.dumps(GRID.to_dict()))) == GRID


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Affine(0.6, 0, 600_000, 0, -0.6, 3_300_000), (2.0, 2.0)),
        (Affine(0.15, 0, 600_000, 0, 0.6, 3_299_000), (0.5, 2.0)),
        # A quarter turn: the raster's columns run along the grid's rows.
        (Affine(0, 0.15, 600_000, -0.6, 0, 3_300_000), (2.0, 0.5)),
    ],
)
def test_warp_scale_is_the_ratio_of_pixel_sizes(transform: Affine, expected: tuple[float, float]) -> None:
    assert compute_warp_scale("EPSG:32614", transform=transform, grid=GRID) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "crs", ["EPSG:2053", "EPSG:22275", "EPSG:5513", "EPSG:2065", "+proj=tmerc +lon_0=29 +axis=wsu"]
)
def test_a_crs_that_counts_towards_the_south_or_the_west_is_refused(crs: str) -> None:
    with pytest.raises(InputError, match="its tiles would be turned"):
        check_grid_crs(crs)


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:2193", "EPSG:31467", "EPSG:5514", "EPSG:3413", "EPSG:32761"])
def test_a_crs_that_names_its_northing_first_or_has_a_pole_is_none_of_those(crs: str) -> None:
    assert check_grid_crs(crs) == crs


@pytest.mark.parametrize(("crs", "place"), [("EPSG:3035", (10.0, 52.0)), ("EPSG:2193", (174.0, -41.0))])
def test_row_0_is_in_the_north_and_column_0_in_the_west(crs: str, place: tuple[float, float]) -> None:
    lon, lat = place
    scene = shapely.box(lon, lat, lon + 0.02, lat + 0.02)
    grid = build_grid(scene, scene, crs=crs, resolution_m=1.0, tile_size_px=256)

    left, bottom, right, top = grid.tile_bounds(0, 0)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform

    assert to_degrees((left + right) / 2, top)[1] > to_degrees((left + right) / 2, bottom)[1]
    assert to_degrees(left, (top + bottom) / 2)[0] < to_degrees(right, (top + bottom) / 2)[0]
