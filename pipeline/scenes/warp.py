"""Bands of files onto the grid, by GDAL's warp."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from rasterio.windows import Window as RasterWindow

from model.errors import InputError
from pipeline.grid.grid import GDAL_ERRORS, Grid, compute_warp_scale
from pipeline.grid.window import BoolArray, Window
from pipeline.scenes.gate import name_servers
from pipeline.scenes.kept_open import KEPT_OPEN
from pipeline.scenes.memory import DECODED
from pipeline.scenes.rasters import refuse_unreadable, share_settings
from pipeline.scenes.scene import Asset, BandSource
from pipeline.scenes.signing import read_signed
from pipeline.scenes.warp_source import ValueArray, find_source, find_source_window, shows_something

FINER_BEFORE_AVERAGE = 1.25
"""How many times finer than the grid a raster may be before its pixels are averaged and not interpolated."""

FINER_BEFORE_OVERVIEW = 16
"""How many times finer than the grid a raster may be before an overview stands for it, or it is refused."""

_TOLERANCE_PX = 1e-3
# ^ GDAL's default of 0.125 source pixels can move edges by more than a grey level. This costs no time that
#   can be measured; 0 is refused by WarpedVRT, and 1e-9 takes 7 times as long for less than bytes can hold.
_POINTS_BLOCK_PX = 512
WARP_BLOCK_PX = 128, 512
"""Height and width of the blocks that GDAL warps in."""


def choose_resampling(asked: str, asset: Asset, *, grid: Grid) -> str:
    """Choose the name of a resampling method for a raster on a grid; only ``auto`` leaves a choice."""
    if asked != "auto":
        return asked
    return "average" if 1 / measure_coarseness(asset, grid=grid) > FINER_BEFORE_AVERAGE else "bilinear"


def measure_coarseness(asset: Asset, *, grid: Grid) -> float:
    """Tell how many times longer the side of a raster's pixel is than that of the grid's; below 1 it is finer."""
    x_scale, y_scale = compute_warp_scale(asset.crs, transform=asset.affine, grid=grid)
    return math.sqrt(x_scale * y_scale)


def read_bands(
    sources: Sequence[BandSource],
    *,
    grid: Grid,
    window: Window,
    resampling: str,
) -> tuple[list[ValueArray], BoolArray]:
    """Read a rectangle of the grid out of bands.

    Any window gives the pixels that the warp of the whole raster would give there: GDAL works on blocks that
    are fixed in the grid, and the resampling kernel of all of them is as wide as at the grid's centre.

    Args:
        sources: The bands.
        grid: What they are warped onto.
        window: What to read, in pixels of the grid.
        resampling: ``auto`` or the name of one of rasterio's resampling methods.

    Returns:
        Stored values of each band, of its own type, (height, width); and where all of them show something, bool
        (height, width): inside the file, not nodata, not NaN, not masked out, not transparent. Of bands that lie
        on one another in one file, or in several without masks, a pixel is nodata only if all of them are.

    Raises:
        InputError: a file cannot be read to the end.
    """
    bands: list[ValueArray] = [np.empty(0)] * len(sources)
    is_valid = np.ones(window[2:], dtype=np.bool_)
    for places in group_sources(sources):
        group = [sources[place] for place in places]
        block = _read_group(group, grid=grid, window=window, resampling=resampling)
        if block is None:
            # Where one band shows nothing, nothing is valid.
            nothing = np.zeros(window[2:], dtype=np.bool_)
            return [np.broadcast_to(np.zeros((), dtype=source.dtype), nothing.shape) for source in sources], nothing
        is_valid &= block[-1] > 0
        for place, band in zip(places, block, strict=False):
            bands[place] = band
            if band.dtype.kind == "f":
                is_valid &= np.isfinite(band)
    return bands, is_valid


def group_sources(sources: Sequence[BandSource]) -> list[list[int]]:
    """Tell which bands can be warped in one go: those of one shape, place, type and way to tell what is valid."""
    groups: dict[Any, list[int]] = {}
    for index, source in enumerate(sources):
        asset = source.asset
        is_masked = asset.alpha_band is not None or asset.has_mask
        key = (
            *(asset.crs, asset.transform, asset.control_points, asset.width, asset.height),
            *(source.dtype, str(source.nodata), asset.uri if is_masked else None),
        )
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _read_group(
    sources: Sequence[BandSource],
    *,
    grid: Grid,
    window: Window,
    resampling: str,
) -> ValueArray | None:
    """Read bands and, last, an alpha band: (band, height, width); None where nothing is shown."""
    method = choose_resampling(resampling, sources[0].asset, grid=grid)
    sources = _spare_detail(sources, grid=grid)
    read = _read_by_points if sources[0].asset.control_points else _read_by_transform
    uris = [uri for source in sources for uri in (source.asset.uri, *source.asset.access.rasters)]
    try:
        found = read_signed(
            lambda: [read(turned, grid=grid, window=window, method=method) for turned in _turn(sources)], uris=uris
        )
    except GDAL_ERRORS as problem:
        refusal = _name_culprit(sources, problem)
    else:
        blocks = [block for block in found if block is not None]
        for block in blocks[1:]:
            np.copyto(blocks[0], block, where=block[-1:] > 0)
        return blocks[0] if blocks else None
    # Out here it has no context. Workers send an error home with its context, and GDAL's errors do not survive
    # that: what arrives would no longer be an InputError.
    raise refusal


def _turn(sources: Sequence[BandSource]) -> list[list[BandSource]]:
    """Give the bands as often as they cover longitudes from -180 to 180, moved by whole rounds.

    A file in longitude and latitude may go on beyond the antimeridian; places on the grid always come to GDAL with
    longitudes up to it.
    """
    asset = sources[0].asset
    if asset.control_points or not CRS.from_user_input(asset.crs).is_geographic:
        return [list(sources)]
    west, _, east, _ = asset.footprint.bounds
    turns = [turn for turn in (0, -360, 360) if west + turn < 180 and east + turn > -180]
    a, b, c, d, e, f = asset.transform
    return [
        [replace(source, asset=replace(source.asset, transform=(a, b, c + turn, d, e, f))) for source in sources]
        for turn in turns
    ]


def _read_by_transform(sources: Sequence[BandSource], *, grid: Grid, window: Window, method: str) -> ValueArray | None:
    row, col, height, width = window
    above, beside = find_warp_block(grid)
    source_window = find_source_window(sources, grid=grid, window=window)
    if source_window is None:
        return None
    nodata = _choose_nodata(sources[0])
    source = find_source(sources, grid=grid, window=window)
    key = (source, grid, method, nodata)

    @contextmanager
    def hold() -> Iterator[WarpedVRT]:
        with source.hold() as dataset, closing(_warp(dataset, sources, grid=grid, method=method)) as vrt:
            yield vrt

    with share_settings(source.addresses), DECODED.take(source.block_bytes), KEPT_OPEN.take(key, hold) as vrt:
        if not shows_something(vrt.src_dataset, sources, nodata=nodata, window=source_window):
            return None
        # One read for all: GDAL warps every band of a block at once.
        return np.asarray(vrt.read(window=RasterWindow(beside + col, above + row, width, height)))


def _warp(dataset: DatasetReader, sources: Sequence[BandSource], *, grid: Grid, method: str) -> WarpedVRT:
    above, beside = find_warp_block(grid)
    x_scale, y_scale = _scale(sources[0].asset, grid=grid)
    return WarpedVRT(
        dataset,
        crs=grid.crs,
        transform=grid.transform @ Affine.translation(-beside, -above),
        height=-(-(above + grid.shape_px[0]) // WARP_BLOCK_PX[0]) * WARP_BLOCK_PX[0],
        width=-(-(beside + grid.shape_px[1]) // WARP_BLOCK_PX[1]) * WARP_BLOCK_PX[1],
        resampling=Resampling[method],
        tolerance=_TOLERANCE_PX,
        src_nodata=_choose_nodata(sources[0]),
        add_alpha=sources[0].asset.alpha_band is None,
        # Left to itself, GDAL takes the kernel from each block's own share of the file, and blocks at
        # the edge of the file would come out sharper or softer than their neighbours.
        XSCALE=x_scale,
        YSCALE=y_scale,
    )


def find_warp_block(grid: Grid) -> tuple[int, int]:
    """Tell how many rows above and columns beside a grid's corner the block begins that GDAL warps it in.

    GDAL approximates the way of the pixels block by block. With blocks at whole multiples of their size, counted
    from the CRS's origin, grids whose pixels lie on one another give the same pixels, to the last grey level.
    """
    x, y = round(grid.origin_x / grid.resolution_m), round(-grid.origin_y / grid.resolution_m)
    return y % WARP_BLOCK_PX[0], x % WARP_BLOCK_PX[1]


def _read_by_points(sources: Sequence[BandSource], *, grid: Grid, window: Window, method: str) -> ValueArray:
    """Warp by a polynomial through control points, which WarpedVRT cannot lay onto a grid of ours.

    In blocks that are fixed in the grid, so that here too any window gives the same pixels.
    """
    row, col, height, width = window
    n_bands, size = len(sources), _POINTS_BLOCK_PX
    found = np.zeros((n_bands + 1, height, width), dtype=sources[0].dtype)
    x_scale, y_scale = _scale(sources[0].asset, grid=grid)
    source = find_source(sources, grid=grid, window=window)
    with share_settings(source.addresses), DECODED.take(source.block_bytes), source.hold() as dataset:
        points, crs = dataset.gcps
        for top, left in product(
            range(row // size * size, row + height, size), range(col // size * size, col + width, size)
        ):
            block = np.zeros((n_bands + 1, size, size), dtype=found.dtype)
            reproject(
                rasterio.band(dataset, list(range(1, n_bands + 1))),
                block,
                gcps=points,
                src_crs=crs,
                src_nodata=_choose_nodata(sources[0]),
                src_alpha=0 if sources[0].asset.alpha_band is None else n_bands + 1,
                dst_transform=grid.transform @ Affine.translation(left, top),
                dst_crs=grid.crs,
                dst_alpha=n_bands + 1,
                resampling=Resampling[method],
                XSCALE=x_scale,
                YSCALE=y_scale,
            )
            ys, xs = (
                slice(max(top, row), min(top + size, row + height)),
                slice(max(left, col), min(left + size, col + width)),
            )
            part = block[:, ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
            found[:, ys.start - row : ys.stop - row, xs.start - col : xs.stop - col] = part
    return found


def _spare_detail(sources: Sequence[BandSource], *, grid: Grid) -> list[BandSource]:
    """Take overviews where the files are so fine that their pixels under one block of the grid would fill memory."""
    finest = 1 / min(compute_warp_scale(sources[0].asset.crs, transform=sources[0].asset.affine, grid=grid))
    if finest <= FINER_BEFORE_OVERVIEW:
        return list(sources)
    return [replace(source, asset=source.asset.take_overview(at_most=finest / 2)) for source in sources]


def _name_culprit(sources: Sequence[BandSource], problem: Exception) -> InputError:
    uris = list(dict.fromkeys(source.asset.uri for source in sources))
    words = name_servers(f"{problem.__cause__} {problem}")
    named = [uri for uri in uris if uri in words]
    return refuse_unreadable(named[0] if named else " or ".join(uris), problem)


def _scale(asset: Asset, *, grid: Grid) -> tuple[float, float]:
    return compute_warp_scale(asset.crs, transform=asset.affine, grid=grid)


def _choose_nodata(source: BandSource) -> float | None:
    # What is no number is nothing seen, whether the file says so or not.
    return math.nan if source.nodata is None and source.dtype.startswith("float") else source.nodata
