"""What a model was made for: ground of a size, in pixels of a size. Beyond that nobody has measured what it says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

Range = tuple[float, float]


class ModelFit(StrEnum):
    """How tiles lie beside what a model was made for."""

    INSIDE = "inside"
    COARSE = "coarse"
    FINE = "fine"
    UNLIKE = "unlike"


UNFAMILIAR = 0.05
"""Tiles of less familiarity are unlike what a model was made for, whatever their size."""


@dataclass(frozen=True, kw_only=True)
class ModelHome:
    """The scenes and tiles for which it has been measured what a model's answers are worth."""

    tile_m: Range
    """Smallest and largest side of the ground under a tile, in metres."""
    pixel_m: Range
    """Smallest and largest side of a scene's pixels, in metres."""

    @classmethod
    def from_config(cls, config: Any) -> Self | None:
        """Read the entry ``home`` of a model's ``config.json``; None where it tells nothing that makes sense."""
        try:
            told = config["home"]
            ranges = {name: tuple(float(value) for value in told[name]) for name in ("tile_m", "pixel_m")}
        except (KeyError, TypeError, ValueError):
            return None
        if any(len(ends) != 2 or not 0 <= ends[0] <= ends[1] for ends in ranges.values()):
            return None
        return cls(**{name: (ends[0], ends[1]) for name, ends in ranges.items()})

    def judge(self, *, tile_m: float, pixel_m: float) -> ModelFit:
        """Tell how tiles of some ground, in pixels of some size, lie beside what the model was made for.

        Args:
            tile_m: Side of the ground under a tile, in metres.
            pixel_m: Side of the pixels that it is shown in, in metres.
        """
        if tile_m > self.tile_m[1] or pixel_m > self.pixel_m[1]:
            return ModelFit.COARSE
        return ModelFit.FINE if tile_m < self.tile_m[0] or pixel_m < self.pixel_m[0] else ModelFit.INSIDE
