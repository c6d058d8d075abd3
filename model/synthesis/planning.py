"""Plans a whole landscape: through roads, then what fills the districts between them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.synthesis.buildings import build_flats, build_hall, build_house
from model.synthesis.countryside import plan_countryside, plant_hedge
from model.synthesis.geometry import MARGIN_M, Footprints, Presence
from model.synthesis.ground import CoverKind, Rgb, draw_covers
from model.synthesis.landscape import (
    BOTH,
    ONLY_AFTER,
    ONLY_BEFORE,
    THROUGH_HALF_WIDTH_M,
    District,
    Draft,
    Landscape,
    Shares,
    StreetFrame,
)
from model.synthesis.settings import Use, draw_setting, draw_use
from model.synthesis.streets import DEEPEST_LOT_M, Lot, lay_through_roads, place_lots, plan_streets

_SLAB_RGB: Rgb = (190, 186, 176)
_WILD_COVERS: dict[Use, CoverKind] = {
    "pasture": "pasture",
    "farm": "crop",
    "scrub": "scrub",
    "woods": "woods",
    "desert": "sand",
}


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
    """Plan everything that stands in a scene at its two dates.

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
    footprints = Footprints(height_px=height_px, width_px=width_px, resolution_m=resolution_m, tile_px=tile_px)
    frame = _draw_frame(rng, height_m=height_m, width_m=width_m)
    setting = draw_setting(rng)
    covers = draw_covers(
        rng,
        soil_rgb=setting.soils[int(rng.integers(len(setting.soils)))],
        tree_factor=float(rng.uniform(*setting.tree_factor)),
    )
    landscape = Landscape(setting=setting, covers=covers, footprints=footprints)
    draft = Draft(rng=rng, landscape=landscape)
    rows = lay_through_roads(draft, frame, math.hypot(height_m, width_m) / 2 + MARGIN_M + 40.0)
    is_changing = _draw_changing(rng, (len(rows), len(rows[0])), change_level)
    for district, changes in zip(itertools.chain(*rows), is_changing.ravel().tolist(), strict=True):
        use = draw_use(rng, setting.changing_uses if changes else setting.quiet_uses)
        if rng.random() < removal_level and changes:
            use = "clearance"
        if footprints.is_near(district.outline(grow_m=THROUGH_HALF_WIDTH_M + 2.0)):
            _plan_district(draft, district, use, is_changing=changes)
    return landscape


def _draw_frame(rng: np.random.Generator, *, height_m: float, width_m: float) -> StreetFrame:
    bends, waves = rng.uniform(0.0, 24.0, 2), rng.uniform(230.0, 480.0, 2)
    phases = rng.uniform(0.0, math.tau, 2)
    return StreetFrame(
        angle_rad=float(rng.uniform(0.0, math.tau)),
        origin_yx=(height_m / 2, width_m / 2),
        bends_m=(float(bends[0]), float(bends[1])),
        wave_lengths_m=(float(waves[0]), float(waves[1])),
        phases_rad=(float(phases[0]), float(phases[1])),
    )


def _draw_changing(rng: np.random.Generator, shape: tuple[int, int], change_level: float) -> NDArray[np.bool_]:
    """Draw which districts change; neighbours tend to change together, as towns grow at their edges."""
    field = rng.standard_normal((shape[0] + 1, shape[1] + 1))
    shared = (field[:-1, :-1] + field[1:, :-1] + field[:-1, 1:] + field[1:, 1:]) / 2.0
    values = math.sqrt(0.4) * shared + math.sqrt(0.6) * rng.standard_normal(shape)
    # Its own distribution function makes each normal value uniform: the share below the level is the level.
    quantiles = [0.5 * (1.0 + math.erf(value / math.sqrt(2.0))) for value in values.ravel().tolist()]
    return np.asarray(np.array(quantiles).reshape(shape) < change_level)


def _plan_district(draft: Draft, district: District, use: Use, *, is_changing: bool) -> None:
    """Plan one district, in which buildings or roads come or go only where it is changing."""
    if use == "greenfield":
        _plan_greenfield(draft, district)
    elif use in ("suburb", "infill", "phase", "clearance"):
        _plan_suburb(draft, district, use)
    elif use == "acreage":
        _plan_acreage(draft, district, is_changing=is_changing)
    elif use == "works":
        _plan_works(draft, district, is_changing=is_changing)
    else:
        plan_countryside(draft, district, use)


def _plan_greenfield(draft: Draft, district: District) -> None:
    """Plan a new suburb on what was open country, or ground already graded, at the first date."""
    wild = draft.choose(draft.landscape.setting.wild_uses)
    lawn, graded = draft.cover("lawn"), draft.cover("earth")
    is_graded, is_raw = draft.chance(0.25), draft.chance(0.35)
    before = graded if is_graded else draft.cover(_WILD_COVERS[wild])
    draft.add_patch(district.outline(), before, graded if is_raw else lawn)
    filled = draft.between(0.7, 1.0)
    shares: Shares = ((filled, ONLY_AFTER), (min(1.0, filled + (0.03 if draft.chance(0.3) else 0.0)), ONLY_BEFORE))
    _build_suburb(draft, district, shares, streets_at=ONLY_AFTER, lawns=(before, lawn))


def _plan_suburb(draft: Draft, district: District, use: Use) -> None:
    """Plan a suburb whose streets were there at the first date."""
    lawn, earth = draft.cover("lawn"), draft.cover("earth")
    is_raw = use == "phase" and draft.chance(0.7)
    is_razed = use == "clearance" and draft.chance(0.4)
    before = earth if is_raw else lawn
    after = earth if (is_raw and draft.chance(0.35)) or is_razed else lawn
    draft.add_patch(district.outline(), before, after)
    streets_at = ONLY_BEFORE if use == "clearance" and draft.chance(0.2) else BOTH
    _build_suburb(draft, district, _draw_shares(draft, use), streets_at=streets_at, lawns=(before, after))


def _draw_shares(draft: Draft, use: Use) -> Shares:
    """Draw how many lots of a suburb have their houses when."""
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


def _build_suburb(
    draft: Draft, district: District, shares: Shares, *, streets_at: Presence, lawns: tuple[int, int]
) -> None:
    """Lay the streets of a suburb and build on its lots; `lawns` cover a common lot before and after."""
    streets = plan_streets(draft, district, is_at=streets_at)
    pitch = draft.between(12.5, 19.0)
    depth = min(DEEPEST_LOT_M, district.breadth_m / max(1, len(streets)) / 2 - 4.8)
    has_slabs = draft.chance(0.3)
    for lot in place_lots(draft, district, streets, pitch_m=(pitch, pitch * 1.15)):
        presence = draft.draw_presence(shares)
        if presence is None:
            if has_slabs and draft.chance(0.2):
                _pour_slab(draft, lot)
        elif build_house(draft, lot, is_at=presence, depth_m=depth):
            _cover_lot(draft, lot, depth, presence, lawns)
    plant_hedge(draft, district)


def _pour_slab(draft: Draft, lot: Lot) -> None:
    """Pour the foundation of a house to come: it looks like a roof, but casts no shadow and is no building."""
    half, back = lot.width_m / 2 - 2.5, -draft.between(17.0, 22.0)
    outline = lot.placement.rectangle(-half, half, back, -8.0)
    if draft.landscape.footprints.is_open(outline):
        draft.add_surface(outline, rgb=draft.one_of((_SLAB_RGB,)), is_at=ONLY_AFTER)


def _cover_lot(draft: Draft, lot: Lot, depth_m: float, presence: Presence, lawns: tuple[int, int]) -> None:
    """Give a lot its own lawn, or bare earth, while its house stands."""
    kinds: tuple[CoverKind, ...] = ("lawn", "lawn", "lawn", "mulch", "earth")
    own = draft.cover(draft.choose(kinds)) if draft.chance(0.55) else None
    if own is None and presence == BOTH:
        return
    dates = zip(lawns, presence, strict=True)
    before, after = ((lawn if own is None else own) if stands else None for lawn, stands in dates)
    draft.add_patch(lot.outline(depth_m, 0.3), before, after, is_ragged=False)


def _plan_acreage(draft: Draft, district: District, *, is_changing: bool) -> None:
    """Plan a few large houses among trees, some of them new and now and then one gone."""
    wild = _WILD_COVERS[draft.choose(draft.landscape.setting.wild_uses)]
    cover = draft.cover("pasture" if wild in ("crop", "woods") else wild)
    draft.add_patch(district.outline(), cover, cover)
    if wild == "woods":
        woods = draft.cover("woods")
        draft.add_patch(district.outline(grow_m=-12.0), woods, woods)
    streets = plan_streets(draft, district, is_at=BOTH, spacing_m=(85.0, 120.0))
    shares: Shares = ((0.35, BOTH), (0.7, ONLY_AFTER), (0.75, ONLY_BEFORE)) if is_changing else ((0.6, BOTH),)
    for lot in place_lots(draft, district, streets, pitch_m=(30.0, 48.0)):
        presence = draft.draw_presence(shares)
        if presence is not None:
            build_house(draft, replace(lot, width_m=min(lot.width_m, 26.0)), is_at=presence, depth_m=38.0)


def _plan_works(draft: Draft, district: District, *, is_changing: bool) -> None:
    """Plan halls, shops or flats along streets that were there at the first date."""
    base = draft.cover("lawn" if draft.chance(0.5) else "pasture")
    earth = draft.cover("earth")
    is_site = is_changing and draft.chance(0.4)
    draft.add_patch(district.outline(), earth if is_site else base, base)
    streets = plan_streets(draft, district, is_at=BOTH, spacing_m=(105.0, 150.0))
    depth = max(24.0, district.breadth_m / max(1, len(streets)) / 2 - 6.0)
    build, pitch = (build_flats, (34.0, 50.0)) if draft.chance(0.3) else (build_hall, (40.0, 80.0))
    shares: Shares = ((0.4, ONLY_AFTER), (0.52, ONLY_BEFORE), (1.0, BOTH)) if is_changing else ((1.0, BOTH),)
    for lot in place_lots(draft, district, streets, pitch_m=pitch):
        presence = draft.draw_presence(shares)
        if presence is not None and draft.chance(0.9):
            build(draft, lot, is_at=presence, depth_m=depth)
