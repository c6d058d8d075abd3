"""Pictures for the report's page: small views of the tile store, read tile by tile."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.tiles import Tile, TileStore

_MAX_BATCH_BYTES = 64 * 2**20
_JPEG_QUALITY = 84
UNSEEN_COLOUR = (226, 223, 215)
"""RGB of ground that is not valid on both dates."""


@dataclass(frozen=True, kw_only=True)
class PixelWindow:
    """A rectangle of the grid's pixels, half-open."""

    top: int
    """First row."""
    left: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """One window at both dates, as data URIs that stand in a page by themselves."""

    before_uri: str
    """JPEG of the before date."""
    after_uri: str
    """JPEG of the after date."""


def read_pictures(store: TileStore, *, tiles: Sequence[Tile], window: PixelWindow, max_size_px: int) -> PicturePair:
    """Read a window of the store at both dates, made smaller on the way.

    Args:
        store: The tile store.
        tiles: Tiles worth reading; where there is none, the picture has `UNSEEN_COLOUR`.
        window: What to show.
        max_size_px: Longest side of the pictures.
    """
    size_px, margin_px = store.grid.stride_px, store.grid.overlap_px // 2
    owned = slice(margin_px, margin_px + size_px)
    # ^ Of what a model sees of a tile, the ground that no other tile owns.
    rows = range(window.top // size_px, -(-(window.top + window.height) // size_px))
    cols = range(window.left // size_px, -(-(window.left + window.width) // size_px))
    # Every tile becomes a square of whole pixels, so none bleeds into the next and nothing needs the whole.
    small_px = max(1, min(size_px, size_px * max_size_px // max(window.height, window.width)))
    canvas = np.empty((2, len(rows) * small_px, len(cols) * small_px, 3), dtype=np.uint8)
    canvas[:] = UNSEEN_COLOUR
    inside = [tile for tile in tiles if tile.row in rows and tile.col in cols]
    for batch in _batch_tiles(inside, store=store):
        for tile, pair in zip(batch, store.read_pairs(batch), strict=True):
            y, x = (tile.row - rows.start) * small_px, (tile.col - cols.start) * small_px
            canvas[:, y : y + small_px, x : x + small_px] = shrink_pair(pair[..., owned, owned], size_px=small_px)
    scale = small_px / size_px
    top, left = (round((edge % size_px) * scale) for edge in (window.top, window.left))
    bottom, right = top + max(1, round(window.height * scale)), left + max(1, round(window.width * scale))
    view = canvas[:, top:bottom, left:right]
    before, after = (_encode_jpeg(_limit_size(image, max_size_px)) for image in view)
    return PicturePair(before_uri=before, after_uri=after)


def _batch_tiles(tiles: Sequence[Tile], *, store: TileStore) -> Iterator[list[Tile]]:
    side = store.shard_size_tiles
    ordered = sorted(tiles, key=lambda tile: (tile.row // side, tile.col // side, tile.row, tile.col))
    n_tiles = max(1, _MAX_BATCH_BYTES // (2 * 3 * store.grid.tile_size_px**2))
    for start in range(0, len(ordered), n_tiles):
        yield ordered[start : start + n_tiles]


def shrink_pair(pair: npt.NDArray[np.uint8], *, size_px: int) -> npt.NDArray[np.uint8]:
    """Average a tile pair down; pixels that are 0 on both dates count as not seen and take no part.

    Args:
        pair: uint8 (date=2, band=3, y, x).
        size_px: Side of the result.

    Returns:
        uint8 (date=2, y, x, band=3) with `UNSEEN_COLOUR` where nothing was seen.
    """
    is_seen = np.asarray(pair.any(axis=(0, 1)), dtype=np.float32)
    share = cv2.resize(is_seen, (size_px, size_px), interpolation=cv2.INTER_AREA)[..., np.newaxis]
    shrunk = np.empty((2, size_px, size_px, 3), dtype=np.uint8)
    for date, image in enumerate(pair):
        bands = np.ascontiguousarray(image.transpose(1, 2, 0), dtype=np.float32)
        summed = cv2.resize(bands, (size_px, size_px), interpolation=cv2.INTER_AREA)
        mean = summed / np.maximum(share, 1e-6)
        shrunk[date] = np.where(share > 0, np.clip(np.rint(mean), 0, 255), UNSEEN_COLOUR).astype(np.uint8)
    return shrunk


def _limit_size(image: npt.NDArray[np.uint8], max_size_px: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    if max(height, width) <= max_size_px:
        return image
    # Only regions of more tiles than the picture has pixels get here.
    scale = max_size_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _encode_jpeg(image: npt.NDArray[np.uint8]) -> str:
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(sink, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
