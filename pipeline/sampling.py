"""A thinned reading of what a scene shows on the grid, to choose a stretch by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.assets import BandSource, Scene, ScenePart
from pipeline.blocks import Window, list_parts_in_window, read_clouds
from pipeline.grid import Grid
from pipeline.stretch import Samples
from pipeline.warping import measure_coarseness, read_bands

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

MAX_SAMPLE_PX = 1 << 20
"""Pixels of a date that are looked at."""

_BLOCK_PX = 128, 512
# ^ Height and width of the blocks that GDAL warps in: a smaller piece costs as much.
_BLOCKS_PER_SIDE = 8
_STRIP_PX = 1 << 20


def read_sample(scene: Scene, *, grid: Grid) -> Samples:
    """Read physical values of red, green and blue of valid, cloudless pixels, float32 (n,) each.

    Of files with overviews the whole is read, thinned; of small ones without every pixel; of large ones without
    a lattice of blocks. The same files and grid always give the same values.

    Raises:
        InputError: a file cannot be read.
    """
    found: list[list[FloatArray]] = [[], [], []]
    whole = (0, 0, grid.height_px, grid.width_px)
    for part in list_parts_in_window(scene, grid=grid, window=whole):
        for values in _read_part(part, scene=scene, grid=grid):
            for known, new in zip(found, values, strict=True):
                known.append(new)
    samples = [np.concatenate(values) if values else np.empty(0, dtype=np.float32) for values in found]
    step = max(1, -(-len(samples[0]) // MAX_SAMPLE_PX))
    return [sample[::step] for sample in samples]


def choose_windows(grid: Grid) -> list[Window]:
    """Choose the windows to look at where there are no overviews: all of a small grid, a lattice in a large one."""
    height, width = grid.height_px, grid.width_px
    if height * width <= 4 * MAX_SAMPLE_PX:
        rows = max(1, _STRIP_PX // width)
        return [(top, 0, min(rows, height - top), width) for top in range(0, height, rows)]
    # In the middle of equal pieces: a lattice from edge to edge would look at the edges too often.
    tops, lefts = (
        sorted({(2 * n + 1) * -(-length // size) // (2 * _BLOCKS_PER_SIDE) * size for n in range(_BLOCKS_PER_SIDE)})
        for length, size in zip((height, width), _BLOCK_PX, strict=True)
    )
    return [
        (top, left, min(_BLOCK_PX[0], height - top), min(_BLOCK_PX[1], width - left)) for top in tops for left in lefts
    ]


def _read_part(part: ScenePart, *, scene: Scene, grid: Grid) -> Iterator[list[FloatArray]]:
    thinning = math.ceil(math.sqrt(grid.height_px * grid.width_px / MAX_SAMPLE_PX))
    if thinning > 1 and all(source.asset.overviews for source in part.sources):
        coarse = _thin_grid(grid, thinning)
        yield _read_values(_thin_part(part, grid=coarse), scene=scene, grid=coarse, window=(0, 0, *coarse.shape_px))
        return
    for window in choose_windows(grid):
        yield _read_values(part, scene=scene, grid=grid, window=window)


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
