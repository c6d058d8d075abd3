"""How long a pass takes to plan a region of a thousand blocks out of one search, and what it holds in memory.

A made archive in the manner of Sentinel-2 is written as a static STAC catalog: scenes of 110 km that overlap by 10,
with clouds of their own, a date every five days in two windows of a month. A process of its own then does what a pass
does before its first pair: it settles the region, lists the archive once, deals the scenes out, and chooses dates for
each block.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BAR_S, BAR_BYTES = 60.0, 1e9
WEST, SOUTH = 300_000.0, 5_300_000.0
"""Corner of the area in EPSG:32632: with 1,000 blocks it reaches over the border of the next zone."""
BLOCK_M, SCENE_M, STEP_M = 10_240.0, 110_000.0, 100_000.0
EVERY_DAYS, WINDOW_DAYS = 5, 30
NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
ROOT = Path(__file__).parents[1]


def write_region(folder: Path, *, n_side: int) -> int:
    """Write ``area.geojson`` of so many blocks each way, and a catalog of its scenes; gives how many these are."""
    import geopandas as gpd
    import shapely

    side_m = n_side * BLOCK_M
    area = shapely.segmentize(shapely.box(WEST, SOUTH, WEST + side_m, SOUTH + side_m), BLOCK_M)
    gpd.GeoSeries([area], crs="EPSG:32632").to_crs("EPSG:4326").to_file(folder / "area.geojson")
    n_tiles = int(side_m // STEP_M) + 1
    places = [(WEST + col * STEP_M, SOUTH + row * STEP_M) for row in range(n_tiles) for col in range(n_tiles)]
    boxes = [shapely.box(x, y, x + SCENE_M, y + SCENE_M) for x, y in places]
    outlines = gpd.GeoSeries(boxes, crs="EPSG:32632").to_crs("EPSG:4326")
    names = []
    for day in list_days():
        for number, outline in enumerate(outlines):
            name = f"{day:%Y%m%d}_{number}"
            clouds = (number * 37 + day.toordinal() * 11) % 100
            item = describe_item(name, day=day, outline=shapely.geometry.mapping(outline), clouds=clouds)
            (folder / f"{name}.json").write_text(json.dumps(item))
            names.append(name)
    links = [{"rel": "item", "href": f"{name}.json", "type": "application/geo+json"} for name in names]
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "made", "description": "made", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return len(names)


def list_days() -> Iterator[dt.date]:
    """Give the days of both windows on which the satellite passes."""
    for end in (NOW.date() - dt.timedelta(days=365), NOW.date()):
        yield from (end - dt.timedelta(days=ago) for ago in range(1, WINDOW_DAYS, EVERY_DAYS))


def describe_item(name: str, *, day: dt.date, outline: dict[str, Any], clouds: float) -> dict[str, Any]:
    """Describe a scene as STAC does."""
    longitudes, latitudes = zip(*outline["coordinates"][0], strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": outline,
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": {"datetime": f"{day}T10:10:00Z", "eo:cloud_cover": clouds},
        "links": [],
        "assets": {"visual": {"href": f"{name}.tif", "type": "image/tiff; application=geotiff", "roles": ["visual"]}},
    }


def plan_region(folder: Path) -> dict[str, Any]:
    """Plan a pass over the region in this process; gives what it came to."""
    from pipeline.config.region import load_region_config
    from pipeline.regions.region import SettledRegion

    config = load_region_config(
        values={
            "name": "made",
            "aoi": str(folder / "area.geojson"),
            "source": {"kind": "stac", "search": {"href": str(folder / "catalog.json"), "max_items": 10_000}},
            "pairing": {"kind": "year-earlier", "window_days": WINDOW_DAYS},
            "dates": {"max_cloud_percent": 60},
            "output": str(folder / "region"),
            "grid": {"resolution_m": 10},
            "blocks": {"size_km": BLOCK_M / 1000},
        }
    )
    start = time.perf_counter()
    plan = SettledRegion.settle(config).plan(NOW)
    return {
        "n_blocks": len(plan.blocks),
        "n_pairs": len(plan.to_do),
        "statuses": dict(Counter(block.status.value for block in plan.blocks)),
        "wall_s": round(time.perf_counter() - start, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundred blocks rather than a thousand")
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plan is not None:
        print(json.dumps(plan_region(asked.plan)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        n_items = write_region(Path(scratch), n_side=10 if asked.quick else 32)
        # By itself: making the archive takes memory too.
        command = [sys.executable, __file__, "--plan", scratch]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
        )
    figures = {"n_items": n_items, **json.loads(done.stdout.splitlines()[-1])}
    holds = figures["wall_s"] < BAR_S and figures["peak_mb"] * 1e6 < BAR_BYTES
    bar = {"wall_s": BAR_S, "peak_mb": round(BAR_BYTES / 1e6)}
    print(json.dumps({"name": "block_planning", "figures": figures, "bar": bar, "holds": holds}))


if __name__ == "__main__":
    main()
