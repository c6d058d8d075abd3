"""Blocks of pixels on the grid: the parts of a scene put together, clouds left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from shapely.geometry.base import BaseGeometry

from pipeline.grid.grid import Grid, compute_footprint
from pipeline.grid.window import BoolArray, UInt8Array, Window
from pipeline.scenes.cloud_finder import find_clouds
from pipeline.scenes.footprints import move_beside
from pipeline.scenes.scene import Scene, ScenePart
from pipeline.scenes.signing import use_signer
from pipeline.scenes.stretch import BandLimits, stretch_band
from pipeline.scenes.warp import read_bands

BitArray = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]

MEDIAN_BYTES = 1 << 27
# ^ What the parts of a median may take at once; more of them are worked on in narrower strips.
STRIP_ROWS = 128
# ^ Height of the blocks that GDAL warps in.
_MARGIN_PX = 4.0
_ABSENT = 256
# ^ Stands for no pixel among bytes that are sorted: above all of them.


@dataclass(frozen=True, kw_only=True)
class Block:
    """A rectangle of the grid as one date shows it."""

    pixels: UInt8Array
    """Red, green and blue, (3, height, width), 0 where nothing was seen."""
    is_valid: BoolArray
    """Where something was seen, (height, width): inside a file, not nodata, not masked out, not cloudy."""
    is_cloudy: BoolArray
    """Where a class band tells of clouds and no part shows the ground, (height, width)."""
    made_of: BitArray | None = None
    """Of a composite, which dates each pixel is made of: a bit for each, (height, width)."""
    unread: tuple[str, ...] = ()
    """Of a composite, which dates could not be read, and why."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of it, not even that it is cloudy."""
        return not (self.is_valid.any() or self.is_cloudy.any())


def read_block(
    scene: Scene,
    *,
    grid: Grid,
    window: Window,
    resampling: str,
    limits: BandLimits | None = None,
    is_hidden: BoolArray | None = None,
) -> Block:
    """Read a rectangle of the grid out of a scene.

    Any window gives the pixels that the warp of the whole scene would give there.

    Args:
        scene: Where the pixels are.
        grid: What they are warped onto.
        window: What to read, in pixels of the grid.
        resampling: ``auto`` or the name of one of rasterio's resampling methods.
        limits: Physical values that become 0 and 255; None where the scene holds bytes to be shown.
        is_hidden: Where the ground is hidden, (height, width); None: where the class bands say so.

    Raises:
        InputError: a file cannot be read to the end.
    """

    def read_parts(window: Window, is_hidden: BoolArray | None) -> Iterator[Block]:
        return _read_parts(
            scene, parts, grid=grid, window=window, resampling=resampling, limits=limits, is_hidden=is_hidden
        )

    with use_signer(scene.sign):
        parts = list_parts_in_window(scene, grid=grid, window=window)
        if scene.mosaic == "first" or len(parts) < 2:
            return _take_first(read_parts(window, is_hidden), shape=window[2:])
        strips = cut_strips(window, n_layers=len(parts))
        blocks = [
            take_median(list(read_parts(strip, None if is_hidden is None else is_hidden[part])))
            for strip, part in strips
        ]
    return Block(
        pixels=np.concatenate([block.pixels for block in blocks], axis=1),
        is_valid=np.concatenate([block.is_valid for block in blocks]),
        is_cloudy=np.concatenate([block.is_cloudy for block in blocks]),
    )


def list_parts_in_window(scene: Scene, *, grid: Grid, window: Window) -> list[ScenePart]:
    """List the parts of a scene that a rectangle of the grid touches, in the order in which they count."""
    if len(scene.parts) == 1:
        return list(scene.parts)
    area = outline_window(window, grid=grid)
    return [part for part in scene.parts if touches(part.footprint, area)]


def outline_window(window: Window, *, grid: Grid) -> BaseGeometry:
    """Give the outline in degrees of what may have a say in a rectangle of the grid."""
    row, col, height, width = window
    # Kernels reach over the edge, and outlines are only as exact as their cuts.
    margin = _MARGIN_PX
    transform = grid.transform @ Affine.translation(col - margin, row - margin)
    size = int(width + 2 * margin), int(height + 2 * margin)
    return compute_footprint(crs=grid.crs, transform=transform, width=size[0], height=size[1])


def touches(footprint: BaseGeometry, area: BaseGeometry) -> bool:
    """Tell whether an outline touches another, be they written on different sides of the date line."""
    return bool(move_beside(footprint, lon=area.envelope.centroid.x).intersects(area))


def _read_parts(
    scene: Scene,
    parts: Sequence[ScenePart],
    *,
    grid: Grid,
    window: Window,
    resampling: str,
    limits: BandLimits | None,
    is_hidden: BoolArray | None,
) -> Iterator[Block]:
    """Read one part after another, so that only what is needed is read and held."""
    for part in parts:
        bands, is_seen = read_bands(part.colours, grid=grid, window=window, resampling=resampling)
        if not is_seen.any():
            yield Block(pixels=_make_black(is_seen.shape), is_valid=is_seen, is_cloudy=is_seen)
            continue
        pixels = np.empty((3, *is_seen.shape), dtype=np.uint8)
        for index, source in enumerate(part.colours):
            pixels[index] = (
                bands[index] if limits is None else stretch_band(bands[index], source=source, limits=limits[index])
            )
            bands[index] = np.empty(0)
        clouds = read_clouds(part, scene=scene, grid=grid, window=window) if is_hidden is None else is_hidden
        is_cloudy = is_seen & clouds
        yield Block(pixels=pixels, is_valid=is_seen & ~is_cloudy, is_cloudy=is_cloudy)


def read_clouds(part: ScenePart, *, scene: Scene, grid: Grid, window: Window) -> BoolArray:
    """Tell which pixels of a rectangle of the grid a part's class band calls cloudy, or else who finds its clouds.

    Args:
        part: One piece of the scene.
        scene: Tells which classes hide the ground.
        grid: What the classes are laid onto, each pixel the class that is nearest.
        window: What to read, in pixels of the grid.

    Raises:
        InputError: the file cannot be read to the end.
    """
    if part.nir is not None:
        return find_clouds(part, grid=grid, window=window)[0]
    if part.classes is None or not scene.hidden:
        return np.zeros(window[2:], dtype=np.bool_)
    (classes,), is_known = read_bands([part.classes], grid=grid, window=window, resampling="nearest")
    return scene.hidden.find(classes) & is_known


def _make_black(shape: tuple[int, ...]) -> UInt8Array:
    # One byte for all: most of a region may be ground that nobody has seen.
    return np.broadcast_to(np.uint8(0), (3, *shape))


def _take_first(parts: Iterator[Block], *, shape: tuple[int, int]) -> Block:
    pixels = _make_black(shape)
    is_valid, is_cloudy = np.zeros((2, *shape), dtype=np.bool_)
    for part in parts:
        if not part.is_valid.any():
            is_cloudy |= part.is_cloudy
            continue
        if not is_valid.any():
            if part.is_valid.all():
                return part
            pixels = np.zeros((3, *shape), dtype=np.uint8)
        is_new = part.is_valid & ~is_valid
        for seen, known in zip(part.pixels, pixels, strict=True):
            np.copyto(known, seen, where=is_new)
        is_valid |= part.is_valid
        is_cloudy |= part.is_cloudy
        if is_valid.all():
            break
    return Block(pixels=pixels, is_valid=is_valid, is_cloudy=is_cloudy & ~is_valid)


def take_median(parts: Sequence[Block]) -> Block:
    """Give the median of what blocks of one rectangle show; of an even number the mean of the two in the middle."""
    is_valid = np.stack([part.is_valid for part in parts])
    is_any = np.logical_or.reduce(is_valid)
    stack = np.stack([part.pixels for part in parts]).astype(np.uint16)
    np.copyto(stack, np.uint16(_ABSENT), where=~is_valid[:, None])
    stack.sort(axis=0)
    # Means are rounded up.
    count = is_valid.sum(axis=0)
    lower, upper = (np.clip(place, 0, None)[None, None] for place in ((count - 1) // 2, count // 2))
    places = [np.broadcast_to(place, (1, *stack.shape[1:])) for place in (lower, np.minimum(upper, len(parts) - 1))]
    first, second = (np.take_along_axis(stack, place, axis=0)[0] for place in places)
    pixels = ((first + second + 1) // 2).astype(np.uint8)
    pixels[:, ~is_any] = 0
    is_cloudy = np.logical_or.reduce([part.is_cloudy for part in parts])
    return Block(pixels=pixels, is_valid=is_any, is_cloudy=is_cloudy & ~is_any)


def cut_strips(window: Window, *, n_layers: int) -> list[tuple[Window, slice]]:
    """Cut a rectangle into strips of which a median of so many layers stays within `MEDIAN_BYTES`.

    Returns:
        Each strip, and its rows counted from the top of the rectangle.
    """
    first, left, height, width = window
    # Two bytes to sort in, one as read and one of masks, of three bands and each layer.
    rows = MEDIAN_BYTES // (n_layers * width * 12)
    rows = min(height, max(STRIP_ROWS, rows // STRIP_ROWS * STRIP_ROWS))
    cuts = [(top, min(top + rows, height)) for top in range(0, height, rows)]
    return [(Window(first + top, left, bottom - top, width), slice(top, bottom)) for top, bottom in cuts]
