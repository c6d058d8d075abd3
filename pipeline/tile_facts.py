"""What the pixels of a tile tell before any model looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.sources import BoolArray, UInt8Array


@dataclass(frozen=True, kw_only=True, slots=True)
class TileFacts:
    """What the pixels of one tile tell before any model looks at them."""

    row: int
    """Row in the grid, from the top."""
    col: int
    """Column in the grid, from the left."""
    before_valid_fraction: float
    """Part of the tile that the earlier scene shows, 0 to 1."""
    after_valid_fraction: float
    """Part of the tile that the later scene shows, 0 to 1."""
    valid_fraction: float
    """Part of the tile that both scenes show, 0 to 1."""
    cloud_fraction: float | None = None
    """Part of the tile that is cloudy on either date, 0 to 1; None where no class band tells of clouds."""
    is_identical: bool
    """Whether both dates have equal pixels wherever both show something, and there is such a place."""


def count_valid(
    pixels: UInt8Array, is_valid: BoolArray, *, is_cloudy: BoolArray | None = None, tile_size_px: int
) -> dict[str, Any]:
    """Count per tile what both dates show.

    Args:
        pixels: uint8 (date=2, band=3, height, width), height and width whole multiples of the tile size.
        is_valid: bool (date=2, height, width).
        is_cloudy: bool (height, width), on either date; None where nothing tells of clouds.
        tile_size_px: Side of the ground that a tile owns.

    Returns:
        Lists over the tiles, row-major: pixels valid ``before``, ``after`` and on ``both`` dates, ``cloudy`` ones
        or None, and whether the dates are ``identical`` where both are valid.
    """
    is_both = is_valid[0] & is_valid[1]
    is_different = is_both & (pixels[0] != pixels[1]).any(axis=0)

    def count(mask: BoolArray) -> np.ndarray[Any, np.dtype[np.int64]]:
        height, width = mask.shape
        split = mask.reshape(height // tile_size_px, tile_size_px, width // tile_size_px, tile_size_px)
        return np.asarray(split.sum(axis=(1, 3), dtype=np.int64)).ravel()

    both = count(is_both)
    return {
        "before": count(is_valid[0]).tolist(),
        "after": count(is_valid[1]).tolist(),
        "both": both.tolist(),
        "cloudy": None if is_cloudy is None else count(is_cloudy).tolist(),
        "identical": ((count(is_different) == 0) & (both > 0)).tolist(),
    }
