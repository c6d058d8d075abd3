"""Builds on lots: houses with garage, drive and garden, and halls with their yards."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np

from model.training.synthesis.draft import ASPHALT, CONCRETE, Draft
from model.training.synthesis.landscape import Building, Fence, Placement, Presence, Rgb, Wing
from model.training.synthesis.streets import Lot
from model.training.synthesis.texture import PointArray

_ROOFS: tuple[Rgb, ...] = (
    (128, 118, 106),
    (112, 103, 94),
    (98, 92, 86),
    (140, 128, 112),
    (120, 116, 112),
    (104, 102, 102),
    (152, 142, 128),
    (124, 104, 90),
    (86, 82, 80),
)
_HALL_ROOFS: tuple[Rgb, ...] = ((206, 204, 198), (176, 178, 180), (150, 160, 170), (190, 180, 164))
_BOARDS: tuple[Rgb, ...] = ((110, 92, 74), (96, 84, 72), (128, 108, 86))
_POOLS: tuple[Rgb, ...] = ((92, 146, 156), (78, 128, 144))
_CARS: tuple[Rgb, ...] = (
    (225, 225, 225),
    (60, 62, 66),
    (170, 172, 175),
    (130, 40, 36),
    (52, 68, 104),
    (34, 34, 36),
)


def build_house(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> bool:
    """Builds a house with a garage bay, drive and garden, unless the ground is taken.

    Args:
        draft: The landscape being planned.
        lot: Where.
        is_at: When the house stands there.
        depth_m: Depth of the lot from the street.

    Returns:
        Whether the house was built.
    """
    place = lot.placement
    half = min((lot.width_m - draft.between(3.0, 4.5)) / 2, 9.5)
    front = -draft.between(7.5, 9.5)
    back = front - draft.between(9.5, float(np.clip(depth_m - 14.5, 10.5, 16.0)))
    garage = draft.between(5.5, 6.8)
    bay_end = front + draft.between(1.8, 4.2)
    side = 1.0 if draft.chance(0.5) else -1.0
    wings, corners = _shape_house(draft, half, back, front, bay_end, side * (half - garage), side)
    outline = place.to_scene(corners)
    if not draft.footprints.add_building(outline, is_at):
        return False
    draft.buildings.append(
        Building(
            placement=place,
            wings=wings,
            outline=outline,
            eave_m=3.0 if draft.chance(0.7) else 5.6,
            roof_slope=draft.between(0.45, 0.75),
            roof_rgb=draft.one_of(_ROOFS),
            is_at=is_at,
        )
    )
    _pave_front(draft, place, is_at, gate=side * (half - garage / 2), door=-side * half * 0.2, edge=bay_end)
    _add_garden(draft, place, half, back, depth_m, is_at)
    return True


def _shape_house(
    draft: Draft, half: float, back: float, front: float, bay_end: float, split: float, side: float
) -> tuple[tuple[Wing, ...], PointArray]:
    """Shapes a body with a garage bay in front and sometimes a rear wing.

    Args:
        draft: The landscape being planned.
        half: Half the width of the body.
        back: Rear wall of the body, along the local front axis.
        front: Front wall of the body.
        bay_end: Front wall of the garage bay.
        split: Where along the front the bay begins.
        side: On which end the bay stands, -1 or 1.

    Returns:
        The roof wings and the (8, 2) local outline; without a rear wing two corners lie on the rear wall.
    """
    body: Literal["hip", "gable_along"] = "hip" if draft.chance(0.8) else "gable_along"
    bay: Literal["hip", "gable_across"] = "hip" if draft.chance(0.6) else "gable_across"
    bay0, bay1 = sorted((side * half, split))
    wings = [
        Wing(along0=-half, along1=half, front0=back, front1=front, roof=body),
        Wing(along0=bay0, along1=bay1, front0=back * 0.4 + front * 0.6, front1=bay_end, roof=bay),
    ]
    rear_split, rear_end = -side * half * draft.between(0.0, 0.3), back
    if draft.chance(0.45):
        rear_end = back - draft.between(1.8, 3.2)
        rear0, rear1 = sorted((-side * half, rear_split))
        middle = (back + front) / 2
        wings.append(Wing(along0=rear0, along1=rear1, front0=rear_end, front1=middle, roof="hip"))
    left_front, right_front = (front, bay_end) if side > 0 else (bay_end, front)
    left_back, right_back = (rear_end, back) if side > 0 else (back, rear_end)
    rear_wall = [(-half, left_back), (rear_split, left_back), (rear_split, right_back), (half, right_back)]
    front_wall = [(half, right_front), (split, right_front), (split, left_front), (-half, left_front)]
    return tuple(wings), np.array(rear_wall + front_wall)


def _pave_front(draft: Draft, place: Placement, is_at: Presence, *, gate: float, door: float, edge: float) -> None:
    """Paves drive and footpath, and parks a car on some days.

    Args:
        draft: The landscape being planned.
        place: The lot's placement.
        is_at: When the house stands there.
        gate: Middle of the garage along the street.
        door: Where the footpath runs along the street.
        edge: Front wall of the garage.
    """
    drive = place.rectangle(gate - 2.6, gate + 2.6, edge - 1.0, 1.0)
    draft.add_surface(drive, rgb=draft.one_of(CONCRETE), is_at=is_at)
    if draft.chance(0.5):
        path = place.rectangle(door, door + 1.3, edge - 3.0, 0.0)
        draft.add_surface(path, rgb=draft.one_of(CONCRETE), is_at=is_at)
    for date_index in (0, 1):
        if is_at[date_index] and draft.chance(0.4):
            _park_car(draft, place, gate + draft.between(-1.0, 1.0), edge + 3.0, date_index)


def _add_garden(draft: Draft, place: Placement, half: float, back: float, depth_m: float, is_at: Presence) -> None:
    """Adds patio, sometimes a pool, and the fence around the back of a lot."""
    if draft.chance(0.6):
        middle = draft.between(-half * 0.5, half * 0.5)
        patio = place.rectangle(middle - 2.2, middle + 2.2, back - 3.4, back)
        draft.add_surface(patio, rgb=draft.one_of(CONCRETE), is_at=is_at)
    if draft.chance(0.06) and depth_m + back > 9.0:
        _add_pool(draft, place, back, is_at)
    if draft.chance(0.75):
        rgb = draft.one_of(_BOARDS)
        edge, start, end = half + 1.6, back + 3.0, -depth_m + 0.6
        corners = place.to_scene(np.array([(-edge, start), (-edge, end), (edge, end), (edge, start)]))
        for (y0, x0), (y1, x1) in itertools.pairwise(corners.tolist()):
            draft.fences.append(Fence(start_yx=(y0, x0), end_yx=(y1, x1), height_m=1.8, rgb=rgb, is_at=is_at))


def _add_pool(draft: Draft, place: Placement, back: float, is_at: Presence) -> None:
    """Adds a pool with its surround behind a house."""
    turns = np.linspace(0.0, math.tau, 20, endpoint=False)
    middle, bulge = draft.between(-3.0, 3.0), draft.between(0.0, 0.3)
    length, breadth = draft.between(2.8, 4.4), draft.between(1.6, 2.4)
    radii = 1.0 + bulge * np.sin(2.0 * turns)
    along, front = np.cos(turns) * length * radii, np.sin(turns) * breadth * radii
    water = place.to_scene(np.stack([middle + along, back - 6.0 + front], axis=1))
    edge = length + 1.2
    surround = place.rectangle(middle - edge, middle + edge, back - 7.2 - breadth, back - 2.0)
    draft.add_surface(surround, rgb=draft.one_of(CONCRETE), is_at=is_at)
    draft.add_surface(water, rgb=draft.one_of(_POOLS), is_at=is_at)


def _park_car(draft: Draft, place: Placement, along: float, front: float, date_index: int) -> None:
    """Parks a car at a local position of a lot at one date only."""
    outline = place.rectangle(along - 0.9, along + 0.9, front - 2.2, front + 2.2)
    is_at = (date_index == 0, date_index == 1)
    draft.add_surface(outline, rgb=draft.one_of(_CARS), is_at=is_at, height_m=1.4)


def build_hall(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> None:
    """Builds a hall with a paved yard and parked cars in front of it, unless the ground is taken."""
    place = lot.placement
    half = lot.width_m / 2 - 6.0
    front = -draft.between(18.0, 22.0)
    back = max(front - draft.between(16.0, 34.0), -depth_m + 3.0)
    if back > front - 8.0:
        return
    outline = place.rectangle(-half, half, back, front)
    if not draft.footprints.add_building(outline, is_at):
        return
    roof: Literal["flat", "gable_along"] = "flat" if draft.chance(0.7) else "gable_along"
    draft.buildings.append(
        Building(
            placement=place,
            wings=(Wing(along0=-half, along1=half, front0=back, front1=front, roof=roof),),
            outline=outline,
            eave_m=draft.between(5.0, 8.0),
            roof_slope=0.15,
            roof_rgb=draft.one_of(_HALL_ROOFS),
            is_at=is_at,
        )
    )
    yard = place.rectangle(-half - 3.0, half + 3.0, front, -1.0)
    draft.add_surface(yard, rgb=draft.one_of(ASPHALT + CONCRETE), is_at=is_at)
    for along in np.arange(-half + 2.0, half - 2.0, 3.0).tolist():
        for date_index in (0, 1):
            if is_at[date_index] and draft.chance(0.35):
                _park_car(draft, place, along, front + 4.5, date_index)
