"""A made region: changes of several pairs, as the region's report has them, without scenes or a model."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

DATES = ("2024-03-01", "2024-06-01", "2024-09-01", "2024-12-01", "2025-03-01")
CRS = "EPSG:32614"


def make_changes(rows: list[dict[str, Any]]) -> gpd.GeoDataFrame:
    """Make changes; each row is what differs from an ordinary one."""
    plain = {
        "kind": "building",
        "area_m2": 900.0,
        "count": 2.0,
        "confidence": 0.9,
        "description": "two houses are built .",
        "change": None,
        "geometry_source": "cells",
        "tile_ids": "r0000_c0000",
        "pair_id": "pair-1",
        "run": "pairs/pair-1",
        "is_new": True,
        "times_seen": 1,
        "event_status": "provisional",
        "before_datetime": DATES[0],
        "after_datetime": DATES[1],
    }
    own = [{"change_id": f"building_r0000_c{n:04d}_top-left", "event_id": f"event-{n}"} for n in range(len(rows))]
    filled = [plain | ids | row for ids, row in zip(own, rows, strict=True)]
    left = [621_000 + 200 * n for n in range(len(rows))]
    geometry = [
        row.pop("geometry", shapely.box(x, 3_361_000, x + 30, 3_361_030)) for row, x in zip(filled, left, strict=True)
    ]
    frame = pd.DataFrame(filled, columns=["change_id", "event_id", *plain])
    for name in ("before_datetime", "after_datetime"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    frame = frame.assign(first_seen=frame["after_datetime"], last_seen=frame["after_datetime"])
    frame = frame.astype({"confidence": "Float32", "is_new": "boolean", "times_seen": "Int32"})
    return gpd.GeoDataFrame(frame, geometry=np.array(geometry, dtype=object), crs=CRS)


def make_timeline(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a time line of consecutive pairs; each row is what differs from an ordinary one."""
    filled = [
        {
            "pair_id": f"pair-{n + 1}",
            "before_datetime": DATES[n],
            "after_datetime": DATES[n + 1],
            "before_id": f"scene-{n}",
            "after_id": f"scene-{n + 1}",
            "status": "done",
            "reason": None,
            "run": f"pairs/pair-{n + 1}",
            "analysed_fraction": 0.95,
            "changed_tile_count": 3,
            "n_changes": 2,
            "n_new_changes": 1,
            "building_count": 4.0,
            "road_count": 0.0,
            "building_area_m2": 900.0 * (n + 1),
            "road_area_m2": 300.0,
        }
        | row
        for n, row in enumerate(rows)
    ]
    frame = pd.DataFrame(filled)
    for name in ("before_datetime", "after_datetime"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame
