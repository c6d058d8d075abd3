"""The truth of a pair, read off the plan and never off pixels, and what can be said of the land beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.synthesis.canvas import Canvas
from model.synthesis.drawing import Stage
from model.synthesis.geometry import Block, ByteArray, MaskArray, PointArray, Presence, rasterize_polygon
from model.synthesis.ground import KINDS, MIX_LEVELS, CoverKind, Covers
from model.synthesis.landscape import Building, Road
from model.synthesis.settings import SettingName

ObjectKind = Literal["building", "road"]

Dates = tuple[int, int]
"""Which dates of the plan, 0 or 1, the two pictures of a pair show."""

_Seen = tuple[PointArray, Presence]
"""An outline in pixels of a block, where the last date at which the thing stands shows it, and when that is."""
_CLEARLY_INSIDE_PX = 6
_NEAR_PX = 3
"""How far around a block to look for things that may be seen in it: more than dates are shifted."""

SAMPLE_STEP_PX: Final = 4
"""The land is looked at in every fourth row and column: shares of it need no more."""

_CROWN_SHARE_OF_WOODS = 0.3


@dataclass(frozen=True, kw_only=True)
class SyntheticObject:
    """One building or road of a pair, changed or not."""

    kind: ObjectKind
    """What it is."""
    polygon_px: tuple[tuple[float, float], ...]
    """Outline as (y, x) vertices in pixels; pixel (0, 0) covers 0..1; it may reach beyond the image."""
    is_in_before: bool
    """Whether it stands at the first date."""
    is_in_after: bool
    """Whether it stands at the second date."""


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


def draw_truth(
    stage: Stage, block: Block, *, dates: Dates = (0, 1), before_shift_px: tuple[float, float] = (0.0, 0.0)
) -> tuple[ByteArray, tuple[SyntheticObject, ...]]:
    """Draw the change mask of a block, and list the roads and buildings of which at least one pixel is seen.

    Args:
        stage: The landscape, with what stands where.
        block: What the pair shows.
        dates: Which dates of the plan its two pictures show.
        before_shift_px: How far down and right the first date appears from the second: what went is marked where
            it is seen.

    Returns:
        The (height, width) mask of pixels that are road, or building, at one date only; and the objects.
    """
    size, reach = stage.resolution_m, _NEAR_PX * stage.resolution_m
    kinds: tuple[tuple[ObjectKind, int, Sequence[Road | Building]], ...] = (
        ("road", ROAD_VALUE, stage.roads.find_in(block, pixel_size=size, reach=reach)),
        ("building", CHANGED_VALUE, stage.buildings.find_in(block, pixel_size=size, reach=reach)),
    )
    mask = np.zeros(block.shape, np.uint8)
    objects: list[SyntheticObject] = []
    for kind, value, things in kinds:
        seen: list[_Seen] = []
        for thing in things:
            is_at = thing.is_at[dates[0]], thing.is_at[dates[1]]
            shift_y, shift_x = before_shift_px if is_at == (True, False) else (0.0, 0.0)
            corner = np.array([block.y0 - shift_y, block.x0 - shift_x])
            seen.append((np.asarray(thing.outline / size - corner), is_at))
        if any(before != after for _, (before, after) in seen):
            mask[_find_changed(seen, block.shape)] = value
        objects += [
            SyntheticObject(
                kind=kind,
                polygon_px=tuple((y, x) for y, x in polygon.tolist()),
                is_in_before=is_at[0],
                is_in_after=is_at[1],
            )
            for polygon, is_at in seen
            if any(is_at) and _is_seen(polygon, block.shape)
        ]
    return mask, tuple(objects)


def _find_changed(seen: list[_Seen], shape: tuple[int, int]) -> MaskArray:
    """Return where things that came or went lie outside all that stayed."""
    changed = np.zeros(shape, np.bool_)
    for polygon, (before, after) in sorted(seen, key=lambda item: item[1][0] == item[1][1]):
        covered = rasterize_polygon(polygon, shape)
        if covered is not None:
            block, inside = covered
            changed[block.window][inside] = before != after
    return changed


def _is_seen(polygon: PointArray, shape: tuple[int, int]) -> bool:
    """Tell whether an outline covers the centre of at least one pixel."""
    # Roads and buildings are some pixels wide, and wide corners: one that lies well inside settles it.
    is_inside = (polygon > _CLEARLY_INSIDE_PX) & (polygon < np.array(shape) - _CLEARLY_INSIDE_PX)
    return bool(is_inside.all(axis=1).any()) or rasterize_polygon(polygon, shape) is not None


def sample_land(canvas: Canvas, block: Block, covers: Covers, *, dates: Dates = (0, 1)) -> ByteArray:
    """Look at the land of a block in every fourth row and column.

    Returns:
        (rows, columns, 4): index into `KINDS` before and after, then whether a crown is above, before and after.
    """
    step = slice(None, None, SAMPLE_STEP_PX)
    drawings = [canvas.drawings[date_index] for date_index in dates]
    kinds = [
        covers.kind_index[block.cut(drawing.ground, of=canvas.block)[step, step] // MIX_LEVELS] for drawing in drawings
    ]
    crowns = [block.cut(drawing.crown, of=canvas.block)[step, step] > 0 for drawing in drawings]
    return np.stack([*kinds, *crowns], axis=2, dtype=np.uint8)


def state_facts(
    sample: ByteArray,
    change_mask: ByteArray,
    objects: tuple[SyntheticObject, ...],
    *,
    setting: SettingName,
    greenness: tuple[float, float],
) -> PairFacts:
    """Sum up a pair.

    Args:
        sample: What `sample_land` saw.
        change_mask: (height, width) mask of the pair.
        objects: Everything that is seen.
        setting: The sort of landscape.
        greenness: Season of the two dates.
    """
    is_changed = change_mask[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX] > 0
    came = [thing for thing in objects if thing.is_in_after and not thing.is_in_before]
    went = [thing for thing in objects if thing.is_in_before and not thing.is_in_after]
    where_came, where_went = is_changed, is_changed
    if came and went:
        where_came, where_went = (is_changed & _cover(things, is_changed.shape) for things in (came, went))
    before, after = ((sample[:, :, date_index], sample[:, :, 2 + date_index]) for date_index in (0, 1))
    return PairFacts(
        setting=setting,
        building=_count("building", objects),
        road=_count("road", objects),
        before=_describe_land(*before, greenness[0]),
        after=_describe_land(*after, greenness[1]),
        replaced=_find_commonest(*before, where_came) if came else None,
        left_behind=_find_commonest(*after, where_went) if went else None,
    )


def _cover(things: list[SyntheticObject], shape: tuple[int, int]) -> MaskArray:
    covered = np.zeros(shape, np.bool_)
    for thing in things:
        found = rasterize_polygon(np.array(thing.polygon_px) / SAMPLE_STEP_PX, shape)
        if found is not None:
            block, inside = found
            covered[block.window] |= inside
    return covered


def _count(kind: ObjectKind, objects: tuple[SyntheticObject, ...]) -> DirectionCounts:
    dates = [(thing.is_in_before, thing.is_in_after) for thing in objects if thing.kind == kind]
    return DirectionCounts(
        before=sum(before for before, _ in dates),
        after=sum(after for _, after in dates),
        came=dates.count((False, True)),
        went=dates.count((True, False)),
    )


def _describe_land(kinds: ByteArray, crowns: ByteArray, greenness: float) -> LandFacts:
    shares = np.bincount(kinds.ravel(), minlength=len(KINDS)) / kinds.size
    order = np.argsort(-shares, kind="stable")
    return LandFacts(
        ground={KINDS[index]: float(shares[index]) for index in order.tolist() if shares[index] > 0},
        tree_share=float(crowns.mean()),
        greenness=greenness,
    )


def _find_commonest(kinds: ByteArray, crowns: ByteArray, is_changed: MaskArray) -> CoverKind | None:
    """Return what is most common where something changed; trees make it woods."""
    if not is_changed.any():
        return None
    if float(crowns[is_changed].mean()) > _CROWN_SHARE_OF_WOODS:
        return "woods"
    return KINDS[int(np.bincount(kinds[is_changed]).argmax())]
