"""Plans open country: fields, pasture, woods, desert, ponds, creeks, tracks, and ground that is worked on."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from model.synthesis.geometry import PointArray, Presence, offset_polyline
from model.synthesis.ground import CoverKind, Rgb
from model.synthesis.landscape import ASPHALT, BOTH, PRESENCES, District, Draft, scale_rgb
from model.synthesis.settings import Use

_COURTS: tuple[Rgb, ...] = ((78, 98, 138), (128, 82, 72), (84, 112, 88))
_COURT_LINE_RGB: Rgb = (224, 224, 220)


def plan_countryside(draft: Draft, district: District, use: Use) -> None:
    """Plan a district without houses; what changes here is no building and no road.

    Args:
        draft: The landscape being planned.
        district: Where.
        use: `farm`, `pasture`, `scrub`, `woods`, `desert`, or `clearing`, whose ground changes.
    """
    if use == "clearing":
        _plan_clearing(draft, district)
    elif use == "farm":
        for part in _split_fields(draft, district):
            cover = draft.cover("crop" if draft.chance(0.85) else "pasture")
            draft.add_patch(part.outline(), cover, cover)
    else:
        natural: dict[Use, CoverKind] = {"scrub": "scrub", "woods": "woods", "desert": "sand"}
        cover = draft.cover(natural.get(use, "pasture"))
        draft.add_patch(district.outline(), cover, cover)
        _scatter_patches(draft, district)
    if use not in ("farm", "desert") and draft.chance(0.25):
        _dig_pond(draft, district)
    if draft.chance(0.25):
        _lead_creek(draft, district)
    if draft.chance(0.5):
        _add_track(draft, district)
    for _ in range(int(draft.rng.integers(0, 7))):
        _wear_path(draft, district, is_at=draft.choose(PRESENCES))
    plant_hedge(draft, district)


def _plan_clearing(draft: Draft, district: District) -> None:
    """Plan ground that changes without being built on: cleared, ploughed, graded, overgrown or drained."""
    kinds: tuple[CoverKind, ...] = ("earth", "pasture", "crop", "scrub", "woods", "earth", "sand")
    if draft.landscape.setting.name != "desert":
        kinds = kinds[:-1]
    first, second = (draft.cover(kinds[int(index)]) for index in draft.rng.integers(0, len(kinds), 2))
    draft.add_patch(district.outline(), first, first)
    part = replace(
        district,
        u0=draft.between(district.u0, district.u0 + 60.0),
        u1=draft.between(district.u1 - 60.0, district.u1),
        v0=draft.between(district.v0, district.v0 + 60.0),
        v1=draft.between(district.v1 - 60.0, district.v1),
    )
    draft.add_patch(part.outline(grow_m=0.0), first, second)
    for _ in range(int(draft.rng.integers(2, 9))):
        _wear_path(draft, part, is_at=(draft.chance(0.3), True))
    if draft.chance(0.3):
        _pave_lot(draft, part)


def _pave_lot(draft: Draft, district: District) -> None:
    """Pave a place without a building: an empty parking lot or some courts; it comes, goes or stays."""
    u, v = draft.between(district.u0, district.u1 - 60.0), draft.between(district.v0, district.v1 - 60.0)
    is_at = draft.choose(PRESENCES)
    length, breadth = draft.between(30.0, 70.0), draft.between(20.0, 50.0)
    draft.add_surface(_rectangle(district, u, v, length, breadth), rgb=draft.one_of(ASPHALT), is_at=is_at)
    if not draft.chance(0.5):
        return
    rgb = draft.one_of(_COURTS)
    for along in np.arange(u + 3.0, u + length - 14.0, 17.0).tolist():
        draft.add_surface(_rectangle(district, along, v + 3.0, 11.0, 24.0), rgb=rgb, is_at=is_at)
        inner = _rectangle(district, along + 1.5, v + 5.0, 8.0, 20.0)
        draft.add_trail(np.concatenate([inner, inner[:1]]), rgb=_COURT_LINE_RGB, share=0.6, is_at=is_at)


def _rectangle(district: District, u: float, v: float, length_m: float, breadth_m: float) -> PointArray:
    """Return the corners in the scene of a rectangle of the street frame."""
    across = np.array([v, v, v + breadth_m, v + breadth_m])
    return district.frame.to_scene(np.array([u, u + length_m, u + length_m, u]), across)


def _split_fields(draft: Draft, district: District) -> list[District]:
    cuts = np.linspace(district.u0, district.u1, int(draft.rng.integers(1, 4)) + 1).tolist()
    return [replace(district, u0=low, u1=high - 2.0) for low, high in itertools.pairwise(cuts)]


def _scatter_patches(draft: Draft, district: District) -> None:
    """Let other ground show here and there: thickets, bare spots, wet hollows."""
    kinds: tuple[CoverKind, ...] = ("woods", "scrub", "pasture", "earth", "pasture")
    for _ in range(int(draft.rng.integers(0, 5))):
        cover = draft.cover(draft.choose(kinds))
        draft.add_patch(_blob(draft, district, draft.between(8.0, 45.0)), cover, cover)


def plant_hedge(draft: Draft, district: District) -> None:
    """Let trees grow along an end of some districts that has no road."""
    if district.has_road_at_end or not draft.chance(0.6):
        return
    if district.is_along_u:
        edge = replace(district, u0=district.u1 - 2.0, u1=district.u1 + 6.0)
    else:
        edge = replace(district, v0=district.v1 - 2.0, v1=district.v1 + 6.0)
    cover = draft.cover("woods" if draft.chance(0.6) else "scrub")
    draft.add_patch(edge.outline(grow_m=0.0), cover, cover)


def _blob(draft: Draft, district: District, radius_m: float) -> PointArray:
    """Return an irregular round outline somewhere in a district."""
    u, v = draft.between(district.u0, district.u1), draft.between(district.v0, district.v1)
    turns = np.linspace(0.0, math.tau, 48, endpoint=False)
    shape = np.ones_like(turns)
    for lobes, strength in ((2, 0.25), (3, 0.16), (5, 0.08), (7, 0.05)):
        shape += strength * np.sin(turns * lobes + draft.between(0.0, math.tau))
    radii = radius_m * shape
    return district.frame.to_scene(u + radii * np.cos(turns), v + radii * np.sin(turns))


def _dig_pond(draft: Draft, district: District) -> None:
    """Dig a pond of irregular outline with a bare rim; now and then it is dry at one date."""
    water, bank = _blob(draft, district, draft.between(9.0, 26.0)), draft.cover("earth")
    middle = water.mean(axis=0)
    draft.add_patch(middle + (water - middle) * 1.18, bank, bank)
    wet = draft.cover("water")
    is_at = BOTH if draft.chance(0.85) else draft.choose(PRESENCES)
    draft.add_patch(water, wet if is_at[0] else bank, wet if is_at[1] else bank)


def _lead_creek(draft: Draft, district: District) -> None:
    """Lead a creek through a district: a belt of trees around a dark bed."""
    line = _wind(draft, district, reach_m=22.0)
    belt, bed = draft.cover("woods"), draft.cover("earth")
    draft.add_patch(offset_polyline(line, draft.between(5.0, 14.0)), belt, belt)
    draft.add_patch(offset_polyline(line, draft.between(0.8, 2.2)), bed, bed)


def _wind(draft: Draft, district: District, *, reach_m: float) -> PointArray:
    """Return a winding line through a district along its streets' direction."""
    along = np.linspace(-4.0, district.length_m + 4.0, 60)
    across = np.full_like(along, district.breadth_m * draft.between(0.15, 0.85))
    for wave_length, strength in ((160.0, 0.6), (70.0, 0.35), (28.0, 0.12)):
        phase = draft.between(0.0, math.tau)
        across += reach_m * strength * np.sin(math.tau * along / wave_length + phase)
    return district.to_scene(along, across)


def _add_track(draft: Draft, district: District) -> None:
    """Lead a dirt road through a district: two wheel tracks, or a graded band."""
    line = _wind(draft, district, reach_m=draft.between(2.0, 16.0))
    cover = draft.cover("gravel" if draft.chance(0.5) else "earth")
    if draft.chance(0.4):
        draft.add_patch(offset_polyline(line, draft.between(1.4, 2.6)), cover, cover)
        return
    for wheel in _trace_wheels(line):
        draft.add_patch(offset_polyline(wheel, 0.45), cover, cover, is_ragged=False)


def _wear_path(draft: Draft, district: District, *, is_at: Presence) -> None:
    """Wear faint wheel tracks into the ground: straight across, or round in a loop."""
    rgb = scale_rgb(draft.landscape.covers.soil_rgb, draft.between(0.75, 1.2))
    u, v = draft.between(district.u0, district.u1), draft.between(district.v0, district.v1)
    turn, heading = draft.between(-0.06, 0.06), draft.between(0.0, math.tau)
    steps = np.cumsum(np.full(int(draft.rng.integers(20, 70)), turn) + draft.rng.normal(0.0, 0.03, 1))
    headings = heading + steps
    line = district.frame.to_scene(u + np.cumsum(np.cos(headings)) * 3.0, v + np.cumsum(np.sin(headings)) * 3.0)
    share = draft.between(0.2, 0.65)
    for wheel in _trace_wheels(line):
        draft.add_trail(wheel, rgb=rgb, share=share, is_at=is_at)


def _trace_wheels(line: PointArray) -> tuple[PointArray, PointArray]:
    """Return where the wheels on both sides of a line roll."""
    sides = offset_polyline(line, 0.9)
    return sides[: len(line)], sides[len(line) :]
