"""Plans a whole landscape: through roads, then the districts between them, then trees."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.districts import plan_district
from model.training.synthesis.draft import ASPHALT, BOTH, THROUGH_HALF_WIDTH_M, District, Draft
from model.training.synthesis.footprint import Footprints
from model.training.synthesis.ground import draw_covers
from model.training.synthesis.landscape import Landscape, StreetFrame
from model.training.synthesis.settings import draw_setting, draw_use

MARGIN_M = 32.0
"""Belt around the scene that is planned too: its trees and houses throw shadows into the scene."""

_OVERLAP_M = 1.0
"""How far the sections of a through road reach into each other, so that no seam shows."""

_HIGHWAY_CHANCE = 0.1
_HIGHWAY_INSET_M = 17.0
"""Half the width kept free for a highway of two carriageways."""


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


def plan_landscape(
    rng: np.random.Generator,
    *,
    height_px: int,
    width_px: int,
    resolution_m: float,
    change_level: float,
    removal_level: float,
    tile_px: int | None = None,
) -> Landscape:
    """Plans everything that stands in a scene at its two dates.

    Args:
        rng: Source of all decisions.
        height_px: Rows of the scene.
        width_px: Columns of the scene.
        resolution_m: Size of a pixel in metres.
        change_level: Probability that buildings or roads of a district change between the dates, 0 to 1.
        removal_level: Probability that such a district loses buildings rather than gaining some, 0 to 1.
        tile_px: Side of the tiles that the scene will be cut into; None keeps it whole.
    """
    height_m, width_m = height_px * resolution_m, width_px * resolution_m
    footprints = Footprints(
        height_px=height_px, width_px=width_px, resolution_m=resolution_m, margin_m=MARGIN_M, tile_px=tile_px
    )
    frame = _draw_frame(rng, height_m=height_m, width_m=width_m)
    setting = draw_setting(rng)
    covers = draw_covers(
        rng,
        soil_rgb=setting.soils[int(rng.integers(len(setting.soils)))],
        tree_factor=float(rng.uniform(*setting.tree_factor)),
    )
    draft = Draft(rng=rng, frame=frame, covers=covers, footprints=footprints)
    reach = math.hypot(height_m, width_m) / 2 + MARGIN_M + 40.0
    borders_u, borders_v = _draw_borders(draft, reach), _draw_borders(draft, reach)
    _lay_through_roads(draft, borders_u, borders_v, is_along_u=False)
    _lay_through_roads(draft, borders_v, borders_u, is_along_u=True)
    districts = _cut_districts(draft, borders_u, borders_v)
    is_changing = _draw_changing(rng, (len(borders_u) - 1, len(borders_v) - 1), change_level).ravel()
    for district, changes in zip(districts, is_changing.tolist(), strict=True):
        use = draw_use(rng, setting.changing_uses if changes else setting.quiet_uses)
        if rng.random() < removal_level and changes:
            use = "clearance"
        if footprints.is_near(district.outline(frame, grow_m=THROUGH_HALF_WIDTH_M + 2.0)):
            plan_district(draft, district, use, setting, is_changing=changes)
    return Landscape(
        setting=setting.name,
        covers=draft.covers,
        patches=tuple(draft.patches),
        roads=tuple(draft.roads),
        surfaces=tuple(draft.surfaces),
        trails=tuple(draft.trails),
        fences=tuple(draft.fences),
        buildings=tuple(draft.buildings),
        footprints=footprints,
    )


def _draw_frame(rng: np.random.Generator, *, height_m: float, width_m: float) -> StreetFrame:
    """Draws how the street frame lies and bends in the scene."""
    bends, waves = rng.uniform(0.0, 24.0, 2), rng.uniform(230.0, 480.0, 2)
    phases = rng.uniform(0.0, math.tau, 2)
    return StreetFrame(
        angle_rad=float(rng.uniform(0.0, math.tau)),
        origin_yx=(height_m / 2, width_m / 2),
        bends_m=(float(bends[0]), float(bends[1])),
        wave_lengths_m=(float(waves[0]), float(waves[1])),
        phases_rad=(float(phases[0]), float(phases[1])),
    )


def _draw_borders(draft: Draft, reach_m: float) -> list[_Border]:
    """Draws the borders of districts that cover -reach..reach."""
    at = -reach_m - draft.between(0.0, 320.0)
    borders: list[_Border] = []
    while not borders or borders[-1].at_m < reach_m:
        has_road = draft.chance(0.7)
        is_highway = has_road and draft.chance(_HIGHWAY_CHANCE)
        borders.append(_Border(at_m=at, has_road=has_road, is_highway=is_highway))
        at += draft.between(190.0, 400.0)
    return borders


def _lay_through_roads(draft: Draft, borders: list[_Border], crossing: list[_Border], *, is_along_u: bool) -> None:
    """Lays the roads that were always there along the borders that have one, section by section."""
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
                draft.add_road(
                    draft.frame.to_scene(stations, at) if is_along_u else draft.frame.to_scene(at, stations),
                    half_width,
                    rgb=rgb,
                    is_at=BOTH,
                    has_curb=has_curb,
                    has_marking=has_marking,
                )


def _cut_districts(draft: Draft, borders_u: list[_Border], borders_v: list[_Border]) -> list[District]:
    """Returns the districts between the borders, row by row along u."""
    districts = []
    for u0, u1 in itertools.pairwise(borders_u):
        for v0, v1 in itertools.pairwise(borders_v):
            is_along_u = draft.chance(0.5)
            start, end = (u0, u1) if is_along_u else (v0, v1)
            districts.append(
                District(
                    u0=u0.at_m + u0.inset_m,
                    u1=u1.at_m - u1.inset_m,
                    v0=v0.at_m + v0.inset_m,
                    v1=v1.at_m - v1.inset_m,
                    has_road_at_start=start.has_road and not start.is_highway,
                    has_road_at_end=end.has_road and not end.is_highway,
                    is_along_u=is_along_u,
                )
            )
    return districts


def _draw_changing(rng: np.random.Generator, shape: tuple[int, int], change_level: float) -> NDArray[np.bool_]:
    """Draws which districts change; neighbours tend to change together, as towns grow at their edges."""
    field = rng.standard_normal((shape[0] + 1, shape[1] + 1))
    shared = (field[:-1, :-1] + field[1:, :-1] + field[:-1, 1:] + field[1:, 1:]) / 2.0
    values = math.sqrt(0.4) * shared + math.sqrt(0.6) * rng.standard_normal(shape)
    # Its own distribution function makes each normal value uniform: the share below the level is the level.
    quantiles = [0.5 * (1.0 + math.erf(value / math.sqrt(2.0))) for value in values.ravel().tolist()]
    return np.asarray(np.array(quantiles).reshape(shape) < change_level)
