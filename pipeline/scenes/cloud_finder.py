"""Clouds of scenes without a class band, found in their pixels: by OmniCloudMask, of the extra ``clouds``.

Its network tells thick and thin clouds and their shadows by red, green and near infrared, and depends on what lies
around a pixel. So that every window of every grid has the same clouds, it is shown squares of a lattice that is fixed
in the CRS, each with a margin that is cut off again; pixels are those of the grid, but from 10 to 50 m, which
the network was made for.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.extras import require_extra
from pipeline.grid.grid import Grid
from pipeline.grid.window import BoolArray, Window
from pipeline.scenes.scene import ScenePart
from pipeline.scenes.warp import read_bands

METHOD = "omnicloudmask"
SQUARE_PX = 768
"""Side of a square of the lattice."""
MARGIN_PX = 128
"""What the network sees around it."""
FINEST_M, COARSEST_M = 10.0, 50.0
"""Pixels that it is shown are neither finer nor coarser."""

_CLEAR = 0
_UNKNOWN = 255
_MOST_KEPT = 64
_Classes = npt.NDArray[np.uint8]


def name_cloud_method() -> str:
    """Name what finds clouds, with its version, as other versions find other clouds.

    Raises:
        InputError: it is not installed.
    """
    require_extra("clouds", use=f"clouds.method is {METHOD}")
    return f"{METHOD} {version(METHOD)}"


def find_clouds(part: ScenePart, *, grid: Grid, window: Window) -> tuple[BoolArray, BoolArray]:
    """Tell where clouds or their shadows hide the ground in a rectangle of the grid, and where that is known.

    Args:
        part: One piece of a scene, with near infrared.
        grid: What the clouds are laid onto, each pixel the one that is nearest.
        window: Which rectangle, in pixels of the grid.

    Returns:
        Both bool (height, width).

    Raises:
        InputError: a file cannot be read to the end, or the network cannot be had.
    """
    pixel_m = min(max(grid.resolution_m, FINEST_M), COARSEST_M)
    top, left, height, width = window
    xs = grid.origin_x + (left + np.arange(width) + 0.5) * grid.resolution_m
    ys = grid.origin_y - (top + np.arange(height) + 0.5) * grid.resolution_m
    cols, rows = (np.floor(places / pixel_m).astype(np.int64) for places in (xs, -ys))
    classes = np.full((height, width), _UNKNOWN, dtype=np.uint8)
    for row, own_rows in _group(rows):
        for col, own_cols in _group(cols):
            square = _squares.take(part, crs=grid.crs, pixel_m=pixel_m, row=row, col=col)
            inside = np.ix_(rows[own_rows] - row * SQUARE_PX, cols[own_cols] - col * SQUARE_PX)
            classes[own_rows, own_cols] = square[inside]
    is_known = classes != _UNKNOWN
    return is_known & (classes != _CLEAR), is_known


def _group(places: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Give the squares of the lattice that a run of pixels lies in, and which of them in each."""
    squares = places // SQUARE_PX
    for square in np.unique(squares).tolist():
        first, last = np.searchsorted(squares, [square, square + 1])
        yield square, slice(int(first), int(last))


class _Squares:
    """The squares that were looked at last: neighbouring windows need the same ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], _Classes] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, part: ScenePart, *, crs: str, pixel_m: float, row: int, col: int) -> _Classes:
        """Give the classes of a square, (`SQUARE_PX`, `SQUARE_PX`)."""
        sources = tuple((each.asset.uri, each.asset.checksum, each.band) for each in _choose_bands(part))
        key = (sources, crs, pixel_m, row, col)
        # One at a time: the network takes all cores, and waiting neighbours need the same square.
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _look_at_square(part, crs=crs, pixel_m=pixel_m, row=row, col=col)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


_squares = _Squares()


def _choose_bands(part: ScenePart) -> tuple[Any, ...]:
    return part.red, part.green, part.nir


def _look_at_square(part: ScenePart, *, crs: str, pixel_m: float, row: int, col: int) -> _Classes:
    side_px = SQUARE_PX + 2 * MARGIN_PX
    grid = Grid(
        crs=crs,
        resolution_m=pixel_m,
        origin_x=(col * SQUARE_PX - MARGIN_PX) * pixel_m,
        origin_y=-(row * SQUARE_PX - MARGIN_PX) * pixel_m,
        tile_size_px=side_px,
        n_rows=1,
        n_cols=1,
        width_px=side_px,
        height_px=side_px,
    )
    bands, is_seen = read_bands(
        _choose_bands(part), grid=grid, window=Window(0, 0, side_px, side_px), resampling="auto"
    )
    inner = slice(MARGIN_PX, MARGIN_PX + SQUARE_PX)
    if not is_seen[inner, inner].any():
        return np.full((SQUARE_PX, SQUARE_PX), _UNKNOWN, dtype=np.uint8)
    values = np.stack([np.where(is_seen, band, 0) for band in bands]).astype(np.float32)
    classes = _predict(values)
    classes[~is_seen] = _UNKNOWN
    return classes[inner, inner]


def _predict(values: npt.NDArray[np.float32]) -> _Classes:
    """Ask the network, (band=3, y, x) to (y, x): 0 clear, 1 thick cloud, 2 thin cloud, 3 shadow."""
    require_extra("clouds", use=f"clouds.method is {METHOD}")
    from omnicloudmask import predict_from_array

    side_px = values.shape[-1]
    try:
        with warnings.catch_warnings():
            # Such as of much nodata: it goes on with smaller pieces.
            warnings.simplefilter("ignore")
            told = predict_from_array(
                values, patch_size=side_px, patch_overlap=side_px // 4, no_data_value=0, apply_no_data_mask=False
            )
    # Somebody else's code, which fetches its weights from a hub.
    except Exception as problem:
        refusal = InputError(
            f"{METHOD} finds no clouds ({type(problem).__name__}: {str(problem).partition(chr(10))[0]})",
            expected="its network, whose weights it fetches from a hub at its first use",
            remedy=f"call {METHOD}.predict_from_array once where there is a network, for every worker; or leave out "
            "clouds.method",
        )
    else:
        classes: npt.NDArray[Any] = np.asarray(told)
        if classes.shape == (1, *values.shape[1:]):
            return np.array(classes[0], dtype=np.uint8)
        refusal = InputError(
            f"{METHOD} gives an array of shape {classes.shape}",
            expected=f"(1, {side_px}, {side_px}), as its versions from 1.7 on do",
            remedy="install another version of it, or leave out clouds.method",
        )
    raise refusal
