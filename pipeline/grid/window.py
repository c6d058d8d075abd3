"""Rectangles of the grid's pixels, and arrays of what lies in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Window = tuple[int, int, int, int]
"""First row, first column, height and width in pixels of the grid."""


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


UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
