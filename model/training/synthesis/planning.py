"""Plans a whole landscape: through roads, then the districts between them, then trees."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.districts import Use, plan_district
from model.training.synthesis.draft import ASPHALT, BOTH, THROUGH_HALF_WIDTH_M, District, Draft
from model.training.synthesis.footprint import Footprints
from model.training.synthesis.ground import draw_covers
from model.training.synthesis.landscape import Landscape, StreetFrame
from model.training.synthesis.vegetation import Grove, plant_trees

MARGIN_M = 32.0
"""Belt around the scene that is planned too: its trees and houses throw shadows into the scene."""

_OVERLAP_M = 1.0
"""How far the sections of a through road reach into each other, so that no seam shows."""

_QUIET_USES: dict[Use, float] = {
    "suburb": 0.34,
    "farm": 0.17,
    "pasture": 0.19,
    "scrub": 0.12,
    "woods": 0.12,
    "works": 0.06,
}
_CHANGING_USES: dict[Use, float] = {
    "greenfield": 0.45,
    "phase": 0.30,
    "infill": 0.10,
    "acreage": 0.10,
    "works": 0.05,
}


def plan_landscape(
    rng: np.random.Generator, *, height_px: int, width_px: int, resolution_m: float, change_level: float
) -> Landscape:
    """Plans everything that stands in a scene at its two dates.

    Args:
        rng: Source of all decisions.
        height_px: Rows of the scene.
        width_px: Columns of the scene.
        resolution_m: Size of a pixel in metres.
        change_level: Probability that a district changes between the dates, 0 to 1.
    """
    height_m, width_m = height_px * resolution_m, width_px * resolution_m
    footprints = Footprints(height_px=height_px, width_px=width_px, resolution_m=resolution_m, margin_m=MARGIN_M)
    frame = _draw_frame(rng, height_m=height_m, width_m=width_m)
    draft = Draft(rng=rng, frame=frame, covers=draw_covers(rng), footprints=footprints)
    reach = math.hypot(height_m, width_m) / 2 + MARGIN_M + 40.0
    lines_u, lines_v = _draw_borders(draft, reach), _draw_borders(draft, reach)
    has_road_u, has_road_v = [draft.chance(0.7) for _ in lines_u], [draft.chance(0.7) for _ in lines_v]
    _lay_through_roads(draft, lines_u, has_road_u, lines_v, is_along_u=False)
    _lay_through_roads(draft, lines_v, has_road_v, lines_u, is_along_u=True)
    districts = _cut_districts(draft, lines_u, has_road_u, lines_v, has_road_v)
    is_changing = _draw_changing(rng, (len(lines_u) - 1, len(lines_v) - 1), change_level).ravel()
    groves: list[Grove] = []
    for district, changes in zip(districts, is_changing.tolist(), strict=True):
        use = _draw_use(rng, _CHANGING_USES if changes else _QUIET_USES)
        if footprints.is_near(district.outline(frame, grow_m=THROUGH_HALF_WIDTH_M + 2.0)):
            groves += plan_district(draft, district, use, is_changing=changes)
    return Landscape(
        covers=draft.covers,
        patches=tuple(draft.patches),
        roads=tuple(draft.roads),
        surfaces=tuple(draft.surfaces),
        fences=tuple(draft.fences),
        buildings=tuple(draft.buildings),
        trees=plant_trees(draft, groves),
    )


def _draw_frame(rng: np.random.Generator, *, height_m: float, width_m: float) -> StreetFrame:
    """Draws how the street frame lies and bends in the scene."""
    bends, waves = rng.uniform(0.0, 14.0, 2), rng.uniform(280.0, 500.0, 2)
    phases = rng.uniform(0.0, math.tau, 2)
    return StreetFrame(
        angle_rad=float(rng.uniform(0.0, math.tau)),
        origin_yx=(height_m / 2, width_m / 2),
        bends_m=(float(bends[0]), float(bends[1])),
        wave_lengths_m=(float(waves[0]), float(waves[1])),
        phases_rad=(float(phases[0]), float(phases[1])),
    )


def _draw_borders(draft: Draft, reach_m: float) -> list[float]:
    """Draws the positions of district borders that cover -reach..reach."""
    borders = [-reach_m - draft.between(0.0, 320.0)]
    while borders[-1] < reach_m:
        borders.append(borders[-1] + draft.between(190.0, 400.0))
    return borders


def _lay_through_roads(
    draft: Draft, borders: list[float], has_road: list[bool], crossing: list[float], *, is_along_u: bool
) -> None:
    """Lays the roads that were always there along the borders that have one, section by section."""
    for border, has_one in zip(borders, has_road, strict=True):
        if not has_one:
            continue
        half_width, rgb = draft.between(3.6, THROUGH_HALF_WIDTH_M), draft.one_of(ASPHALT)
        has_curb, has_marking = draft.chance(0.3), draft.chance(0.6)
        for start, end in itertools.pairwise(crossing):
            stations = np.linspace(start - _OVERLAP_M, end + _OVERLAP_M, math.ceil((end - start) / 6.0))
            to_scene = draft.frame.to_scene
            draft.add_road(
                to_scene(stations, border) if is_along_u else to_scene(border, stations),
                half_width,
                rgb=rgb,
                is_at=BOTH,
                has_curb=has_curb,
                has_marking=has_marking,
            )


def _cut_districts(
    draft: Draft, lines_u: list[float], has_road_u: list[bool], lines_v: list[float], has_road_v: list[bool]
) -> list[District]:
    """Returns the districts between the borders, row by row along u."""
    inset = THROUGH_HALF_WIDTH_M
    districts = []
    for i in range(len(lines_u) - 1):
        for j in range(len(lines_v) - 1):
            is_along_u = draft.chance(0.5)
            districts.append(
                District(
                    u0=lines_u[i] + inset,
                    u1=lines_u[i + 1] - inset,
                    v0=lines_v[j] + inset,
                    v1=lines_v[j + 1] - inset,
                    has_road_at_start=has_road_u[i] if is_along_u else has_road_v[j],
                    has_road_at_end=has_road_u[i + 1] if is_along_u else has_road_v[j + 1],
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


def _draw_use(rng: np.random.Generator, uses: dict[Use, float]) -> Use:
    """Draws one use with the given weights."""
    names = list(uses)
    weights = np.array(list(uses.values()))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]
