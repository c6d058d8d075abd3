"""What can be said of a pair beyond its mask: what came and went, on what ground, and how the land looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.canvas import Canvas
from model.training.synthesis.ground import KINDS, MIX_LEVELS, CoverKind, Covers
from model.training.synthesis.landscape import SettingName
from model.training.synthesis.light import Light
from model.training.synthesis.texture import Block, ByteArray, rasterize_polygon
from model.training.synthesis.truth import ObjectKind, SyntheticObject

SAMPLE_STEP_PX: Final = 4
"""The land is looked at in every fourth row and column: shares of it need no more."""

_CROWN_SHARE_OF_WOODS = 0.3


@dataclass(frozen=True, kw_only=True)
class DirectionCounts:
    """How many things of one kind there are, and how many came or went."""

    before: int
    """Seen at the first date."""
    after: int
    """Seen at the second date."""
    came: int
    """Seen at the second date only."""
    went: int
    """Seen at the first date only."""


@dataclass(frozen=True, kw_only=True)
class LandFacts:
    """How the land of a pair looks at one date."""

    ground: dict[CoverKind, float]
    """Share of the picture by kind of ground, the commonest first, also where something is built on it."""
    tree_share: float
    """Share of the picture under tree crowns."""
    greenness: float
    """Season of natural vegetation, 0 (dry, trees bare) to 1 (lush)."""


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """What captions may say of a pair; all of it is true."""

    setting: SettingName
    """The sort of landscape around."""
    building: DirectionCounts
    """Buildings that are seen."""
    road: DirectionCounts
    """Roads that are seen."""
    before: LandFacts
    """The land at the first date."""
    after: LandFacts
    """The land at the second date."""
    replaced: CoverKind | None
    """What lay, or grew, where buildings and roads came; None where none came, or too little to tell."""
    left_behind: CoverKind | None
    """What lies, or grows, where buildings and roads went; None where none went, or too little to tell."""

    @property
    def is_removal(self) -> bool:
        """Whether more buildings went than came or, where no building did either, more roads."""
        counts = self.building if self.building.came or self.building.went else self.road
        return counts.went > counts.came

    @property
    def is_mixed(self) -> bool:
        """Whether something came and something else went."""
        return bool((self.building.came or self.road.came) and (self.building.went or self.road.went))


def sample_land(canvas: Canvas, block: Block, covers: Covers, *, dates: tuple[int, int] = (0, 1)) -> ByteArray:
    """Looks at the land of a block in every fourth row and column.

    Returns:
        (rows, columns, 4): index into `KINDS` before and after, then whether a crown is above, before and after.
    """
    drawings = [canvas.drawings[date_index] for date_index in dates]
    planes = []
    for drawing in drawings:
        ground = block.cut(drawing.ground, of=canvas.block)[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX]
        planes.append(covers.kind_index[ground // MIX_LEVELS])
    for drawing in drawings:
        crown = block.cut(drawing.crown, of=canvas.block)[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX]
        planes.append((crown > 0).astype(np.uint8))
    return np.stack(planes, axis=2)


def state_facts(
    sample: ByteArray,
    change_mask: NDArray[np.uint8],
    objects: tuple[SyntheticObject, ...],
    *,
    setting: SettingName,
    lights: tuple[Light, Light],
) -> PairFacts:
    """Sums up a pair.

    Args:
        sample: What `sample_land` saw.
        change_mask: (height, width) mask of the pair.
        objects: Everything that is seen.
        setting: The sort of landscape.
        lights: The conditions of the two dates.
    """
    is_changed = change_mask[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX] > 0
    came = [thing for thing in objects if thing.is_in_after and not thing.is_in_before]
    went = [thing for thing in objects if thing.is_in_before and not thing.is_in_after]
    where_came, where_went = is_changed, is_changed
    if came and went:
        where_came, where_went = (
            is_changed & _cover(came, is_changed.shape),
            is_changed & _cover(went, is_changed.shape),
        )
    return PairFacts(
        setting=setting,
        building=_count("building", objects),
        road=_count("road", objects),
        before=_describe_land(sample[:, :, 0], sample[:, :, 2], lights[0]),
        after=_describe_land(sample[:, :, 1], sample[:, :, 3], lights[1]),
        replaced=_find_commonest(sample[:, :, 0], sample[:, :, 2], where_came) if came else None,
        left_behind=_find_commonest(sample[:, :, 1], sample[:, :, 3], where_went) if went else None,
    )


def _cover(things: list[SyntheticObject], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Returns which samples lie on some things."""
    covered = np.zeros(shape, np.bool_)
    for thing in things:
        found = rasterize_polygon(np.array(thing.polygon_px) / SAMPLE_STEP_PX, height_px=shape[0], width_px=shape[1])
        if found is not None:
            block, inside = found
            covered[block.y0 : block.y0 + block.height_px, block.x0 : block.x0 + block.width_px] |= inside
    return covered


def _count(kind: ObjectKind, objects: tuple[SyntheticObject, ...]) -> DirectionCounts:
    """Counts the objects of one kind."""
    dates = [(thing.is_in_before, thing.is_in_after) for thing in objects if thing.kind == kind]
    return DirectionCounts(
        before=sum(before for before, _ in dates),
        after=sum(after for _, after in dates),
        came=dates.count((False, True)),
        went=dates.count((True, False)),
    )


def _describe_land(kinds: ByteArray, crowns: ByteArray, light: Light) -> LandFacts:
    """Describes the land at one date."""
    shares = np.bincount(kinds.ravel(), minlength=len(KINDS)) / kinds.size
    order = np.argsort(-shares, kind="stable")
    return LandFacts(
        ground={KINDS[index]: float(shares[index]) for index in order.tolist() if shares[index] > 0},
        tree_share=float(crowns.mean()),
        greenness=light.greenness,
    )


def _find_commonest(kinds: ByteArray, crowns: ByteArray, is_changed: NDArray[np.bool_]) -> CoverKind | None:
    """Returns what is most common where something changed; trees make it woods."""
    if not is_changed.any():
        return None
    if float(crowns[is_changed].mean()) > _CROWN_SHARE_OF_WOODS:
        return "woods"
    return KINDS[int(np.bincount(kinds[is_changed]).argmax())]
