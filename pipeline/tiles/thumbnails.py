"""Small views of tile pairs: how one is averaged down, and the one that every mark keeps of its shard."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

UNSEEN_COLOUR = (226, 223, 215)
"""RGB of ground that is not valid on both dates."""

THUMBNAIL_TILE_PX = 16
"""Side of a tile in a shard's thumbnail, in pixels; every tile size is a multiple of it."""

_JPEG_QUALITY = 84


def shrink_pair(pair: npt.NDArray[np.uint8], *, shape_px: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Average a pair of pictures down; pixels that are 0 on both dates count as not seen and take no part.

    Args:
        pair: uint8 (date=2, band=3, y, x).
        shape_px: Rows and columns of the result.

    Returns:
        uint8 (date=2, y, x, band=3) with `UNSEEN_COLOUR` where nothing was seen.
    """
    height, width = shape_px
    is_seen = np.bitwise_or.reduce(pair.reshape(-1, *pair.shape[2:])) > 0
    shrunk = np.empty((2, height, width, 3), dtype=np.uint8)
    if is_seen.all():
        # Bytes as they are: several times faster than by numbers with a fraction.
        for date, band in np.ndindex(2, 3):
            shrunk[date, ..., band] = cv2.resize(pair[date, band], (width, height), interpolation=cv2.INTER_AREA)
        return shrunk
    share = cv2.resize(is_seen.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    for date, band in np.ndindex(2, 3):
        values = pair[date, band].astype(np.float32)
        mean = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)
        shrunk[date, ..., band] = np.where(share > 0, np.clip(np.rint(mean), 0, 255), UNSEEN_COLOUR[band])
    return shrunk


def encode_jpeg(image: npt.NDArray[np.uint8]) -> str:
    """Give a picture, uint8 (y, x, band=3), as a JPEG in base64."""
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(sink, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return base64.b64encode(sink.getvalue()).decode("ascii")


def make_thumbnail(pixels: npt.NDArray[np.uint8], is_valid: npt.NDArray[np.bool_], *, tile_size_px: int) -> str:
    """Make the small view of a shard, so that a map of very many tiles needs nobody to read their pixels again.

    Args:
        pixels: uint8 (date=2, band=3, height, width), height and width whole multiples of the tile size.
        is_valid: bool (date=2, height, width).
        tile_size_px: Side of a tile.

    Returns:
        A JPEG in base64 with the earlier date above the later one, or nothing where no pixel is valid on both.
    """
    is_both = is_valid.all(axis=0)
    if not is_both.any():
        return ""
    rows, cols = (length // tile_size_px * THUMBNAIL_TILE_PX for length in is_both.shape)
    seen = pixels if is_both.all() else pixels * is_both
    return encode_jpeg(np.concatenate(shrink_pair(seen, shape_px=(rows, cols))))


def read_thumbnail(thumbnail: str, *, n_rows: int, n_cols: int) -> npt.NDArray[np.uint8]:
    """Give the picture of a shard's thumbnail.

    Args:
        thumbnail: What `make_thumbnail` gave.
        n_rows: Rows of tiles in the shard.
        n_cols: Columns of tiles in the shard.

    Returns:
        uint8 (date=2, y, x, band=3), `THUMBNAIL_TILE_PX` pixels to a tile.
    """
    height, width = n_rows * THUMBNAIL_TILE_PX, n_cols * THUMBNAIL_TILE_PX
    if not thumbnail:
        return np.broadcast_to(np.array(UNSEEN_COLOUR, dtype=np.uint8), (2, height, width, 3))
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(thumbnail))), dtype=np.uint8)
    return image.reshape(2, height, width, 3)
