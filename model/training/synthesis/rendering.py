"""Draws a planned landscape as it looks from above at one date, block by block.

Within a block the order is that of the things themselves: ground, paved surfaces, fences, roofs, crowns. With
the colours goes a raster of heights, from which all shadows follow, so houses, trees and fences shade the
ground and each other the way the sun stands.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.canvas import SUBPIXEL_BITS, Canvas, Stage, start_canvas
from model.training.synthesis.ground import GroundLook, look_at_covers
from model.training.synthesis.landscape import EVERGREEN_TONE, Landscape, Road
from model.training.synthesis.light import cast_shadows, compress, develop, shade_slopes
from model.training.synthesis.roofs import draw_building
from model.training.synthesis.texture import Block, FloatArray, PointArray, offset_polyline
from model.training.synthesis.vegetation import stamp_crowns

BLOCK_PX = 512
"""Side of a rendered block; a multiple of 16, so that JPEG's blocks fall as in the whole image."""

_SHADOW_HALO_M = 24.0
_COLOUR_HALO_PX = 6

_WALK_RGB = (184, 179, 168)
_VERGE_RGB = (124, 118, 94)
_CURB_RGB = (196, 192, 180)
_MARK_RGB = (176, 168, 132)


def render_date(stage: Stage, *, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Renders one date of a scene.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    image = np.empty((height_px, width_px, 3), dtype=np.uint8)
    covers, light = stage.landscape.covers, stage.light
    look = look_at_covers(covers, date_index=stage.date_index, greenness=light.greenness)
    boxes = _Boxes(stage.landscape)
    halo = math.ceil(_SHADOW_HALO_M / stage.resolution_m)
    for y0 in range(0, height_px, BLOCK_PX):
        for x0 in range(0, width_px, BLOCK_PX):
            rows, columns = min(BLOCK_PX, height_px - y0), min(BLOCK_PX, width_px - x0)
            block = Block(y0=y0, x0=x0, height_px=rows, width_px=columns)
            canvas = start_canvas(block.grow(_COLOUR_HALO_PX), block.grow(halo), resolution_m=stage.resolution_m)
            drawn = _render_block(stage, look, boxes, canvas)
            inner = slice(_COLOUR_HALO_PX, -_COLOUR_HALO_PX)
            image[y0 : y0 + rows, x0 : x0 + columns] = compress(drawn[inner, inner], light)
    return image


class _Boxes:
    """Bounding boxes in metres of everything with an outline, to find what a block holds."""

    def __init__(self, landscape: Landscape) -> None:
        self.patches = _bound([patch.outline for patch in landscape.patches])
        self.roads = _bound([road.outline for road in landscape.roads])
        self.surfaces = _bound([surface.outline for surface in landscape.surfaces])
        self.buildings = _bound([building.outline for building in landscape.buildings])
        self.fences = _bound([np.array([fence.start_yx, fence.end_yx]) for fence in landscape.fences])


def _bound(outlines: list[PointArray]) -> NDArray[np.float64]:
    """Returns (N, 4) boxes (y low, x low, y high, x high)."""
    boxes = [np.concatenate([outline.min(axis=0), outline.max(axis=0)]) for outline in outlines]
    return np.array(boxes).reshape(-1, 4)


def _find_in(boxes: NDArray[np.float64], block: Block, resolution_m: float, *, reach_m: float = 2.0) -> list[int]:
    """Returns the indices of the boxes that come within `reach_m` of a block."""
    low = np.array([block.y0, block.x0]) * resolution_m - reach_m
    high = np.array([block.y0 + block.height_px, block.x0 + block.width_px]) * resolution_m + reach_m
    touches = (boxes[:, :2] < high).all(axis=1) & (boxes[:, 2:] > low).all(axis=1)
    return [int(index) for index in np.flatnonzero(touches)]


def _render_block(stage: Stage, look: GroundLook, boxes: _Boxes, canvas: Canvas) -> NDArray[np.uint8]:
    """Draws, lights and develops the colours of one canvas; returns (H, W, 3) uint8."""
    light, resolution_m = stage.light, stage.resolution_m
    fields = [stage.noise.sample_smooth(scale, canvas.block) for scale in range(4)]
    grain = stage.noise.sample_grain(canvas.block)
    _draw_ground(stage, look, boxes, canvas, fields, grain)
    _draw_paved(stage, boxes, canvas, fields)
    _draw_fences(stage, boxes, canvas)
    for index in _find_in(boxes.buildings, canvas.wide_block, resolution_m):
        building = stage.landscape.buildings[index]
        if building.is_at[stage.date_index]:
            draw_building(stage, canvas, building)
    rgb = canvas.rgb * canvas.texture[:, :, None]
    crowns, tones = _grow_crowns(stage, canvas)
    shadow = canvas.crop_wide(cast_shadows(np.maximum(canvas.heights, crowns), light, resolution_m=resolution_m))
    lost = shadow * np.float32(1.0 - light.ambient)
    near_crowns = canvas.crop_wide(crowns)
    cover = _blend_crowns(stage, rgb, near_crowns, canvas.crop_wide(tones), fields[2], grain)
    rough = near_crowns * (1.0 + np.float32(0.07) * grain)
    slopes = shade_slopes(rough, light, resolution_m=resolution_m)
    lit = canvas.relief * (1.0 - lost) * (1.0 - cover) + slopes * (1.0 - np.float32(0.85) * lost) * cover
    rgb *= lit[:, :, None]
    rgb[:, :, 2] += shadow * np.float32(4.0)  # ^ shadows are lit by the blue sky
    sensor = stage.noise.sample_grain(canvas.block, shift_px=201 + 100 * stage.date_index)
    return np.round(develop(rgb, light, sensor)).astype(np.uint8)


def _draw_ground(
    stage: Stage,
    look: GroundLook,
    boxes: _Boxes,
    canvas: Canvas,
    fields: list[FloatArray],
    grain: FloatArray,
) -> None:
    """Colours a canvas by its covers, their patchiness, and the rows of fields."""
    cover = _map_covers(stage, boxes, canvas, fields)
    mix = np.full(cover.shape, 0.5, np.float32)
    for scale, values in enumerate(fields):
        mix += look.weights[:, scale][cover] * values
    np.clip(mix, 0.0, 1.0, out=mix)
    rows, columns = canvas.block.pixel_centres()
    resolution_m = np.float32(stage.resolution_m)
    if look.row_strength[cover].any():
        phase = look.row_frequency[:, 0][cover] * (rows * resolution_m)
        phase += look.row_frequency[:, 1][cover] * (columns * resolution_m) + fields[1] * np.float32(0.5)
        furrows = np.sin(phase) * look.row_strength[cover]
        canvas.texture[:] += furrows * (1.0 + np.float32(0.6) * fields[2])
    canvas.texture[:] += grain * look.grain[cover]
    low, high = look.low_rgb[cover], look.high_rgb[cover]
    high -= low
    high *= mix[:, :, None]
    high += low
    canvas.rgb[:] = np.clip(high, 0.0, 255.0)


def _map_covers(stage: Stage, boxes: _Boxes, canvas: Canvas, fields: list[FloatArray]) -> NDArray[np.uint8]:
    """Returns the (H, W) cover index of a block; borders of natural patches are bent by the noise fields."""
    block = canvas.block
    cover = np.zeros((block.height_px, block.width_px), np.uint8)
    reach = np.float32(1.0 / stage.resolution_m)
    rows, columns = np.arange(block.height_px, dtype=np.float32), np.arange(block.width_px, dtype=np.float32)
    map_y = rows[:, None] + (fields[2] + np.float32(0.4) * fields[3]) * reach
    map_x = columns[None, :] + (fields[1] - np.float32(0.4) * fields[3]) * reach
    for index in _find_in(boxes.patches, block, stage.resolution_m, reach_m=8.0):
        patch = stage.landscape.patches[index]
        value = patch.covers[stage.date_index]
        if value is None:
            continue
        pixels = [canvas.to_pixels(patch.outline, block)]
        if not patch.is_ragged:
            cv2.fillPoly(cover, pixels, value, cv2.LINE_8, SUBPIXEL_BITS)
            continue
        layer = np.zeros_like(cover)
        cv2.fillPoly(layer, pixels, 1, cv2.LINE_8, SUBPIXEL_BITS)
        bent = np.asarray(cv2.remap(layer, map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        np.copyto(cover, np.uint8(value), where=bent > 0)
    return cover


def _draw_paved(stage: Stage, boxes: _Boxes, canvas: Canvas, fields: list[FloatArray]) -> None:
    """Draws roads with curbs and marks, then drives, patios, pools and cars."""
    paved = np.zeros(canvas.texture.shape, np.uint8)
    found = _find_in(boxes.roads, canvas.block, stage.resolution_m, reach_m=6.0)
    roads = [stage.landscape.roads[index] for index in found]
    _draw_roads(canvas, paved, [road for road in roads if road.is_at[stage.date_index]])
    for index in _find_in(boxes.surfaces, canvas.wide_block, stage.resolution_m):
        surface = stage.landscape.surfaces[index]
        if not surface.is_at[stage.date_index]:
            continue
        canvas.fill(canvas.rgb, surface.outline, surface.rgb)
        canvas.fill(paved, surface.outline, 255)
        if surface.height_m > 0:
            canvas.raise_to(surface.outline, surface.height_m)
    worn = stage.noise.sample_grain(canvas.block, shift_px=57) * np.float32(0.02)
    worn += fields[1] * np.float32(0.025) + fields[3] * np.float32(0.012)
    canvas.texture[:] += (1.0 + worn - canvas.texture) * (paved * np.float32(1 / 255))


def _draw_roads(canvas: Canvas, paved: NDArray[np.uint8], roads: list[Road]) -> None:
    """Draws roads layer by layer, so that crossings stay open: pavements, curbs, carriageways, marks."""
    for road in roads:
        if road.has_curb:
            walk = offset_polyline(road.centreline, road.half_width_m + 2.7)
            canvas.fill(canvas.rgb, walk, _WALK_RGB)
            canvas.fill(canvas.rgb, offset_polyline(road.centreline, road.half_width_m + 1.6), _VERGE_RGB)
            canvas.fill(paved, walk, 255)
    for road in roads:
        if road.has_curb:
            canvas.fill(canvas.rgb, _widen(road.outline, 0.35), _CURB_RGB)
    for road in roads:
        canvas.fill(canvas.rgb, road.outline, road.rgb)
        canvas.fill(paved, road.outline, 255)
    for road in roads:
        if road.has_marking:
            canvas.fill(canvas.rgb, offset_polyline(road.centreline, 0.16), _MARK_RGB)


def _widen(outline: PointArray, distance_m: float) -> PointArray:
    """Returns the outline of a strip (see `offset_polyline`) made wider on both sides."""
    half = len(outline) // 2
    left, right = outline[:half], outline[half:][::-1]
    across = left - right
    across = across / np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-9)[:, None]
    return np.concatenate([left + across * distance_m, (right - across * distance_m)[::-1]])


def _draw_fences(stage: Stage, boxes: _Boxes, canvas: Canvas) -> None:
    """Draws fences as thin lines with their height."""
    for index in _find_in(boxes.fences, canvas.wide_block, stage.resolution_m):
        fence = stage.landscape.fences[index]
        if not fence.is_at[stage.date_index]:
            continue
        ends = np.array([fence.start_yx, fence.end_yx])
        start, end = canvas.to_pixels(ends, canvas.block).tolist()
        cv2.line(canvas.rgb, start, end, fence.rgb, 1, cv2.LINE_AA, SUBPIXEL_BITS)
        start, end = canvas.to_pixels(ends, canvas.wide_block).tolist()
        cv2.line(canvas.heights, start, end, (fence.height_m,), 1, cv2.LINE_8, SUBPIXEL_BITS)


def _grow_crowns(stage: Stage, canvas: Canvas) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Returns the heights of crowns in metres and the tone of the tree on top, both over the wide block."""
    trees, block = stage.landscape.trees, canvas.wide_block
    crowns = np.zeros_like(canvas.heights)
    tones = np.zeros(crowns.shape, np.uint8)
    low = np.array([block.y0, block.x0]) * stage.resolution_m - 8.0
    high = low + 16.0 + np.array(crowns.shape) * stage.resolution_m
    is_seen = ((trees.position_m > low) & (trees.position_m < high)).all(axis=1)
    stamp_crowns(
        crowns,
        tones,
        trees,
        stage.crowns,
        chosen=np.flatnonzero(is_seen & trees.is_at[:, stage.date_index]),
        corner_px=(block.y0, block.x0),
        resolution_m=stage.resolution_m,
    )
    return crowns, tones


def _blend_crowns(
    stage: Stage,
    rgb: FloatArray,
    crowns: FloatArray,
    tones: NDArray[np.uint8],
    blotches: FloatArray,
    grain: FloatArray,
) -> FloatArray:
    """Blends tree crowns into the (H, W, 3) colours in place; returns the share of each pixel they cover."""
    if not crowns.any():
        return np.zeros_like(crowns)
    leaf = np.where(tones > EVERGREEN_TONE, np.float32(0.85), np.float32(stage.light.greenness))
    bare, leafy = np.array([116, 108, 98], np.float32), np.array([70, 80, 58], np.float32)
    level = np.float32(0.78) + tones.astype(np.float32) * np.float32(0.0012)
    level *= 1.0 + grain * np.float32(0.17) + blotches * np.float32(0.05)
    colour = (bare + (leafy - bare) * leaf[:, :, None]) * level[:, :, None]
    density = np.float32(0.62) + np.float32(0.38) * np.minimum(leaf * 2.0, 1.0)
    cover = np.clip(crowns * np.float32(0.9), 0.0, 1.0) * density
    rgb += (colour - rgb) * cover[:, :, None]
    return np.asarray(cover, np.float32)
