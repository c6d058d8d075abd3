"""Zones as parts of an assessed report: of each, what the sampled tiles in it say of its ground."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.accuracy.estimators import Design, FloatArray, IntArray
from pipeline.accuracy.population import Population
from pipeline.findings.zone_cover import cover_zone
from pipeline.grid.grid import Grid

MAX_ZONES = 1_000
"""Zones that are assessed, those with most ground first."""
FEWEST_IN_ZONE = 2
"""Tiles of a zone and a stratum that say something of the others there."""


def assess_zones(
    zones: gpd.GeoDataFrame,
    *,
    design: Design,
    tiles: pd.DataFrame,
    is_changed: FloatArray,
    population: Population,
    strata: IntArray,
    grid: Grid,
) -> list[dict[str, Any]]:
    """Estimate how much ground of each zone lies in tiles that changed, as a ratio within the zone.

    Args:
        zones: Zones with their ids, in the CRS of the grid.
        design: The design of the tiles that were looked at.
        tiles: These tiles, rows of ``population.tiles``.
        is_changed: 1 where one has changed in truth.
        population: All tiles.
        strata: Position of the stratum of each of these.
        grid: The grid.
    """
    largest = zones.assign(_size=zones.geometry.area).nlargest(MAX_ZONES, "_size").sort_index()
    every = population.tiles
    return [
        {"zone_id": str(zone_id), "name": None if pd.isna(name) else str(name)}
        | _assess_zone(
            _cover_tiles(shape, tiles=tiles, grid=grid),
            design=design,
            is_changed=is_changed,
            population=every,
            cover=_cover_tiles(shape, tiles=every, grid=grid),
            strata=strata,
        )
        for zone_id, name, shape in zip(largest["zone_id"], largest["name"], largest.geometry, strict=True)
    ]


def _cover_tiles(shape: Any, *, tiles: pd.DataFrame, grid: Grid) -> FloatArray:
    """Give the part of each tile that lies in a zone."""
    cover = cover_zone(shape, grid=grid)
    fractions = np.zeros((grid.n_rows, grid.n_cols))
    fractions[cover.rows, cover.cols] = cover.fractions
    for rows, cols in cover.whole:
        fractions[rows, cols] = 1.0
    return np.asarray(fractions[tiles["row"].to_numpy(), tiles["col"].to_numpy()])


def _assess_zone(
    inside: FloatArray,
    *,
    design: Design,
    is_changed: FloatArray,
    population: pd.DataFrame,
    cover: FloatArray,
    strata: IntArray,
) -> dict[str, Any]:
    grounds = population["ground_m2"].to_numpy(dtype=np.float64) * cover
    ground_m2 = float(grounds.sum())
    told_m2 = float(grounds[population["is_changed"].to_numpy(dtype=np.bool_)].sum())
    result: dict[str, Any] = {
        "n_used": int((inside > 0).sum()),
        "assessed_ground_m2": ground_m2,
        "told_ground_m2": told_m2,
        "changed_ground_m2": None,
        "problem": None,
    }
    n_strata = len(design.weights)
    n_seen = np.bincount(design.strata[inside > 0], minlength=n_strata)
    n_there = np.bincount(strata[cover > 0], minlength=n_strata)
    if (n_seen < np.minimum(n_there, FEWEST_IN_ZONE)).any():
        return result | {"problem": "too few tiles of the sample lie in the zone"}
    found = design.estimate_ratio(is_changed * inside, inside)
    if found is None:
        return result | {"problem": "no tile that was called changed or unchanged lies in the zone"}
    return result | {"changed_ground_m2": found.scale(ground_m2).to_dict(highest=ground_m2)}
