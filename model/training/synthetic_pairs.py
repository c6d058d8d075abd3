"""Made pairs for training: drawn anew from their number, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from model.pairs.folders import LabelledPair
from model.synthesis.pairs import SyntheticPair, synthesize_pair, synthesize_tiles

TILE_CHANGE_LEVEL = 0.5
"""Share of the districts of synthetic tiles in which something is built or pulled down."""


def synthesize_pairs(seeds: Sequence[int], *, size_px: int, resolution_m: float) -> list[LabelledPair]:
    """Make synthetic pairs, whose truth covers roads too."""
    return [make_synthetic_pair(seed, size_px=size_px, resolution_m=resolution_m) for seed in seeds]


def synthesize_tile_pairs(seeds: Iterable[int], *, size_px: int, resolution_m: float) -> list[LabelledPair]:
    """Make synthetic tiles, many of them from one landscape, and half of the districts changed.

    Among them are demolitions and pairs in which only light, season and camera differ. Tiles where some buildings came
    and others went are left out, as no one verb tells of them; so there are fewer pairs than seeds. The dates lie
    exactly on each other: training shifts them itself.

    Args:
        seeds: Quickest in order, from a multiple of `TILES_PER_LANDSCAPE` on.
        size_px: Side of a tile.
        resolution_m: Size of a pixel in metres.
    """
    made = synthesize_tiles(
        seeds, size_px=size_px, resolution_m=resolution_m, change_level=TILE_CHANGE_LEVEL, max_shift_px=0.0
    )
    return [_label_synthetic(tile) for tile in made if not tile.facts.is_mixed]


def _label_synthetic(made: SyntheticPair) -> LabelledPair:
    return LabelledPair(
        name=f"synthetic_{made.seed}",
        before=made.before,
        after=made.after,
        mask=made.change_mask,
        has_road_truth=True,
        is_removal=made.is_removal,
    )


def make_synthetic_pair(seed: int, *, size_px: int, resolution_m: float) -> LabelledPair:
    """Make one synthetic pair of `size_px` on a side; equal seeds give equal pixels."""
    return _label_synthetic(synthesize_pair(seed, height_px=size_px, width_px=size_px, resolution_m=resolution_m))


@dataclass(frozen=True, kw_only=True)
class SyntheticPairs(Sequence[LabelledPair]):
    """Synthetic pairs, made when they are asked for and never held: pair `i` is that of seed `first_seed + i`."""

    first_seed: int
    """Seed of the first pair."""
    size_px: int
    """Side of a pair in pixels."""
    resolution_m: float
    """Size of a pixel in metres."""
    n_pairs: int = 2**31
    """How many there are; the default never ends in practice."""

    def __len__(self) -> int:
        return self.n_pairs

    @overload
    def __getitem__(self, index: int) -> LabelledPair: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LabelledPair]: ...

    def __getitem__(self, index: int | slice) -> LabelledPair | Sequence[LabelledPair]:
        """Make a pair."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.n_pairs))]
        if not 0 <= index < self.n_pairs:
            raise IndexError(index)
        return make_synthetic_pair(self.first_seed + index, size_px=self.size_px, resolution_m=self.resolution_m)
