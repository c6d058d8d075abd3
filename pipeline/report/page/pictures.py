"""Pictures for the report's page: small views of the tile store, of its tiles or of its marks' thumbnails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.grid.grid import Grid, name_tile
from pipeline.grid.window import Window
from pipeline.tiles.store import TileStore
from pipeline.tiles.table import Tile
from pipeline.tiles.thumbnails import THUMBNAIL_TILE_PX, UNSEEN_COLOUR, encode_jpeg, shrink_pair

_MAX_BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """One window at both dates, as data URIs that stand in a page by themselves."""

    before_uri: str
    """JPEG of the before date."""
    after_uri: str
    """JPEG of the after date."""


def find_visible(findings: pd.DataFrame, *, grid: Grid) -> npt.NDArray[np.bool_]:
    """Tell which tiles have pixels to show, bool (row, col).

    Args:
        findings: Rows with ``row``, ``col`` and ``valid_fraction``.
        grid: The grid.
    """
    is_visible = np.zeros((grid.n_rows, grid.n_cols), dtype=np.bool_)
    is_visible[findings["row"].to_numpy(np.int64), findings["col"].to_numpy(np.int64)] = findings["valid_fraction"] > 0
    return is_visible


def read_pictures(
    store: TileStore, *, is_visible: npt.NDArray[np.bool_], window: Window, max_size_px: int
) -> PicturePair:
    """Read a window of the store at both dates, made smaller on the way.

    Args:
        store: The tile store.
        is_visible: What `find_visible` gave; where there is nothing, the picture has `UNSEEN_COLOUR`.
        window: What to show.
        max_size_px: Longest side of the pictures.
    """
    size_px = store.grid.stride_px
    rows = range(window.top // size_px, -(-(window.top + window.height) // size_px))
    cols = range(window.left // size_px, -(-(window.left + window.width) // size_px))
    # Every tile becomes a square of whole pixels, so none bleeds into the next and nothing needs the whole.
    small_px = max(1, min(size_px, size_px * max_size_px // max(window.height, window.width)))
    canvas = np.empty((2, len(rows) * small_px, len(cols) * small_px, 3), dtype=np.uint8)
    canvas[:] = UNSEEN_COLOUR
    corner = np.array([rows.start, cols.start])
    places = corner + np.argwhere(is_visible[rows.start : rows.stop, cols.start : cols.stop])
    # Where a tile is but a few pixels, the marks know enough of it: what is read stays bounded by the picture.
    read = _read_thumbnails if small_px < size_px and small_px <= THUMBNAIL_TILE_PX else _read_tiles
    for (row, col), pair in read(store, places, small_px=small_px):
        y, x = (row - rows.start) * small_px, (col - cols.start) * small_px
        canvas[:, y : y + small_px, x : x + small_px] = pair
    scale = small_px / size_px
    top, left = (round((edge % size_px) * scale) for edge in (window.top, window.left))
    bottom, right = top + max(1, round(window.height * scale)), left + max(1, round(window.width * scale))
    view = canvas[:, top:bottom, left:right]
    before, after = (f"data:image/jpeg;base64,{encode_jpeg(_limit_size(image, max_size_px))}" for image in view)
    return PicturePair(before_uri=before, after_uri=after)


_Places = npt.NDArray[np.int64]
_SmallPairs = Iterator[tuple[tuple[int, int], npt.NDArray[np.uint8]]]


def _read_tiles(store: TileStore, places: _Places, *, small_px: int) -> _SmallPairs:
    """Read tiles whole, a few at a time, and average each down."""
    order = np.lexsort((*places.T[::-1], *(places // store.shard_size_tiles).T[::-1]))
    step = max(1, _MAX_BATCH_BYTES // (2 * 3 * store.grid.tile_size_px**2))
    margin_px = store.grid.overlap_px // 2
    owned = slice(margin_px, margin_px + store.grid.stride_px)
    # ^ Of what a model sees of a tile, the ground that no other tile owns.
    for start in range(0, len(order), step):
        batch = [_name_place(row, col) for row, col in places[order[start : start + step]].tolist()]
        for tile, pair in zip(batch, store.read_pairs(batch), strict=True):
            yield (tile.row, tile.col), shrink_pair(pair[..., owned, owned], shape_px=(small_px, small_px))


def _name_place(row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=name_tile(row, col), valid_fraction=1.0, status=None, reason="")


def _read_thumbnails(store: TileStore, places: _Places, *, small_px: int) -> _SmallPairs:
    """Read tiles out of the thumbnails of their shards."""
    if not len(places):
        return
    side = store.shard_size_tiles
    shards, members = np.unique(places // side, axis=0, return_inverse=True)
    by_shard = np.split(places[np.argsort(members, kind="stable")], np.cumsum(np.bincount(members))[:-1])
    pictures = store.read_thumbnails([(row, col) for row, col in shards.tolist()])
    for inside, picture in zip(by_shard, pictures, strict=True):
        if picture is None:
            continue
        n_rows, n_cols = (length // THUMBNAIL_TILE_PX for length in picture.shape[1:3])
        size = (n_cols * small_px, n_rows * small_px)
        small = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in picture])
        for row, col in inside.tolist():
            y, x = row % side * small_px, col % side * small_px
            yield (row, col), small[:, y : y + small_px, x : x + small_px]


def _limit_size(image: npt.NDArray[np.uint8], max_size_px: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    if max(height, width) <= max_size_px:
        return image
    # Only regions of more tiles than the picture has pixels get here.
    scale = max_size_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
