"""The ground that a run is about: what both scenes reach, inside the area of interest; how much of it each tile has.

A tile at the edge of the scenes or of the area has less ground than its square. What is valid in it is held against
that ground, so that a strip of which both dates show every pixel is as good as a whole tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from pipeline.grid.pixels import find_pixels_inside
from pipeline.grid.window import BoolArray
from pipeline.polygons.aoi import GridArea, find_inside, find_touched, find_within
from pipeline.scenes.footprints import move_beside
from pipeline.scenes.pair import ScenePair
from pipeline.tiles.marks import TileFacts
from pipeline.tiles.store import TileStore

_EDGE_CUTS = 256
# ^ A straight edge of 100 km bends by less than 0.1 m between so many cuts of an outline.
_MARGIN_PX = 0.25
# ^ So far inside the outline of a scene its pixels are there, however they were interpolated.


def find_extent(pair: ScenePair) -> BaseGeometry:
    """Give what both scenes of a pair reach, in the CRS of its grid, whether anything is valid there or not."""
    before = pair.before.footprint
    # In degrees first: a map of the world has no place in a UTM zone.
    reach = shapely.intersection(before, move_beside(pair.after.footprint, lon=before.envelope.centroid.x))
    cut = shapely.segmentize(reach, max(reach.length / _EDGE_CUTS, 1e-9))
    transformer = pyproj.Transformer.from_crs("EPSG:4326", pair.grid.crs, always_xy=True)
    extent = shapely.make_valid(shapely.transform(cut, lambda xy: np.column_stack(transformer.transform(*xy.T))))
    if pair.registration is not None and any(pair.registration.correction_px):
        # What is read from so far down and to the right lies so far up and to the left.
        rows_px, cols_px = pair.registration.correction_px
        resolution_m = pair.grid.resolution_m
        extent = shapely.intersection(
            extent, translate(extent, xoff=-cols_px * resolution_m, yoff=rows_px * resolution_m)
        )
    return extent


@dataclass(frozen=True, kw_only=True)
class GroundShares:
    """The ground in one tile, and how much of it is valid."""

    fraction: float
    """Part of the tile that is such ground, 0 to 1."""
    before: float
    """Part of that ground that the earlier scene shows, 0 to 1."""
    after: float
    """Part of it that the later scene shows."""
    both: float
    """Part of it that both show."""
    cloudy: float | None = None
    """Part of it that is cloudy on either date; None where nothing tells of clouds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """The ground on a grid, tile by tile; arrays (row, col)."""

    store: TileStore
    """What is valid, pixel by pixel, for tiles that are valid in part where the edge of the area runs through."""
    shape: BaseGeometry
    """The ground, in the CRS of the grid."""
    is_inside: BoolArray
    """Whether the tile shares area with the area of interest."""
    is_cut: BoolArray
    """Whether the edge of the area of interest runs through the tile."""
    n_pixels: npt.NDArray[np.int64]
    """Pixels of the tile whose centres lie on the ground."""

    @classmethod
    def lay_out(cls, store: TileStore, *, area: GridArea | None, extent: BaseGeometry | None) -> Ground:
        """Measure the ground in every tile.

        Args:
            store: The tile store.
            area: The area of interest; None for everywhere.
            extent: What both scenes reach, as `find_extent` gives it; None for the rectangle that the grid was laid
                over.
        """
        grid = store.grid
        shape = shapely.box(*grid.shared_bounds)
        if extent is not None:
            shape = shapely.intersection(shape, extent)
        shape = shapely.buffer(shape, -_MARGIN_PX * grid.resolution_m, join_style="mitre")
        is_inside, is_cut = find_inside(grid, area=area), np.zeros((grid.n_rows, grid.n_cols), dtype=np.bool_)
        if area is not None:
            shape = shapely.intersection(shape, area.geometry)
            is_cut = is_inside & ~find_within(grid, shape=area.geometry)
        n_pixels = find_within(grid, shape=shape) * np.int64(grid.stride_px**2)
        is_edge = find_touched(grid, shape=shape) & (n_pixels == 0)
        for row, col in np.argwhere(is_edge).tolist():
            n_pixels[row, col] = find_pixels_inside(shape, grid=grid, window=grid.owned_window(row, col)).sum()
        return cls(store=store, shape=shape, is_inside=is_inside, is_cut=is_cut, n_pixels=n_pixels)

    def share(self, facts: TileFacts) -> GroundShares:
        """Hold what is valid in a tile against the ground in it."""
        grid, place = self.store.grid, (facts.row, facts.col)
        n_all, n_there = grid.stride_px**2, int(self.n_pixels[place])
        # Plain numbers: a million times over, arrays of three took as long as all else of the selection.
        valid = facts.before_valid_fraction, facts.after_valid_fraction, facts.valid_fraction
        if not n_there and self.is_cut[place]:
            # The area has less than a pixel of this tile.
            before, after, both = valid
            return GroundShares(fraction=0.0, before=before, after=after, both=both, cloudy=facts.cloud_fraction)
        counts = [round(part * n_all) for part in valid]
        if self.is_cut[place] and 0 < counts[2] < n_all:
            is_valid = self.store.read_valid(*place)
            is_valid &= find_pixels_inside(self.shape, grid=grid, window=grid.owned_window(*place))
            counts = [*is_valid.sum(axis=(1, 2)).tolist(), int(is_valid.all(axis=0).sum())]
        elif self.is_cut[place]:
            counts = [round(part * n_there) for part in valid]
        # What an interpolation shows beyond the outline of a scene is ground as well.
        n_there = max(n_there, counts[2])
        before, after, both = (min(count / max(n_there, 1), 1.0) for count in counts)
        cloudy = facts.cloud_fraction
        if cloudy is not None and not self.is_cut[place]:
            cloudy = min(cloudy * n_all / max(n_there, 1), 1.0)
        return GroundShares(fraction=n_there / n_all, before=before, after=after, both=both, cloudy=cloudy)
