"""The map of the report's page as plain values: paths, markers and a scale bar in pixels of the grid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from pipeline.findings.coverage import COARSE
from pipeline.findings.seen_ground import find_withheld
from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.tables.schemas import TileStatus

MAX_MAP_SIZE_PX = 1200
MAX_DRAWN_CHANGES = 2000
MAX_DRAWN_SIDE = 200
"""Most tiles in a row or column that the map draws one by one; of more, it draws squares of several."""

_MAX_CLOSE_UP_TILES = 5
_CLOSE_UP_MARGIN = 0.35
# ^ Part of a change's longer side that is shown around it.
_LATTICE_SIDE = 17
# ^ Over 100 km, places between the points of such a lattice are interpolated to about a metre.

LAYER_OF_STATUS = {
    TileStatus.NO_DATA: "unseen",
    TileStatus.CLOUDY: "unseen",
    TileStatus.OUTSIDE: "unseen",
    TileStatus.UNREADABLE: "unknown",
    TileStatus.FAILED: "unknown",
}
"""Layer of the map for tiles that the model did not look at, and for those whose answers are missing."""


@dataclass(frozen=True, kw_only=True)
class MapFrame:
    """From coordinates of the grid to its pixels, origin in the upper left corner."""

    grid: Grid
    """The grid."""

    @property
    def window(self) -> Window:
        """What the map shows: the overlap of both scenes."""
        return self.grid.shared_window

    @property
    def detail_m(self) -> float:
        """Ground length of half a pixel of the map's picture."""
        return max(self.grid.height_px, self.grid.width_px) / MAX_MAP_SIZE_PX * self.grid.resolution_m / 2

    def to_pixel(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Give columns and rows of places, in pixels and parts of them."""
        grid = self.grid
        return (x - grid.origin_x) / grid.resolution_m, (grid.origin_y - y) / grid.resolution_m

    def draw(self, geometries: Iterable[Any], *, tolerance_m: float) -> str:
        """Give the SVG path of polygons, in whole pixels of the grid."""
        simple = shapely.simplify(np.array(list(geometries), dtype=object), tolerance_m)
        pieces = []
        for polygon in shapely.get_parts(simple):
            for ring in (polygon.exterior, *polygon.interiors):
                corners = [self.to_pixel(x, y) for x, y in ring.coords[:-1]]
                pieces.append("M" + "L".join(f"{column:.0f} {row:.0f}" for column, row in corners) + "Z")
        return "".join(pieces)

    def sample_lattice(self) -> dict[str, npt.NDArray[np.float64]]:
        """Give longitude and latitude on a lattice over the map, for those who know no projections.

        Returns:
            Under columns and rows the pixels of the lattice's lines, under lons and lats its points, row-major.
            Longitudes run on continuously, beyond 180 degrees where the map crosses the antimeridian.
        """
        window, grid = self.window, self.grid
        columns = window.left + np.linspace(0, window.width, _LATTICE_SIDE)
        rows = window.top + np.linspace(0, window.height, _LATTICE_SIDE)
        xs, ys = np.meshgrid(grid.origin_x + columns * grid.resolution_m, grid.origin_y - rows * grid.resolution_m)
        lons, lats = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(xs, ys)
        lons = np.unwrap(np.unwrap(lons, period=360.0, axis=1), period=360.0, axis=0)
        return {"columns": columns, "rows": rows, "lons": lons.ravel(), "lats": np.asarray(lats).ravel()}


def describe_map(
    findings: gpd.GeoDataFrame, *, ranked: gpd.GeoDataFrame, frame: MapFrame, n_markers: int
) -> dict[str, Any]:
    """Work out all that lies on top of the map's pictures.

    Args:
        findings: One row per tile of the grid.
        ranked: Changes, the largest first.
        frame: The map.
        n_markers: Changes that get a number.
    """
    layers = findings["status"].map({status.value: layer for status, layer in LAYER_OF_STATUS.items()})
    layers = layers.astype(object).mask(find_withheld(findings), COARSE)
    return draw_changes(ranked, frame=frame, n_markers=n_markers) | {
        "tiles": {
            str(layer): frame.draw(
                [shapely.union_all(outline_places(rows, grid=frame.grid))], tolerance_m=frame.detail_m
            )
            for layer, rows in findings.groupby(layers, sort=True)
        },
        "unplaced": frame.draw(outline_places(findings[find_unplaced(findings)], grid=frame.grid), tolerance_m=0),
    }


def draw_changes(ranked: gpd.GeoDataFrame, *, frame: MapFrame, n_markers: int) -> dict[str, Any]:
    """Work out a map of changes, as an SVG has it: window, a path per kind, numbers and a scale bar.

    Args:
        ranked: Changes, the most important first; `MAX_DRAWN_CHANGES` of them are drawn.
        frame: The map.
        n_markers: Changes that get a number.
    """
    window = frame.window
    return {
        "left": window.left,
        "top": window.top,
        "width": window.width,
        "height": window.height,
        "unit": max(window.width, window.height) / 1000,
        "kinds": {
            str(kind): frame.draw(rows.geometry, tolerance_m=frame.detail_m)
            for kind, rows in ranked.head(MAX_DRAWN_CHANGES).groupby("kind", sort=True)
        },
        "markers": [_mark(geometry, frame=frame) for geometry in ranked.geometry.head(n_markers)],
        "scale": choose_scale_bar(window.width * frame.grid.ground_resolution_m),
    }


def outline_places(findings: gpd.GeoDataFrame, *, grid: Grid) -> npt.NDArray[np.object_]:
    """Outline tiles, or, where the grid has more than a map can show, squares of tiles that any of them lies in.

    Args:
        findings: Rows of some tiles.
        grid: The grid.

    Returns:
        Rectangles, at most `MAX_DRAWN_SIDE` in a row or column of the map.
    """
    step = -(-max(grid.n_rows, grid.n_cols) // MAX_DRAWN_SIDE)
    if step == 1:
        return np.asarray(findings.geometry.to_numpy(), dtype=np.object_)
    if findings.empty:
        return np.empty(0, dtype=np.object_)
    places = np.column_stack([findings["row"].to_numpy(np.int64), findings["col"].to_numpy(np.int64)])
    rows, cols = np.unique(places // step, axis=0).T * step
    last_rows, last_cols = np.minimum(rows + step, grid.n_rows) - 1, np.minimum(cols + step, grid.n_cols) - 1
    first, last = (
        np.array([grid.tile_bounds(*place) for place in zip(*edges, strict=True)])
        for edges in ((rows.tolist(), cols.tolist()), (last_rows.tolist(), last_cols.tolist()))
    )
    rectangles: npt.NDArray[np.object_] = shapely.box(first[:, 0], last[:, 1], last[:, 2], first[:, 3])
    return rectangles


def find_unplaced(findings: gpd.GeoDataFrame) -> Any:
    """Tell which tiles are changed without a cell that says where."""
    cells = findings["building_cells"].fillna("") + findings["road_cells"].fillna("")
    return findings["is_changed"].fillna(value=False).astype(bool) & cells.eq("")


def _mark(geometry: shapely.Geometry, *, frame: MapFrame) -> dict[str, int]:
    place = geometry.representative_point()
    column, row = frame.to_pixel(place.x, place.y)
    return {"column": round(column), "row": round(row)}


def choose_scale_bar(width_m: float) -> dict[str, Any]:
    """Choose a round length of about a fifth of the map's width.

    Args:
        width_m: Ground width of the map in metres.
    """
    wanted = width_m / 5
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= wanted)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    return {"label": label, "percent": round(100 * length / width_m, 3)}


def frame_close_up(geometry: shapely.Polygon, *, grid: Grid) -> Window:
    """Choose the square around a change that a close-up shows: a tile at least, a few tiles at most."""
    left, bottom, right, top = geometry.bounds
    longer_m = max(right - left, top - bottom)
    tile_m = grid.tile_size_px * grid.resolution_m
    side_m = min(max(longer_m * (1 + 2 * _CLOSE_UP_MARGIN), tile_m), _MAX_CLOSE_UP_TILES * tile_m)
    is_whole = side_m >= longer_m
    middle = shapely.box(*geometry.bounds).centroid if is_whole else geometry.representative_point()
    side = min(round(side_m / grid.resolution_m), grid.width_px, grid.height_px)
    column, row = MapFrame(grid=grid).to_pixel(middle.x, middle.y)
    return Window(
        top=int(np.clip(round(row - side / 2), grid.top_px, grid.top_px + grid.height_px - side)),
        left=int(np.clip(round(column - side / 2), grid.left_px, grid.left_px + grid.width_px - side)),
        height=side,
        width=side,
    )
