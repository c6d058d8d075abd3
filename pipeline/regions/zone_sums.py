"""Zones of a region of several blocks: what the last pair of each block tells, summed over all of them.

The runs of blocks sum over zones one by one, and tiles on the border of UTM zones stand in two of them. Here a zone has
what the blocks tell once their tiles and changes are cut at that border, so nothing counts twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from pipeline.findings.zone_cover import measure_zones
from pipeline.findings.zone_sums import share_changes
from pipeline.grid.cells import FloatArray
from pipeline.grid.grid import Grid
from pipeline.polygons.near import place_polygons
from pipeline.polygons.zones import Zones
from pipeline.regions.page import frame_ground
from pipeline.regions.schemas import make_zone_sums_schema
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGE_KINDS

_WHOLE = 1e-4
# ^ By so much the area of a zone in tiles may differ from that on the ellipsoid, as straight edges bend.


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockLook:
    """What the last pair of a block has told."""

    before: dt.datetime
    """Its earlier date."""
    after: dt.datetime
    """The later."""
    changes: gpd.GeoDataFrame
    """Its changes that are told, cut at the border of the UTM zone."""
    seen: gpd.GeoDataFrame | None
    """The tiles that it has looked at, likewise; None: nobody knows."""


def sum_last_looks(zones: Zones, *, looks: Sequence[BlockLook], crs: str) -> gpd.GeoDataFrame:
    """Sum up what the last pairs of all blocks tell in each zone.

    A tile that is valid in part counts by that part wherever in it the zone lies.

    Args:
        zones: The zones.
        looks: The last pair of each block, in one CRS.
        crs: This CRS, in metres.

    Returns:
        The columns of `make_zone_sums_schema`, in the order of the zones.
    """
    known = [(place, look.seen) for place, look in enumerate(looks) if look.seen is not None and len(look.seen)]
    tiles = pd.concat([seen.assign(look=place) for place, seen in known]) if known else None
    frame = frame_ground(_find_bounds(tiles, zones=zones, crs=crs), crs=crs)
    # Areas in it are those on the ellipsoid, however far the blocks lie from the middle of the CRS.
    equal_area = _choose_equal_area(frame)
    even = frame_ground(_find_bounds(tiles, zones=zones, crs=equal_area), crs=equal_area)
    shapes = place_polygons(zones.geometry, grid=even)
    areas_m2 = measure_zones(zones.geometry, grid=even)
    ground = _sum_tiles(shapes, tiles=tiles, looks=looks, crs=even.crs)
    seen_fractions = np.divide(ground.seen_m2, areas_m2, out=np.zeros(len(zones)), where=areas_m2 > 0)
    seen_fractions = np.where(seen_fractions > 1 - _WHOLE, 1.0, seen_fractions)
    columns: dict[str, Any] = {
        "zone_id": zones.zone_ids,
        "name": zones.names,
        "status": [_word_status(fraction) for fraction in seen_fractions],
        "reason": [_explain(fraction, note=note) for fraction, note in zip(seen_fractions, zones.notes, strict=True)],
        "area_m2": areas_m2,
        "seen_fraction": seen_fractions,
        "seen_area_m2": seen_fractions * areas_m2,
        "before_datetime": ground.before,
        "after_datetime": ground.after,
        **_sum_changes(shapes, looks=looks, is_same=ground.has_unchanged, crs=even.crs),
        **{name: zones.attributes[name] for name in zones.attributes.column_names},
    }
    schema = make_zone_sums_schema(zones.attributes.schema)
    return make_frame(columns, schema=schema, geometry=place_polygons(zones.geometry, grid=frame), crs=crs)


def _find_bounds(tiles: gpd.GeoDataFrame | None, *, zones: Zones, crs: str) -> tuple[float, float, float, float]:
    shapes = zones.geometry if tiles is None else tiles.geometry
    left, bottom, right, top = (float(value) for value in shapes.to_crs(crs).total_bounds)
    return left, bottom, right, top


def _choose_equal_area(frame: Grid) -> str:
    """Give a CRS around the middle of some ground with the areas of the ellipsoid (Snyder 1987, chapter 24)."""
    centre = gpd.GeoSeries.from_xy(
        [frame.origin_x + frame.width_px * frame.resolution_m / 2],
        [frame.origin_y - frame.height_px * frame.resolution_m / 2],
        crs=frame.crs,
    ).to_crs("EPSG:4326")
    return f"+proj=laea +lat_0={centre.y.iloc[0]:.6f} +lon_0={centre.x.iloc[0]:.6f} +datum=WGS84 +units=m +type=crs"


@dataclass(frozen=True, kw_only=True, eq=False)
class _SeenGround:
    """What was seen of each zone."""

    seen_m2: FloatArray
    before: list[dt.datetime | None]
    after: list[dt.datetime | None]
    has_unchanged: npt.NDArray[np.bool_]
    """Whether a tile in it is known not to have changed."""


def _sum_tiles(
    shapes: npt.NDArray[np.object_], *, tiles: gpd.GeoDataFrame | None, looks: Sequence[BlockLook], crs: str
) -> _SeenGround:
    n_zones = len(shapes)
    seen_m2, has_unchanged = np.zeros(n_zones), np.zeros(n_zones, dtype=np.bool_)
    touched: list[set[int]] = [set() for _ in shapes]
    if tiles is not None:
        squares = np.array(shapely.make_valid(tiles.geometry.to_crs(crs).to_numpy()), dtype=object)
        valid_m2 = shapely.area(squares) * tiles["valid_fraction"].to_numpy(np.float64)
        is_same = tiles["is_changed"].eq(False).fillna(value=False).to_numpy(np.bool_)
        look_of = tiles["look"].to_numpy(np.int64)
        for zone_of, tile_of, shares in share_changes(shapes, changes=squares):
            np.add.at(seen_m2, zone_of, valid_m2[tile_of] * shares)
            is_shared = shares > _WHOLE
            np.logical_or.at(has_unchanged, zone_of[is_shared], is_same[tile_of[is_shared]])
            for zone, look in np.unique(np.stack([zone_of, look_of[tile_of]])[:, is_shared], axis=1).T.tolist():
                touched[zone].add(look)
    return _SeenGround(
        seen_m2=seen_m2,
        before=[min((looks[at].before for at in own), default=None) for own in touched],
        after=[max((looks[at].after for at in own), default=None) for own in touched],
        has_unchanged=has_unchanged,
    )


def _sum_changes(
    shapes: npt.NDArray[np.object_], *, looks: Sequence[BlockLook], is_same: npt.NDArray[np.bool_], crs: str
) -> dict[str, FloatArray]:
    """Sum up areas of changes by their parts in each zone; NaN where nothing was told."""
    sums = {kind: np.zeros(len(shapes)) for kind in CHANGE_KINDS}
    is_told = {kind: is_same.copy() for kind in CHANGE_KINDS}
    found = [look.changes for look in looks if len(look.changes)]
    if found:
        changes = pd.concat([frame[["kind", "area_m2", frame.geometry.name]] for frame in found])
        polygons = np.array(shapely.make_valid(changes.geometry.to_crs(crs).to_numpy()), dtype=object)
        kinds, areas_m2 = changes["kind"].to_numpy(object), changes["area_m2"].to_numpy(np.float64)
        for zone_of, change_of, shares in share_changes(shapes, changes=polygons):
            for kind in CHANGE_KINDS:
                is_own = (kinds[change_of] == kind) & (shares > 0)
                np.add.at(sums[kind], zone_of[is_own], areas_m2[change_of[is_own]] * shares[is_own])
                is_told[kind][zone_of[is_own]] = True
    return {f"{kind}_area_m2": np.where(is_told[kind], sums[kind], np.nan) for kind in CHANGE_KINDS}


def _word_status(seen_fraction: float) -> str:
    return "seen" if seen_fraction == 1 else "partly_seen" if seen_fraction else "not_seen"


def _explain(seen_fraction: float, *, note: str | None) -> str | None:
    unseen = None if seen_fraction == 1 else "the last pairs of its blocks did not see it"
    if 0 < seen_fraction < 1:
        unseen = f"the last pairs of its blocks did not see {1 - seen_fraction:.2%} of it"
    return "; ".join(text for text in (note, unseen) if text) or None
