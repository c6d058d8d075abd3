"""Made pairs of a region as what links them sees them: weekly, each against the same week a year before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import shapely

from pipeline.regions.events.looks import PairView
from pipeline.regions.timeline import PairChanges

CRS = "EPSG:32614"
WEEK, YEAR = dt.timedelta(days=7), dt.timedelta(days=364)
BEGIN = dt.datetime(2026, 1, 5, 10, tzinfo=dt.UTC)


def make_pair(shapes: Sequence[shapely.Geometry], *, week: int, settings: str = "a") -> PairChanges:
    """Make the pair of a week with these changes; ``settings`` make another name, as those of a run do."""
    after = BEGIN + week * WEEK
    return PairChanges(
        pair_id=f"{after - YEAR:%Y%m%d}_{after:%Y%m%d}_{settings}",
        before=after - YEAR,
        after=after,
        change_ids=[f"{settings}{number}" for number in range(len(shapes))],
        kinds=["building"] * len(shapes),
        geometry=np.array(shapes, dtype=object),
    )


def view_pair(
    pair: PairChanges,
    *,
    ground: shapely.Geometry | None,
    confidence: float = 0.8,
    valid_fraction: float = 1.0,
    changed: Sequence[shapely.Geometry] = (),
) -> PairView:
    """Give a pair that has looked at some ground, tile by tile of 100 m; None: nobody knows what it looked at."""
    seen = None if ground is None else make_seen(ground, changed=changed, confidence=confidence, valid=valid_fraction)
    scenes = frozenset({pair.before, pair.after})
    return PairView(changes=pair, scenes=scenes, confidences=np.full(len(pair.kinds), confidence), seen=seen)


def make_seen(
    ground: shapely.Geometry, *, changed: Sequence[shapely.Geometry], confidence: float, valid: float
) -> gpd.GeoDataFrame:
    """Cut ground into tiles of 100 m; those that anything changed in are called changed."""
    left, bottom, right, top = (int(value) for value in ground.bounds)
    tiles = [shapely.box(x, y, x + 100, y + 100) for y in range(bottom, top, 100) for x in range(left, right, 100)]
    is_changed = [any(tile.intersects(shape) for shape in changed) for tile in tiles]
    frame = gpd.GeoDataFrame({"tile_id": [f"t{n}" for n in range(len(tiles))]}, geometry=tiles, crs=CRS)
    frame["valid_fraction"], frame["is_changed"] = valid, np.array(is_changed)
    return frame.assign(change_confidence=confidence).astype({"is_changed": "boolean", "change_confidence": "Float32"})
