"""Makes pairs of aerial-looking images whose every change is known, for training, tests and demos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.training.instructions import BUILDING_CHANGED, ROAD_CHANGED
from model.training.synthesis.canvas import Stage
from model.training.synthesis.landscape import Landscape, Presence
from model.training.synthesis.light import draw_light
from model.training.synthesis.planning import plan_landscape
from model.training.synthesis.rendering import render_date
from model.training.synthesis.texture import PointArray, make_noise_field, rasterize_polygon
from model.training.synthesis.vegetation import LARGEST_CROWN_M, make_crowns

DEFAULT_CHANGE_LEVEL: Final = 0.3
MIN_SIZE_PX: Final = 64
MAX_SIZE_PX: Final = 16384
RESOLUTION_RANGE_M: Final = (0.2, 2.0)


@dataclass(frozen=True, kw_only=True)
class SyntheticObject:
    """One building or road of a pair, changed or not."""

    kind: Literal["building", "road"]
    """What it is."""
    polygon_px: tuple[tuple[float, float], ...]
    """Outline as (y, x) vertices in pixels; pixel (0, 0) covers 0..1; it may reach beyond the image."""
    is_in_before: bool
    """Whether it stands at the first date."""
    is_in_after: bool
    """Whether it stands at the second date."""


@dataclass(frozen=True, kw_only=True)
class SyntheticPair:
    """Two images of one place with the exact truth of what changed between them."""

    before: NDArray[np.uint8]
    """(height, width, 3) uint8 RGB."""
    after: NDArray[np.uint8]
    """(height, width, 3) uint8 RGB."""
    change_mask: NDArray[np.uint8]
    """(height, width) uint8: 0 unchanged, 128 road changed, 255 building changed."""
    objects: tuple[SyntheticObject, ...]
    """Every building and road that is seen."""
    seed: int
    """Seed the pair was made from."""
    resolution_m: float
    """Size of a pixel in metres."""


def synthesize_pair(
    seed: int,
    *,
    height_px: int = 256,
    width_px: int = 256,
    resolution_m: float = 0.5,
    change_level: float = DEFAULT_CHANGE_LEVEL,
) -> SyntheticPair:
    """Makes a pair of images; equal arguments give equal pixels.

    Args:
        seed: Any integer from 0.
        height_px: Rows, 64 to 16384.
        width_px: Columns, 64 to 16384.
        resolution_m: Size of a pixel in metres, 0.2 to 2.
        change_level: Probability that a district (about 300 m wide) is built up between the dates, 0 to 1.
            With 0 nothing changes but light and season.

    Raises:
        ValueError: An argument is outside its range.
    """
    _check_arguments(seed, height_px=height_px, width_px=width_px, resolution_m=resolution_m, change_level=change_level)
    plan_seed, texture_seed, before_seed, after_seed = np.random.SeedSequence(seed).spawn(4)
    landscape = plan_landscape(
        np.random.default_rng(plan_seed),
        height_px=height_px,
        width_px=width_px,
        resolution_m=resolution_m,
        change_level=change_level,
    )
    noise = make_noise_field(np.random.default_rng(texture_seed), resolution_m=resolution_m)
    crowns = make_crowns(math.ceil(LARGEST_CROWN_M / resolution_m))
    images = []
    for date_index, light_seed in enumerate((before_seed, after_seed)):
        stage = Stage(
            landscape=landscape,
            date_index=date_index,
            light=draw_light(np.random.default_rng(light_seed)),
            noise=noise,
            crowns=crowns,
            resolution_m=resolution_m,
        )
        images.append(render_date(stage, height_px=height_px, width_px=width_px))
    return SyntheticPair(
        before=images[0],
        after=images[1],
        change_mask=_draw_change_mask(landscape, (height_px, width_px), resolution_m),
        objects=_list_objects(landscape, (height_px, width_px), resolution_m),
        seed=seed,
        resolution_m=resolution_m,
    )


def _check_arguments(seed: int, *, height_px: int, width_px: int, resolution_m: float, change_level: float) -> None:
    """Raises ValueError for an argument outside its range."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected an integer from 0; pass a non-negative seed")
    for name, size in (("height_px", height_px), ("width_px", width_px)):
        if not MIN_SIZE_PX <= size <= MAX_SIZE_PX:
            raise ValueError(f"{name} is {size}; expected {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels; pass another size")
    low, high = RESOLUTION_RANGE_M
    if not low <= resolution_m <= high:
        raise ValueError(f"resolution_m is {resolution_m}; expected {low} to {high} metres; houses need such pixels")
    if not 0.0 <= change_level <= 1.0:
        raise ValueError(
            f"change_level is {change_level}; expected 0 (nothing changes) to 1 (every district changes); "
            "pass a probability"
        )


def _draw_change_mask(landscape: Landscape, shape: tuple[int, int], resolution_m: float) -> NDArray[np.uint8]:
    """Returns the (height, width) change mask: pixels that are road, or building, at one date only."""
    mask = np.zeros(shape, np.uint8)
    roads = [(road.outline / resolution_m, road.is_at) for road in landscape.roads]
    buildings = [(building.outline / resolution_m, building.is_at) for building in landscape.buildings]
    mask[_find_changed(roads, shape)] = ROAD_CHANGED
    mask[_find_changed(buildings, shape)] = BUILDING_CHANGED
    return mask


def _find_changed(outlines: list[tuple[PointArray, Presence]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Returns where outlines (pixels) of things that came or went lie outside all that stayed."""
    changed = np.zeros(shape, np.bool_)
    ordered = sorted(outlines, key=lambda item: item[1][0] == item[1][1])
    for outline, (is_before, is_after) in ordered:
        found = rasterize_polygon(outline, height_px=shape[0], width_px=shape[1])
        if found is not None:
            block, inside = found
            view = changed[block.y0 : block.y0 + block.height_px, block.x0 : block.x0 + block.width_px]
            view[inside] = is_before != is_after
    return changed


def _list_objects(landscape: Landscape, shape: tuple[int, int], resolution_m: float) -> tuple[SyntheticObject, ...]:
    """Returns the buildings and roads of which at least one pixel is seen."""
    objects = []
    things: list[tuple[Literal["building", "road"], PointArray, Presence]] = [
        ("road", road.outline, road.is_at) for road in landscape.roads
    ]
    things += [("building", building.outline, building.is_at) for building in landscape.buildings]
    for kind, outline, is_at in things:
        polygon = outline / resolution_m
        if rasterize_polygon(polygon, height_px=shape[0], width_px=shape[1]) is None:
            continue
        objects.append(
            SyntheticObject(
                kind=kind,
                polygon_px=tuple((float(y), float(x)) for y, x in polygon),
                is_in_before=is_at[0],
                is_in_after=is_at[1],
            )
        )
    return tuple(objects)
