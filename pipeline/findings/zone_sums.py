"""Zones: what was found in each polygon of the person's, district by district or parcel by parcel.

Nothing counts twice over zones that do not overlap: a change belongs to each zone by the part of its area that lies in
it, and so do its area in square metres and its part of the tiles' counts. Sums over zones that divide an area up equal
what the changes in it sum up to. A zone that nobody looked at says so, and has no counts: not seen is never not
changed.

How much of a zone was seen goes by its own ground: where its border runs through a tile that is valid in part, the tile
store is asked which pixels of the zone are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from pipeline.findings.changes import is_sure_enough
from pipeline.findings.coverage import COARSE, SEEN
from pipeline.findings.dates import find_date
from pipeline.findings.seen_ground import find_withheld
from pipeline.findings.zone_cover import Cover, cover_zone, measure_tiles, measure_zones
from pipeline.grid.cells import BoolArray, FloatArray, IntArray
from pipeline.grid.grid import Grid
from pipeline.grid.pixels import find_pixels_inside
from pipeline.grid.window import Window
from pipeline.polygons.near import place_polygons
from pipeline.polygons.zones import Zones
from pipeline.tables.geoparquet import make_frame
from pipeline.tables.schemas import CHANGE_KINDS, TileStatus
from pipeline.tiles.store import TileStore

ZONE_STATUSES = ("seen", "partly_seen", "not_seen")
"""How much of a zone was looked at: all, a part, nothing."""

_ZONES_AT_ONCE = 256
_STATUSES = tuple(TileStatus)
_TOLD = tuple(f"{kind}_{what}" for what in ("count", "cells") for kind in CHANGE_KINDS)
_EDGE = 1e-9
# ^ Part of an area that rounding may make of nothing.
_EDGE_OF_GRID = 1e-4
# ^ By so much the area of a zone in tiles may differ from that on the ellipsoid, as straight edges bend.


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ground:
    """What is known about the tiles of a grid, each array (row, col)."""

    area_m2: FloatArray
    """Area of the tile."""
    seen_fractions: FloatArray
    """Part of it that was looked at."""
    status_codes: npt.NDArray[np.uint8]
    """Position of its status in `_STATUSES`."""
    withheld: npt.NDArray[np.uint8]
    """1 where it is too coarse for the model to tell that it did not change."""
    changed: npt.NDArray[np.uint8]
    """1 where it changed."""
    told: Mapping[str, FloatArray]
    """1 where the tile tells something of a column of the findings, or is known not to have changed."""


def sum_over_zones(
    zones: Zones,
    *,
    findings: gpd.GeoDataFrame,
    changes: gpd.GeoDataFrame,
    store: TileStore,
    min_confidence: float = 0.0,
) -> gpd.GeoDataFrame:
    """Sum up what was found in each zone.

    Args:
        zones: The zones.
        findings: One row per tile of the grid, as `extract_findings` gives them.
        changes: The changes of the same run, as `dissolve_changes` gives them.
        store: The tile store, for its grid and for what is valid along the zones' borders.
        min_confidence: Changes below it bring no area; counts are the tiles' and go by all.

    Returns:
        The columns of `Zones.schema`, in the order of the zones.

    Raises:
        FolderError: the store cannot be read.
    """
    grid = store.grid
    ground = _lay_out(findings, grid=grid)
    shapes = place_polygons(zones.geometry, grid=grid)
    areas_m2 = measure_zones(zones.geometry, grid=grid)
    covers = [cover_zone(shape, grid=grid) for shape in shapes]
    seen_m2 = _measure_seen(covers, shapes=shapes, ground=ground, store=store)
    rows = [
        _describe_cover(cover, ground=ground, area_m2=whole, seen_m2=seen)
        for cover, whole, seen in zip(covers, areas_m2.tolist(), seen_m2, strict=True)
    ]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["reason"] = [_join(note, reason) for note, reason in zip(zones.notes, columns["reason"], strict=True)]
    told = {kind: columns.pop(f"told_{kind}") for kind in _TOLD}
    columns |= _sum_changes(shapes, changes=changes, told=told, min_confidence=min_confidence)
    columns |= {"zone_id": zones.zone_ids, "name": zones.names, "area_m2": areas_m2}
    for name in ("before_datetime", "after_datetime"):
        columns[name] = [find_date(findings, name)] * len(zones)
    for name in ("model_id", "run_id"):
        columns[name] = [findings[name].iloc[0]] * len(zones)
    columns |= {name: zones.attributes[name] for name in zones.attributes.column_names}
    return make_frame(columns, schema=zones.schema, geometry=shapes, crs=grid.crs)


def _lay_out(findings: gpd.GeoDataFrame, *, grid: Grid) -> _Ground:
    """Put what the findings say about tiles where the tiles are."""
    places = tuple(findings[name].to_numpy(dtype=np.int64) for name in ("row", "col"))

    def put(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        laid_out = np.zeros((grid.n_rows, grid.n_cols), dtype=values.dtype)
        laid_out[places] = values
        return laid_out

    codes = pd.Categorical(findings["status"], categories=list(_STATUSES)).codes.astype(np.uint8)
    is_withheld = find_withheld(findings)
    is_seen = np.isin(codes, [_STATUSES.index(status) for status in SEEN]) & ~is_withheld
    is_changed, is_same = (findings["is_changed"].eq(other).fillna(value=False) for other in (True, False))
    return _Ground(
        area_m2=measure_tiles(grid),
        seen_fractions=put(is_seen * findings["valid_fraction"].to_numpy(dtype=np.float64)),
        status_codes=put(codes),
        withheld=put(is_withheld.astype(np.uint8)),
        changed=put(is_changed.to_numpy(dtype=np.uint8)),
        told={name: put((is_seen & (findings[name].notna() | is_same)).to_numpy(dtype=np.float64)) for name in _TOLD},
    )


def _measure_seen(
    covers: Sequence[Cover], *, shapes: npt.NDArray[np.object_], ground: _Ground, store: TileStore
) -> list[float]:
    """Measure what was seen of each zone, in square metres: whole tiles by their part, others pixel by pixel."""
    tiles_m2 = ground.area_m2 * ground.seen_fractions
    parts = [ground.seen_fractions[cover.rows, cover.cols] for cover in covers]
    by_tile: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for zone, (cover, shares) in enumerate(zip(covers, parts, strict=True)):
        for place in np.flatnonzero((shares > 0) & (shares < 1) & (cover.fractions < 1 - _EDGE)).tolist():
            by_tile.setdefault((int(cover.rows[place]), int(cover.cols[place])), []).append((zone, place))
    for (row, col), members in sorted(by_tile.items()):
        is_shown = np.logical_and(*store.read_valid(row, col))
        for zone, place in members:
            share = _share_shown(shapes[zone], is_shown=is_shown, window=store.grid.owned_window(row, col), store=store)
            parts[zone][place] = parts[zone][place] if share is None else share
    return [
        cover.add_up_whole(tiles_m2) + float((ground.area_m2[cover.rows, cover.cols] * cover.fractions * shares).sum())
        for cover, shares in zip(covers, parts, strict=True)
    ]


def _share_shown(shape: shapely.Geometry, *, is_shown: BoolArray, window: Window, store: TileStore) -> float | None:
    """Give the part of a zone's pixels in a window that are shown; None where it holds the centre of none."""
    part = store.grid.narrow_window(window, bounds=shape.bounds)
    top, left = part.top - window.top, part.left - window.left
    is_inside = find_pixels_inside(shape, grid=store.grid, window=part)
    if not is_inside.any():
        return None
    return float(is_shown[top : top + part.height, left : left + part.width][is_inside].mean())


def _describe_cover(cover: Cover, *, ground: _Ground, area_m2: float, seen_m2: float) -> dict[str, Any]:
    """Tell how much of a zone was seen, and of the rest why not."""
    on_grid_m2 = cover.add_up(ground.area_m2)
    # The zone's area is that on the ellipsoid, the tiles' add up to it but for rounding.
    is_on_grid = on_grid_m2 >= area_m2 * (1 - _EDGE_OF_GRID)
    whole_m2 = on_grid_m2 if is_on_grid else area_m2
    seen_fraction = min(seen_m2 / whole_m2, 1.0) if seen_m2 > _EDGE * whole_m2 else 0.0
    if seen_fraction > 1 - _EDGE:
        seen_fraction = 1.0
    counts = cover.count(ground.status_codes, n_codes=len(_STATUSES))
    n_changed = int(cover.count(ground.changed, n_codes=2)[1])
    missing = {status.value: int(counts[code]) for code, status in enumerate(_STATUSES) if status not in SEEN}
    missing[f"too {COARSE} for the model"] = int(cover.count(ground.withheld, n_codes=2)[1])
    return {
        "status": "seen" if seen_fraction == 1 else "partly_seen" if seen_fraction else "not_seen",
        "reason": None
        if seen_fraction == 1 or not area_m2
        else _explain(missing, off_grid=0.0 if is_on_grid else 1 - on_grid_m2 / area_m2),
        "seen_fraction": seen_fraction,
        "seen_area_m2": seen_fraction * area_m2,
        "tile_count": int(counts.sum()),
        "changed_tile_count": n_changed,
        **{f"{status}_tile_count": int(counts[code]) for code, status in enumerate(_STATUSES)},
        # A tile that was seen elsewhere tells nothing of a zone that it does not show.
        **{f"told_{name}": seen_fraction > 0 and cover.add_up(told) > 0 for name, told in ground.told.items()},
    }


def _explain(missing: Mapping[str, int], *, off_grid: float) -> str | None:
    words = [f"{count} tiles {status}" for status, count in missing.items() if count]
    if off_grid >= 1:
        words.append("it lies off what both scenes show")
    elif off_grid > 0:
        words.append(f"{off_grid:.2%} of it lies off what both scenes show")
    return "; ".join(words) or "some of its tiles are valid in part only"


def _join(*texts: str | None) -> str | None:
    return "; ".join(text for text in texts if text) or None


def _sum_changes(
    shapes: npt.NDArray[np.object_],
    *,
    changes: gpd.GeoDataFrame,
    told: Mapping[str, list[bool]],
    min_confidence: float,
) -> dict[str, Any]:
    """Sum up counts and areas of changes, each by its part in a zone; None where nothing was told."""
    counts = changes["count"].fillna(0.0).to_numpy(dtype=np.float64)
    areas = changes["area_m2"].to_numpy(dtype=np.float64) * is_sure_enough(changes, min_confidence=min_confidence)
    kinds = changes["kind"].to_numpy(dtype=object)
    sums = {f"{kind}_{what}": np.zeros(len(shapes)) for what in ("count", "area_m2") for kind in CHANGE_KINDS}
    for zone_of, change_of, shares in share_changes(shapes, changes=changes.geometry.to_numpy()):
        for kind in CHANGE_KINDS:
            is_kind = kinds[change_of] == kind
            for what, values in (("count", counts), ("area_m2", areas)):
                np.add.at(sums[f"{kind}_{what}"], zone_of[is_kind], values[change_of[is_kind]] * shares[is_kind])
    for kind in CHANGE_KINDS:
        sums[f"{kind}_count"][~np.array(told[f"{kind}_count"], dtype=np.bool_)] = np.nan
        sums[f"{kind}_area_m2"][~np.array(told[f"{kind}_cells"], dtype=np.bool_)] = np.nan
    return sums


def share_changes(
    zones: npt.NDArray[np.object_], *, changes: npt.NDArray[np.object_]
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Tell which part of each change lies in which zone, some zones at a time.

    Args:
        zones: Valid polygons, or empty ones.
        changes: Valid polygons in the same CRS.

    Yields:
        Positions of zones, positions of changes, and the part of the change's area that lies in the zone.
    """
    tree = shapely.STRtree(changes)
    for start in range(0, len(zones), _ZONES_AT_ONCE):
        some = zones[start : start + _ZONES_AT_ONCE]
        shapely.prepare(some)
        zone_of, change_of = tree.query(some, predicate="intersects")
        shares = _measure_shares(some[zone_of], changes[change_of])
        shapely.destroy_prepared(some)
        yield start + zone_of, change_of, shares


def _measure_shares(zones: npt.NDArray[np.object_], changes: npt.NDArray[np.object_]) -> FloatArray:
    shares: FloatArray = shapely.covers(zones, changes).astype(np.float64)
    is_cut: BoolArray = shares == 0
    parts = shapely.intersection(zones[is_cut], changes[is_cut])
    shares[is_cut] = shapely.area(parts) / shapely.area(changes[is_cut])
    return shares
