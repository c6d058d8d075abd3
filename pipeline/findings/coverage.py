"""Coverage: of how much ground something is known, and what became of the rest.

Ground counts by its area, tile by tile as far as it is there: what both scenes reach, inside the area of interest. What
either date does not show is not seen, in whatever tile it lies; what of the area of interest lies off the scenes is
told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.tables.schemas import TileStatus

OFF = "off"
"""Stands among the statuses for what of the area of interest lies off what both scenes reach."""
COARSE = "coarse"
"""Stands among them for what the model looked at and saw no change in, where it was not made to see any."""
SEEN = (TileStatus.ANALYSED, TileStatus.IDENTICAL)
"""Statuses of tiles of which is known whether they changed."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What became of one part of the ground."""

    status: str
    """A tile's status, `COARSE` or `OFF`."""
    n_tiles: int
    """Tiles with it."""
    area_m2: float
    """Ground with it, in square metres."""
    fraction: float
    """Part of all ground, 0 to 1."""

    @property
    def is_there(self) -> bool:
        """Whether there is any tile or any ground of it."""
        return bool(self.n_tiles or self.area_m2)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of the ground of a run, and of its tiles."""

    tile_counts: Mapping[str, int]
    """Tiles per status, all statuses named."""
    ground_m2: Mapping[str, float] = field(default_factory=dict)
    """Square metres of ground per status, and under `COARSE` and `OFF`; empty where nobody measured it."""
    withheld_counts: Mapping[str, int] = field(default_factory=dict)
    """Tiles per status whose ground counts as `COARSE`."""

    @property
    def total_m2(self) -> float:
        """All ground: the area of interest, or without one what both scenes reach."""
        return sum(self.ground_m2.values())

    @property
    def seen_m2(self) -> float:
        """Ground of which is known whether it changed."""
        return sum(self.ground_m2.get(status, 0.0) for status in SEEN)

    @property
    def seen_fraction(self) -> float:
        """Part of the ground of which is known whether it changed, 0 to 1."""
        return self.seen_m2 / self.total_m2 if self.total_m2 else 0.0

    @property
    def n_tiles_inside(self) -> int:
        """Tiles that share area with the area of interest; without one all of them."""
        return sum(self.tile_counts.values()) - self.tile_counts.get(TileStatus.OUTSIDE, 0)

    def list_shares(self) -> Iterator[Share]:
        """Give every status, then what is too coarse, and last what lies off the scenes."""
        tile_counts = {status: n - self.withheld_counts.get(status, 0) for status, n in self.tile_counts.items()}
        tile_counts[COARSE] = sum(self.withheld_counts.values())
        for status in (*TileStatus, COARSE, OFF):
            n_tiles, area_m2 = tile_counts.get(status, 0), self.ground_m2.get(status, 0.0)
            fraction = area_m2 / self.total_m2 if self.total_m2 else 0.0
            yield Share(status=str(status), n_tiles=n_tiles, area_m2=area_m2, fraction=fraction)
