"""A region of 3 x 3 blocks over a border of UTM zones, from an archive in the shape of Sentinel-2, week after week."""

from __future__ import annotations

import datetime as dt
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from distributed import Client
from made_blocks import EAST, SIDE_M, TILE_PX, WEST, find_frame, list_made_blocks, write_area
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import from_origin
from region_passes import make_pass
from scipy import ndimage

from model.synthesis.clouds import HAZE_PX, Sky, draw_sky
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.training_data.archives import (
    COLLECTION,
    MAX_REFLECTANCE,
    NEW_BASELINE,
    OLD_BASELINE,
    ArchiveDate,
    write_archive,
)
from pipeline.training_data.truth_events import TruthComparison, compare_with_truth

pytestmark = pytest.mark.timeout(600)

PIXEL_M = 10.0
# Where the lattices of both zones leave room for a quarter beside the border.
BLOCKS = list_made_blocks(resolution_m=PIXEL_M, lat=50.03)
LEFT, BOTTOM, RIGHT, TOP = find_frame(BLOCKS)
SHAPE = round((TOP - BOTTOM) / PIXEL_M), round((RIGHT - LEFT) / PIXEL_M)
PLACE = from_origin(LEFT, TOP, PIXEL_M, PIXEL_M)
QUARTER_M = 440.0
"""Side of what is built: where it lies in tiles it fills thirds of them, which is what the model counts as changed."""
CLOUD_M = 160.0
"""How far clouds that hide a quarter reach beyond it."""
HIDDEN = {
    dt.date(2025, 5, 20): (2,),
    dt.date(2025, 5, 27): (1,),
    dt.date(2025, 6, 3): (0, 3),
    dt.date(2026, 6, 3): (1, 3, 4),
    dt.date(2026, 6, 10): (4,),
    dt.date(2026, 6, 17): (0, 4),
}
"""Quarters that clouds hide, by day: no day shows all, the composites of the last week show all but one."""
YEAR = 2026
"""All are built before it."""


def list_quarters() -> gpd.GeoDataFrame:
    """Give what was built: in one block, over the border of two, over that of the zones, in the east, and in hiding."""
    west, east = BLOCKS[0].bounds, BLOCKS[6].bounds
    side_m, border_x = SIDE_M * PIXEL_M, BLOCKS[4].limits.bounds[2]
    places = [
        (WEST, west[0] + side_m / 2, west[1] + side_m / 2),
        (WEST, west[0] + side_m / 2, west[1] + 2 * side_m),
        (WEST, border_x, west[1] + 1.5 * side_m),
        (EAST, east[2] - side_m / 2, east[1] + 2.5 * side_m),
        (EAST, east[2] - side_m / 2, east[1] + side_m / 2),
    ]
    shapes = [(crs, shapely.Point(x, y).buffer(QUARTER_M / 2, cap_style="square")) for crs, x, y in places]
    geometry = [gpd.GeoSeries([shape], crs=crs).to_crs(WEST).iloc[0] for crs, shape in shapes]
    return gpd.GeoDataFrame(
        {"kind": "building", "is_in_before": False, "is_in_after": True}, geometry=geometry, crs=WEST, index=range(5)
    )


def draw_skies(quarters: gpd.GeoDataFrame) -> dict[dt.date, Sky]:
    """Draw clouds: over some quarters on each date, nowhere near the others, and wherever they are elsewhere."""
    masks = [
        rasterize([shape.buffer(CLOUD_M)], SHAPE, transform=PLACE, dtype="uint8") > 0 for shape in quarters.geometry
    ]
    near = ndimage.binary_dilation(np.any(masks, axis=0), iterations=2 * HAZE_PX)
    skies = {}
    for number, (day, hidden) in enumerate(HIDDEN.items()):
        sky = draw_sky(np.random.default_rng(number), height_px=SHAPE[0], width_px=SHAPE[1], cloud_share=0.2)
        for values in (sky.opacity, sky.shade, sky.is_cloudy, sky.is_shaded):
            values[near] = 0
        for place in hidden:
            sky.opacity[masks[place]], sky.is_cloudy[masks[place]] = 1, True
        skies[day] = sky
    return skies


def write_dates(folder: Path, *, quarters: gpd.GeoDataFrame, skies: dict[dt.date, Sky]) -> None:
    ground = np.random.default_rng(5).integers(20, 60, (*SHAPE, 3), dtype=np.uint8)
    built = ground + 150 * rasterize(quarters.geometry, SHAPE, transform=PLACE, dtype="uint8")[..., None]
    dates = [
        ArchiveDate(
            day=day,
            pixels=sky.cover(built if day.year == YEAR else ground),
            classes=sky.classify(ground),
            baseline=NEW_BASELINE if day.year == YEAR else OLD_BASELINE,
        )
        for day, sky in skies.items()
    ]
    middle = round((BLOCKS[4].limits.bounds[2] - LEFT) / PIXEL_M)
    zones = {WEST: slice(0, middle + 40), EAST: slice(middle - 40, SHAPE[1])}
    folder.mkdir()
    write_archive(folder, dates, crs=CRS.from_user_input(WEST), transform=PLACE, zones=zones)


def describe_region(folder: Path, client: Client) -> RegionConfig:
    return load_region_config(
        values={
            "name": "weeks",
            "aoi": str(folder / "area.geojson"),
            "source": {
                "kind": "stac",
                "search": {"href": str(folder / "made" / "catalog.json"), "collections": [COLLECTION]},
            },
            "pairing": {"kind": "year-earlier", "window_days": 30},
            "dates": {"composite": "first_clear", "max_cloud_percent": 80, "cloud_buffer_m": HAZE_PX * PIXEL_M},
            "output": str(folder / "region"),
            "grid": {"resolution_m": PIXEL_M, "tile_size_px": TILE_PX},
            "tiles": {"shard_size_tiles": 3, "resampling": "nearest", "stretch": {"limits": [0, MAX_REFLECTANCE]}},
            "registration": {"estimate": False},
            "model": {"name": "stand-in-outlining"},
            "blocks": {"size_km": SIDE_M * PIXEL_M / 1000, "n_blocks_at_once": 3},
            "report": {"tell_new": "first-sighting"},
            "cluster": {"kind": "address", "address": client.scheduler.address},
        }
    )


def compare(folder: Path, *, quarters: gpd.GeoDataFrame) -> TruthComparison:
    report = folder / "region" / "report"
    seen = pd.concat([gpd.read_parquet(path).to_crs(WEST) for path in report.glob("seen/*/*.parquet")])
    area = gpd.read_file(folder / "area.geojson").geometry
    events = gpd.read_parquet(report / "events.parquet")
    return compare_with_truth(events, truth=quarters, seen=seen, area=area, kind="building")


def test_weekly_passes_find_what_clouds_let_them_see_and_nothing_twice(
    tmp_path: Path, client: Client, shared_cluster: OpenCluster
) -> None:
    quarters = list_quarters()
    skies = draw_skies(quarters)
    write_dates(tmp_path / "made", quarters=quarters, skies=skies)
    write_area(tmp_path / "area.geojson", BLOCKS)
    config = describe_region(tmp_path, client)

    def watch(day: dt.date) -> TruthComparison:
        now = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
        report = make_pass(config, now=now, run_pair=partial(detect_changes, open_cluster=shared_cluster))
        assert {block["status"] for block in report.summary.blocks} == {"done"}
        assert len(report.summary.blocks) == len(BLOCKS)
        return compare(tmp_path, quarters=quarters)

    first = watch(dt.date(2026, 6, 4))
    assert (first.n_found, first.n_touched, first.n_missed + first.n_unseen) == (2, 0, 3)
    assert (first.n_events, first.n_made_up, first.n_twice) == (2, 0, 0)

    # Two weeks later, over borders of blocks and of zones and of baselines, nothing is told twice and nothing is lost.
    last = watch(dt.date(2026, 6, 18))
    assert (last.n_changed, last.n_found, last.n_touched, last.n_missed + last.n_unseen) == (5, 4, 0, 1)
    assert (last.n_events, last.n_made_up, last.n_twice) == (4, 0, 0)
    # Beside the border of the zones a strip fills no third of its tile, and is lost.
    assert last.told_m2 == pytest.approx(4 * QUARTER_M**2, rel=0.06)
    assert last.common_m2 == pytest.approx(last.told_m2, rel=0.03)
    line = pd.read_parquet(tmp_path / "region" / "report" / "timeline.parquet")
    assert len(line) == 2 * len(BLOCKS)
    events = gpd.read_parquet(tmp_path / "region" / "report" / "events.parquet")
    assert sorted(events["times_seen"]) == [1, 1, 2, 2]
