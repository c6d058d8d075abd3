"""Keys of a region: what its place is, and which of its settings shape the answers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from model.interface import ENGINE_VERSION, ModelIdentity
from pipeline.projections import check_grid_crs, find_utm_code
from pipeline.region_config import LatticeGridConfig, RegionConfig
from pipeline.region_sources_config import StacSourceConfig

_KEY_LENGTH = 12
_DEGREES = 1e-7
# ^ About a centimetre: the same area out of another file is the same.


def find_crs(crs: str, *, area: BaseGeometry) -> str:
    """Give the CRS of a region's grid: the one that is named, or for ``auto`` the UTM zone of the area's middle.

    Raises:
        InputError: it is not understood or not in metres, or the area is too near to a pole.
    """
    if crs != "auto":
        return check_grid_crs(crs)
    middle = find_middle(area)
    return find_utm_code(middle.x, middle.y)


def find_middle(area: BaseGeometry) -> shapely.Point:
    """Give the middle of an area's bounds in degrees, longitude from -180 to 180, also of one over the date line."""
    west, south, east, north = area.bounds
    if east - west > 180:
        # Both sides of the date line: the western hemisphere's part is moved behind the eastern's.
        west, south, east, north = shapely.transform(area, _move_east).bounds
    return shapely.Point((((west + east) / 2 + 180) % 360) - 180, (south + north) / 2)


def hash_cell(area: BaseGeometry, *, grid: LatticeGridConfig, crs: str) -> str:
    """Name a place: an area of interest and the grid that it is cut by."""
    shape = shapely.to_wkb(shapely.set_precision(area, _DEGREES).normalize(), byte_order=1)
    content = [hashlib.sha256(shape).hexdigest(), {**grid.model_dump(mode="json"), "crs": crs}]
    return _hash(content)


def hash_settings(config: RegionConfig, *, identity: ModelIdentity) -> str:
    """Name the settings that the result of a pair depends on, beside its place and its scenes."""
    source: dict[str, Any] = {"scene": config.source.scene.model_dump(mode="json")}
    if isinstance(config.source, StacSourceConfig):
        search = config.source.search
        source |= {"bands": search.bands, "classes": search.classes, "order": search.order}
    return _hash(
        [
            source,
            config.tiles.model_dump(mode="json", exclude={"shard_size_tiles"}),
            config.registration.model_dump(mode="json"),
            [[prompt.name, prompt.kind.value, prompt.text] for prompt in config.prompts],
            identity.weight_hash,
            config.model.dtype,
            ENGINE_VERSION,
        ]
    )


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


def _move_east(lon_lat: Any) -> Any:
    moved = lon_lat.copy()
    moved[moved[:, 0] < 0, 0] += 360
    return moved
