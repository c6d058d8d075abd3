"""Blocks of a region: all ground belongs to one, wherever on Earth, and a small region is a single one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import pyproj
import pytest
import shapely
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from shapely.affinity import translate

from model.errors import InputError
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.grid.blocks import LatticeBlock
from pipeline.grid.date_line import make_box
from pipeline.polygons.aoi import AreaOfInterest
from pipeline.regions.blocks import RegionBlock, find_blocks
from pipeline.regions.pairs import find_crs

# Each example cuts dozens of blocks: making a failing one smaller would take longer than to look at it.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
GEOD = pyproj.Geod(ellps="WGS84")
# GEOS miscounts with numbers below 1e-307, which are no coordinate of anything.
WHOLE_LATITUDES = st.one_of(st.floats(-79.9, 83.4, allow_subnormal=False), st.sampled_from([-79.9, -0.2, 0.0, 83.4]))
LONGITUDES = st.one_of(
    st.floats(-180, 179.9, allow_subnormal=False), st.sampled_from([-180.0, 5.8, 11.9, 173.9, 179.8])
)


def describe(*assignments: str) -> RegionConfig:
    values = {
        "name": "r",
        "aoi": "a.geojson",
        "source": {"kind": "folder", "folder": "scenes"},
        "pairing": {"kind": "year-earlier"},
        "output": "out",
        "grid": {"resolution_m": 10},
        "blocks": {},
    }
    return load_region_config(values=values, assignments=assignments)


def list_blocks(area: shapely.Geometry, *assignments: str, crs: str = "EPSG:4326") -> tuple[RegionBlock, ...]:
    config = describe(*assignments)
    polygons = AreaOfInterest(path="a.geojson", shapes=gpd.GeoSeries([area], crs=crs))
    own = find_crs(config.grid.crs, area=polygons.to_degrees())
    return find_blocks(config, area=polygons, crs=own)


def measure_m2(shape: shapely.Geometry) -> float:
    parts = shapely.get_parts(shapely.segmentize(shape, 0.05))
    return sum(abs(GEOD.geometry_area_perimeter(part)[0]) for part in parts)


@settings(max_examples=25, deadline=None, phases=UNSHRUNK)
@given(west=LONGITUDES, south=WHOLE_LATITUDES, width=st.floats(0.2, 0.9), height=st.floats(0.2, 0.5))
def test_all_ground_of_an_area_belongs_to_exactly_one_block(
    west: float, south: float, width: float, height: float
) -> None:
    east = west + width
    area = make_box(west, south, east if east <= 180 else east - 360, min(south + height, 84.0))

    blocks = list_blocks(area)

    shapes = [each.area for each in blocks]
    assert len({each.block_id for each in blocks}) == len(blocks) > 1
    assert sum(map(measure_m2, shapes)) == pytest.approx(measure_m2(area), rel=5e-6)
    assert shapely.union_all(shapes).intersection(area).area == pytest.approx(area.area, rel=5e-6)
    assert all(shape.is_valid for shape in shapes)


@settings(max_examples=25, deadline=None, phases=UNSHRUNK)
@given(lon=LONGITUDES, lat=WHOLE_LATITUDES, east_m=st.floats(-6000, 6000), north_m=st.floats(-6000, 6000))
def test_an_object_at_a_border_of_zones_lies_in_its_pieces_once(
    lon: float, lat: float, east_m: float, north_m: float
) -> None:
    border = round(lon / 6) * 6
    place = shapely.Point(*GEOD.fwd(border, lat, 90, east_m)[:2])
    y = GEOD.fwd(place.x, min(max(lat, -79.5), 83.5), 0, north_m)[1]
    house = shapely.box(place.x - 2e-4, y - 2e-4, place.x + 2e-4, y + 2e-4)
    area = make_box(((border - 0.6 + 180) % 360) - 180, y - 0.1, ((border + 0.6 + 180) % 360) - 180, y + 0.1)

    pieces = [
        shapely.intersection(each.area, translate(house, xoff=turn))
        for each in list_blocks(area)
        for turn in (-360.0, 0.0, 360.0)
    ]

    assert sum(piece.area for piece in pieces) == pytest.approx(house.area, rel=1e-4)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
def test_round_a_pole_one_lattice_takes_all(crs: str) -> None:
    cap = shapely.Point(0, 0).buffer(24_000, quad_segs=32)

    blocks = list_blocks(cap, f"grid.crs={crs}", crs=crs)

    assert sum(each.ground.area for each in blocks) == pytest.approx(cap.area, rel=1e-9)
    in_degrees = sum(measure_m2(each.area) for each in blocks)
    # Of so large a scale both projections are near their poles.
    assert in_degrees == pytest.approx(cap.area, rel=0.07)
    assert sum(shapely.intersects_xy(each.area, 77.0, 89.9 if crs == "EPSG:3413" else -89.9) for each in blocks) == 1


def test_blocks_are_named_by_the_lattice_and_not_by_the_area() -> None:
    around, inside = list_blocks(shapely.box(11.0, 48.0, 11.6, 48.4)), list_blocks(shapely.box(11.2, 48.1, 11.6, 48.4))

    by_name = {each.block_id: each for each in around}
    assert {each.block_id for each in inside} <= by_name.keys()
    assert min(by_name) == "32632_0063_0519"
    # What lies in the middle of both is the same piece of ground, and keeps its key.
    whole = [each for each in inside if each.ground.area == pytest.approx(each.block.side_m**2)]
    assert whole
    assert all(by_name[each.block_id].cell == each.cell for each in whole)
    assert len({each.cell for each in around}) == len(around)


@pytest.mark.parametrize(
    ("area", "assignments", "n_blocks"),
    [
        # No larger than a block, though it lies on a corner of the lattice.
        (shapely.box(10.99, 48.0, 11.06, 48.06), (), 0),
        (shapely.box(10.99, 48.0, 11.4, 48.06), ("blocks=null",), 0),
        (shapely.box(10.99, 48.0, 11.4, 48.06), ("blocks.size_km=40",), 0),
        # In a CRS of the user's own there are no zones.
        (shapely.box(11.9, 48.0, 12.1, 48.01), ("grid.crs=EPSG:32633", "blocks.size_km=5"), 4),
    ],
)
def test_small_region_is_a_single_block(area: shapely.Geometry, assignments: tuple[str, ...], n_blocks: int) -> None:
    assert len(list_blocks(area, *assignments)) == n_blocks


def test_block_is_whole_tiles() -> None:
    (block, *_) = list_blocks(shapely.box(11.0, 48.0, 11.6, 48.4), "tiles.overlap_px=32", "blocks.size_km=7")

    assert block.block.side_px % (256 - 32) == 0
    assert block.block.side_m == 6720


@pytest.mark.parametrize(
    ("area", "assignments", "message"),
    [
        (shapely.box(-10, 48, 60, 49), (), r"70 degrees wide.*divide the area"),
        (shapely.box(10, 83, 12, 84.5), (), r"beyond the UTM zones.*set grid\.crs"),
        (shapely.box(0, 40, 30, 55), ("blocks.size_km=2.56",), r"blocks of 2\.56 km.*raise blocks\.size_km"),
    ],
)
def test_area_without_lattice_or_with_too_many_blocks_is_refused(
    area: shapely.Geometry, assignments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list_blocks(area, *assignments)


@pytest.mark.parametrize(
    "values", [{"east": "../.."}, {"side_px": 0}, {"resolution_m": "1"}, {"north": 1.5}, {"tower": 3}]
)
def test_block_out_of_a_damaged_record_is_no_name_of_a_folder(values: dict[str, Any]) -> None:
    block = LatticeBlock(crs="EPSG:32632", east=41, north=532, side_px=1024, resolution_m=10, is_in_zone=True)

    assert LatticeBlock.from_dict(block.to_dict()) == block
    assert block.block_id == "32632_0041_0532"
    with pytest.raises((ValueError, TypeError)):
        LatticeBlock.from_dict(block.to_dict() | values)


def test_blocks_need_the_lattice() -> None:
    with pytest.raises(InputError, match=r"blocks needs grid\.anchor lattice"):
        describe("grid.anchor=overlap")


def test_polygons_of_a_file_are_cut_at_the_block(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    area = shapely.box(11.9, 48.0, 12.1, 48.2)
    gpd.GeoSeries([area], crs="EPSG:4326").to_file(path)
    at_border = [each for each in list_blocks(area) if each.block.is_at_border]

    assert {each.block.crs for each in at_border} == {"EPSG:32632", "EPSG:32633"}
    for each in at_border:
        assert each.block.limits.covers(shapely.buffer(each.ground, -0.01))
