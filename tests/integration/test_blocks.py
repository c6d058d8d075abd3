"""A region of several blocks over the border of two UTM zones: each has dates of its own, and nothing counts twice."""

from __future__ import annotations

import base64
import datetime as dt
import io
import random
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
from distributed import Client
from fork_server import FORKING
from killed_client import make_pass_client
from made_blocks import EAST, SIDE_M, TILE_PX, WEST, list_made_blocks, write_archive, write_area
from PIL import Image
from region_passes import make_pass

from model.errors import InputError
from pipeline.config.region import RegionConfig, load_region_config
from pipeline.regions.export import export_region, is_region
from pipeline.regions.forecast import forecast_pass
from pipeline.regions.ground import GroundPictures, join_grounds
from pipeline.regions.record import read_file_facts
from pipeline.regions.region import RegionReport
from pipeline.regions.review_items import open_region_book
from pipeline.reviews.review import Subject
from pipeline.runs.run import OpenCluster, detect_changes
from pipeline.storage.object_facts import describe_bytes
from pipeline.storage.opening import find_run_folder
from pipeline.tiles.thumbnails import UNSEEN_COLOUR

pytestmark = pytest.mark.timeout(600)

NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
BLOCKS = list_made_blocks()
BROKEN, NEWER, UNSEEN, CLOUDY = (BLOCKS[number] for number in (0, 3, 6, 8))
HOUSE_M = 44.0
N_KILLS = 3


def list_houses() -> tuple[shapely.Geometry, ...]:
    """Give a house in the west, one on the seam of two blocks, one on the border of the zones, and one in the east."""
    west, east = BLOCKS[1].bounds, BLOCKS[7].bounds
    border_x = BLOCKS[4].limits.bounds[2]
    places = [
        (WEST, west[0] + 70, west[1] + 70),
        (WEST, west[0] + 40, west[3]),
        (WEST, border_x - 2, (west[1] + west[3]) / 2),
        (EAST, east[2] - 40, east[1] + 70),
    ]
    shapes = [(crs, shapely.Point(x, y).buffer(HOUSE_M / 2, cap_style="square")) for crs, x, y in places]
    return tuple(gpd.GeoSeries([shape], crs=crs).to_crs(WEST).iloc[0] for crs, shape in shapes)


def write_scenes(folder: Path) -> None:
    """Write an archive in which blocks have their best date on other days, none, a cloudy one, or one that is gone."""
    houses = list_houses()
    write_archive(
        folder / "archive",
        {
            "s2025": {"day": "2025-06-01", "blocks": [block for block in BLOCKS if block != UNSEEN]},
            "may": {
                "day": "2026-05-01",
                "blocks": [block for block in BLOCKS if block not in (UNSEEN, CLOUDY)],
                "houses": houses,
            },
            "cloudy": {"day": "2026-05-02", "blocks": [CLOUDY], "clouds": 90.0},
            "june": {"day": "2026-06-01", "blocks": [NEWER], "houses": houses},
            "broken": {"day": "2026-06-10", "blocks": [BROKEN], "houses": houses},
        },
    )
    write_area(folder / "area.geojson", BLOCKS)


def describe_region(folder: Path, **values: Any) -> RegionConfig:
    settings = {
        "name": "border",
        "aoi": str(folder / "area.geojson"),
        "source": {"kind": "stac", "search": {"href": str(folder / "archive" / "catalog.json")}},
        "pairing": {"kind": "dates", "before_dates": "2025", "after_dates": "2026"},
        "dates": {"max_cloud_percent": 50},
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX},
        "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in-outlining"},
        "blocks": {"size_km": SIDE_M / 1000, "n_blocks_at_once": 3},
    }
    return load_region_config(values=settings | values)


@pytest.fixture
def watch(client: Client, shared_cluster: OpenCluster) -> Any:
    def do_pass(config: RegionConfig) -> RegionReport:
        return make_pass(config, now=NOW, run_pair=partial(detect_changes, open_cluster=shared_cluster))

    return partial(describe_region, cluster={"kind": "address", "address": client.scheduler.address}), do_pass


def read_statuses(report: RegionReport) -> dict[str, str]:
    return {block["block_id"]: block["status"] for block in report.summary.blocks}


def read_events(config: RegionConfig) -> gpd.GeoDataFrame:
    return gpd.read_parquet(Path(config.output) / "report" / "events.parquet")


def pick(ground: GroundPictures, place: shapely.Point) -> tuple[str, str]:
    """Tell what the pictures show at a place, before and after."""
    left, bottom, right, top = ground.bounds
    words = []
    for uri in (ground.pictures.before_uri, ground.pictures.after_uri):
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
            width, height = picture.size
            x, y = (place.x - left) / (right - left) * width, (top - place.y) / (top - bottom) * height
            colour = np.asarray(picture)[int(y), int(x)]
        is_unseen = np.abs(colour - np.array(UNSEEN_COLOUR)).max() < 8
        words.append("unseen" if is_unseen else "bright" if colour.mean() > 120 else "dark")
    return words[0], words[1]


def write_zones(path: Path) -> Path:
    """Write two zones that meet at the border of the UTM zones."""
    shapes = [shapely.box(11.9, 49.9, 12, 50.1), shapely.box(12, 49.9, 12.1, 50.1)]
    gpd.GeoDataFrame({"zone_id": ["west", "east"]}, geometry=shapes, crs="EPSG:4326").to_file(path)
    return path


def read_report(config: RegionConfig) -> dict[str, bytes]:
    folder = Path(config.output) / "report"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_blocks_over_a_border_of_zones_tell_everything_once(tmp_path: Path, watch: Any) -> None:
    describe, do_pass = watch
    write_scenes(tmp_path)
    scene = tmp_path / "archive" / "items" / "broken.tif"
    lost = scene.rename(tmp_path / "lost.tif")
    config = describe(tmp_path, zones=str(write_zones(tmp_path / "zones.geojson")))

    told = forecast_pass(config, now=NOW)
    report = do_pass(config)

    # Each block has what its own dates give; one that fails keeps no other back.
    expected = dict.fromkeys((block.block_id for block in BLOCKS), "done")
    expected |= {BROKEN.block_id: "failed", UNSEEN.block_id: "no_scene", CLOUDY.block_id: "cloudy"}
    assert read_statuses(report) == expected
    assert (told["n_blocks"], told["n_blocks_to_do"], told["n_blocks_cloudy"], told["n_pairs_to_do"]) == (9, 7, 1, 7)
    assert "broken.tif does not exist" in next(iter(report.summary.failed.values()))
    line = pd.read_parquet(tmp_path / "region" / "report" / "timeline.parquet").set_index("block_id")
    assert line["after_id"].to_dict() == {
        block_id: {NEWER.block_id: "june", BROKEN.block_id: "broken"}.get(block_id, "may")
        for block_id, status in expected.items()
        if status in ("done", "failed")
    }
    assert len(report.tables.overview) == 3
    left_out = pd.read_parquet(tmp_path / "region" / "left_out.parquet")
    assert len(left_out) == report.summary.n_left_out == sum(report.summary.left_out_reasons.values())
    assert ("cloudy", CLOUDY.block_id) in zip(left_out["name"], left_out["block_id"], strict=True)

    # What the border of blocks or of zones runs through is one event, and its area counts once.
    events = read_events(config)
    houses = gpd.GeoSeries(list(list_houses()), crs=WEST).to_crs(events.crs)
    matches = events.sjoin(gpd.GeoDataFrame(geometry=houses.buffer(-HOUSE_M / 4)))
    assert sorted(matches["index_right"]) == [0, 1, 2, 3]
    assert sorted(matches["event_id"]) == sorted(events["event_id"])
    # Thirds of tiles that a corner of a house does not fill are not called changed; twice would be far more.
    assert events["area_m2"].tolist() == pytest.approx([HOUSE_M**2] * 4, rel=0.06)
    changes = report.tables.join_changes()
    assert changes is not None
    assert sorted(changes.groupby("event_id").size()) == [1, 1, 2, 2]
    assert changes["area_m2"].sum() == pytest.approx(4 * HOUSE_M**2, rel=0.02)

    # Zones have what all blocks tell, and the page shows the ground of all of them, whatever zone they lie in.
    zones = gpd.read_parquet(tmp_path / "region" / "report" / "zones.parquet").set_index("zone_id")
    assert zones["building_area_m2"].sum() == pytest.approx(changes["area_m2"].sum(), rel=1e-6)
    assert zones.loc["west", "building_area_m2"] == pytest.approx(2.5 * HOUSE_M**2, rel=0.06)
    (exported,) = export_region(str(tmp_path / "region"), formats=["gpkg"])
    layers = {name: gpd.read_file(exported, layer=name) for name in ("changes", "events", "zones")}
    assert {name: len(layer) for name, layer in layers.items()} == {"changes": 6, "events": 4, "zones": 2}
    assert {layer.crs for layer in layers.values()} == {events.crs}
    ground = join_grounds(
        [state for state in report.states if state.has_result],
        folder=report.folder,
        crs=str(events.crs),
        bounds=gpd.read_file(tmp_path / "area.geojson").to_crs(events.crs).total_bounds,
    )
    assert ground is not None
    assert (ground.after.first.month, ground.after.last.month) == (5, 6)
    assert [pick(ground, place) for place in houses.centroid] == [("dark", "bright")] * 4
    unseen = gpd.GeoSeries([UNSEEN.limits.centroid], crs=EAST).to_crs(events.crs)
    assert pick(ground, unseen.iloc[0]) == ("unseen", "unseen")

    # The next pass does the failed block alone; whatever was known keeps its id and its bytes.
    lost.rename(scene)
    former = read_report(config)
    repaired = do_pass(config)
    known = {block_id: "known" if status == "done" else status for block_id, status in expected.items()}
    assert read_statuses(repaired) == known | {BROKEN.block_id: "done"}
    assert read_events(config)["event_id"].tolist() == events["event_id"].tolist()
    now = read_report(config)
    pairs = {name for name in former if name.startswith(("changes/", "seen/"))}
    assert {name: former[name] for name in pairs} == {name: now[name] for name in pairs}
    assert len(do_pass(config).summary.done) == 0
    assert read_report(config) == now

    # One raster per zone; together they show what the events tell.
    files = export_region(config.output, formats=["probability"])
    assert [Path(file).name for file in files] == [
        f"change_probability_{crs.lower().replace(':', '_')}.tif" for crs in (WEST, EAST)
    ]
    shown_m2 = 0.0
    for file, crs in zip(files, (WEST, EAST), strict=True):
        with rasterio.open(file) as raster:
            values = raster.read(1)
            assert (raster.crs, raster.res) == (crs, (1.0, 1.0))
        assert {0, 225} <= set(np.unique(values).tolist()) <= {0, 225, 255}
        shown_m2 += float((values == 225).sum())
    assert shown_m2 == pytest.approx(4 * HOUSE_M**2, rel=0.02)

    collection = pystac.Collection.from_file(str(Path(config.output) / "report" / "collection.json"))
    named = [asset.get_absolute_href() or "" for name, asset in collection.assets.items() if "probability" in name]
    assert [Path(place).resolve() for place in named] == [Path(file).resolve() for file in files]
    assert is_region(config.output)
    facts = read_file_facts(find_run_folder(config.output))
    assert facts["report/collection.json"] == describe_bytes(read_report(config)["collection.json"])

    # For review each event is whole, on the pictures of the block that has most of it.
    book = open_region_book(find_run_folder(config.output))
    shown = [item for item in book.items.values() if item.subject is Subject.EVENT]
    assert len(shown) == 4
    assert [item.shape.area for item in shown if item.shape is not None] == pytest.approx([HOUSE_M**2] * 4, rel=0.06)
    assert [item.told["area_m2"] for item in shown] == pytest.approx([HOUSE_M**2] * 4, rel=0.06)

    # Blocks of another size would give the same names to other ground.
    with pytest.raises(InputError, match=r"blocks of 0\.288 km"):
        forecast_pass(describe(tmp_path, blocks={"size_km": 0.288}), now=NOW)


def test_pass_that_is_killed_at_random_moments_tells_the_same(tmp_path: Path, client: Client, watch: Any) -> None:
    describe, do_pass = watch
    blocks = BLOCKS[1:3]
    years = {"s2025": {"day": "2025-06-01", "blocks": blocks}, "s2026": {"day": "2026-06-01", "blocks": blocks}}
    years["s2026"]["houses"] = list_houses()[:2]
    write_archive(tmp_path / "archive", years)
    write_area(tmp_path / "area.geojson", blocks)
    whole, killed = describe(tmp_path, output=str(tmp_path / "whole")), describe(tmp_path)
    do_pass(whole)
    dice = random.Random(4)
    n_done = []

    # The earliest first: on a fast machine a late one comes when all is done.
    for seconds in sorted(dice.uniform(0.3, 2.5) for _ in range(N_KILLS)):
        process = FORKING.Process(target=make_pass_client, args=(killed, NOW, client.scheduler.address))
        process.start()
        process.join(timeout=seconds)
        process.kill()
        process.join()
        n_done.append(len(list((tmp_path / "region").glob("blocks/*/pairs/*/run.json"))))
    report = do_pass(killed)

    assert n_done[0] < len(blocks)
    assert report.is_complete
    assert len(read_events(killed)) == 2
    told, expected = read_report(killed), read_report(whole)
    assert {name: data for name, data in told.items() if name.endswith(".parquet")} == {
        name: data for name, data in expected.items() if name.endswith(".parquet")
    }
