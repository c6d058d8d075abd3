"""Probability of change as a raster: what the masks said of the ground, as far as a report keeps it.

A run keeps no masks. It keeps the outlines that were drawn from them, each with the mean probability that the mask
gives its pixels (`mask_probability`, 0.5 to 1). So the raster holds that number inside an outline, and 0 on ground that
was looked at and lies in none: there the mask stayed below 0.5, the answers told of no change, or the outline is less
sure than the report asks for. 0 is therefore no probability of 0. Ground of which nobody knows is `NODATA`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import rasterio
import rasterio.features
import rasterio.shutil
import shapely
from affine import Affine
from rasterio.windows import Window as RasterWindow

from model.errors import InputError
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, UInt8Array, Window
from pipeline.tables.nested_shapes import has_nested
from pipeline.tiles.store import TileStore

CERTAIN = 250
"""Value of a probability of 1; others in proportion."""
NODATA = 255
"""Value of ground that nobody looked at, or whose change has no probability."""

MAX_PIXELS = 1 << 40
"""Of a raster: more takes days to write."""

_SIDE_PX = 2048
# ^ Of what is drawn at once.
_BLOCK_PX = 512
_DESCRIPTION = "Probability of change by the model's masks, mean of each outline: value / 250"
_TAGS = {
    "VALUES": "1 to 250: mean mask probability of the outline, as value / 250; 0: looked at, and in no outline (no "
    "probability of 0); 255: not looked at, or a change without a probability",
    "SCALE": "250",
}

Bounds = tuple[float, float, float, float]
OpenTable = Callable[[], AbstractContextManager[Any]]


class Ground(Protocol):
    """Which ground somebody looked at."""

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right and top of it, in the CRS of the raster; nothing lies beyond."""

    def find_seen(self, place: Place) -> BoolArray:
        """Tell which pixels of a part of a raster were looked at, (y, x)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A part of a raster."""

    crs: pyproj.CRS
    """CRS of the raster."""
    transform: Affine
    """From columns and rows of the part to coordinates."""
    shape: tuple[int, int]
    """Rows and columns."""

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right and top."""
        left, top = self.transform @ (0, 0)
        right, bottom = self.transform @ (self.shape[1], self.shape[0])
        return float(left), float(bottom), float(right), float(top)

    def index_centres(self, grid: Grid) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Give which rows and columns of a grid's pixels the middles of its own lie in."""
        left, _, _, top = self.bounds
        rows = top + (np.arange(self.shape[0]) + 0.5) * self.transform.e
        cols = left + (np.arange(self.shape[1]) + 0.5) * self.transform.a
        return (
            np.floor((grid.origin_y - rows) / grid.resolution_m).astype(np.int64),
            np.floor((cols - grid.origin_x) / grid.resolution_m).astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class RunGround:
    """What a run looked at, to the pixel where its tile store is there, else as far as whole tiles are valid."""

    store: TileStore
    """The run's tile store."""
    is_seen: BoolArray
    """Tiles of the grid of which is known whether they changed, (row, column)."""
    is_full: BoolArray
    """Tiles of which all ground is valid on both dates, likewise."""

    @property
    def bounds(self) -> Bounds:
        """What both scenes show."""
        return self.store.grid.shared_bounds

    def find_seen(self, place: Place) -> BoolArray:
        """Tell which pixels of a part of a raster in the grid's CRS were looked at."""
        grid = self.store.grid
        rows, cols = place.index_centres(grid)
        has_row, has_col = (
            np.asarray((index >= 0) & (index < length), np.bool_)
            for index, length in zip((rows, cols), grid.shape_px, strict=True)
        )
        rows, cols = rows.clip(0, grid.shape_px[0] - 1), cols.clip(0, grid.shape_px[1] - 1)
        tiles = np.ix_(rows // grid.stride_px, cols // grid.stride_px)
        seen, full = self.is_seen[tiles], self.is_full[tiles]
        if (seen & ~full).any():
            seen = seen & (full | self._read_valid(rows, cols))
        return np.asarray(seen & np.outer(has_row, has_col), np.bool_)

    def _read_valid(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> BoolArray:
        top, left = int(rows.min()), int(cols.min())
        window = Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)
        try:
            valid = np.all(self.store.read_valid_in(window), axis=0)
        except FileNotFoundError:
            # Which part of a tile is valid, nobody knows any more.
            return np.zeros((len(rows), len(cols)), np.bool_)
        return np.asarray(np.asarray(valid)[np.ix_(rows - top, cols - left)], np.bool_)


@dataclass(frozen=True, kw_only=True)
class DrawnGround:
    """What was looked at by its shapes, where no grid is left: tiles that are valid throughout."""

    tiles: npt.NDArray[np.object_]
    """These, in the CRS of the raster; at least one."""

    @property
    def bounds(self) -> Bounds:
        """What lies around all of them."""
        left, bottom, right, top = shapely.total_bounds(self.tiles).tolist()
        return left, bottom, right, top

    def find_seen(self, place: Place) -> BoolArray:
        """Tell which pixels of a part of a raster were looked at."""
        near = self.tiles[shapely.intersects(self.tiles, shapely.box(*place.bounds))]
        drawn = np.zeros(place.shape, np.uint8)
        _burn(drawn, near, np.ones(len(near), np.uint8), place=place)
        return np.asarray(drawn == 1, np.bool_)


@dataclass(frozen=True, kw_only=True)
class Outlines:
    """The changes of one table, with their shapes as bytes: those of a large region as shapes would fill the memory."""

    crs: pyproj.CRS
    """CRS of the shapes."""
    shapes: pa.ChunkedArray
    """WKB."""
    bounds: npt.NDArray[np.float64]
    """Left, bottom, right and top of each, (change, 4)."""
    probabilities: npt.NDArray[np.float64]
    """Mean probability that the mask gives each; NaN where there is none."""

    @classmethod
    def read(cls, open_table: OpenTable, *, is_told_only: bool) -> Outlines:
        """Read a table of changes.

        Args:
            open_table: Opens it.
            is_told_only: Whether changes are left out whose ``is_told`` is false.

        Raises:
            InputError: the table is of a version without probabilities, or its shapes lie too deep within each other.
        """
        names = ["geometry", "mask_probability", "bbox", *(["is_told"] if is_told_only else [])]
        with open_table() as source, pq.ParquetFile(source) as file:
            geo = json.loads((file.metadata.metadata or {}).get(b"geo", b"{}"))
            # In this thread: threads of Arrow's own hold on to a file of Python's, and abort a program that ends.
            table = file.read(columns=names, use_threads=False)
        if set(names) - set(table.column_names) or "columns" not in geo or has_nested(table):
            raise InputError(
                "a table of changes is not one that this version writes",
                expected="columns geometry, mask_probability and bbox, with polygons",
                remedy="make the report anew: with `deltavlm report RUN`, or by a pass over the region",
            )
        if is_told_only:
            table = table.filter(table["is_told"])
        sides = table["bbox"].combine_chunks().flatten() if len(table) else [pa.array([], pa.float64())] * 4
        return cls(
            crs=pyproj.CRS.from_json_dict(geo["columns"]["geometry"]["crs"]),
            shapes=table["geometry"],
            bounds=np.stack([side.to_numpy(zero_copy_only=False) for side in sides], axis=1),
            probabilities=table["mask_probability"].to_numpy().astype(np.float64),
        )

    def burn(self, values: UInt8Array, *, place: Place) -> None:
        """Draw the changes of a part of a raster over what it has, by their probability: the highest is seen."""
        indexes = np.flatnonzero(self._find_near(place))
        if not len(indexes):
            return
        # One without a probability hides none that has some.
        ranked = indexes[np.argsort(np.nan_to_num(self.probabilities[indexes], nan=-1), kind="stable")]
        told = self.probabilities[ranked]
        numbers = np.where(np.isnan(told), NODATA, np.rint(told * CERTAIN).clip(0, CERTAIN))
        shapes = shapely.from_wkb(self.shapes.take(pa.array(ranked)).to_numpy(zero_copy_only=False))
        if self.crs != place.crs:
            change = pyproj.Transformer.from_crs(self.crs, place.crs, always_xy=True).transform
            shapes = shapely.transform(shapes, change, interleaved=False)
        _burn(values, shapes, numbers, place=place)

    def _find_near(self, place: Place) -> BoolArray:
        bounds = place.bounds
        if self.crs != place.crs:
            bounds = pyproj.Transformer.from_crs(place.crs, self.crs, always_xy=True).transform_bounds(*bounds)
        left, bottom, right, top = bounds
        is_right, is_left = self.bounds[:, 2] >= left, self.bounds[:, 0] <= right
        # Over the date line, the left bound is the larger one.
        is_beside = is_right & is_left if left <= right else is_right | is_left
        return np.asarray(is_beside & (self.bounds[:, 3] >= bottom) & (self.bounds[:, 1] <= top), np.bool_)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one pair of scenes tells: the ground that it looked at, and its changes."""

    ground: Ground
    """The ground."""
    open_changes: OpenTable
    """Opens the table of its changes, in any CRS."""
    is_told_only: bool = False
    """Whether changes are left out whose ``is_told`` is false."""


def write_probability(
    path: Path, layers: Sequence[Callable[[], Layer | None]], *, crs: pyproj.CRS, resolution_m: float, bounds: Bounds
) -> None:
    """Write a COG of one band: of each pixel the highest probability that any layer gives it.

    Layers are drawn one after the other and each in parts, so that memory is that of a part and of the outlines of one
    layer.

    Args:
        path: Where to.
        layers: What gives each layer; None: it tells nothing.
        crs: CRS of the raster.
        resolution_m: Side of a pixel.
        bounds: Left, bottom, right and top of it, whole multiples of the resolution.

    Raises:
        InputError: a table or the tile store cannot be read, or there would be more than `MAX_PIXELS`.
    """
    left, bottom, right, top = bounds
    width, height = (max(1, round(side / resolution_m)) for side in (right - left, top - bottom))
    if width * height > MAX_PIXELS:
        raise InputError(
            f"a raster of {width:,} x {height:,} pixels, in {crs.name}",
            expected=f"at most {MAX_PIXELS:,} pixels in one raster",
            remedy="make rasters of single runs: name a pair's folder in place of the region's",
        )
    transform = Affine(resolution_m, 0.0, left, 0.0, -resolution_m, top)
    layout = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "compress": "DEFLATE", "zlevel": 1}
    with tempfile.TemporaryDirectory() as scratch:
        # GDAL writes a COG from a whole raster alone; what is never written of this one takes no place on the disk.
        whole = Path(scratch, "whole.tif")
        with rasterio.open(
            whole,
            "w+",
            driver="GTiff",
            width=width,
            height=height,
            count=1,
            dtype="uint8",
            crs=crs.to_wkt(),
            transform=transform,
            nodata=NODATA,
            BIGTIFF="IF_SAFER",
            SPARSE_OK=True,
            **layout,
        ) as raster:
            raster.set_band_description(1, _DESCRIPTION)
            raster.update_tags(1, **_TAGS)
            for make_layer in layers:
                if (layer := make_layer()) is not None:
                    _add_layer(raster, layer, crs=crs)
        rasterio.shutil.copy(
            whole,
            path,
            driver="COG",
            compress="DEFLATE",
            blocksize=_BLOCK_PX,
            # The mean of values of which some say "no outline" would be neither.
            overview_resampling="NEAREST",
            bigtiff="IF_SAFER",
            sparse_ok="YES",
        )


def _add_layer(raster: Any, layer: Layer, *, crs: pyproj.CRS) -> None:
    outlines = Outlines.read(layer.open_changes, is_told_only=layer.is_told_only)
    for window in _list_parts(raster, layer.ground.bounds):
        place = Place(crs=crs, transform=raster.window_transform(window), shape=(window.height, window.width))
        values = np.where(layer.ground.find_seen(place), 0, NODATA).astype(np.uint8)
        outlines.burn(values, place=place)
        former = raster.read(1, window=window)
        # As numbers of bytes, which begin anew behind 255, so that it is lowest.
        raster.write(np.maximum(former + np.uint8(1), values + np.uint8(1)) - np.uint8(1), 1, window=window)


def _list_parts(raster: Any, bounds: Bounds) -> Iterator[RasterWindow]:
    """List the parts of a raster that have anything of some bounds, row by row."""
    left, bottom, right, top = bounds
    (first_col, first_row), (end_col, end_row) = ~raster.transform @ (left, top), ~raster.transform @ (right, bottom)
    first_row, first_col = (max(0, int(first)) // _SIDE_PX * _SIDE_PX for first in (first_row, first_col))
    for row in range(first_row, min(raster.height, int(np.ceil(end_row))), _SIDE_PX):
        for col in range(first_col, min(raster.width, int(np.ceil(end_col))), _SIDE_PX):
            yield RasterWindow(col, row, min(_SIDE_PX, raster.width - col), min(_SIDE_PX, raster.height - row))


def _burn(
    values: UInt8Array, shapes: npt.NDArray[np.object_], numbers: npt.NDArray[np.number[Any]], *, place: Place
) -> None:
    """Draw shapes with a number each, the last over all others: pixels whose middle lies in one."""
    drawn = [(shape, int(number)) for shape, number in zip(shapes, numbers, strict=True) if not shape.is_empty]
    if drawn:
        rasterio.features.rasterize(drawn, out=values, transform=place.transform)
