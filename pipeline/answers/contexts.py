"""What is known of a pair of tiles besides its pixels, for models that read it: when, where and how large."""

from __future__ import annotations

from collections.abc import Sequence

import pyproj

from model.interface import PairContext
from pipeline.grid.grid import Grid
from pipeline.tiles.table import Tile

Dates = tuple[str | None, str | None]
"""When the scenes were taken, ISO 8601; None where nobody knows."""
_PLACE_DIGITS = 4
# ^ About ten metres.


def describe_contexts(tiles: Sequence[Tile], *, grid: Grid, dates: Dates) -> list[PairContext]:
    """Tell of each tile what is known.

    Args:
        tiles: The tiles.
        grid: Where they are.
        dates: Of the scenes, before first.
    """
    bounds = [grid.tile_bounds(tile.row, tile.col) for tile in tiles]
    to_degrees = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lons, lats = to_degrees.transform(
        [(left + right) / 2 for left, _, right, _ in bounds], [(bottom + top) / 2 for _, bottom, _, top in bounds]
    )
    side_m = round(grid.tile_size_px * grid.ground_resolution_m, 1)
    before, after = (date and date[:10] for date in dates)
    return [
        PairContext(
            before_date=before,
            after_date=after,
            latitude=round(lat, _PLACE_DIGITS),
            longitude=round(lon, _PLACE_DIGITS),
            side_m=side_m,
        )
        for lon, lat in zip(lons, lats, strict=True)
    ]
