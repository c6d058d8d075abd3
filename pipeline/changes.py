"""Changes: cells of one kind that touch, put together into polygons over the borders of tiles."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import shapely

from model.interface import CELL_NAMES
from pipeline.findings import FINDINGS_SCHEMA
from pipeline.geoparquet import describe_field, make_frame
from pipeline.grid import Grid

CHANGE_KINDS = ("building", "road")
"""Kinds of change; each has the columns ``<kind>_cells`` and ``<kind>_count`` in the findings."""

_CONSTANT_COLUMNS = ("before_datetime", "after_datetime", "model_id", "run_id")

CHANGES_SCHEMA = pa.schema(
    [
        describe_field(
            "change_id",
            pa.string(),
            "Kind, tile and cell of the change's first cell, row-major.",
            is_nullable=False,
        ),
        describe_field("kind", pa.string(), "What changed: building or road.", is_nullable=False),
        describe_field(
            "area_m2",
            pa.float64(),
            "Area of the polygon in square metres of the CRS: of whole cells, so more than changed in them.",
            is_nullable=False,
        ),
        describe_field("cell_count", pa.int32(), "Cells that the polygon is made of.", is_nullable=False),
        describe_field("tile_count", pa.int32(), "Tiles that the cells are part of.", is_nullable=False),
        describe_field(
            "count",
            pa.int32(),
            "Sum of the counts of this kind over these tiles. Things on a tile border count in both tiles, and "
            "a tile's count is in each of its changes. Null: no tile told a count.",
        ),
        describe_field(
            "confidence",
            pa.float32(),
            "Mean change_confidence of the tiles, weighted by their cells, 0 to 1; null: no tile had one.",
        ),
        describe_field("description", pa.string(), "Description of the most confident of the tiles."),
        describe_field("tile_ids", pa.string(), "The tiles, joined by semicolons, row-major.", is_nullable=False),
        *(FINDINGS_SCHEMA.field(name) for name in _CONSTANT_COLUMNS),
        describe_field("geometry", pa.binary(), "The cells as one polygon, in the grid's CRS.", is_nullable=False),
    ]
)
"""Columns of ``changes.parquet``; the covering ``bbox`` comes on top."""


Cell = tuple[int, int]
"""Row and column of a cell, counted in cells from the grid's upper left corner."""


def dissolve_changes(findings: gpd.GeoDataFrame, *, grid: Grid) -> gpd.GeoDataFrame:
    """Put cells of one kind that touch by an edge together, over the borders of tiles as well.

    Tiles that the model calls unchanged bring no cells, whatever its other answers say, and cells beyond the
    overlap of both scenes are left out or cut off there.

    Args:
        findings: Rows of `FINDINGS_SCHEMA`, of any tiles of the grid.
        grid: The grid.

    Returns:
        The columns of `CHANGES_SCHEMA`, kind by kind, row-major by the first cell of each change.
    """
    constants = {name: findings[name].iloc[0] for name in _CONSTANT_COLUMNS}
    is_denied = findings["is_changed"].eq(other=False).fillna(value=False).astype(bool)
    rows: list[dict[str, Any]] = []
    geometries: list[shapely.Polygon] = []
    for kind in CHANGE_KINDS:
        claims = findings[~is_denied & findings[f"{kind}_cells"].fillna("").ne("")]
        tiles = _read_claims(claims, kind=kind)
        tile_of_cell = _list_cells(tiles, grid=grid)
        for cells in group_touching(tile_of_cell):
            polygon = _draw_cells(cells, grid=grid)
            summed = _sum_up([tiles[tile_of_cell[cell]] for cell in cells])
            change_id = f"{kind}_{tile_of_cell[cells[0]]}_{_name_cell(cells[0])}"
            rows.append({"change_id": change_id, "kind": kind, "area_m2": polygon.area, **summed, **constants})
            geometries.append(polygon)
    columns = {name: [row[name] for row in rows] for name in CHANGES_SCHEMA.names if name != "geometry"}
    return make_frame(columns, schema=CHANGES_SCHEMA, geometry=np.array(geometries, dtype=object), crs=grid.crs)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Claim:
    """What one tile says about one kind of change."""

    tile_id: str
    """The tile."""
    row: int
    """Its row in the grid."""
    col: int
    """Its column in the grid."""
    cell_names: tuple[str, ...]
    """Its cells of this kind."""
    count: int | None
    """Its count of this kind."""
    confidence: float | None
    """Its change_confidence."""
    description: str | None
    """The model's words about it."""


def _read_claims(findings: gpd.GeoDataFrame, *, kind: str) -> dict[str, _Claim]:
    names = ["tile_id", "row", "col", f"{kind}_cells", f"{kind}_count", "change_confidence", "description"]
    plain = pd.DataFrame(findings[names]).astype(object)
    plain = plain.where(plain.notna(), None)
    return {
        tile_id: _Claim(
            tile_id=tile_id,
            row=row,
            col=col,
            cell_names=tuple(cells.split(";")),
            count=count,
            confidence=confidence,
            description=description,
        )
        for tile_id, row, col, cells, count, confidence, description in plain.itertuples(index=False, name=None)
    }


def _list_cells(tiles: Mapping[str, _Claim], *, grid: Grid) -> dict[Cell, str]:
    """List the claimed cells, with the tile of each, as far as the scenes reach."""
    third_px = grid.tile_size_px / 3
    tile_of_cell: dict[Cell, str] = {}
    for tile in tiles.values():
        for name in tile.cell_names:
            row_in_tile, col_in_tile = divmod(CELL_NAMES.index(name), 3)
            cell = (3 * tile.row + row_in_tile, 3 * tile.col + col_in_tile)
            if cell[0] * third_px < grid.height_px and cell[1] * third_px < grid.width_px:
                tile_of_cell[cell] = tile.tile_id
    return tile_of_cell


def group_touching(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group cells that are joined by edges.

    Returns:
        Groups and the cells in them, both row-major.
    """
    leader = {cell: cell for cell in cells}

    def find(cell: Cell) -> Cell:
        while leader[cell] != cell:
            leader[cell] = leader[leader[cell]]
            cell = leader[cell]
        return cell

    for row, col in sorted(leader):
        for neighbour in ((row - 1, col), (row, col - 1)):
            if neighbour in leader:
                first, second = sorted((find(neighbour), find((row, col))))
                leader[second] = first
    groups: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in sorted(leader):
        groups[find(cell)].append(cell)
    return list(groups.values())


def _name_cell(cell: Cell) -> str:
    return CELL_NAMES[3 * (cell[0] % 3) + cell[1] % 3]


def _draw_cells(cells: Sequence[Cell], *, grid: Grid) -> shapely.Polygon:
    """Unite touching cells into one polygon, holes kept, with corners where it turns and nowhere else."""
    rows, cols = np.array(cells).T
    # Whole numbers unite without rounding; the corners get their coordinates afterwards, from the grid.
    united = shapely.normalize(shapely.union_all(shapely.box(cols, -rows - 1, cols + 1, -rows)))
    simple = shapely.simplify(united, 0)

    def place(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.array([_locate_corner((-int(y), int(x)), grid=grid) for x, y in corners])

    outline = shapely.transform(simple, place)
    covered = shapely.box(
        grid.origin_x,
        grid.origin_y - grid.height_px * grid.resolution_m,
        grid.origin_x + grid.width_px * grid.resolution_m,
        grid.origin_y,
    )
    return outline if covered.covers(outline) else shapely.intersection(outline, covered)


def _locate_corner(cell: Cell, *, grid: Grid) -> tuple[float, float]:
    """Give x and y of a cell's upper left corner."""
    left, _, _, top = grid.cell_polygon(cell[0] // 3, cell[1] // 3, _name_cell(cell)).bounds
    return left, top


def _sum_up(tile_of_each_cell: Sequence[_Claim]) -> dict[str, Any]:
    """Sum up the tiles of one change, given once per cell."""
    tiles = sorted({tile.tile_id: tile for tile in tile_of_each_cell}.values(), key=lambda tile: (tile.row, tile.col))
    counts = [tile.count for tile in tiles if tile.count is not None]
    confidences = [tile.confidence for tile in tile_of_each_cell if tile.confidence is not None]
    described = [tile for tile in tiles if tile.description is not None]
    best = max(described, key=lambda tile: tile.confidence or 0.0, default=None)
    return {
        "cell_count": len(tile_of_each_cell),
        "tile_count": len(tiles),
        "count": sum(counts) if counts else None,
        "confidence": math.fsum(confidences) / len(confidences) if confidences else None,
        "description": best.description if best is not None else None,
        "tile_ids": ";".join(tile.tile_id for tile in tiles),
    }
