"""Zones of a region of several blocks: sums over the last pair of each, each piece of ground once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from pipeline.polygons.zones import Zones, read_zones
from pipeline.regions.schemas import make_zone_sums_schema
from pipeline.regions.zone_sums import BlockLook, sum_last_looks

CRS = "EPSG:32632"
X, Y = 500_000, 5_500_000
"""On the central meridian, where the scale of UTM is 0.9996."""
BEFORE = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)


def make_look(
    left: int,
    *,
    day: int,
    tiles: Sequence[bool | None] | None = (False, False),
    valid: float = 1.0,
    houses: Sequence[tuple[int, int, str]] = (),
) -> BlockLook:
    """Make a block of tiles of 100 m in a row; houses of 10 m by their left edge and bottom."""
    shapes = [shapely.box(X + left + x, Y + y, X + left + x + 10, Y + y + 10) for x, y, _ in houses]
    changes = gpd.GeoDataFrame(
        {"kind": [kind for *_, kind in houses], "area_m2": [100.0 for _ in houses]},
        geometry=np.array(shapes, dtype=object),
        crs=CRS,
    )
    seen = None
    if tiles is not None:
        squares = [shapely.box(X + left + 100 * n, Y, X + left + 100 * (n + 1), Y + 100) for n in range(len(tiles))]
        columns = {"valid_fraction": valid, "is_changed": pd.array(list(tiles), dtype="boolean")}
        seen = gpd.GeoDataFrame(columns, geometry=squares, crs=CRS)
    after = dt.datetime(2026, 6, day, tzinfo=dt.UTC)
    return BlockLook(before=BEFORE, after=after, changes=changes, seen=seen)


def make_zones(folder: Path, *bounds: tuple[float, float, float, float], **columns: Any) -> Zones:
    shapes = [shapely.box(X + left, Y + bottom, X + right, Y + top) for left, bottom, right, top in bounds]
    path = folder / "zones.gpkg"
    gpd.GeoDataFrame(columns, geometry=shapes, crs=CRS).to_file(path)
    return read_zones(str(path))


def test_each_zone_has_its_part_of_every_block(tmp_path: Path) -> None:
    zones = make_zones(tmp_path, (0, 0, 205, 100), (205, 0, 400, 100), owner=["a", "b"])
    # The middle of the second house is where the zones meet, which is in the second block.
    looks = [
        make_look(0, day=3, tiles=(True, False), houses=[(20, 20, "building")]),
        make_look(200, day=9, tiles=(False, None), valid=0.5, houses=[(0, 50, "building"), (90, 10, "road")]),
    ]

    told = sum_last_looks(zones, looks=looks, crs=CRS)

    assert told.columns.tolist() == make_zone_sums_schema(zones.attributes.schema).names
    assert told["building_area_m2"].tolist() == pytest.approx([150, 50], rel=1e-6)
    assert told["road_area_m2"].tolist() == pytest.approx([0, 100])
    assert told["area_m2"].tolist() == pytest.approx([20_500 / 0.9996**2, 19_500 / 0.9996**2], rel=1e-4)
    assert told["seen_fraction"].tolist() == pytest.approx([(20_000 + 250) / 20_500, 0.5], rel=1e-5)
    assert told["status"].tolist() == ["partly_seen", "partly_seen"]
    assert [moment.day for moment in told["after_datetime"]] == [9, 9]
    assert told["owner"].tolist() == ["a", "b"]


def test_what_nobody_looked_at_has_no_sums(tmp_path: Path) -> None:
    zones = make_zones(tmp_path, (0, 0, 100, 100), (200, 0, 300, 100), (3e6, 0, 3e6 + 100, 100))

    told = sum_last_looks(zones, looks=[make_look(0, day=3), make_look(200, day=3, tiles=None)], crs=CRS)

    assert told["status"].tolist() == ["seen", "not_seen", "not_seen"]
    assert told["building_area_m2"].isna().tolist() == [False, True, True]
    assert told["before_datetime"].isna().tolist() == [False, True, True]
    assert told["reason"].fillna("").tolist() == ["", *["the last pairs of its blocks did not see it"] * 2]
    assert told["area_m2"].iloc[2] > 0


def test_changed_tiles_that_do_not_tell_where_are_no_zero(tmp_path: Path) -> None:
    zones = make_zones(tmp_path, (0, 0, 100, 100))

    told = sum_last_looks(zones, looks=[make_look(0, day=3, tiles=(True,))], crs=CRS)

    assert told["status"].tolist() == ["seen"]
    assert told["building_area_m2"].isna().all()


def test_a_region_of_which_nothing_is_known_has_zones_all_the_same(tmp_path: Path) -> None:
    told = sum_last_looks(make_zones(tmp_path, (0, 0, 10, 10)), looks=[make_look(0, day=3, tiles=None)], crs=CRS)

    assert told["status"].tolist() == ["not_seen"]
