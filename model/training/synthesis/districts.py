"""Plans what fills a district: suburb, works, large houses among trees, or open country."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Literal

import numpy as np

from model.training.synthesis.draft import BOTH, ONLY_AFTER, ONLY_BEFORE, THROUGH_HALF_WIDTH_M, District, Draft
from model.training.synthesis.ground import CoverKind
from model.training.synthesis.houses import build_hall, build_house
from model.training.synthesis.landscape import Presence
from model.training.synthesis.streets import Lot, add_track, place_lots, plan_streets
from model.training.synthesis.vegetation import Grove

Use = Literal["suburb", "infill", "phase", "greenfield", "acreage", "works", "farm", "pasture", "scrub", "woods"]
"""What a district is for.

Of the suburbs, `infill` changes on some lots, `phase` has its streets but only some houses before, and
`greenfield` is open country before.
"""

_VERGE_M = THROUGH_HALF_WIDTH_M + 3.0
_TREES_PER_M2: dict[str, float] = {"crop": 0.0003, "pasture": 0.0012, "scrub": 0.012, "woods": 0.075}


def plan_district(draft: Draft, district: District, use: Use, *, is_changing: bool) -> list[Grove]:
    """Plans one district and returns where its trees grow."""
    if use == "greenfield":
        return _plan_greenfield(draft, district)
    if use in ("suburb", "infill", "phase"):
        return _plan_suburb(draft, district, use)
    if use == "acreage":
        return _plan_acreage(draft, district)
    if use == "works":
        return _plan_works(draft, district, is_changing=is_changing)
    return _plan_countryside(draft, district, use)


def _plan_greenfield(draft: Draft, district: District) -> list[Grove]:
    """Plans a new suburb on what was open country, or ground already graded, at the first date."""
    kinds: tuple[CoverKind, ...] = ("pasture", "scrub", "crop", "woods")
    wild = kinds[int(draft.rng.integers(len(kinds)))]
    lawn = draft.cover("lawn")
    base_before = draft.cover("earth" if draft.chance(0.25) else wild)
    base_after = draft.cover("earth") if draft.chance(0.35) else lawn
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (base_before, base_after))
    _build_suburb(draft, district, "greenfield", lawn, streets_at=ONLY_AFTER)
    density = _TREES_PER_M2[wild]
    grove = Grove(district=district, per_m2=density, clumping=0.6, radius_m=2.3, is_at=ONLY_BEFORE, spare_m=0.0)
    kept = replace(grove, per_m2=density * 0.06, is_at=BOTH, spare_m=4.0)
    planted = replace(grove, per_m2=0.0022, clumping=0.1, radius_m=1.2, is_at=ONLY_AFTER, spare_m=3.0)
    return [grove, kept, planted, *_plan_hedge(draft, district)]


def _plan_suburb(draft: Draft, district: District, use: Use) -> list[Grove]:
    """Plans a suburb whose streets were there at the first date."""
    lawn = draft.cover("lawn")
    is_raw = use == "phase" and draft.chance(0.7)
    earth = draft.cover("earth")
    base_after = earth if is_raw and draft.chance(0.35) else lawn
    base = (earth if is_raw else lawn, base_after)
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), base)
    _build_suburb(draft, district, use, lawn, streets_at=BOTH)
    age = draft.between(0.2, 1.0)
    grove = Grove(
        district=district,
        per_m2=0.004 * age,
        clumping=0.2,
        radius_m=1.5 + 2.2 * age,
        is_at=BOTH,
        spare_m=3.0,
    )
    return [grove, *_plan_hedge(draft, district)]


def _build_suburb(draft: Draft, district: District, use: Use, lawn: int, *, streets_at: Presence) -> None:
    """Lays the streets of a suburb and builds on its lots."""
    streets = plan_streets(draft, district, is_at=streets_at)
    pitch = draft.between(14.5, 22.0)
    depth = min(42.0, district.breadth_m / max(1, len(streets)) / 2 - 4.8)
    filled_before = draft.between(0.1, 0.6) if use == "phase" else 0.0
    filled_after = draft.between(0.7, 1.0)
    for lot in place_lots(draft, district, streets, pitch_m=(pitch, pitch * 1.12)):
        presence = _draw_presence(draft, use, filled_before, filled_after)
        if presence is not None and build_house(draft, lot, is_at=presence, depth_m=depth):
            _cover_lot(draft, lot, depth, presence, lawn)


def _draw_presence(draft: Draft, use: Use, filled_before: float, filled_after: float) -> Presence | None:
    """Draws when the house of a lot stands; None leaves the lot empty."""
    draw = float(draft.rng.random())
    if use == "suburb":
        return BOTH if draw < 0.93 else None
    if use == "infill":
        shares = ((0.78, BOTH), (0.92, ONLY_AFTER), (0.95, ONLY_BEFORE))
        return next((presence for share, presence in shares if draw < share), None)
    if draw < filled_before:
        return BOTH
    return ONLY_AFTER if draw < filled_after else None


def _cover_lot(draft: Draft, lot: Lot, depth_m: float, presence: Presence, lawn: int) -> None:
    """Gives a lot its own lawn, or bare earth, while its house stands."""
    cover = lawn if draft.chance(0.45) else draft.cover("earth" if draft.chance(0.22) else "lawn")
    outline = lot.placement.rectangle(-lot.width_m / 2, lot.width_m / 2, -depth_m, 0.3)
    covers = (cover if presence[0] else None, cover if presence[1] else None)
    draft.add_patch(outline, covers, is_ragged=False)


def _plan_acreage(draft: Draft, district: District) -> list[Grove]:
    """Plans a few large houses among trees, some of them new and now and then one gone."""
    kind: CoverKind = "scrub" if draft.chance(0.6) else "pasture"
    cover = draft.cover(kind)
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (cover, cover))
    streets = plan_streets(draft, district, is_at=BOTH)
    for lot in place_lots(draft, district, streets, pitch_m=(30.0, 48.0)):
        draw = float(draft.rng.random())
        shares = ((0.35, BOTH), (0.7, ONLY_AFTER), (0.75, ONLY_BEFORE))
        presence = next((presence for share, presence in shares if draw < share), None)
        if presence is not None:
            narrow = replace(lot, width_m=min(lot.width_m, 26.0))
            build_house(draft, narrow, is_at=presence, depth_m=32.0)
    density = 0.02 if kind == "scrub" else 0.006
    return [Grove(district=district, per_m2=density, clumping=0.6, radius_m=2.7, is_at=BOTH, spare_m=2.0)]


def _plan_works(draft: Draft, district: District, *, is_changing: bool) -> list[Grove]:
    """Plans halls with yards along streets that were there at the first date."""
    base = draft.cover("pasture")
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (base, base))
    streets = plan_streets(draft, district, is_at=BOTH)
    depth = max(24.0, district.breadth_m / max(1, len(streets)) / 2 - 8.0)
    for lot in place_lots(draft, district, streets, pitch_m=(45.0, 75.0)):
        presence = ONLY_AFTER if is_changing and draft.chance(0.4) else BOTH
        if draft.chance(0.85):
            build_hall(draft, lot, is_at=presence, depth_m=depth)
    return [Grove(district=district, per_m2=0.0015, clumping=0.5, radius_m=2.2, is_at=BOTH, spare_m=3.0)]


def _plan_countryside(draft: Draft, district: District, use: Use) -> list[Grove]:
    """Plans fields, pasture, scrub or woods; sometimes a pond and a dirt track."""
    natural: dict[Use, CoverKind] = {"scrub": "scrub", "woods": "woods"}
    kind: CoverKind = natural.get(use, "pasture")
    for part in _split_fields(draft, district) if use == "farm" else [district]:
        cover = draft.cover("crop" if use == "farm" and draft.chance(0.85) else kind)
        draft.add_patch(part.outline(draft.frame, grow_m=_VERGE_M), (cover, cover))
    if use != "farm" and draft.chance(0.25):
        _dig_pond(draft, district)
    if draft.chance(0.4):
        add_track(draft, district)
    clumping = {"scrub": 0.8, "woods": 0.35}.get(use, 1.2)
    radius = {"farm": 3.0, "pasture": 2.4, "scrub": 1.7}.get(use, 2.6)
    grove = Grove(
        district=district,
        per_m2=_TREES_PER_M2["crop" if use == "farm" else kind],
        clumping=clumping,
        radius_m=radius,
        is_at=BOTH,
        spare_m=THROUGH_HALF_WIDTH_M,
    )
    return [grove, *_plan_hedge(draft, district)]


def _split_fields(draft: Draft, district: District) -> list[District]:
    """Cuts a farm district into one to three fields."""
    cuts = np.linspace(district.u0, district.u1, int(draft.rng.integers(1, 4)) + 1).tolist()
    return [replace(district, u0=low, u1=high - 2.0) for low, high in itertools.pairwise(cuts)]


def _plan_hedge(draft: Draft, district: District) -> list[Grove]:
    """Returns, for some districts, a row of trees along an end that has no road."""
    if district.has_road_at_end or not draft.chance(0.6):
        return []
    if district.is_along_u:
        edge = replace(district, u0=district.u1 - 2.0, u1=district.u1 + 6.0)
    else:
        edge = replace(district, v0=district.v1 - 2.0, v1=district.v1 + 6.0)
    return [Grove(district=edge, per_m2=0.06, clumping=0.7, radius_m=2.4, is_at=BOTH, spare_m=0.0)]


def _dig_pond(draft: Draft, district: District) -> None:
    """Digs a pond of irregular outline with a bare rim."""
    u, v = draft.between(district.u0, district.u1), draft.between(district.v0, district.v1)
    turns = np.linspace(0.0, math.tau, 48, endpoint=False)
    shape = np.ones_like(turns)
    for lobes, strength in ((2, 0.22), (3, 0.14), (7, 0.05)):
        shape += strength * np.sin(turns * lobes + draft.between(0.0, math.tau))
    radius = draft.between(11.0, 24.0)
    rim, water = draft.cover("earth"), draft.cover("water")
    for reach, cover in ((radius + 3.0, rim), (radius, water)):
        radii = reach * shape
        outline = draft.frame.to_scene(u + radii * np.cos(turns), v + radii * np.sin(turns))
        draft.add_patch(outline, (cover, cover))
