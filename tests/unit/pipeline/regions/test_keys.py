"""Keys of a region: its place, its CRS, and what of its settings makes another pair."""

from __future__ import annotations

import pytest
import shapely
from shapely.geometry import box

from model.interface import ModelIdentity
from pipeline.config.region import LatticeGridConfig, RegionConfig, load_region_config
from pipeline.regions.pairs import find_crs, find_middle, hash_cell, hash_settings

IDENTITY = ModelIdentity(model_id="m@1", weight_hash="abc", path="")


def make_config(*assignments: str) -> RegionConfig:
    values = {
        "name": "r",
        "aoi": "a.geojson",
        "source": {"kind": "folder", "folder": "scenes"},
        "pairing": {"kind": "year-earlier"},
        "output": "out",
    }
    return load_region_config(values=values, assignments=assignments)


@pytest.mark.parametrize(
    ("area", "lon", "crs"),
    [
        (box(10.0, 50.0, 10.2, 50.1), 10.1, "EPSG:32632"),
        (box(177.0, -18.0, 177.4, -17.0), 177.2, "EPSG:32760"),
        # Fiji, on both sides of the date line.
        (shapely.union(box(179.0, -18.0, 180.0, -17.0), box(-180.0, -18.0, -178.0, -17.0)), -179.5, "EPSG:32701"),
        (shapely.union(box(177.0, -18.0, 180.0, -17.0), box(-180.0, -18.0, -179.0, -17.0)), 179.0, "EPSG:32760"),
    ],
)
def test_middle_and_zone_of_an_area(area: shapely.Geometry, lon: float, crs: str) -> None:
    assert find_middle(area).x == pytest.approx(lon)
    assert find_crs("auto", area=area) == crs


def test_same_polygon_out_of_another_file_is_the_same_cell() -> None:
    area, grid = box(10.0, 50.0, 10.2, 50.1), LatticeGridConfig()
    turned = shapely.Polygon([*area.exterior.coords[2:-1], *area.exterior.coords[:3]])

    assert hash_cell(turned, grid=grid, crs="EPSG:32632") == hash_cell(area, grid=grid, crs="EPSG:32632")
    assert hash_cell(box(10.0, 50.0, 10.3, 50.1), grid=grid, crs="EPSG:32632") != hash_cell(
        area, grid=grid, crs="EPSG:32632"
    )
    assert hash_cell(area, grid=LatticeGridConfig(resolution_m=1), crs="EPSG:32632") != hash_cell(
        area, grid=grid, crs="EPSG:32632"
    )


@pytest.mark.parametrize(
    "assignment",
    [
        "prompts=[{name: a, kind: ask, text: t}]",
        "tiles.min_valid_fraction=0.5",
        "source.scene.bands=[3, 2, 1]",
        "registration.correct=true",
        "dates.composite=median",
    ],
)
def test_setting_that_shapes_answers_makes_another_pair(assignment: str) -> None:
    assert hash_settings(make_config(assignment), identity=IDENTITY) != hash_settings(make_config(), identity=IDENTITY)


@pytest.mark.parametrize(
    "assignment",
    [
        "output=elsewhere",
        "tiles.shard_size_tiles=2",
        "cluster.n_workers=3",
        "schedule={cron: 0 4 * * *}",
        "pairing.window_days=14",
        "retention.pixels.newest=3",
        "dates.cloud_buffer_m=5",
    ],
)
def test_other_settings_do_not(assignment: str) -> None:
    assert hash_settings(make_config(assignment), identity=IDENTITY) == hash_settings(make_config(), identity=IDENTITY)


def test_rule_buffer_and_order_of_composites_make_other_pairs() -> None:
    assignments = ("dates.composite=first_clear", "dates.cloud_buffer_m=5", "pairing.order=least_cloudy")
    keys = {hash_settings(make_config(*assignments[:n]), identity=IDENTITY) for n in range(4)}
    assert len(keys) == 4
