"""A made region of 3 x 3 small blocks on both sides of the border of two UTM zones, with an archive of its scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.transform import from_origin
from stac_material import make_catalog, make_collection, write_json

from pipeline.grid.blocks import LatticeBlock
from pipeline.regions.blocks import bring_to_degrees

TILE_PX, SIZE_TILES = 48, 3
SIDE_M = TILE_PX * SIZE_TILES
"""Side of a block in metres where pixels are of 1 m, and in pixels."""
WEST, EAST = "EPSG:32632", "EPSG:32633"
BORDER_LON, LAT = 12.0, 50.0
MARGIN_PX = 60


def list_made_blocks(*, resolution_m: float = 1.0, lat: float = LAT) -> list[LatticeBlock]:
    """Give the blocks: two columns in the western zone, the second on the border, and one in the eastern."""
    eastings, northings = {}, {}
    side_m = SIDE_M * resolution_m
    for crs in (WEST, EAST):
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(BORDER_LON, lat)
        eastings[crs], northings[crs] = int(x // side_m), int(y // side_m)
    columns = [(WEST, eastings[WEST] - 1), (WEST, eastings[WEST]), (EAST, eastings[EAST])]
    return [
        make_block(crs, east, northings[crs] + row, resolution_m=resolution_m)
        for crs, east in columns
        for row in range(3)
    ]


def make_block(crs: str, east: int, north: int, *, resolution_m: float = 1.0) -> LatticeBlock:
    return LatticeBlock(crs=crs, east=east, north=north, side_px=SIDE_M, resolution_m=resolution_m, is_in_zone=True)


def write_area(path: Path, blocks: Sequence[LatticeBlock]) -> Path:
    """Write the area that consists of these blocks' ground."""
    parts = [bring_to_degrees(block.limits, block=block) for block in blocks]
    gpd.GeoSeries([shapely.union_all(parts)], crs="EPSG:4326").to_file(path)
    return path


def find_frame(blocks: Sequence[LatticeBlock]) -> tuple[float, float, float, float]:
    """Give left, bottom, right and top of what holds all blocks, in whole pixels of the western zone."""
    size, margin = blocks[0].resolution_m, MARGIN_PX * blocks[0].resolution_m
    shapes = gpd.GeoSeries([bring_to_degrees(block.limits, block=block) for block in blocks], crs="EPSG:4326")
    left, bottom, right, top = shapes.to_crs(WEST).total_bounds // size * size
    return left - margin, bottom - margin, right + margin, top + margin


def write_archive(folder: Path, scenes: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a STAC catalog with a raster per item, all in the western zone; gives the catalog.

    Args:
        folder: Where it goes.
        scenes: By the id of the item: ``day``; ``blocks`` that the item says it shows; ``clouds`` in per cent; and
            ``houses``, shapes in the western zone that are bright.
    """
    for number, (item_id, scene) in enumerate(scenes.items()):
        write_json(folder / "items" / f"{item_id}.json", _describe(item_id, scene))
        _write_raster(folder / "items" / f"{item_id}.tif", houses=scene.get("houses", ()), seed=number)
    write_json(folder / "collection.json", make_collection(*(f"items/{name}.json" for name in scenes)))
    return write_json(folder / "catalog.json", make_catalog("collection.json"))


def _describe(item_id: str, scene: Mapping[str, Any]) -> dict[str, Any]:
    shown = shapely.union_all([bring_to_degrees(block.limits, block=block) for block in scene["blocks"]])
    raster = {"href": f"{item_id}.tif", "type": "image/tiff; application=geotiff", "roles": ["visual"]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": item_id,
        "collection": "sentinel-2-l2a",
        "geometry": shapely.geometry.mapping(shown),
        "bbox": list(shown.bounds),
        "properties": {"datetime": f"{scene['day']}T10:00:00Z", "eo:cloud_cover": scene.get("clouds", 0.0)},
        "links": [{"rel": "collection", "href": "../collection.json"}],
        "assets": {"visual": raster},
    }


def _write_raster(path: Path, *, houses: Sequence[shapely.Geometry], seed: int) -> None:
    left, bottom, right, top = find_frame(list_made_blocks())
    width, height = round(right - left), round(top - bottom)
    ground = np.random.default_rng(seed).integers(20, 60, (height, width), dtype=np.uint8)
    transform = from_origin(left, top, 1.0, 1.0)
    if houses:
        ground += 150 * rasterize(houses, (height, width), transform=transform).astype(np.uint8)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "width": width, "height": height, "crs": WEST}
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(np.stack([ground] * 3))
