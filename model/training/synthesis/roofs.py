"""Draws roofs: hips, gables and flats, each plane as bright as it faces the sun."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.canvas import Canvas, Stage
from model.training.synthesis.landscape import Building, Wing
from model.training.synthesis.light import Light, shade_plane
from model.training.synthesis.texture import Block, FloatArray

_FALLING_EDGES = {"hip": [0, 1, 2, 3], "gable_along": [2, 3], "gable_across": [0, 1]}
"""Edges of a wing (low along, high along, low front, high front) towards which its roof falls."""


@dataclass(frozen=True, kw_only=True)
class _Roof:
    """The rasters of one roof, (h, w) float32 each."""

    rise_m: FloatArray
    """Height above the eaves, negative beside the roof."""
    shade: FloatArray
    """Brightness relative to level ground."""
    share: FloatArray
    """Share of the pixel under the roof."""


def draw_building(stage: Stage, canvas: Canvas, building: Building) -> None:
    """Draws a building's roof and raises its heights."""
    box = _find_box(canvas, building)
    if box is None:
        return
    roof = _raise_roof(building, box, stage.light, resolution_m=stage.resolution_m)
    wide, block = canvas.wide_block, canvas.block
    y0, x0 = box.y0 - wide.y0, box.x0 - wide.x0
    heights = canvas.heights[y0 : y0 + box.height_px, x0 : x0 + box.width_px]
    np.copyto(heights, building.eave_m + roof.rise_m, where=roof.share > 0.5)
    top, left = max(0, block.y0 - box.y0), max(0, block.x0 - box.x0)
    bottom = min(box.height_px, block.y0 + block.height_px - box.y0)
    right = min(box.width_px, block.x0 + block.width_px - box.x0)
    if top >= bottom or left >= right:
        return
    cut = (slice(top, bottom), slice(left, right))
    seen = Block(y0=box.y0 + top, x0=box.x0 + left, height_px=bottom - top, width_px=right - left)
    _paint_roof(stage, canvas, building, seen, roof.shade[cut], roof.share[cut])


def _find_box(canvas: Canvas, building: Building) -> Block | None:
    """Returns the building's bounding box in scene pixels within the wide block."""
    pixels = building.outline / canvas.resolution_m
    wide = canvas.wide_block
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 1, [wide.y0, wide.x0])
    ends = [wide.y0 + wide.height_px, wide.x0 + wide.width_px]
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 1, ends)
    if (high <= low).any():
        return None
    y0, x0, height_px, width_px = (int(value) for value in (*low, *(high - low)))
    return Block(y0=y0, x0=x0, height_px=height_px, width_px=width_px)


def _raise_roof(building: Building, box: Block, light: Light, *, resolution_m: float) -> _Roof:
    """Computes a roof as the highest of its wings at each pixel."""
    placement = building.placement
    rows, columns = box.pixel_centres()
    y = rows * np.float32(resolution_m) - np.float32(placement.centre_yx[0])
    x = columns * np.float32(resolution_m) - np.float32(placement.centre_yx[1])
    along = y * np.float32(placement.along_yx[0]) + x * np.float32(placement.along_yx[1])
    front = y * np.float32(placement.front_yx[0]) + x * np.float32(placement.front_yx[1])
    shape = (box.height_px, box.width_px)
    roof = _Roof(
        rise_m=np.full(shape, -1.0, np.float32),
        shade=np.ones(shape, np.float32),
        share=np.zeros(shape, np.float32),
    )
    shades = _shade_edges(building, light)
    for wing in building.wings:
        sides = [along - wing.along0, wing.along1 - along, front - wing.front0, wing.front1 - front]
        edges = np.stack(sides).astype(np.float32, copy=False)
        share = np.clip(edges.min(axis=0) / np.float32(resolution_m) + np.float32(0.5), 0.0, 1.0)
        rise, shade = _raise_wing(wing, edges, shades, building.roof_slope)
        is_higher = (share > 0) & (rise > roof.rise_m)
        np.copyto(roof.shade, shade, where=is_higher)
        np.copyto(roof.rise_m, np.maximum(rise, 0.0), where=is_higher)
        np.maximum(roof.share, share, out=roof.share)
    return roof


def _shade_edges(building: Building, light: Light) -> NDArray[np.float32]:
    """Returns the (4,) brightness of the planes that fall towards a wing's edges."""
    along, front = building.placement.along_yx, building.placement.front_yx
    outwards = ((-along[0], -along[1]), along, (-front[0], -front[1]), front)
    return np.array([shade_plane(outward, building.roof_slope, light) for outward in outwards], np.float32)


def _raise_wing(
    wing: Wing, edges: FloatArray, shades: NDArray[np.float32], slope: float
) -> tuple[FloatArray, FloatArray]:
    """Returns a wing's (h, w) rise above the eaves and brightness from (4, h, w) distances to its edges."""
    if wing.roof == "flat":
        parapet = edges.min(axis=0) < np.float32(0.6)
        return np.zeros_like(edges[0]), np.where(parapet, np.float32(1.12), np.float32(1.0)).astype(np.float32)
    falling = _FALLING_EDGES[wing.roof]
    distances = edges[falling]
    return distances.min(axis=0) * np.float32(slope), shades[falling][distances.argmin(axis=0)]


def _paint_roof(
    stage: Stage, canvas: Canvas, building: Building, seen: Block, shade: FloatArray, share: FloatArray
) -> None:
    """Blends a roof's colour, brightness and texture into the part of the canvas it is seen in."""
    y0, x0 = seen.y0 - canvas.block.y0, seen.x0 - canvas.block.x0
    view = (slice(y0, y0 + seen.height_px), slice(x0, x0 + seen.width_px))
    alpha = share[:, :, None]
    colour = np.array(building.roof_rgb, np.float32)
    canvas.rgb[view] = np.round(canvas.rgb[view] * (1.0 - alpha) + colour * alpha)
    canvas.relief[view] += (shade - canvas.relief[view]) * share
    grain = stage.noise.sample_grain(seen, shift_px=91) * np.float32(0.05)
    canvas.texture[view] += (1.0 + grain - canvas.texture[view]) * share
