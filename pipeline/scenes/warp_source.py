"""What GDAL's warp reads from: bands of files as one raster, written as a VRT of our own.

GDAL would warp every band of a file. A VRT lists just those that are asked for, places a file that lacks a CRS, and
puts red, green and blue of three files side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np
from affine import Affine
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow

from pipeline.grid.grid import Grid, compute_warp_scale
from pipeline.grid.window import Window
from pipeline.scenes.gate import find_address
from pipeline.scenes.held_vrt import Shape, hold_vrt
from pipeline.scenes.integrity import check_unchanged
from pipeline.scenes.rasters import name_for_gdal, read_version
from pipeline.scenes.scene import Asset, BandSource
from pipeline.scenes.sparse import holds_blocks
from pipeline.scenes.vrt import MOST_HELD, choose_text
from pipeline.uris import is_remote

_MARGIN_PX = 512.0
# ^ Kernels, the blocks that GDAL warps in, and outlines that bend.
_KERNEL_PX = 16.0
# ^ The widest kernel reaches 3 pixels; the rest is for outlines that bend.
_ROWS_AT_ONCE = 64

ValueArray = np.ndarray[Any, Any]

_GDAL_TYPES = {
    "uint8": "Byte",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


@dataclass(frozen=True, kw_only=True)
class WarpSource:
    """Bands as one raster that GDAL's warp reads from, in words: equal ones are the same raster."""

    text: str
    """The VRT."""
    rasters: tuple[str, ...]
    """All that it names, as resolved URIs."""
    addresses: tuple[str, ...] = field(repr=False)
    """That by which each of them is opened: once a signature runs out, it is another raster."""
    shapes: tuple[tuple[str, Shape], ...]
    """What some of them were when the scene was looked at."""
    versions: tuple[tuple[int, int], ...]
    """What changes with those of them that are on this machine."""
    block_bytes: int
    """What the largest block of them takes when it is decoded."""

    @contextmanager
    def hold(self) -> Iterator[DatasetReader]:
        """Open it, as `hold_vrt` does."""
        rasters = dict(zip(self.rasters, self.addresses, strict=True))
        with hold_vrt(self.text, rasters=rasters, shapes=dict(self.shapes)) as dataset:
            yield dataset


def find_source(sources: Sequence[BandSource], *, grid: Grid, window: Window) -> WarpSource:
    """Put bands into words as one raster, of files that are still what they were when the scene was looked at.

    Raises:
        InputError: one on a server is another by now.
        OSError: one is gone, or its server does not answer.
    """
    assets = {source.asset.uri: source.asset for source in sources}.values()
    texts: dict[str, str] = {}
    addresses: dict[str, str] = {}
    for asset in assets:
        check_unchanged(asset)
        access = asset.access
        if access.vrt:
            area = _find_pixels(asset, grid=grid, window=window)
            texts[asset.uri], named = choose_text(access.vrt, rasters=access.rasters, window=area)
        else:
            named = [asset.uri]
        beside = [uri for uri in (access.mask, access.overviews) if uri]
        addresses |= {uri: find_address(uri, allow_private=access.allow_private) for uri in (*named, *beside)}
    shapes = {
        asset.uri: (asset.access.driver, *(asset.full_size_px or (asset.width, asset.height)))
        for asset in assets
        if not asset.access.vrt
    }
    return WarpSource(
        text=describe_vrt(sources, texts=texts),
        rasters=tuple(addresses),
        addresses=tuple(addresses.values()),
        shapes=tuple(shapes.items()),
        versions=tuple(read_version(uri) for uri in addresses if not is_remote(uri)),
        block_bytes=max(asset.access.block_bytes for asset in assets),
    )


def _find_pixels(asset: Asset, *, grid: Grid, window: Window) -> tuple[float, float, float, float]:
    """Give left, top, right and bottom of what a warp may read of a raster for a window; of few files all."""
    if len(asset.access.rasters) <= MOST_HELD:
        return 0.0, 0.0, float(asset.width), float(asset.height)
    return locate_window(asset, grid=grid, window=window, margin_px=_MARGIN_PX)


def locate_window(asset: Asset, *, grid: Grid, window: Window, margin_px: float) -> tuple[float, float, float, float]:
    """Give left, top, right and bottom of a window of the grid in pixels of a raster.

    Args:
        asset: The raster; all of it is given where it lies by control points, or the window across the date line.
        grid: What the window is one of.
        window: In pixels of the grid.
        margin_px: What is added on each side, in pixels of the raster, or of the grid where those are larger.
    """
    whole = (0.0, 0.0, float(asset.width), float(asset.height))
    if asset.control_points:
        return whole
    row, col, height, width = window
    placed = grid.transform @ Affine.translation(col, row)
    xs, ys = zip(*(placed @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))), strict=True)
    bounds = transform_bounds(grid.crs, asset.crs, min(xs), min(ys), max(xs), max(ys))
    if bounds[0] > bounds[2]:
        return whole
    left, bottom, right, top = bounds
    corners = [~asset.affine @ corner for corner in ((left, bottom), (left, top), (right, bottom), (right, top))]
    scales = compute_warp_scale(asset.crs, transform=asset.affine, grid=grid)
    margin = margin_px * max(1.0, *(1 / scale for scale in scales))
    cols, rows = [c for c, _ in corners], [r for _, r in corners]
    return min(cols) - margin, min(rows) - margin, max(cols) + margin, max(rows) + margin


@dataclass(frozen=True, kw_only=True)
class SourceWindow:
    """What a warp reads of a raster for a window of the grid, in its whole pixels."""

    rows: tuple[int, int]
    """First row, and the one after the last."""
    cols: tuple[int, int]
    """First column, and the one after the last."""

    def split(self, n_rows: int) -> list[RasterWindow]:
        """Cut it into parts of so many rows."""
        (top, bottom), (left, right) = self.rows, self.cols
        return [RasterWindow(left, row, right - left, min(n_rows, bottom - row)) for row in range(top, bottom, n_rows)]


def find_source_window(sources: Sequence[BandSource], *, grid: Grid, window: Window) -> SourceWindow | None:
    """Tell what a warp may read of bands for a window of the grid; None where they hold nothing there.

    Of a sparse file the list of its blocks tells.

    Args:
        sources: The bands, of one shape and place.
        grid: What they are warped onto.
        window: In pixels of the grid.
    """
    asset = sources[0].asset
    edges = locate_window(asset, grid=grid, window=window, margin_px=_KERNEL_PX)
    whole = SourceWindow(rows=(0, asset.height), cols=(0, asset.width))
    if not all(map(math.isfinite, edges)):
        return whole
    left, top, right, bottom = edges
    cols = max(0, math.floor(left)), min(asset.width, math.ceil(right))
    rows = max(0, math.floor(top)), min(asset.height, math.ceil(bottom))
    if cols[0] >= cols[1] or rows[0] >= rows[1]:
        return None
    bands, nothing = [source.band for source in sources], sources[0].nodata
    if asset.alpha_band is not None:
        bands, nothing = [asset.alpha_band], 0.0
    is_one_file = len({source.asset.uri for source in sources}) == 1
    if is_one_file and nothing is not None and not holds_blocks(asset, bands, nothing=nothing, rows=rows, cols=cols):
        return None
    return SourceWindow(rows=rows, cols=cols)


def shows_something(
    dataset: DatasetReader, sources: Sequence[BandSource], *, nodata: float | None, window: SourceWindow
) -> bool:
    """Tell whether a raster may show something in a window; where it shows nothing, no pixel need be warped.

    The first rows tell where something is shown, and what is read for it need not be decoded again.

    Args:
        dataset: What `WarpSource.hold` gave.
        sources: Its bands.
        nodata: What stands for nothing in them.
        window: What a warp would read.
    """
    asset, parts = sources[0].asset, window.split(_ROWS_AT_ONCE)
    if asset.alpha_band is not None:
        return any(part.any() for part in _read_parts(dataset, [len(sources) + 1], parts=parts))
    if nodata is None:
        return not asset.has_mask or any(dataset.read_masks(1, window=part).any() for part in parts)
    # Nothing is there where all bands say so. What GDAL takes for nodata beside that, by rounding, is warped.
    return any(
        (~np.isnan(part) if math.isnan(nodata) else part if nodata == 0 else part != nodata).any()
        for part in _read_parts(dataset, list(range(1, len(sources) + 1)), parts=parts)
    )


def _read_parts(dataset: DatasetReader, bands: list[int], *, parts: Sequence[RasterWindow]) -> Iterator[ValueArray]:
    """Read one part after another into the same memory, which is faster than new memory for each."""
    memory = np.empty((len(bands), parts[0].height, parts[0].width), dtype=dataset.dtypes[0])
    for part in parts:
        yield dataset.read(bands, window=part, out=memory[:, : part.height])


def describe_vrt(sources: Sequence[BandSource], *, texts: Mapping[str, str] | None = None) -> str:
    """Write bands of one shape and place as one raster, in GDAL's XML: the bands, and an alpha band or a mask.

    Args:
        sources: The bands.
        texts: Texts of VRTs that stand in place of the names of files, by URI.
    """
    asset = sources[0].asset
    root = ElementTree.Element("VRTDataset", rasterXSize=str(asset.width), rasterYSize=str(asset.height))
    if asset.control_points:
        points = ElementTree.SubElement(root, "GCPList", Projection=asset.crs)
        for p in asset.control_points:
            place = {"Pixel": repr(p.col), "Line": repr(p.row), "X": repr(p.x), "Y": repr(p.y)}
            ElementTree.SubElement(points, "GCP", place)
    else:
        a, b, c, d, e, f = asset.transform
        ElementTree.SubElement(root, "SRS").text = asset.crs
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(repr(value) for value in (c, a, b, f, d, e))
    texts = texts or {}
    for number, source in enumerate(sources, start=1):
        _add_band(root, source.asset, band=str(source.band), dtype=source.dtype, number=number, texts=texts)
    if asset.alpha_band is not None:
        number = len(sources) + 1
        band = _add_band(root, asset, band=str(asset.alpha_band), dtype=sources[0].dtype, number=number, texts=texts)
        ElementTree.SubElement(band, "ColorInterp").text = "Alpha"
    elif asset.has_mask and sources[0].nodata is None:
        _add_mask(ElementTree.SubElement(root, "MaskBand"), asset, texts=texts)
    return ElementTree.tostring(root, encoding="unicode")


def _add_band(
    parent: ElementTree.Element, asset: Asset, *, band: str, dtype: str, number: int, texts: Mapping[str, str]
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, "VRTRasterBand", dataType=_GDAL_TYPES[dtype], band=str(number))
    source = ElementTree.SubElement(element, "SimpleSource")
    level, overviews = asset.overview_level, asset.access.overviews
    name = overviews if overviews and level is not None else asset.uri
    _add_name(source, name, texts=texts)
    # Of overviews beside the file the first is that file itself.
    level = None if level is None else level - bool(overviews)
    if level is not None and level >= 0:
        options = ElementTree.SubElement(source, "OpenOptions")
        ElementTree.SubElement(options, "OOI", key="OVERVIEW_LEVEL").text = str(level)
    ElementTree.SubElement(source, "SourceBand").text = band
    return element


def _add_mask(parent: ElementTree.Element, asset: Asset, *, texts: Mapping[str, str]) -> None:
    """Add the mask of the file itself, thinned where an overview is meant: many overviews have no mask."""
    element = ElementTree.SubElement(parent, "VRTRasterBand", dataType="Byte")
    source = ElementTree.SubElement(element, "SimpleSource")
    beside = asset.access.mask
    _add_name(source, beside or asset.uri, texts=texts)
    ElementTree.SubElement(source, "SourceBand").text = "1" if beside else "mask,1"
    if asset.full_size_px is not None:
        for tag, (width, height) in (("SrcRect", asset.full_size_px), ("DstRect", (asset.width, asset.height))):
            ElementTree.SubElement(source, tag, xOff="0", yOff="0", xSize=str(width), ySize=str(height))


def _add_name(source: ElementTree.Element, uri: str, *, texts: Mapping[str, str]) -> None:
    name = texts[uri] if uri in texts else name_for_gdal(uri)
    ElementTree.SubElement(source, "SourceFilename", relativeToVRT="0").text = name
