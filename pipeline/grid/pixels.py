"""From shapes to pixels of the grid."""

from __future__ import annotations

import numpy as np
import shapely
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, Window


def find_pixels_inside(shape: BaseGeometry, *, grid: Grid, window: Window) -> BoolArray:
    """Tell which pixels have their centre in a shape, bool (height, width).

    Args:
        shape: Polygons in the CRS of the grid, or nothing.
        grid: The grid.
        window: Which of its pixels.
    """
    transform = grid.move(window.top, window.left).transform
    left, top = transform @ (0, 0)
    right, bottom = transform @ (window.width, window.height)
    # Cut first: GDAL is handed every corner of a shape, and a coast has a hundred thousand.
    parts = shapely.get_parts(shapely.clip_by_rect(shape, left, bottom, right, top))
    polygons = parts[shapely.get_dimensions(parts) == 2]
    size = (window.height, window.width)
    if not len(polygons):
        return np.zeros(size, dtype=np.bool_)
    return np.asarray(rasterize(polygons.tolist(), out_shape=size, transform=transform, dtype="uint8"), dtype=np.bool_)
