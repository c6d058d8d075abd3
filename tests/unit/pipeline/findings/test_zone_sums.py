"""Sums over zones: exact areas, nothing counted twice, and what nobody looked at says so."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any

import geopandas as gpd
import geoparquet_validator
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.findings.changes import dissolve_changes
from pipeline.findings.seen_ground import measure_coverage
from pipeline.findings.zone_cover import cover_zone, measure_tiles, measure_zones
from pipeline.findings.zone_sums import share_changes, sum_over_zones
from pipeline.grid.grid import Grid
from pipeline.polygons.near import place_polygons
from pipeline.polygons.zones import Zones, mend_rings
from pipeline.storage.folder import RunFolder
from pipeline.tables.geoparquet import encode_geoparquet, make_frame, order_along_hilbert
from pipeline.tables.schemas import FINDINGS_SCHEMA
from pipeline.tiles.store import TileStore

LEFT, TOP, SIDE_M = 600_000.0, 3_300_000.0, 24.0
GRID = Grid(
    crs="EPSG:32614",
    resolution_m=0.5,
    origin_x=LEFT,
    origin_y=TOP,
    tile_size_px=48,
    n_rows=20,
    n_cols=30,
    width_px=30 * 48,
    height_px=20 * 48,
)
WHOLE = shapely.box(LEFT, TOP - 20 * SIDE_M, LEFT + 30 * SIDE_M, TOP)


def box(top: float, left: float, bottom: float, right: float) -> shapely.Polygon:
    """Give a rectangle in tiles from the grid's corner."""
    return shapely.box(LEFT + left * SIDE_M, TOP - bottom * SIDE_M, LEFT + right * SIDE_M, TOP - top * SIDE_M)


def make_zones(shapes: list[Any], *, crs: str = GRID.crs, **attributes: list[Any]) -> Zones:
    geometry, notes = mend_rings(gpd.GeoSeries(shapes, crs=crs))
    return Zones(
        path="zones.gpkg",
        zone_ids=tuple(f"z{index}" for index in range(len(shapes))),
        names=(None,) * len(shapes),
        notes=notes,
        attributes=pa.table(attributes) if attributes else pa.table({"people": list(range(len(shapes)))}),
        geometry=geometry,
    )


def make_findings(
    tiles: dict[tuple[int, int], dict[str, Any]], *, grid: Grid = GRID, **others: Any
) -> gpd.GeoDataFrame:
    plain = {"status": "analysed", "valid_fraction": 1.0, "is_changed": False, "building_count": 0, "road_count": 0}
    plain |= {"building_cells": "", "road_cells": "", "model_id": "m", "run_id": "r"} | others
    places = [(row, col) for row in range(grid.n_rows) for col in range(grid.n_cols)]
    rows = [plain | {"tile_id": grid.tile_id(*p), "row": p[0], "col": p[1]} | tiles.get(p, {}) for p in places]
    columns = {name: [row.get(name) for row in rows] for name in FINDINGS_SCHEMA.names if name != "geometry"}
    geometry = np.array([grid.tile_polygon(*place) for place in places])
    return make_frame(columns, schema=FINDINGS_SCHEMA, geometry=geometry, crs=grid.crs)


BUILT = {"is_changed": True, "building_count": 4, "building_cells": "center-left;center-center;center-right"}
UNSEEN = {"status": "cloudy", "is_changed": None} | dict.fromkeys(
    ("building_count", "road_count", "building_cells", "road_cells")
)


@dataclass(frozen=True, kw_only=True)
class MadeStore(TileStore):
    """A store that knows what is valid in some tiles; all else is."""

    valid: dict[tuple[int, int], npt.NDArray[np.bool_]] = field(default_factory=dict)
    asked: list[tuple[int, int]] = field(default_factory=list)

    def read_valid(self, row: int, col: int) -> npt.NDArray[np.bool_]:
        self.asked.append((row, col))
        return self.valid[row, col]


def make_store(valid: dict[tuple[int, int], npt.NDArray[np.bool_]] | None = None, *, grid: Grid = GRID) -> MadeStore:
    return MadeStore(folder=RunFolder("nowhere"), grid=grid, content_key="", shard_size_tiles=8, valid=valid or {})


def sum_up(
    shapes: list[Any], findings: gpd.GeoDataFrame, *, crs: str = GRID.crs, store: TileStore | None = None
) -> gpd.GeoDataFrame:
    changes = dissolve_changes(findings, grid=GRID)
    return sum_over_zones(make_zones(shapes, crs=crs), findings=findings, changes=changes, store=store or make_store())


def test_a_change_on_a_border_is_shared_out_by_its_area() -> None:
    findings = make_findings({(3, 4): BUILT, (3, 5): BUILT})
    ((area_m2, count),) = dissolve_changes(findings, grid=GRID)[["area_m2", "count"]].to_numpy()

    west, east = sum_up([box(0, 0, 20, 4.5), box(0, 4.5, 20, 30)], findings).to_dict("records")

    assert count == 8
    assert (west["building_count"], east["building_count"]) == (pytest.approx(2), pytest.approx(6))
    assert west["building_area_m2"] == pytest.approx(area_m2 / 4)
    assert east["building_area_m2"] == pytest.approx(area_m2 * 3 / 4)
    assert (west["road_count"], west["road_area_m2"]) == (0, 0)
    assert (west["status"], west["seen_fraction"]) == ("seen", 1)
    assert (west["tile_count"], west["changed_tile_count"], east["changed_tile_count"]) == (100, 1, 2)


def test_what_is_too_coarse_to_be_called_unchanged_counts_as_not_seen() -> None:
    untold = dict.fromkeys(("is_changed", "building_count", "road_count", "building_cells", "road_cells"))
    findings = make_findings({(3, 4): BUILT, (0, 0): {"status": "identical"}}, model_fit="coarse", **untold)

    changed, other = sum_up([box(3, 4, 4, 5), box(10, 10, 15, 15)], findings).to_dict("records")
    coverage = measure_coverage(findings, tiles=None, grid=GRID)

    assert (changed["status"], changed["building_count"]) == ("seen", pytest.approx(4))
    assert np.isnan(changed["road_count"])
    assert (other["status"], other["reason"]) == ("not_seen", "25 tiles too coarse for the model")
    assert np.isnan(other["building_count"])
    assert coverage.seen_fraction == pytest.approx(1 / 600, rel=1e-3)
    assert coverage.withheld_counts == {"analysed": 598, "identical": 1}
    assert {share.status: share.n_tiles for share in coverage.list_shares() if share.is_there} == {
        "analysed": 1,
        "coarse": 599,
    }


def test_what_was_not_seen_has_no_counts() -> None:
    findings = make_findings({(row, col): UNSEEN for row in range(20) for col in range(10)} | {(0, 20): BUILT})

    unseen, part, off = sum_up([box(0, 0, 5, 5), box(0, 8, 4, 12), box(0, 40, 5, 45)], findings).to_dict("records")

    assert (unseen["status"], unseen["seen_fraction"], unseen["reason"]) == ("not_seen", 0, "25 tiles cloudy")
    assert (off["status"], off["reason"]) == ("not_seen", "it lies off what both scenes show")
    for zone in (unseen, off):
        assert np.isnan([zone[name] for name in zone if name.startswith(("building_", "road_"))]).all()
    assert (part["status"], part["reason"]) == ("partly_seen", "8 tiles cloudy")
    assert part["seen_fraction"] == pytest.approx(0.5)
    assert part["building_count"] == 0
    assert (part["analysed_tile_count"], part["cloudy_tile_count"], off["tile_count"]) == (8, 8, 0)


def test_what_no_tile_told_is_null_where_it_may_have_changed() -> None:
    silent = {"is_changed": True, "building_count": None, "road_count": None}
    findings = make_findings({(0, 0): silent}, building_count=None, road_count=None, is_changed=None)
    identical = make_findings({}, status="identical", building_count=None, building_cells=None)

    assert sum_up([WHOLE], findings)["building_count"].isna().all()
    assert sum_up([WHOLE], findings)["building_area_m2"].tolist() == [0]
    assert sum_up([WHOLE], identical)["building_count"].tolist() == [0]


def test_a_zone_half_off_the_grid_is_seen_in_part() -> None:
    (zone,) = sum_up([box(0, 25, 20, 35)], make_findings({})).to_dict("records")

    assert zone["status"] == "partly_seen"
    assert zone["seen_fraction"] == pytest.approx(0.5, rel=1e-4)
    assert zone["reason"] == "50.00% of it lies off what both scenes show"


def test_a_tile_that_is_valid_in_part_is_seen_in_part() -> None:
    (zone,) = sum_up([box(0, 0, 1, 2)], make_findings({(0, 0): {"valid_fraction": 0.5}})).to_dict("records")

    assert zone["seen_fraction"] == pytest.approx(0.75)
    assert zone["seen_area_m2"] == pytest.approx(0.75 * zone["area_m2"])
    assert zone["reason"] == "some of its tiles are valid in part only"


def show_west(width_px: int) -> npt.NDArray[np.bool_]:
    """Both dates show so many columns of a tile, from its left edge."""
    is_valid = np.zeros((2, 48, 48), dtype=np.bool_)
    is_valid[:, :, :width_px] = True
    return is_valid


@pytest.mark.parametrize(
    ("zone", "seen_fraction"),
    [
        # The tile shows its western 12 of 48 columns, which is a quarter of it.
        (box(3, 4, 4, 4.25), 1.0),
        (box(3, 4.25, 4, 5), 0.0),
        (box(3, 4, 4, 4.5), 0.5),
        (box(3.5, 4.125, 4, 4.375), 0.5),
        # Half of the next tile, which is shown throughout, and the blank three quarters of this one.
        (box(3, 4.25, 4, 5.75), 0.5),
        # Less than a pixel of the zone lies in the blank.
        (box(3.1, 4.1, 3.101, 4.101), 0.25),
        (shapely.union(box(3, 4, 4, 4.25), box(10, 10, 11, 10.25)), 1.0),
        (box(3, 4, 4, 6), 0.625),
    ],
)
def test_a_zone_in_a_tile_that_is_valid_in_part_is_seen_by_its_own_ground(
    zone: shapely.Geometry, seen_fraction: float
) -> None:
    findings = make_findings({(3, 4): {"valid_fraction": 0.25}})

    (row,) = sum_up([zone], findings, store=make_store({(3, 4): show_west(12)})).to_dict("records")

    assert row["seen_fraction"] == pytest.approx(seen_fraction, abs=1e-6)
    assert row["status"] == {1.0: "seen", 0.0: "not_seen"}.get(seen_fraction, "partly_seen")
    # A tile without a change says nothing of ground that it does not show.
    assert pd.isna(row["building_count"]) == (seen_fraction == 0)


def test_a_tile_is_read_once_for_all_zones_whose_borders_run_through_it() -> None:
    findings = make_findings({(3, 4): {"valid_fraction": 0.25}, (7, 7): UNSEEN | {"valid_fraction": 0.25}})
    store = make_store({(3, 4): show_west(12)})

    zones = sum_up([box(3, 4 + n / 4, 4, 4.25 + n / 4) for n in range(4)] + [box(7, 7, 7.5, 8)], findings, store=store)

    assert zones["seen_fraction"].tolist() == [1, 0, 0, 0, 0]
    assert store.asked == [(3, 4)]


@pytest.mark.parametrize("crs", ["EPSG:32614", "EPSG:4326", "EPSG:3857", "EPSG:2278"])
def test_zones_in_any_crs_give_the_same_sums(crs: str) -> None:
    findings = make_findings({(3, 4): BUILT, (3, 5): BUILT, (4, 5): UNSEEN})
    shapes = gpd.GeoSeries([box(0, 0, 20, 4.5), box(0, 4.5, 20, 30)], crs=GRID.crs)
    expected = sum_up(list(shapes), findings)

    # Cut beforehand, as an edge that is straight in one CRS is a curve in the other.
    found = sum_up(list(shapes.segmentize(10).to_crs(crs)), findings, crs=crs)

    for name in ("building_count", "building_area_m2", "area_m2", "seen_fraction"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), rel=1e-6), name
    for name in ("status", "tile_count", "analysed_tile_count"):
        assert found[name].tolist() == expected[name].tolist(), name
    assert found.crs == expected.crs


def test_a_parcel_far_smaller_than_a_tile_has_its_tile() -> None:
    (zone,) = sum_up([box(3.5, 4.5, 3.52, 4.52)], make_findings({(3, 4): BUILT})).to_dict("records")

    assert (zone["tile_count"], zone["changed_tile_count"], zone["status"]) == (1, 1, "seen")


def test_areas_are_those_of_geodesics() -> None:
    zones = gpd.GeoSeries(
        [shapely.box(10, 50, 11, 51).difference(shapely.box(10.2, 50.2, 10.4, 50.4))], crs="EPSG:4326"
    )
    # Straight edges in degrees are no geodesics: cut finely they become ones.
    finely = shapely.orient_polygons(shapely.segmentize(zones.iloc[0], 0.001))
    expected, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(finely)

    assert measure_zones(zones, grid=GRID)[0] == pytest.approx(expected, rel=1e-8)


def test_a_map_of_the_world_leaves_the_rest_of_the_world_empty() -> None:
    world = [shapely.box(-180, -90, 180, 90), shapely.box(100, -40, 150, -10), shapely.box(-100, 20, -90, 40)]
    shapes = place_polygons(gpd.GeoSeries(world, crs="EPSG:4326"), grid=GRID)

    assert [shapely.is_empty(shape) for shape in shapes] == [False, True, False]
    assert [shape.covers(WHOLE) for shape in shapes] == [True, False, True]
    assert shapely.is_valid(shapes).all()


def test_a_grid_at_the_date_line_finds_zones_on_both_sides() -> None:
    # At the equator the date line is 334 km east of the middle of zone 60.
    grid = replace(GRID, crs="EPSG:32660", origin_x=833_900.0, origin_y=100_000.0)
    middle = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(834_200.0, 99_800.0)
    assert abs(middle[0]) > 179.9
    east, west = shapely.box(-180, 0.5, -179, 1.5), shapely.box(179, 0.5, 180, 1.5)
    drawn_over = shapely.Polygon([(179, 0.5), (-179, 0.5), (-179, 1.5), (179, 1.5)])
    geometry, _ = mend_rings(gpd.GeoSeries([east, west, drawn_over], crs="EPSG:4326"))

    covers = [cover_zone(shape, grid=grid) for shape in place_polygons(geometry, grid=grid)]

    tiles_m2 = measure_tiles(grid)
    parts = [cover.add_up(tiles_m2) / tiles_m2.sum() for cover in covers]
    assert parts[0] + parts[1] == pytest.approx(1)
    assert parts[2] == pytest.approx(1)


def test_the_table_is_sound_geoparquet_with_the_zones_own_columns(tmp_path: Any) -> None:
    findings = make_findings({(3, 4): BUILT})
    zones = make_zones(
        [box(0, 0, 5, 5), shapely.Polygon(), box(3, 3, 9, 9)], people=[1, None, 3], town=["a", "b", None]
    )

    sums = sum_over_zones(zones, findings=findings, changes=dissolve_changes(findings, grid=GRID), store=make_store())
    data = encode_geoparquet(sums, schema=zones.schema, order=order_along_hilbert(sums, key="zone_id"))

    (tmp_path / "zones.parquet").write_bytes(data)
    outcomes = geoparquet_validator.check(str(tmp_path / "zones.parquet"))["outcomes"]
    assert [o for o in outcomes if o["status"] not in {"pass", "skip"}] == []
    table = gpd.read_parquet(io.BytesIO(data)).set_index("zone_id").loc[["z0", "z1", "z2"]]
    assert table["people"].fillna(-1).tolist() == [1, -1, 3]
    assert table["town"].fillna("").tolist() == ["a", "b", ""]
    assert table["reason"].fillna("").tolist() == ["", "it has no geometry", ""]
    assert data == encode_geoparquet(sums, schema=zones.schema, order=order_along_hilbert(sums, key="zone_id"))


COORDINATE = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 6))


@st.composite
def draw_partition(draw: st.DrawFn) -> list[shapely.Polygon]:
    """Divide the grid's surroundings up among the triangles between some points."""
    points = draw(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=12, unique=True))
    west, south, east, north = WHOLE.buffer(50).bounds
    corners = [(west, south), (west, north), (east, south), (east, north)]
    inner = [(west + x * (east - west), south + y * (north - south)) for x, y in points]
    triangles = shapely.delaunay_triangles(shapely.MultiPoint([*corners, *inner]))
    return [part for part in shapely.get_parts(triangles) if part.area > 1e-3]


CELLS = st.sampled_from(["top-left", "center-center;center-right", "bottom-left;bottom-center;bottom-right"])
BUILT_TILES = st.dictionaries(
    st.tuples(st.integers(0, 19), st.integers(0, 29)), st.tuples(CELLS, st.integers(1, 9)), max_size=12
)


@given(partition=draw_partition(), tiles=BUILT_TILES)
@settings(max_examples=15, deadline=None)
def test_sums_over_zones_that_divide_the_area_up_are_the_totals(
    partition: list[shapely.Polygon], tiles: dict[tuple[int, int], tuple[str, int]]
) -> None:
    findings = make_findings(
        {place: BUILT | {"building_cells": cells, "building_count": n} for place, (cells, n) in tiles.items()}
    )
    changes = dissolve_changes(findings, grid=GRID)
    # Points on a hull's edge may leave slivers out: those are no part of the partition.
    lost = WHOLE.area - sum(shape.intersection(WHOLE).area for shape in partition)

    zones = sum_up(partition, findings)

    assert lost == pytest.approx(0, abs=1)
    assert zones["building_count"].sum() == pytest.approx(changes["count"].sum(), rel=1e-3)
    assert zones["building_area_m2"].sum() == pytest.approx(changes["area_m2"].sum(), rel=1e-3)
    assert zones["seen_area_m2"].sum() == pytest.approx(measure_tiles(GRID).sum(), rel=1e-4)


@given(parts=draw_partition())
@settings(max_examples=25, deadline=None)
def test_a_cover_has_the_area_of_the_part_on_the_grid(parts: list[shapely.Polygon]) -> None:
    zone = shapely.union_all(parts[: len(parts) // 2 + 1])

    cover = cover_zone(zone, grid=GRID)

    planar = np.full((GRID.n_rows, GRID.n_cols), SIDE_M**2)
    assert cover.add_up(planar) == pytest.approx(zone.intersection(WHOLE).area, abs=1e-3)
    assert cover.count(np.zeros((20, 30), np.uint8), n_codes=1)[0] <= 600


@given(shape=draw_partition().map(lambda parts: parts[0]), margin=st.floats(1, 100))
@settings(max_examples=12, deadline=None)
def test_a_zone_in_another_has_no_more_than_it(shape: shapely.Polygon, margin: float) -> None:
    findings = make_findings({(row, row): BUILT for row in range(20)})

    sums = sum_up([shape, shape.buffer(margin)], findings)

    inner, outer = sums[["building_count", "seen_area_m2"]].fillna(0).to_numpy(dtype=float)
    # So much of a zone may be off the grid before it counts.
    assert (inner <= outer * (1 + 2e-4)).all()


def test_shares_come_some_zones_at_a_time() -> None:
    zones = np.array([box(0, col / 20, 1, (col + 1) / 20) for col in range(600)])
    change = np.array([box(0, 0, 1, 1)])

    parts = list(share_changes(zones, changes=change))

    assert len(parts) == 3
    shares = np.zeros(600)
    for zone_of, _, share in parts:
        shares[zone_of] = share
    assert shares[:20] == pytest.approx(np.full(20, 1 / 20))
    assert shares[20:].sum() == pytest.approx(0)
