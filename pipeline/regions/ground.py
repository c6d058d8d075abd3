"""What the ground of a region looks like, for its page: pictures out of the tile stores of its pairs."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
from affine import Affine
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject, transform_bounds

from pipeline.grid.grid import Grid
from pipeline.grid.window import Window
from pipeline.regions.pair_records import PairState, open_pair_folder
from pipeline.report.page.map import MAX_MAP_SIZE_PX
from pipeline.report.page.pictures import PicturePair, find_visible, read_ground
from pipeline.runs.record_files import read_record
from pipeline.runs.restore import restore_store
from pipeline.storage.folder import RunFolder
from pipeline.storage.names import STORE_NAME, TILES_NAME
from pipeline.tiles.store import TileStore
from pipeline.tiles.thumbnails import UNSEEN_COLOUR

_READERS = 4
Bounds = tuple[float, float, float, float]
_Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Span:
    """The first and the last of some moments."""

    first: dt.datetime
    """The first."""
    last: dt.datetime
    """The last, perhaps the same."""


@dataclass(frozen=True, kw_only=True)
class GroundPictures:
    """What the map of a region shows below its changes."""

    bounds: Bounds
    """Left, bottom, right and top of the ground in the CRS of the changes."""
    pictures: PicturePair
    """The ground at both dates, on just these bounds."""
    before: Span
    """The earlier of them; in a region of several blocks each has its own."""
    after: Span
    """The later."""


@dataclass(frozen=True, kw_only=True)
class _PairGround:
    """A pair whose pixels are there."""

    state: PairState
    run: RunFolder
    store: TileStore

    def read(self, *, max_size_px: int) -> _Pixels:
        """Read the overlap of its scenes at both dates, (date=2, y, x, band=3)."""
        grid = self.store.grid
        tiles = pd.read_parquet(io.BytesIO(self.run.read(TILES_NAME)), columns=["row", "col", "valid_fraction"])
        is_visible = find_visible(tiles, grid=grid)
        return read_ground(self.store, is_visible=is_visible, window=grid.shared_window, max_size_px=max_size_px)


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What some ground looked like at an early and at a late date."""

    grid: Grid
    before: dt.datetime
    after: dt.datetime
    pixels: _Pixels
    """(date=2, y, x, band=3)."""


def find_ground(told: Sequence[PairState], *, folder: RunFolder, crs: str) -> GroundPictures | None:
    """Give the ground of the last pair that has its pixels, and what it looked like in the first pair with as much.

    Args:
        told: The pairs of a region that is a single block, in the order of time.
        folder: Folder of the region.
        crs: CRS of the region's tables.
    """
    ground = _read_ground(told, folder=folder, crs=crs, max_size_px=MAX_MAP_SIZE_PX)
    if ground is None:
        return None
    return GroundPictures(
        bounds=ground.grid.shared_bounds,
        pictures=PicturePair.encode(ground.pixels),
        before=Span(first=ground.before, last=ground.before),
        after=Span(first=ground.after, last=ground.after),
    )


def join_grounds(told: Sequence[PairState], *, folder: RunFolder, crs: str, bounds: Bounds) -> GroundPictures | None:
    """Give the ground of all blocks that have pixels, each as `find_ground` gives that of a region; grey elsewhere.

    Args:
        told: The pairs of a region of several blocks, in the order of time.
        folder: Folder of the region.
        crs: CRS of the region's tables.
        bounds: Left, bottom, right and top of the region in it.
    """
    pixel_m = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / MAX_MAP_SIZE_PX
    by_block: dict[str | None, list[PairState]] = {}
    for state in told:
        by_block.setdefault(state.record.block_id, []).append(state)

    def read(own: Sequence[PairState]) -> _Ground | None:
        block = own[-1].record.block
        size_px = MAX_MAP_SIZE_PX if block is None else round(block.side_m / pixel_m)
        return _read_ground(own, folder=folder, crs=None, max_size_px=min(max(size_px, 1), MAX_MAP_SIZE_PX))

    with ThreadPoolExecutor(_READERS, thread_name_prefix="ground") as readers:
        grounds = [ground for ground in readers.map(read, by_block.values()) if ground is not None]
    if not grounds:
        return None
    # Tiles on the edge of the area reach beyond it, and so do the changes in them.
    shown = _unite([bounds, *(transform_bounds(each.grid.crs, crs, *each.grid.shared_bounds) for each in grounds)])
    return GroundPictures(
        bounds=shown,
        pictures=PicturePair.encode(_lay_down(grounds, bounds=shown, crs=crs)),
        before=_span([ground.before for ground in grounds]),
        after=_span([ground.after for ground in grounds]),
    )


def _unite(bounds: Sequence[Bounds]) -> Bounds:
    lefts, bottoms, rights, tops = zip(*bounds, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def _span(moments: Sequence[dt.datetime]) -> Span:
    return Span(first=min(moments), last=max(moments))


def _read_ground(told: Sequence[PairState], *, folder: RunFolder, crs: str | None, max_size_px: int) -> _Ground | None:
    """Read the last pair that has pixels, and the earlier date of the first one that has as many."""
    last = next(_list_grounds(reversed(told), folder=folder, crs=crs), None)
    if last is None:
        return None
    grounds = _list_grounds(told, folder=folder, crs=crs)
    first = next(each for each in grounds if each.store.grid == last.store.grid)
    pixels = last.read(max_size_px=max_size_px)
    if first.state is not last.state:
        pixels[0] = first.read(max_size_px=max_size_px)[0]
    return _Ground(
        grid=last.store.grid,
        before=first.state.record.pair.before.start,
        after=last.state.record.pair.after.start,
        pixels=pixels,
    )


def _list_grounds(
    told: Iterator[PairState] | Sequence[PairState], *, folder: RunFolder, crs: str | None
) -> Iterator[_PairGround]:
    """Give the pairs whose pixels are there, and in some CRS, where one is named."""
    for state in told:
        run = open_pair_folder(folder, state.record)
        if not state.has_folder or not run.has(f"{STORE_NAME}/zarr.json"):
            continue
        store = restore_store(read_record(run), folder=run)
        if crs is None or pyproj.CRS.from_user_input(store.grid.crs) == pyproj.CRS.from_user_input(crs):
            yield _PairGround(state=state, run=run, store=store)


def _lay_down(grounds: Sequence[_Ground], *, bounds: Bounds, crs: str) -> _Pixels:
    """Put pictures of pieces of ground together, (date=2, y, x, band=3); what none of them has seen is grey."""
    left, bottom, right, top = bounds
    pixel_m = max(right - left, top - bottom) / MAX_MAP_SIZE_PX
    width, height = (max(1, round(side / pixel_m)) for side in (right - left, top - bottom))
    canvas = np.empty((2, height, width, 3), dtype=np.uint8)
    canvas[:] = UNSEEN_COLOUR
    place = from_bounds(left, bottom, right, top, width, height)
    for ground in grounds:
        _lay_piece(ground, canvas=canvas, place=place, crs=crs)
    return canvas


def _lay_piece(ground: _Ground, *, canvas: _Pixels, place: Affine, crs: str) -> None:
    """Put the pictures of some ground where they belong; what was not seen covers nothing."""
    bounds = ground.grid.shared_bounds
    window = _find_window(transform_bounds(ground.grid.crs, crs, *bounds), place=place, shape=canvas.shape[1:3])
    if window is None:
        return
    rows, cols = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    is_seen = np.any(ground.pixels != UNSEEN_COLOUR, axis=-1).astype(np.uint8)
    height, width = is_seen.shape[1:]
    for date in range(2):
        bands = np.concatenate([np.moveaxis(ground.pixels[date], -1, 0), is_seen[date][None]])
        laid = np.zeros((4, window.height, window.width), dtype=np.uint8)
        reproject(
            bands,
            laid,
            src_transform=from_bounds(*bounds, width, height),
            src_crs=ground.grid.crs,
            dst_transform=place @ Affine.translation(window.left, window.top),
            dst_crs=crs,
            resampling=Resampling.nearest,
        )
        is_laid = laid[3] > 0
        canvas[date, rows, cols][is_laid] = np.moveaxis(laid[:3], 0, -1)[is_laid]


def _find_window(bounds: Bounds, *, place: Affine, shape: tuple[int, ...]) -> Window | None:
    left, top = ~place @ (bounds[0], bounds[3])
    right, bottom = ~place @ (bounds[2], bounds[1])
    # One more all around: the edges of what is turned into another zone's CRS are curves.
    first_col, first_row = max(int(left) - 1, 0), max(int(top) - 1, 0)
    last_col, last_row = min(int(right) + 2, shape[1]), min(int(bottom) + 2, shape[0])
    if last_col <= first_col or last_row <= first_row:
        return None
    return Window(top=first_row, left=first_col, height=last_row - first_row, width=last_col - first_col)
