"""Pictures for the report's page: small views of the tile store, of its tiles or of its marks' thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

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

TileCallback = Callable[[Tile, npt.NDArray[np.uint8]], None]
"""Called with a tile and its pixels, (date=2, band=3, y, x)."""
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """One window at both dates, as data URIs that stand in a page by themselves."""

    before_uri: str
    """JPEG of the before date."""
    after_uri: str
    """JPEG of the after date."""

    @classmethod
    def encode(cls, pixels: npt.NDArray[np.uint8]) -> Self:
        """Encode pictures of both dates, (date=2, y, x, band=3)."""
        before, after = (f"data:image/jpeg;base64,{encode_jpeg(image)}" for image in pixels)
        return cls(before_uri=before, after_uri=after)


def find_visible(findings: pd.DataFrame, *, grid: Grid) -> npt.NDArray[np.bool_]:
    """Tell which tiles have pixels to show, bool (row, col).

    Args:
        findings: Rows with ``row``, ``col`` and ``valid_fraction``.
        grid: The grid.
    """
    is_visible = np.zeros((grid.n_rows, grid.n_cols), dtype=np.bool_)
    is_visible[findings["row"].to_numpy(np.int64), findings["col"].to_numpy(np.int64)] = findings["valid_fraction"] > 0
    return is_visible


@dataclass(frozen=True, kw_only=True)
class View:
    """What a picture shows."""

    window: Window
    """Part of the grid."""
    max_size_px: int
    """Longest side of the picture."""


class _Canvas:
    """The pictures of one view at both dates while they are painted, tile by tile."""

    def __init__(self, view: View, *, size_px: int) -> None:
        """Begin with nothing seen.

        Args:
            view: What is to be shown.
            size_px: Side of the ground that a tile owns.
        """
        window = view.window
        self._view, self._size_px = view, size_px
        self._rows = range(window.top // size_px, -(-(window.top + window.height) // size_px))
        self._cols = range(window.left // size_px, -(-(window.left + window.width) // size_px))
        # Every tile becomes a square of whole pixels, so none bleeds into the next and nothing needs the whole.
        self.small_px = max(1, min(size_px, size_px * view.max_size_px // max(window.height, window.width)))
        shape = (len(self._rows) * self.small_px, len(self._cols) * self.small_px)
        self._pictures = np.empty((2, *shape, 3), dtype=np.uint8)
        self._pictures[:] = UNSEEN_COLOUR

    def find_places(self, is_visible: npt.NDArray[np.bool_]) -> _Places:
        """Find the tiles that it shows, (tile, row and column)."""
        rows, cols = self._rows, self._cols
        corner = np.array([rows.start, cols.start])
        return np.asarray(corner + np.argwhere(is_visible[rows.start : rows.stop, cols.start : cols.stop]))

    def shows(self, row: int, col: int) -> bool:
        """Tell whether a tile is part of it."""
        return row in self._rows and col in self._cols

    def paint(self, row: int, col: int, pair: npt.NDArray[np.uint8]) -> None:
        """Put down one tile, (date=2, y, x, band=3) of its size here."""
        y, x = (row - self._rows.start) * self.small_px, (col - self._cols.start) * self.small_px
        self._pictures[:, y : y + self.small_px, x : x + self.small_px] = pair

    def finish(self) -> npt.NDArray[np.uint8]:
        """Cut off what lies around the window; gives (date=2, y, x, band=3)."""
        window, size_px, max_size_px = self._view.window, self._size_px, self._view.max_size_px
        scale = self.small_px / size_px
        top, left = (round((edge % size_px) * scale) for edge in (window.top, window.left))
        bottom, right = top + max(1, round(window.height * scale)), left + max(1, round(window.width * scale))
        return np.stack([_limit_size(image, max_size_px) for image in self._pictures[:, top:bottom, left:right]])


def read_pictures(
    store: TileStore, *, is_visible: npt.NDArray[np.bool_], window: Window, max_size_px: int
) -> PicturePair:
    """Read a window of the store at both dates, made smaller on the way; as `read_views`, of one view."""
    return read_views(store, is_visible=is_visible, views=[View(window=window, max_size_px=max_size_px)])[0]


def read_ground(
    store: TileStore, *, is_visible: npt.NDArray[np.bool_], window: Window, max_size_px: int
) -> npt.NDArray[np.uint8]:
    """Read the same as pixels, (date=2, y, x, band=3)."""
    return _paint_views(store, is_visible=is_visible, views=[View(window=window, max_size_px=max_size_px)])[0]


def read_views(
    store: TileStore,
    *,
    is_visible: npt.NDArray[np.bool_],
    views: Sequence[View],
    on_tile: TileCallback | None = None,
) -> list[PicturePair]:
    """Read parts of the store at both dates, made smaller on the way; each tile is read once, whoever shows it.

    Args:
        store: The tile store.
        is_visible: What `find_visible` gave; where there is nothing, the picture has `UNSEEN_COLOUR`.
        views: What to show.
        on_tile: Called with every tile that is read whole, and with what a model sees of it.
    """
    return [
        PicturePair.encode(pixels)
        for pixels in _paint_views(store, is_visible=is_visible, views=views, on_tile=on_tile)
    ]


def _paint_views(
    store: TileStore,
    *,
    is_visible: npt.NDArray[np.bool_],
    views: Sequence[View],
    on_tile: TileCallback | None = None,
) -> list[npt.NDArray[np.uint8]]:
    size_px = store.grid.stride_px
    canvases = [_Canvas(view, size_px=size_px) for view in views]
    detailed = []
    for canvas in canvases:
        # Where a tile is but a few pixels, the marks know enough of it: what is read stays bounded by the picture.
        if canvas.small_px < size_px and canvas.small_px <= THUMBNAIL_TILE_PX:
            for place, small in _read_thumbnails(store, canvas.find_places(is_visible), small_px=canvas.small_px):
                canvas.paint(*place, small)
        else:
            detailed.append(canvas)
    places = [canvas.find_places(is_visible) for canvas in detailed]
    margin_px = store.grid.overlap_px // 2
    owned = slice(margin_px, margin_px + size_px)
    # ^ Of what a model sees of a tile, the ground that no other tile owns.
    for tile, pair in _read_tiles(store, np.unique(np.concatenate([np.empty((0, 2), np.int64), *places]), axis=0)):
        if on_tile is not None:
            on_tile(tile, pair)
        for canvas in detailed:
            if canvas.shows(tile.row, tile.col):
                small = shrink_pair(pair[..., owned, owned], shape_px=(canvas.small_px, canvas.small_px))
                canvas.paint(tile.row, tile.col, small)
    return [canvas.finish() for canvas in canvases]


def _read_tiles(store: TileStore, places: _Places) -> Iterator[tuple[Tile, npt.NDArray[np.uint8]]]:
    """Read tiles whole, a few at a time, shard by shard."""
    order = np.lexsort((*places.T[::-1], *(places // store.shard_size_tiles).T[::-1]))
    step = max(1, _MAX_BATCH_BYTES // (2 * 3 * store.grid.tile_size_px**2))
    for start in range(0, len(order), step):
        batch = [_name_place(row, col) for row, col in places[order[start : start + step]].tolist()]
        yield from zip(batch, store.read_pairs(batch), strict=True)


def _name_place(row: int, col: int) -> Tile:
    return Tile(row=row, col=col, tile_id=name_tile(row, col), valid_fraction=1.0, status=None, reason="")


def _read_thumbnails(
    store: TileStore, places: _Places, *, small_px: int
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.uint8]]]:
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
