"""The truth of a pair: what changed between its dates, read off the plan and never off pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.training.synthesis.footprint import Presence
from model.training.synthesis.landscape import Landscape
from model.training.synthesis.texture import Block, MaskArray, PointArray, rasterize_polygon

ObjectKind = Literal["building", "road"]

_CLEARLY_INSIDE_PX = 6


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
class Outlines:
    """The outlines of one kind of object in scene pixels, with their boxes to find what a block holds."""

    kind: ObjectKind
    polygons: tuple[PointArray, ...]
    is_at: tuple[Presence, ...]
    boxes: NDArray[np.float64]
    """(N, 4) y low, x low, y high, x high."""

    def at_dates(self, dates: tuple[int, int]) -> Outlines:
        """Returns the same outlines as two pictures of given dates of the plan, 0 or 1, show them."""
        if dates == (0, 1):
            return self
        return replace(self, is_at=tuple((is_at[dates[0]], is_at[dates[1]]) for is_at in self.is_at))

    def see(self, index: int, block: Block, before_shift_px: tuple[float, float]) -> PointArray:
        """Returns an outline in pixels of a block, where the last date at which the object stands shows it."""
        shift_y, shift_x = before_shift_px if self.is_at[index] == (True, False) else (0.0, 0.0)
        return np.asarray(self.polygons[index] - np.array([block.y0 - shift_y, block.x0 - shift_x]))

    def find_in(self, block: Block) -> list[int]:
        """Returns the objects whose box reaches into a block."""
        low, high = (block.y0, block.x0), (block.y0 + block.height_px, block.x0 + block.width_px)
        touches = (self.boxes[:, :2] < high).all(axis=1) & (self.boxes[:, 2:] > low).all(axis=1)
        return [int(index) for index in np.flatnonzero(touches)]


def outline_objects(landscape: Landscape, *, resolution_m: float) -> tuple[Outlines, ...]:
    """Returns the outlines of all roads, and of all buildings."""
    roads = [(road.outline / resolution_m, road.is_at) for road in landscape.roads]
    buildings = [(building.outline / resolution_m, building.is_at) for building in landscape.buildings]
    return _gather("road", roads), _gather("building", buildings)


def _gather(kind: ObjectKind, items: list[tuple[PointArray, Presence]]) -> Outlines:
    """Returns outlines with their boxes."""
    boxes = [(*polygon.min(axis=0).tolist(), *polygon.max(axis=0).tolist()) for polygon, _ in items]
    return Outlines(
        kind=kind,
        polygons=tuple(polygon for polygon, _ in items),
        is_at=tuple(is_at for _, is_at in items),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
    )


def draw_change_mask(
    outlines: tuple[Outlines, ...], block: Block, *, before_shift_px: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.uint8]:
    """Returns the (height, width) change mask: pixels that are road, or building, at one date only.

    Args:
        outlines: Roads and buildings.
        block: What the pair shows.
        before_shift_px: How far down and right the first date appears from the second: what went is marked where
            it is seen.
    """
    mask = np.zeros((block.height_px, block.width_px), np.uint8)
    for kind, value in zip(outlines, (ROAD_VALUE, CHANGED_VALUE), strict=True):
        found = kind.find_in(block.grow(3))
        if any(kind.is_at[index][0] != kind.is_at[index][1] for index in found):
            mask[_find_changed(kind, found, block, before_shift_px)] = value
    return mask


def _find_changed(
    outlines: Outlines, found: list[int], block: Block, before_shift_px: tuple[float, float]
) -> MaskArray:
    """Returns where things that came or went lie outside all that stayed."""
    changed = np.zeros((block.height_px, block.width_px), np.bool_)
    for index in sorted(found, key=lambda index: outlines.is_at[index][0] == outlines.is_at[index][1]):
        is_at = outlines.is_at[index]
        polygon = outlines.see(index, block, before_shift_px)
        covered = rasterize_polygon(polygon, height_px=block.height_px, width_px=block.width_px)
        if covered is not None:
            part, inside = covered
            view = changed[part.y0 : part.y0 + part.height_px, part.x0 : part.x0 + part.width_px]
            view[inside] = is_at[0] != is_at[1]
    return changed


def list_objects(
    outlines: tuple[Outlines, ...], block: Block, *, before_shift_px: tuple[float, float] = (0.0, 0.0)
) -> tuple[SyntheticObject, ...]:
    """Returns the roads and buildings of which at least one pixel is seen in a block; see `draw_change_mask`."""
    objects = []
    for kind in outlines:
        for index in kind.find_in(block.grow(3)):
            is_before, is_after = kind.is_at[index]
            polygon = kind.see(index, block, before_shift_px)
            if not (is_before or is_after) or not _is_seen(polygon, block):
                continue
            objects.append(
                SyntheticObject(
                    kind=kind.kind,
                    polygon_px=tuple((y, x) for y, x in polygon.tolist()),
                    is_in_before=is_before,
                    is_in_after=is_after,
                )
            )
    return tuple(objects)


def _is_seen(polygon: PointArray, block: Block) -> bool:
    """Tells whether an outline covers the centre of at least one pixel."""
    # Roads and buildings are some pixels wide, and wide corners: one that lies well inside settles it.
    spare = np.array([_CLEARLY_INSIDE_PX, _CLEARLY_INSIDE_PX])
    if ((polygon > spare) & (polygon < [block.height_px, block.width_px] - spare)).all(axis=1).any():
        return True
    return rasterize_polygon(polygon, height_px=block.height_px, width_px=block.width_px) is not None
