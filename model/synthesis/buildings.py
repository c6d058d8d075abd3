"""Builds houses with their gardens, and halls, shops and blocks of flats with their parking lots."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from model.synthesis.geometry import PointArray, Presence
from model.synthesis.ground import Rgb
from model.synthesis.landscape import (
    ASPHALT,
    BOTH,
    CONCRETE,
    ONLY_AFTER,
    ONLY_BEFORE,
    Building,
    Draft,
    Fence,
    Placement,
    Wing,
)
from model.synthesis.streets import Lot

_HOUSE_ROOFS: tuple[Rgb, ...] = (
    (104, 98, 92),
    (92, 88, 84),
    (84, 82, 80),
    (118, 110, 100),
    (100, 99, 98),
    (76, 74, 73),
    (124, 116, 106),
    (108, 94, 82),
    (136, 126, 112),
    (114, 112, 110),
    (134, 116, 100),
)
_BOARDS: tuple[Rgb, ...] = ((98, 84, 70), (86, 77, 68), (116, 102, 86), (74, 68, 62))
_POOLS: tuple[Rgb, ...] = ((92, 140, 152), (78, 122, 138), (104, 150, 156))
_CARS: tuple[Rgb, ...] = (
    (222, 222, 222),
    (205, 206, 208),
    (60, 62, 66),
    (168, 170, 173),
    (124, 44, 40),
    (58, 70, 98),
    (34, 34, 36),
    (96, 96, 98),
)
_HALL_ROOFS: tuple[Rgb, ...] = (
    (206, 204, 198),
    (176, 178, 180),
    (150, 158, 166),
    (188, 180, 166),
    (126, 124, 120),
    (220, 220, 216),
)
_UNITS: tuple[Rgb, ...] = ((150, 150, 150), (196, 196, 194), (104, 104, 104))
_TRAILERS: tuple[Rgb, ...] = ((224, 224, 222), (196, 190, 180), (120, 130, 142), (150, 92, 76))
_LINE_RGB: Rgb = (206, 202, 188)
_STALL_M = 2.7


def build_house(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> bool:
    """Build a house with a garage bay, drive and garden, unless the ground is taken.

    Args:
        draft: The landscape being planned.
        lot: Where.
        is_at: When the house stands there.
        depth_m: Depth of the lot from the street.

    Returns:
        Whether the house was built.
    """
    place = lot.placement
    half = min((lot.width_m - draft.between(2.2, 3.6)) / 2, draft.between(8.0, 11.5))
    front = -draft.between(6.5, 9.0)
    back = front - draft.between(10.0, min(18.5, max(10.5, depth_m - 15.0)))
    garage = draft.between(5.6, 6.8)
    bay_end = front + draft.between(1.6, 4.4)
    side = 1.0 if draft.chance(0.5) else -1.0
    wings, corners = _shape_house(draft, half, back, front, bay_end, side * (half - garage), side)
    house = Building(
        placement=place,
        wings=wings,
        outline=place.to_scene(corners),
        eave_m=3.0 if draft.chance(0.6) else 5.6,
        roof_slope=draft.between(0.45, 0.85),
        roof_rgb=draft.one_of(_HOUSE_ROOFS, spread=0.07),
        is_at=is_at,
    )
    if not draft.add_building(house):
        return False
    _pave_front(draft, place, is_at, gate=side * (half - garage / 2), door=-side * half * 0.2, edge=bay_end)
    _add_garden(draft, lot, half, back, depth_m, is_at)
    return True


def _shape_house(
    draft: Draft, half: float, back: float, front: float, bay_end: float, split: float, side: float
) -> tuple[tuple[Wing, ...], PointArray]:
    """Shape a body with a garage bay in front, sometimes a rear wing, and gables that look out of its roof.

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
    middle = (back + front) / 2
    wings = [
        Wing(along0=-half, along1=half, front0=back, front1=front, roof=body),
        Wing(along0=bay0, along1=bay1, front0=back * 0.4 + front * 0.6, front1=bay_end, roof=bay),
    ]
    rear_split, rear_end = -side * half * draft.between(0.0, 0.3), back
    if draft.chance(0.5):
        rear_end = back - draft.between(1.8, 3.6)
        rear0, rear1 = sorted((-side * half, rear_split))
        wings.append(Wing(along0=rear0, along1=rear1, front0=rear_end, front1=middle, roof="hip"))
    if draft.chance(0.7):
        centre, reach = -side * half * draft.between(0.2, 0.6), draft.between(1.5, 2.6)
        wings.append(
            Wing(along0=centre - reach, along1=centre + reach, front0=middle, front1=front, roof="gable_across")
        )
    if draft.chance(0.5):
        centre, reach = side * half * draft.between(0.1, 0.6), draft.between(1.8, 3.2)
        wings.append(
            Wing(along0=centre - reach, along1=centre + reach, front0=back, front1=middle, roof="gable_across")
        )
    left_front, right_front = (front, bay_end) if side > 0 else (bay_end, front)
    left_back, right_back = (rear_end, back) if side > 0 else (back, rear_end)
    rear_wall = [(-half, left_back), (rear_split, left_back), (rear_split, right_back), (half, right_back)]
    front_wall = [(half, right_front), (split, right_front), (split, left_front), (-half, left_front)]
    return tuple(wings), np.array(rear_wall + front_wall)


def _pave_front(draft: Draft, place: Placement, is_at: Presence, *, gate: float, door: float, edge: float) -> None:
    """Pave drive and footpath, and park cars on some days.

    Args:
        draft: The landscape being planned.
        place: The lot.
        is_at: When the house stands.
        gate: Middle of the garage door along the front.
        door: Where the footpath ends along the front.
        edge: Front wall of the garage bay.
    """
    drive = draft.one_of(CONCRETE)
    draft.add_surface(place.rectangle(gate - 2.6, gate + 2.6, edge - 0.3, 1.2), rgb=drive, is_at=is_at)
    path = place.rectangle(min(door, gate), max(door, gate), edge - 1.6, edge - 0.6)
    draft.add_surface(path, rgb=drive, is_at=is_at)
    for date_index in (0, 1):
        if is_at[date_index]:
            if draft.chance(0.35):
                _park_car(draft, place, gate + draft.between(-1.2, 1.2), edge + 3.2, date_index)
            if draft.chance(0.15):
                _park_car(draft, place, -gate * draft.between(0.2, 0.8), 1.4, date_index, is_along=True)


def _add_garden(draft: Draft, lot: Lot, half: float, back: float, depth_m: float, is_at: Presence) -> None:
    """Add patio, sometimes a pool or a shed, and the fence around the back of a lot."""
    place = lot.placement
    if draft.chance(0.7):
        middle = draft.between(-half * 0.5, half * 0.5)
        patio = place.rectangle(middle - 2.2, middle + 2.2, back - draft.between(2.4, 4.2), back)
        draft.add_surface(patio, rgb=draft.one_of(CONCRETE), is_at=is_at)
    if draft.chance(0.08) and depth_m + back > 9.0:
        _add_pool(draft, place, back, is_at)
    elif draft.chance(0.12) and depth_m + back > 7.0:
        along = draft.between(-half, half - 3.0)
        shed = place.rectangle(along, along + 2.6, -depth_m + 1.6, -depth_m + 4.2)
        draft.add_surface(shed, rgb=draft.one_of(_HOUSE_ROOFS), is_at=is_at, height_m=2.4)
    if draft.chance(0.8):
        edge = min(lot.width_m / 2, half + 4.0)
        start, end = back + draft.between(1.0, 5.0), -depth_m + 0.3
        corners = [(-half, start), (-edge, start), (-edge, end), (edge, end), (edge, start), (half, start)]
        line, rgb = place.to_scene(np.array(corners)), draft.one_of(_BOARDS)
        draft.landscape.fences.append(Fence(line=line, height_m=1.8, rgb=rgb, is_at=is_at))


def _add_pool(draft: Draft, place: Placement, back: float, is_at: Presence) -> None:
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


def _park_car(
    draft: Draft, place: Placement, along: float, front: float, date_index: int, *, is_along: bool = False
) -> None:
    """Park a car at a local position at one date only, its length towards the street or along it."""
    half_along, half_front = (2.3, 0.9) if is_along else (0.9, 2.3)
    outline = place.rectangle(along - half_along, along + half_along, front - half_front, front + half_front)
    is_at = (date_index == 0, date_index == 1)
    draft.add_surface(outline, rgb=draft.one_of(_CARS), is_at=is_at, height_m=1.4)


def build_hall(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> None:
    """Build a hall with a parking lot in front of it and sometimes a yard behind, unless the ground is taken."""
    place = lot.placement
    half = lot.width_m / 2 - draft.between(3.0, 8.0)
    front = -draft.between(16.0, 26.0)
    back = max(front - draft.between(16.0, 44.0), -depth_m + 3.0)
    if back > front - 8.0:
        return
    roof: Literal["flat", "gable_along"] = "flat" if draft.chance(0.75) else "gable_along"
    wings = [Wing(along0=-half, along1=half, front0=back, front1=front, roof=roof)]
    corners = [(-half, back), (half, back), (half, front), (-half, front)]
    if draft.chance(0.4) and front - back > 16.0:
        split, step = draft.between(-half * 0.3, half * 0.5), front - draft.between(4.0, 9.0)
        wings = [
            Wing(along0=-half, along1=split, front0=back, front1=front, roof=roof),
            Wing(along0=split - 0.2, along1=half, front0=back, front1=step, roof=roof),
        ]
        corners = [(-half, back), (half, back), (half, step), (split, step), (split, front), (-half, front)]
    eave = draft.between(4.5, 8.5)
    hall = Building(
        placement=place,
        wings=tuple(wings),
        outline=place.to_scene(np.array(corners)),
        eave_m=eave,
        roof_slope=0.12,
        roof_rgb=draft.one_of(_HALL_ROOFS),
        is_at=is_at,
    )
    if not draft.add_building(hall):
        return
    if roof == "flat":
        _put_units(draft, place, half, back, front, eave, is_at)
    _pave_parking(draft, place, half + 3.0, front, is_at)
    if draft.chance(0.4) and back > -depth_m + 14.0:
        _fill_yard(draft, place, half, back, is_at)


def build_flats(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> None:
    """Build a block of flats behind a row of parked cars, unless the ground is taken."""
    place = lot.placement
    half = lot.width_m / 2 - draft.between(3.0, 6.0)
    front = -draft.between(13.0, 17.0)
    back = front - draft.between(12.0, 15.0)
    if back < -depth_m + 2.0:
        return
    wings = [Wing(along0=-half, along1=half, front0=back, front1=front, roof="hip")]
    for centre in np.linspace(-half + 4.0, half - 4.0, max(2, round(half / 5.0))).tolist():
        wings.append(Wing(along0=centre - 2.2, along1=centre + 2.2, front0=back, front1=front, roof="gable_across"))
    flats = Building(
        placement=place,
        wings=tuple(wings),
        outline=place.rectangle(-half, half, back, front),
        eave_m=draft.between(6.0, 9.5),
        roof_slope=draft.between(0.35, 0.6),
        roof_rgb=draft.one_of(_HOUSE_ROOFS),
        is_at=is_at,
    )
    if draft.add_building(flats):
        _pave_parking(draft, place, half + 2.0, front, is_at)


def _put_units(
    draft: Draft, place: Placement, half: float, back: float, front: float, eave_m: float, is_at: Presence
) -> None:
    """Put air conditioners on a flat roof."""
    for _ in range(int(draft.rng.integers(0, 9))):
        along, depth = draft.between(-half + 2.0, half - 4.0), draft.between(back + 2.0, front - 12.0)
        if depth < back + 1.0:
            continue
        size = draft.between(1.2, 2.6)
        outline = place.rectangle(along, along + size, depth, depth + size * draft.between(0.8, 1.6))
        draft.add_surface(outline, rgb=draft.one_of(_UNITS), is_at=is_at, height_m=eave_m + 1.2, is_on_roof=True)


def _pave_parking(draft: Draft, place: Placement, half: float, front: float, is_at: Presence) -> None:
    """Pave the ground between a building and its street, with marked stalls and cars in some of them."""
    rgb = draft.one_of(CONCRETE if draft.chance(0.3) else ASPHALT)
    draft.add_surface(place.rectangle(-half, half, front + 1.5, -1.0), rgb=rgb, is_at=is_at)
    rows = [front + 5.5] if front > -19.0 else [front + 5.5, -6.5]
    is_full, has_lines = draft.between(0.1, 0.7), draft.chance(0.7)
    for row in rows:
        stalls = np.arange(-half + 2.0, half - 2.0, _STALL_M)
        if has_lines:
            for along in stalls.tolist():
                line = place.to_scene(np.array([(along, row - 2.5), (along, row + 2.5)]))
                draft.add_trail(line, rgb=_LINE_RGB, share=0.35, is_at=is_at)
        draws = draft.rng.random((2, len(stalls)))
        for date_index in (0, 1):
            if is_at[date_index]:
                for along in stalls[draws[date_index] < is_full * draft.between(0.5, 1.3)].tolist():
                    _park_car(draft, place, along + _STALL_M / 2, row, date_index)


def _fill_yard(draft: Draft, place: Placement, half: float, back: float, is_at: Presence) -> None:
    """Fill a yard behind a hall with trailers and stacks that come and go: they are no buildings."""
    yard = place.rectangle(-half, half, back - 13.0, back)
    draft.add_surface(yard, rgb=draft.one_of(CONCRETE + ASPHALT), is_at=is_at)
    for _ in range(int(draft.rng.integers(2, 12))):
        along, front = draft.between(-half + 1.0, half - 3.0), back - draft.between(1.0, 6.0)
        length = draft.between(3.0, 9.0)
        outline = place.rectangle(along, along + 2.5, front - length, front)
        dates = draft.choose((ONLY_BEFORE, ONLY_AFTER, BOTH))
        is_there = (is_at[0] and dates[0], is_at[1] and dates[1])
        draft.add_surface(outline, rgb=draft.one_of(_TRAILERS), is_at=is_there, height_m=2.8)
