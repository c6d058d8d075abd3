"""Plans what fills a built-up district: suburbs in all their stages, works, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.training.synthesis.countryside import plan_countryside, plant_hedge
from model.training.synthesis.draft import BOTH, ONLY_AFTER, ONLY_BEFORE, THROUGH_HALF_WIDTH_M, District, Draft
from model.training.synthesis.footprint import Presence
from model.training.synthesis.ground import CoverKind
from model.training.synthesis.houses import build_house
from model.training.synthesis.landscape import Rgb
from model.training.synthesis.settings import Setting, Use
from model.training.synthesis.streets import Lot, place_lots, plan_streets
from model.training.synthesis.works import build_flats, build_hall

_VERGE_M = THROUGH_HALF_WIDTH_M + 3.0
_SLAB_RGB: Rgb = (190, 186, 176)
_WILD_COVERS: dict[Use, CoverKind] = {
    "pasture": "pasture",
    "farm": "crop",
    "scrub": "scrub",
    "woods": "woods",
    "desert": "sand",
}

Shares = tuple[tuple[float, Presence], ...]
"""Running shares of lots whose building stands at given dates; the rest stay empty."""


@dataclass(frozen=True, kw_only=True)
class _Suburb:
    """How the lots of a suburb are built on."""

    shares: Shares
    streets_at: Presence
    lawns: tuple[int, int]
    """Cover of a common lot before and after."""


def plan_district(draft: Draft, district: District, use: Use, setting: Setting, *, is_changing: bool) -> None:
    """Plans one district.

    Args:
        draft: The landscape being planned.
        district: Where.
        use: What it is for.
        setting: What is common around it.
        is_changing: Whether buildings or roads may come or go.
    """
    if use == "greenfield":
        _plan_greenfield(draft, district, setting)
    elif use in ("suburb", "infill", "phase", "clearance"):
        _plan_suburb(draft, district, use)
    elif use == "acreage":
        _plan_acreage(draft, district, setting, is_changing=is_changing)
    elif use == "works":
        _plan_works(draft, district, is_changing=is_changing)
    else:
        plan_countryside(draft, district, use, setting)


def _plan_greenfield(draft: Draft, district: District, setting: Setting) -> None:
    """Plans a new suburb on what was open country, or ground already graded, at the first date."""
    wild = setting.wild_uses[int(draft.rng.integers(len(setting.wild_uses)))]
    lawn, graded = draft.cover("lawn"), draft.cover("earth")
    is_graded, is_raw = draft.chance(0.25), draft.chance(0.35)
    before = graded if is_graded else draft.cover(_WILD_COVERS[wild])
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (before, graded if is_raw else lawn))
    filled = draft.between(0.7, 1.0)
    shares: Shares = ((filled, ONLY_AFTER), (min(1.0, filled + (0.03 if draft.chance(0.3) else 0.0)), ONLY_BEFORE))
    _build_suburb(draft, district, _Suburb(shares=shares, streets_at=ONLY_AFTER, lawns=(before, lawn)))
    plant_hedge(draft, district)


def _plan_suburb(draft: Draft, district: District, use: Use) -> None:
    """Plans a suburb whose streets were there at the first date."""
    lawn, earth = draft.cover("lawn"), draft.cover("earth")
    is_raw = use == "phase" and draft.chance(0.7)
    is_razed = use == "clearance" and draft.chance(0.4)
    before = earth if is_raw else lawn
    after = earth if (is_raw and draft.chance(0.35)) or is_razed else lawn
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (before, after))
    streets_at = ONLY_BEFORE if use == "clearance" and draft.chance(0.2) else BOTH
    suburb = _Suburb(shares=_draw_shares(draft, use), streets_at=streets_at, lawns=(before, after))
    _build_suburb(draft, district, suburb)
    plant_hedge(draft, district)


def _draw_shares(draft: Draft, use: Use) -> Shares:
    """Draws how many lots of a suburb have their houses when."""
    if use == "suburb":
        return ((draft.between(0.8, 1.0), BOTH),)
    if use == "infill":
        stays = draft.between(0.5, 0.85)
        return ((stays, BOTH), (stays + 0.12, ONLY_AFTER), (stays + 0.15, ONLY_BEFORE))
    if use == "clearance":
        stays = draft.between(0.0, 0.5)
        goes = draft.between(0.25, 0.9 - stays)
        return ((stays, BOTH), (stays + goes, ONLY_BEFORE), (stays + goes + 0.05, ONLY_AFTER))
    return ((draft.between(0.05, 0.6), BOTH), (draft.between(0.8, 1.0), ONLY_AFTER))


def _build_suburb(draft: Draft, district: District, suburb: _Suburb) -> None:
    """Lays the streets of a suburb and builds on its lots."""
    streets = plan_streets(draft, district, is_at=suburb.streets_at)
    pitch = draft.between(12.5, 19.0)
    depth = min(40.0, district.breadth_m / max(1, len(streets)) / 2 - 4.8)
    has_slabs = draft.chance(0.3)
    for lot in place_lots(draft, district, streets, pitch_m=(pitch, pitch * 1.15)):
        draw = float(draft.rng.random())
        presence = next((presence for share, presence in suburb.shares if draw < share), None)
        if presence is None:
            if has_slabs and draft.chance(0.2):
                _pour_slab(draft, lot)
        elif build_house(draft, lot, is_at=presence, depth_m=depth):
            _cover_lot(draft, lot, depth, presence, suburb.lawns)


def _pour_slab(draft: Draft, lot: Lot) -> None:
    """Pours the foundation of a house to come: it looks like a roof, but casts no shadow and is no building."""
    half, back = lot.width_m / 2 - 2.5, -draft.between(17.0, 22.0)
    outline = lot.placement.rectangle(-half, half, back, -8.0)
    if draft.footprints.is_open(outline):
        draft.add_surface(outline, rgb=draft.one_of((_SLAB_RGB,)), is_at=ONLY_AFTER)


def _cover_lot(draft: Draft, lot: Lot, depth_m: float, presence: Presence, lawns: tuple[int, int]) -> None:
    """Gives a lot its own lawn, or bare earth, while its house stands."""
    kinds: tuple[CoverKind, ...] = ("lawn", "lawn", "lawn", "mulch", "earth")
    own = draft.cover(kinds[int(draft.rng.integers(len(kinds)))]) if draft.chance(0.55) else None
    if own is None and presence == BOTH:
        return
    outline = lot.placement.rectangle(-lot.width_m / 2, lot.width_m / 2, -depth_m, 0.3)
    covers = tuple((own if own is not None else lawns[date]) if presence[date] else None for date in (0, 1))
    draft.add_patch(outline, (covers[0], covers[1]), is_ragged=False)


def _plan_acreage(draft: Draft, district: District, setting: Setting, *, is_changing: bool) -> None:
    """Plans a few large houses among trees, some of them new and now and then one gone."""
    wild = _WILD_COVERS[setting.wild_uses[int(draft.rng.integers(len(setting.wild_uses)))]]
    cover = draft.cover("pasture" if wild in ("crop", "woods") else wild)
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (cover, cover))
    if wild == "woods":
        woods = draft.cover("woods")
        draft.add_patch(district.outline(draft.frame, grow_m=-12.0), (woods, woods))
    streets = plan_streets(draft, district, is_at=BOTH, spacing_m=(85.0, 120.0))
    shares: Shares = ((0.35, BOTH), (0.7, ONLY_AFTER), (0.75, ONLY_BEFORE)) if is_changing else ((0.6, BOTH),)
    for lot in place_lots(draft, district, streets, pitch_m=(30.0, 48.0)):
        draw = float(draft.rng.random())
        presence = next((presence for share, presence in shares if draw < share), None)
        if presence is not None:
            narrow = replace(lot, width_m=min(lot.width_m, 26.0))
            build_house(draft, narrow, is_at=presence, depth_m=38.0)


def _plan_works(draft: Draft, district: District, *, is_changing: bool) -> None:
    """Plans halls, shops or flats along streets that were there at the first date."""
    base = draft.cover("lawn" if draft.chance(0.5) else "pasture")
    earth = draft.cover("earth")
    is_site = is_changing and draft.chance(0.4)
    draft.add_patch(district.outline(draft.frame, grow_m=_VERGE_M), (earth if is_site else base, base))
    streets = plan_streets(draft, district, is_at=BOTH, spacing_m=(105.0, 150.0))
    depth = max(24.0, district.breadth_m / max(1, len(streets)) / 2 - 6.0)
    build, pitch = (build_flats, (34.0, 50.0)) if draft.chance(0.3) else (build_hall, (40.0, 80.0))
    comes, goes = (0.4, 0.12) if is_changing else (0.0, 0.0)
    for lot in place_lots(draft, district, streets, pitch_m=pitch):
        draw = float(draft.rng.random())
        presence = ONLY_AFTER if draw < comes else ONLY_BEFORE if draw < comes + goes else BOTH
        if draft.chance(0.9):
            build(draft, lot, is_at=presence, depth_m=depth)
