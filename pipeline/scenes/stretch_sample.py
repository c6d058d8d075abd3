"""A thinned reading of what a scene shows on the grid, to choose a stretch by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.scenes.mosaic import list_parts_in_window, read_clouds
from pipeline.scenes.scene import BandSource, Scene, ScenePart
from pipeline.scenes.signing import use_signer
from pipeline.scenes.stretch import Samples
from pipeline.scenes.warp import measure_coarseness, read_bands

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

MAX_SAMPLE_PX = 1 << 20
"""Pixels of a date that are looked at."""

_BLOCK_PX = 128, 512
# ^ Height and width of the blocks that GDAL warps in: a smaller piece costs as much.
_BLOCKS = (64, 576)
# ^ How many are looked at; more only where few met next to nothing.
_PLASTIC = 1.324717957244746
# ^ The real root of x^3 = x + 1.
_FEW_PX = 10_000
_PIECE_PX = 512
_STRIP_PX = 1 << 20
_SMALL_GRID_PX = 4 * MAX_SAMPLE_PX


def read_sample(scene: Scene, *, grid: Grid) -> Samples:
    """Read physical values of red, green and blue of valid, cloudless pixels, float32 (n,) each.

    Of files with overviews the whole is read, thinned; of small ones without every pixel; of large ones without
    scattered blocks. The same files and grid always give the same values.

    Raises:
        InputError: a file cannot be read.
    """
    found: list[list[FloatArray]] = [[], [], []]
    with use_signer(scene.sign):
        for values in _read_pieces(scene, grid=grid):
            for known, new in zip(found, values, strict=True):
                known.append(new)
    samples = [np.concatenate(values) if values else np.empty(0, dtype=np.float32) for values in found]
    step = max(1, -(-len(samples[0]) // MAX_SAMPLE_PX))
    return [sample[::step] for sample in samples]


def choose_windows(grid: Grid, *, n_blocks: int) -> list[Window]:
    """Choose where to look without overviews: all of a small grid, scattered blocks of a large one."""
    height, width = grid.height_px, grid.width_px
    if height * width <= _SMALL_GRID_PX:
        rows = max(1, _STRIP_PX // width)
        return [Window(top, 0, min(rows, height - top), width) for top in range(0, height, rows)]
    # Evenly spread and in no rhythm that a scene may have too: the R2 sequence of Martin Roberts.
    n_rows, n_cols = -(-height // _BLOCK_PX[0]), -(-width // _BLOCK_PX[1])
    places = {
        (int((0.5 + n * _PLASTIC**-1) % 1 * n_rows), int((0.5 + n * _PLASTIC**-2) % 1 * n_cols))
        for n in range(n_blocks)
    }
    corners = [(row * _BLOCK_PX[0], col * _BLOCK_PX[1]) for row, col in sorted(places)]
    return [
        Window(top, left, min(_BLOCK_PX[0], height - top), min(_BLOCK_PX[1], width - left)) for top, left in corners
    ]


def _read_pieces(scene: Scene, *, grid: Grid) -> Iterator[list[FloatArray]]:
    n_pixels = grid.height_px * grid.width_px
    thinning = math.ceil(math.sqrt(n_pixels / MAX_SAMPLE_PX))
    if thinning > 1 and all(asset.overviews for asset in scene.assets):
        coarse = _thin_grid(grid, thinning)
        thinned = replace(scene, parts=tuple(_thin_part(part, grid=coarse) for part in scene.parts))
        yield from _read_windows(thinned, grid=coarse, windows=_cut(coarse))
        return
    for n_blocks in _BLOCKS:
        n_found = 0
        for values in _read_windows(scene, grid=grid, windows=choose_windows(grid, n_blocks=n_blocks)):
            n_found += len(values[0])
            yield values
        if n_found >= _FEW_PX or n_pixels <= _SMALL_GRID_PX:
            return


def _read_windows(scene: Scene, *, grid: Grid, windows: Iterable[Window]) -> Iterator[list[FloatArray]]:
    for window in windows:
        for part in list_parts_in_window(scene, grid=grid, window=window):
            yield _read_values(part, scene=scene, grid=grid, window=window)


def _cut(grid: Grid) -> list[Window]:
    """Cut a coarse grid into blocks, so that of a mosaic each part is read where it is."""
    height, width = grid.shape_px
    return [
        Window(top, left, min(_PIECE_PX, height - top), min(_PIECE_PX, width - left))
        for top in range(0, height, _PIECE_PX)
        for left in range(0, width, _PIECE_PX)
    ]


def _thin_grid(grid: Grid, thinning: int) -> Grid:
    n_rows, n_cols = -(-grid.height_px // thinning), -(-grid.width_px // thinning)
    return replace(
        grid,
        resolution_m=grid.resolution_m * thinning,
        tile_size_px=1,
        n_rows=n_rows,
        n_cols=n_cols,
        width_px=n_cols,
        height_px=n_rows,
    )


def _thin_part(part: ScenePart, *, grid: Grid) -> ScenePart:
    def thin(source: BandSource) -> BandSource:
        at_most = 1 / measure_coarseness(source.asset, grid=grid)
        return replace(source, asset=source.asset.take_overview(at_most=at_most))

    red, green, blue = (thin(source) for source in part.colours)
    classes = None if part.classes is None else thin(part.classes)
    return replace(part, red=red, green=green, blue=blue, classes=classes)


def _read_values(part: ScenePart, *, scene: Scene, grid: Grid, window: Window) -> list[FloatArray]:
    bands, is_seen = read_bands(part.colours, grid=grid, window=window, resampling="nearest")
    is_clear = is_seen & ~read_clouds(part, scene=scene, grid=grid, window=window)
    return [
        (band[is_clear] * np.float64(source.scale) + source.offset).astype(np.float32)
        for band, source in zip(bands, part.colours, strict=True)
    ]
