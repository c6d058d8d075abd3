"""Builds halls, shops and blocks of flats with their parking lots and yards."""

from __future__ import annotations

from typing import Literal

import numpy as np

from model.training.synthesis.draft import ASPHALT, CONCRETE, Draft
from model.training.synthesis.footprint import Presence
from model.training.synthesis.houses import HOUSE_ROOFS, park_car
from model.training.synthesis.landscape import Placement, Rgb, Wing
from model.training.synthesis.streets import Lot

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


def build_hall(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> None:
    """Builds a hall with a parking lot in front of it and sometimes a yard behind, unless the ground is taken."""
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
    if not draft.add_building(
        place.to_scene(np.array(corners)),
        place,
        tuple(wings),
        eave_m=eave,
        roof_slope=0.12,
        roof_rgb=draft.one_of(_HALL_ROOFS),
        is_at=is_at,
    ):
        return
    if roof == "flat":
        _put_units(draft, place, half, back, front, eave, is_at)
    _pave_parking(draft, place, half + 3.0, front, is_at)
    if draft.chance(0.4) and back > -depth_m + 14.0:
        _fill_yard(draft, place, half, back, is_at)


def build_flats(draft: Draft, lot: Lot, *, is_at: Presence, depth_m: float) -> None:
    """Builds a block of flats behind a row of parked cars, unless the ground is taken."""
    place = lot.placement
    half = lot.width_m / 2 - draft.between(3.0, 6.0)
    front = -draft.between(13.0, 17.0)
    back = front - draft.between(12.0, 15.0)
    if back < -depth_m + 2.0:
        return
    wings = [Wing(along0=-half, along1=half, front0=back, front1=front, roof="hip")]
    for centre in np.linspace(-half + 4.0, half - 4.0, max(2, round(half / 5.0))).tolist():
        wings.append(Wing(along0=centre - 2.2, along1=centre + 2.2, front0=back, front1=front, roof="gable_across"))
    if draft.add_building(
        place.rectangle(-half, half, back, front),
        place,
        tuple(wings),
        eave_m=draft.between(6.0, 9.5),
        roof_slope=draft.between(0.35, 0.6),
        roof_rgb=draft.one_of(HOUSE_ROOFS),
        is_at=is_at,
    ):
        _pave_parking(draft, place, half + 2.0, front, is_at)


def _put_units(
    draft: Draft, place: Placement, half: float, back: float, front: float, eave_m: float, is_at: Presence
) -> None:
    """Puts air conditioners on a flat roof."""
    for _ in range(int(draft.rng.integers(0, 9))):
        along, depth = draft.between(-half + 2.0, half - 4.0), draft.between(back + 2.0, front - 12.0)
        if depth < back + 1.0:
            continue
        size = draft.between(1.2, 2.6)
        outline = place.rectangle(along, along + size, depth, depth + size * draft.between(0.8, 1.6))
        draft.add_surface(outline, rgb=draft.one_of(_UNITS), is_at=is_at, height_m=eave_m + 1.2, is_on_roof=True)


def _pave_parking(draft: Draft, place: Placement, half: float, front: float, is_at: Presence) -> None:
    """Paves the ground between a building and its street, with marked stalls and cars in some of them."""
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
                    park_car(draft, place, along + _STALL_M / 2, row, date_index)


def _fill_yard(draft: Draft, place: Placement, half: float, back: float, is_at: Presence) -> None:
    """Fills a yard behind a hall with trailers and stacks that come and go: they are no buildings."""
    yard = place.rectangle(-half, half, back - 13.0, back)
    draft.add_surface(yard, rgb=draft.one_of(CONCRETE + ASPHALT), is_at=is_at)
    for _ in range(int(draft.rng.integers(2, 12))):
        along, front = draft.between(-half + 1.0, half - 3.0), back - draft.between(1.0, 6.0)
        length = draft.between(3.0, 9.0)
        outline = place.rectangle(along, along + 2.5, front - length, front)
        dates = ((True, False), (False, True), (True, True))[int(draft.rng.integers(3))]
        is_there = (is_at[0] and dates[0], is_at[1] and dates[1])
        draft.add_surface(outline, rgb=draft.one_of(_TRAILERS), is_at=is_there, height_m=2.8)
