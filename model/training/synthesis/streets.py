"""Lays the streets of a district and cuts the ground beside them into lots, as suburbs are laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.draft import ASPHALT, CONCRETE, District, Draft
from model.training.synthesis.footprint import Presence
from model.training.synthesis.landscape import Placement, StreetFrame

STREET_HALF_WIDTH_M = 4.6
BULB_RADIUS_M = 12.0
"""Radius of the turning circle at a closed end."""

_STEP_M = 2.0
_CORNER_M = 14.0
_JOINT_M = 3.0
"""How far a street reaches over its district's border, into the through road it joins."""


@dataclass(frozen=True, kw_only=True)
class Street:
    """One street: where it runs in its district, and between which positions lots may front it."""

    across_m: float
    """Position across the district."""
    start_m: float
    """First position along the district that a lot may take."""
    end_m: float
    """Last such position."""
    bulb_m: float | None
    """Position of the centre of the turning circle at its end, where there is one."""


@dataclass(frozen=True, kw_only=True)
class Lot:
    """A piece of ground beside a street."""

    placement: Placement
    """Origin at the middle of its street side; the lot lies at negative `front`."""
    width_m: float


def plan_streets(
    draft: Draft, district: District, *, is_at: Presence, spacing_m: tuple[float, float] = (60.0, 80.0)
) -> list[Street]:
    """Lays parallel streets through a district, and often one that crosses them.

    Args:
        draft: The landscape being planned.
        district: Where.
        is_at: When they are there.
        spacing_m: Range of the distance between two of them.
    """
    count = max(1, round(district.breadth_m / draft.between(*spacing_m)))
    rgb = draft.one_of(CONCRETE if draft.chance(0.35) else ASPHALT, spread=0.03)
    has_curb = draft.chance(0.65)
    across = (np.arange(count) + 0.5) * district.breadth_m / count
    streets = []
    for across_m in across.tolist():
        start = -_JOINT_M if district.has_road_at_start else draft.between(14.0, 20.0)
        has_end = district.has_road_at_end and draft.chance(0.6)
        end = district.length_m + (_JOINT_M if has_end else -draft.between(32.0, 42.0))
        if end - start < 40.0:
            continue
        stations = np.linspace(start, end, max(8, round((end - start) / _STEP_M)))
        half_widths = np.full(len(stations), STREET_HALF_WIDTH_M)
        if not has_end:
            half_widths = np.maximum(half_widths, _bulb_half_widths(stations, end - BULB_RADIUS_M))
        if not district.has_road_at_start:
            half_widths = np.maximum(half_widths, _bulb_half_widths(stations, start + BULB_RADIUS_M))
        line = district.to_scene(draft.frame, stations, across_m)
        draft.add_road(line, half_widths, rgb=rgb, is_at=is_at, has_curb=has_curb)
        streets.append(
            Street(
                across_m=across_m,
                start_m=start + _CORNER_M,
                end_m=end - (_CORNER_M if has_end else 1.4 * BULB_RADIUS_M),
                bulb_m=None if has_end else end - BULB_RADIUS_M,
            )
        )
    if len(streets) > 1 and (not district.has_road_at_start or draft.chance(0.5)):
        crossing = np.linspace(streets[0].across_m, streets[-1].across_m, 12 * len(streets))
        along_m = np.full(len(crossing), district.length_m * draft.between(0.35, 0.65))
        line = district.to_scene(draft.frame, along_m, crossing)
        draft.add_road(line, STREET_HALF_WIDTH_M, rgb=rgb, is_at=is_at, has_curb=has_curb)
    return streets


def _bulb_half_widths(stations: NDArray[np.float64], centre_m: float) -> NDArray[np.float64]:
    """Returns the half widths that draw a circle around a position of a street."""
    return np.asarray(np.sqrt(np.maximum(0.0, BULB_RADIUS_M**2 - (stations - centre_m) ** 2)))


def place_lots(draft: Draft, district: District, streets: list[Street], *, pitch_m: tuple[float, float]) -> list[Lot]:
    """Cuts the sides of streets and the ground around turning circles into lots of widths within `pitch_m`.

    Returns:
        The lots near the scene; they may overlap at corners, where the first house to be built wins.
    """
    lots = []
    for street in streets:
        for side in (-1.0, 1.0):
            count = max(0, int((street.end_m - street.start_m) / pitch_m[0]))
            widths = draft.rng.uniform(*pitch_m, count)
            middles = street.start_m + np.cumsum(widths) - widths / 2
            is_within = middles < street.end_m
            places = _place_along(draft.frame, district, middles[is_within], street.across_m, side)
            pairs = zip(places, widths[is_within].tolist(), strict=True)
            lots += [Lot(placement=place, width_m=width) for place, width in pairs]
        if street.bulb_m is not None:
            places = _place_around(draft.frame, district, street.across_m, street.bulb_m)
            lots += [Lot(placement=place, width_m=pitch_m[0]) for place in places]
    return [lot for lot in lots if draft.footprints.is_near(_reach_of(lot))]


def _reach_of(lot: Lot) -> NDArray[np.float64]:
    """Returns the corners of the ground a lot may use."""
    return lot.placement.rectangle(-lot.width_m / 2, lot.width_m / 2, -40.0, 0.0)


def _place_along(
    frame: StreetFrame, district: District, middles: NDArray[np.float64], across_m: float, side: float
) -> list[Placement]:
    """Places lots beside a street; `side` is the direction from the street, -1 or 1."""
    before = district.to_scene(frame, middles - 0.5, across_m)
    after = district.to_scene(frame, middles + 0.5, across_m)
    probe = district.to_scene(frame, middles, across_m + side)
    centre, tangent = (before + after) / 2, after - before
    tangent = tangent / np.hypot(tangent[:, 0], tangent[:, 1])[:, None]
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    outward = normal * np.sign(((probe - centre) * normal).sum(axis=1))[:, None]
    edge = centre + outward * STREET_HALF_WIDTH_M
    return [
        Placement(centre_yx=(y, x), along_yx=(along_y, along_x), front_yx=(-out_y, -out_x))
        for (y, x), (along_y, along_x), (out_y, out_x) in zip(
            edge.tolist(), tangent.tolist(), outward.tolist(), strict=True
        )
    ]


def _place_around(frame: StreetFrame, district: District, across_m: float, bulb_m: float) -> list[Placement]:
    """Places lots around the turning circle at a street's end, like the petals of a flower."""
    start, centre = district.to_scene(frame, np.array([bulb_m - 1.0, bulb_m]), across_m)
    heading = math.atan2(centre[0] - start[0], centre[1] - start[1])
    places = []
    for turn in (-1.0, 0.0, 1.0):
        out_y, out_x = math.sin(heading + turn), math.cos(heading + turn)
        edge_y, edge_x = centre[0] + out_y * BULB_RADIUS_M, centre[1] + out_x * BULB_RADIUS_M
        places.append(
            Placement(centre_yx=(float(edge_y), float(edge_x)), along_yx=(-out_x, out_y), front_yx=(-out_y, -out_x))
        )
    return places
