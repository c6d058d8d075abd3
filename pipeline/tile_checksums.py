"""Checksums of tiles, which say for ever what was written: whoever reads a tile of the store compares.

A name in the store says where a tile lies, not of which pair it is. A worker whose run was cut off may go on for a
while and put pixels of a former pair there, and a disk may forget. The mark of a shard, whose name is a hash of what
the shard holds, keeps a checksum per tile, so that neither can become an answer.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_DIGEST_BYTES = 8


def checksum_tile(pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.generic]) -> str:
    """Hash one tile.

    Args:
        pixels: uint8 (date=2, band=3, y, x), as the store holds them.
        valid: bool or uint8 (date=2, y, x), as the store holds them.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(valid).view(np.uint8).data)
    return digest.hexdigest()


def checksum_tiles(pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.generic], *, tile_size_px: int) -> list[str]:
    """Hash every tile of a block, row-major.

    Args:
        pixels: uint8 (date=2, band=3, height, width), height and width whole multiples of the tile size.
        valid: bool or uint8 (date=2, height, width).
        tile_size_px: Side of a tile.
    """
    height, width = pixels.shape[-2:]
    sides = [slice(start, start + tile_size_px) for start in range(0, max(height, width), tile_size_px)]
    rows, cols = sides[: height // tile_size_px], sides[: width // tile_size_px]
    return [checksum_tile(pixels[..., ys, xs], valid[..., ys, xs]) for ys in rows for xs in cols]
