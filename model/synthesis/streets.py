"""Lays through roads and the streets of districts, and cuts the ground beside them into lots."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.synthesis.geometry import PointArray, Presence
from model.synthesis.landscape import (
    ASPHALT,
    BOTH,
    CONCRETE,
    THROUGH_HALF_WIDTH_M,
    District,
    Draft,
    Placement,
    StreetFrame,
)

DEEPEST_LOT_M = 40.0

_OVERLAP_M = 1.0
"""How far the sections of a through road reach into each other, so that no seam shows."""

_HIGHWAY_CHANCE = 0.1

_HIGHWAY_INSET_M = 17.0
"""Half the width kept free for a highway of two carriageways."""

_STREET_HALF_WIDTH_M = 4.6

_BULB_RADIUS_M = 12.0
"""Radius of the turning circle at a closed end."""

_STEP_M = 2.0
_CORNER_M = 14.0

_JOINT_M = 3.0
"""How far a street reaches over its district's border, into the through road it joins."""


@dataclass(frozen=True, kw_only=True)
class _Border:
    """A line between districts, across the whole landscape."""

    at_m: float
    """Where it lies in the street frame."""
    has_road: bool
    """Whether a road runs along it."""
    is_highway: bool
    """Whether that road is a highway."""

    @property
    def inset_m(self) -> float:
        """Width that districts beside it keep free."""
        return _HIGHWAY_INSET_M if self.is_highway else THROUGH_HALF_WIDTH_M


def lay_through_roads(draft: Draft, frame: StreetFrame, reach_m: float) -> list[list[District]]:
    """Lay the roads that were always there, over -reach..reach of the frame, and cut the districts between them.

    Returns:
        The districts, row by row along u.
    """
    borders_u, borders_v = _draw_borders(draft, reach_m), _draw_borders(draft, reach_m)
    _pave_borders(draft, frame, borders_u, borders_v, is_along_u=False)
    _pave_borders(draft, frame, borders_v, borders_u, is_along_u=True)
    return [
        [_cut_district(draft, frame, sides_u, sides_v) for sides_v in itertools.pairwise(borders_v)]
        for sides_u in itertools.pairwise(borders_u)
    ]


def _draw_borders(draft: Draft, reach_m: float) -> list[_Border]:
    at = -reach_m - draft.between(0.0, 320.0)
    borders: list[_Border] = []
    while not borders or borders[-1].at_m < reach_m:
        has_road = draft.chance(0.7)
        is_highway = has_road and draft.chance(_HIGHWAY_CHANCE)
        borders.append(_Border(at_m=at, has_road=has_road, is_highway=is_highway))
        at += draft.between(190.0, 400.0)
    return borders


def _pave_borders(
    draft: Draft, frame: StreetFrame, borders: list[_Border], crossing: list[_Border], *, is_along_u: bool
) -> None:
    """Lay roads along the borders that have one, section by section between those that cross."""
    for border in borders:
        if not border.has_road:
            continue
        half_width, rgb = draft.between(3.6, THROUGH_HALF_WIDTH_M), draft.one_of(ASPHALT)
        has_curb, has_marking = draft.chance(0.3), draft.chance(0.6)
        offsets: tuple[float, ...] = (0.0,)
        if border.is_highway:
            half_width, has_curb, has_marking = draft.between(5.4, 7.2), False, True
            middle = half_width + draft.between(1.0, 7.0)
            offsets = (-middle, middle)
        for start, end in itertools.pairwise(line.at_m for line in crossing):
            stations = np.linspace(start - _OVERLAP_M, end + _OVERLAP_M, math.ceil((end - start) / 6.0))
            for offset in offsets:
                at = border.at_m + offset
                line = frame.to_scene(stations, at) if is_along_u else frame.to_scene(at, stations)
                draft.add_road(line, half_width, rgb=rgb, is_at=BOTH, has_curb=has_curb, has_marking=has_marking)


def _cut_district(
    draft: Draft, frame: StreetFrame, sides_u: tuple[_Border, _Border], sides_v: tuple[_Border, _Border]
) -> District:
    is_along_u = draft.chance(0.5)
    start, end = sides_u if is_along_u else sides_v
    return District(
        frame=frame,
        u0=sides_u[0].at_m + sides_u[0].inset_m,
        u1=sides_u[1].at_m - sides_u[1].inset_m,
        v0=sides_v[0].at_m + sides_v[0].inset_m,
        v1=sides_v[1].at_m - sides_v[1].inset_m,
        has_road_at_start=start.has_road and not start.is_highway,
        has_road_at_end=end.has_road and not end.is_highway,
        is_along_u=is_along_u,
    )


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

    def outline(self, depth_m: float, front: float) -> PointArray:
        """Return the corners of its ground from a depth behind the street to a position in front."""
        return self.placement.rectangle(-self.width_m / 2, self.width_m / 2, -depth_m, front)


def plan_streets(
    draft: Draft, district: District, *, is_at: Presence, spacing_m: tuple[float, float] = (60.0, 80.0)
) -> list[Street]:
    """Lay parallel streets through a district, and often one that crosses them.

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
        half_widths = np.full(len(stations), _STREET_HALF_WIDTH_M)
        if not has_end:
            half_widths = np.maximum(half_widths, _bulb_half_widths(stations, end - _BULB_RADIUS_M))
        if not district.has_road_at_start:
            half_widths = np.maximum(half_widths, _bulb_half_widths(stations, start + _BULB_RADIUS_M))
        line = district.to_scene(stations, across_m)
        draft.add_road(line, half_widths, rgb=rgb, is_at=is_at, has_curb=has_curb)
        streets.append(
            Street(
                across_m=across_m,
                start_m=start + _CORNER_M,
                end_m=end - (_CORNER_M if has_end else 1.4 * _BULB_RADIUS_M),
                bulb_m=None if has_end else end - _BULB_RADIUS_M,
            )
        )
    if len(streets) > 1 and (not district.has_road_at_start or draft.chance(0.5)):
        crossing = np.linspace(streets[0].across_m, streets[-1].across_m, 12 * len(streets))
        along_m = np.full(len(crossing), district.length_m * draft.between(0.35, 0.65))
        line = district.to_scene(along_m, crossing)
        draft.add_road(line, _STREET_HALF_WIDTH_M, rgb=rgb, is_at=is_at, has_curb=has_curb)
    return streets


def _bulb_half_widths(stations: NDArray[np.float64], centre_m: float) -> NDArray[np.float64]:
    """Return the half widths that draw a circle around a position of a street."""
    return np.asarray(np.sqrt(np.maximum(0.0, _BULB_RADIUS_M**2 - (stations - centre_m) ** 2)))


def place_lots(draft: Draft, district: District, streets: list[Street], *, pitch_m: tuple[float, float]) -> list[Lot]:
    """Cut the sides of streets and the ground around turning circles into lots of widths within `pitch_m`.

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
            places = _place_along(district, middles[is_within], street.across_m, side)
            pairs = zip(places, widths[is_within].tolist(), strict=True)
            lots += [Lot(placement=place, width_m=width) for place, width in pairs]
        if street.bulb_m is not None:
            places = _place_around(district, street.across_m, street.bulb_m)
            lots += [Lot(placement=place, width_m=pitch_m[0]) for place in places]
    return [lot for lot in lots if draft.landscape.footprints.is_near(lot.outline(DEEPEST_LOT_M, 0.0))]


def _place_along(district: District, middles: NDArray[np.float64], across_m: float, side: float) -> list[Placement]:
    """Place lots beside a street; `side` is the direction from the street, -1 or 1."""
    before = district.to_scene(middles - 0.5, across_m)
    after = district.to_scene(middles + 0.5, across_m)
    probe = district.to_scene(middles, across_m + side)
    centre, tangent = (before + after) / 2, after - before
    tangent = tangent / np.hypot(tangent[:, 0], tangent[:, 1])[:, None]
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    outward = normal * np.sign(((probe - centre) * normal).sum(axis=1))[:, None]
    edge = centre + outward * _STREET_HALF_WIDTH_M
    return [
        Placement(centre_yx=(y, x), along_yx=(along_y, along_x), front_yx=(-out_y, -out_x))
        for (y, x), (along_y, along_x), (out_y, out_x) in zip(
            edge.tolist(), tangent.tolist(), outward.tolist(), strict=True
        )
    ]


def _place_around(district: District, across_m: float, bulb_m: float) -> list[Placement]:
    """Place lots around the turning circle at a street's end, like the petals of a flower."""
    start, centre = district.to_scene(np.array([bulb_m - 1.0, bulb_m]), across_m)
    heading = math.atan2(centre[0] - start[0], centre[1] - start[1])
    places = []
    for turn in (-1.0, 0.0, 1.0):
        out_y, out_x = math.sin(heading + turn), math.cos(heading + turn)
        edge_y, edge_x = centre[0] + out_y * _BULB_RADIUS_M, centre[1] + out_x * _BULB_RADIUS_M
        places.append(
            Placement(centre_yx=(float(edge_y), float(edge_x)), along_yx=(-out_x, out_y), front_yx=(-out_y, -out_x))
        )
    return places
