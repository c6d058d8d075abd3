"""Cells of tiles, drawn one by one from the corners that the grid gives."""

from __future__ import annotations

import shapely

from model.interface import CELL_NAMES
from pipeline.grid.grid import Grid


def draw_cell(grid: Grid, row: int, col: int, name: str) -> shapely.Polygon:
    """Draw one of the 3 x 3 cells of a tile, as far as the tile owns it."""
    cell_row, cell_col = divmod(CELL_NAMES.index(name), 3)
    left, top = grid.locate_corner(3 * row + cell_row, 3 * col + cell_col)
    right, bottom = grid.locate_corner(3 * row + cell_row + 1, 3 * col + cell_col + 1)
    return shapely.box(left, bottom, right, top)
