"""Draws a planned landscape block by block, both dates at once: its ground, what is built, its trees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.synthesis.canvas import (
    SUBPIXEL_BITS,
    Canvas,
    Drawing,
    draw_building,
    draw_roads,
    draw_surfaces,
    start_canvas,
)
from model.synthesis.geometry import Block, ByteArray, FloatArray, SpatialIndex
from model.synthesis.ground import KINDS, MIX_LEVELS, TRAITS
from model.synthesis.landscape import Building, Fence, Landscape, Road, Surface, Trail
from model.synthesis.textures import NEUTRAL, CrownSheet, Sheets, crop_periodic, find_repetitions, make_sheets

_COARSE_SPACING_M: Final = 70.0
_COARSE_LATTICE_SIZE: Final = 96
_COARSE_STEP_PX = 8

_DENSEST = 2.5
"""How many times the usual number of trees stands where they clump most."""

_NO_MAP = np.empty(0, np.float32)
"""OpenCV's second map of coordinates, which is empty where the first one holds both."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What drawing needs besides the block: the landscape, its textures and where they begin."""

    landscape: Landscape
    sheets: Sheets
    offsets_px: tuple[tuple[int, int], ...]
    """Row and column of the sheets at the scene's first pixel: for textures, and for each sheet of crowns."""
    coarse_lattice: NDArray[np.float32]
    """(N, N) unit normal values, `_COARSE_SPACING_M` apart: the slow variation of the ground."""
    coarse_angle_rad: float
    """Rotation of that lattice against the scene."""
    roads: SpatialIndex[Road]
    surfaces: SpatialIndex[Surface]
    trails: SpatialIndex[Trail]
    fences: SpatialIndex[Fence]
    buildings: SpatialIndex[Building]

    @property
    def resolution_m(self) -> float:
        """Size of a pixel in metres."""
        return self.sheets.resolution_m


def set_stage(landscape: Landscape, rng: np.random.Generator, *, resolution_m: float) -> Stage:
    """Give a landscape its textures: their offsets and the slow variation of its ground."""
    sheets = make_sheets(resolution_m)
    offsets = rng.integers(0, sheets.size_px, (2 + len(sheets.crowns), 2)).tolist()
    shape = (_COARSE_LATTICE_SIZE, _COARSE_LATTICE_SIZE)
    return Stage(
        landscape=landscape,
        sheets=sheets,
        offsets_px=tuple((row, column) for row, column in offsets),
        coarse_lattice=rng.standard_normal(shape, dtype=np.float32),
        coarse_angle_rad=float(rng.uniform(0.0, math.tau)),
        roads=SpatialIndex(landscape.roads, [road.outline for road in landscape.roads]),
        surfaces=SpatialIndex(landscape.surfaces, [surface.outline for surface in landscape.surfaces]),
        trails=SpatialIndex(landscape.trails, [trail.line for trail in landscape.trails]),
        fences=SpatialIndex(landscape.fences, [fence.line for fence in landscape.fences]),
        buildings=SpatialIndex(landscape.buildings, [building.outline for building in landscape.buildings]),
    )


def draw_block(stage: Stage, block: Block) -> Canvas:
    """Draw what stands in a block at its two dates.

    With the colours go heights, from which all shadows follow, so houses, trees and fences shade the ground and each
    other the way the sun stands.
    """
    canvas = start_canvas(block, resolution_m=stage.resolution_m)
    coarse = _sample_coarse(stage, block)
    covers = _draw_ground(stage, canvas, coarse)
    for trail in stage.trails.find_in(block, pixel_size=stage.resolution_m, reach=2.0):
        canvas.draw_line(trail.line, trail.rgb, trail.is_at, share=trail.share)
    draw_roads(canvas, stage.roads.find_in(block, pixel_size=stage.resolution_m, reach=6.0))
    surfaces = stage.surfaces.find_in(block, pixel_size=stage.resolution_m, reach=2.0)
    draw_surfaces(canvas, [surface for surface in surfaces if not surface.is_on_roof])
    for fence in stage.fences.find_in(block, pixel_size=stage.resolution_m, reach=2.0):
        canvas.draw_line(fence.line, fence.rgb, fence.is_at, height_m=fence.height_m, share=0.9)
    for building in stage.buildings.find_in(block, pixel_size=stage.resolution_m, reach=2.0):
        draw_building(canvas, building)
    draw_surfaces(canvas, [surface for surface in surfaces if surface.is_on_roof])
    _plant_trees(stage, canvas, coarse, covers)
    for drawing in canvas.drawings:
        _texture_things(stage, block, drawing)
    return canvas


def _texture_things(stage: Stage, block: Block, drawing: Drawing) -> None:
    """Give paving, roofs and leaves their own fine texture."""
    for name, mask in (("paved", drawing.paint_share), ("roof", drawing.plane), ("leaf", drawing.crown)):
        cv2.copyTo(crop_periodic(stage.sheets.grain[name], block, offset_px=stage.offsets_px[1]), mask, drawing.texture)


def _draw_ground(stage: Stage, canvas: Canvas, coarse: ByteArray) -> tuple[ByteArray, ByteArray]:
    """Cover the ground of both dates; return the (H, W) cover index at each."""
    block, (before, after) = canvas.block, canvas.drawings
    bend = crop_periodic(stage.sheets.bend, block, offset_px=stage.offsets_px[0])
    rows, columns = np.indices(block.shape, dtype=np.int16, sparse=True)
    bent = np.stack([bend[:, :, 0] + columns, bend[:, :, 1] + rows], axis=2)
    first, second = (_map_covers(stage, canvas, date_index, bent) for date_index in (0, 1))
    _colour_ground(stage, block, first, coarse, before.ground, before.texture)
    np.copyto(after.ground, before.ground)
    np.copyto(after.texture, before.texture)
    # Most of the ground is the same at both dates.
    differs = (first != second).view(np.uint8)
    if differs.any():
        part = _bound(block, differs)
        second_part, coarse_part = part.cut(second, of=block), part.cut(coarse, of=block)
        ground, texture = part.cut(after.ground, of=block), part.cut(after.texture, of=block)
        _colour_ground(stage, part, second_part, coarse_part, ground, texture)
    return first, second


def _sample_coarse(stage: Stage, block: Block) -> ByteArray:
    """Return the (H, W) slow variation of the ground around `NEUTRAL`; equal at equal scene positions."""
    step = _COARSE_STEP_PX
    y0, x0 = math.floor(block.y0 / step) - 1, math.floor(block.x0 / step) - 1
    y1 = math.ceil((block.y0 + block.height_px) / step) + 1
    x1 = math.ceil((block.x0 + block.width_px) / step) + 1
    scale = step * stage.resolution_m / _COARSE_SPACING_M
    cosine, sine = math.cos(stage.coarse_angle_rad) * scale, math.sin(stage.coarse_angle_rad) * scale
    matrix = np.array([[cosine, -sine, cosine * x0 - sine * y0], [sine, cosine, sine * x0 + cosine * y0]])
    # warpAffine loses its wrap-around far outside the lattice: bring the origin back into one period.
    matrix[:, 2] = np.mod(matrix[:, 2], _COARSE_LATTICE_SIZE)
    field = cv2.warpAffine(
        stage.coarse_lattice,
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    levels = np.clip(np.rint(field * np.float32(1.3 * 48) + np.float32(NEUTRAL)), 0, 255).astype(np.uint8)
    grown = cv2.resize(levels, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(grown[block.move(-y0 * step, -x0 * step).window])


def _map_covers(stage: Stage, canvas: Canvas, date_index: int, bent: NDArray[np.int16]) -> ByteArray:
    """Return the (H, W) cover index; the borders of natural patches are bent, those of lots are straight."""
    cover = np.zeros(canvas.block.shape, np.uint8)
    patches = [patch for patch in stage.landscape.patches if patch.covers[date_index] is not None]
    for is_ragged in (True, False):
        for patch in patches:
            if patch.is_ragged == is_ragged:
                value = (int(patch.covers[date_index] or 0),)
                cv2.fillPoly(cover, [canvas.to_pixels(patch.outline)], value, cv2.LINE_8, SUBPIXEL_BITS)
        if is_ragged:
            cover = np.asarray(cv2.remap(cover, bent, _NO_MAP, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))
    return cover


def _colour_ground(
    stage: Stage,
    block: Block,
    cover: ByteArray,
    coarse: ByteArray,
    ground: NDArray[np.uint16],
    texture: ByteArray,
) -> None:
    """Fill in which of its colours each cover shows, and the fine texture of the ground.

    Args:
        stage: The landscape and its textures.
        block: Where in the scene.
        cover: (H, W) cover index.
        coarse: (H, W) slow variation.
        ground: (H, W) index into the table of colours, filled.
        texture: (H, W) fine texture, filled.
    """
    covers, sheets, offset = stage.landscape.covers, stage.sheets, stage.offsets_px[0]
    mix = np.full(cover.shape, NEUTRAL, np.uint8)
    present = _list_present(cover)
    kinds = np.zeros(256, np.uint8)
    kinds[: len(covers.kind_index)] = covers.kind_index
    kind_map = np.asarray(cv2.LUT(cover, kinds), np.uint8)
    for kind_index in sorted({int(covers.kind_index[index]) for index in present}):
        kind, is_kind = KINDS[kind_index], (kind_map == kind_index).view(np.uint8)
        part = _bound(block, is_kind)
        chosen = np.ascontiguousarray(part.cut(is_kind, of=block))
        weight = TRAITS[kind].weights[0] * 256 / 48
        fine = crop_periodic(sheets.mix[kind], part, offset_px=offset)
        slow = part.cut(coarse, of=block)
        cv2.copyTo(cv2.addWeighted(fine, 1.0, slow, weight, -NEUTRAL * weight), chosen, part.cut(mix, of=block))
        grain = crop_periodic(sheets.grain[kind], part, offset_px=offset)
        cv2.copyTo(grain, chosen, part.cut(texture, of=block))
    for index in present[covers.row_profile[present].any(axis=1)].tolist():
        _draw_rows(stage, block, cover, int(index), texture)
    np.multiply(cover, MIX_LEVELS, out=ground, dtype=np.uint16)
    np.add(ground, mix // (256 // MIX_LEVELS), out=ground)


def _bound(block: Block, mask: ByteArray) -> Block:
    """Return the smallest block that holds everything of a mask over a block."""
    x, y, width, height = cv2.boundingRect(mask)
    return Block(y0=block.y0 + y, x0=block.x0 + x, height_px=height, width_px=width)


def _list_present(cover: ByteArray) -> NDArray[np.intp]:
    """Return the indices of the covers that are seen."""
    return np.flatnonzero(cv2.calcHist([cover], [0], None, [256], [0, 256]))


def _draw_rows(stage: Stage, block: Block, cover: ByteArray, index: int, texture: ByteArray) -> None:
    covers = stage.landscape.covers
    is_field = (cover == index).view(np.uint8)
    part = _bound(block, is_field)
    turn = stage.resolution_m * 256.0 / float(covers.row_period_m[index])
    angle = float(covers.row_angle_rad[index])
    rows, columns = part.pixel_centres()
    # Phases are bytes: 256 is one turn, and bytes wrap around by themselves.
    phase = _wrap(rows * np.float32(math.sin(angle) * turn)) + _wrap(columns * np.float32(math.cos(angle) * turn))
    # Tractors sway a little.
    phase += crop_periodic(stage.sheets.mix["crop"], part, offset_px=stage.offsets_px[1]) >> 4
    furrows = cv2.LUT(phase, np.rint(covers.row_profile[index] * 128 + NEUTRAL).clip(0, 255).astype(np.uint8))
    view = part.cut(texture, of=block)
    cv2.copyTo(cv2.addWeighted(view, 1.0, furrows, 1.0, -NEUTRAL), part.cut(is_field, of=block), view)


def _wrap(phase: FloatArray) -> ByteArray:
    """Return phases in 1/256 of a turn as bytes."""
    return np.mod(np.rint(phase), 256).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What bears the trees of a block at one date."""

    block: Block
    cover: ByteArray
    """(H, W) cover index."""
    coarse: ByteArray
    """(H, W) slow variation, which lets trees stand in clumps."""
    date_index: int
    """0 for before, 1 for after."""


def _plant_trees(stage: Stage, canvas: Canvas, coarse: ByteArray, covers: tuple[ByteArray, ByteArray]) -> None:
    """Let the trees of the sheets stand where the ground of each date bears them and nothing is built."""
    for date_index, (cover, drawing) in enumerate(zip(covers, canvas.drawings, strict=True)):
        ground = _Ground(block=canvas.block, cover=cover, coarse=coarse, date_index=date_index)
        present = _list_present(cover)
        for sheet_index, sheet in enumerate(stage.sheets.crowns):
            share = stage.landscape.covers.trees[:, sheet_index]
            if not share[present].any():
                continue
            offset = stage.offsets_px[2 + sheet_index]
            for part, on_sheet in find_repetitions(canvas.block, stage.sheets.size_px, offset):
                stands = _choose_trees(stage, ground, sheet, share, part, on_sheet)
                _raise_crowns(sheet, stands, on_sheet, drawing, part.move(-canvas.block.y0, -canvas.block.x0))


def _choose_trees(
    stage: Stage, ground: _Ground, sheet: CrownSheet, share: FloatArray, part: Block, on_sheet: Block
) -> ByteArray:
    """Choose the trees of a sheet that stand.

    Args:
        stage: The landscape and its textures.
        ground: What bears them.
        sheet: The population.
        share: (covers,) share of the population that each cover bears.
        part: Part of the scene that one repetition of the sheet is seen in.
        on_sheet: Where that part lies on the sheet.

    Returns:
        For each tree 255 where it stands and can be seen in the part, else 0.
    """
    low = np.array([on_sheet.y0, on_sheet.x0], np.float32)
    high = low + np.array(on_sheet.shape, np.float32)
    reach = sheet.radius_px[:, None] + np.float32(2.0)
    is_near = ((sheet.position_px > low - reach) & (sheet.position_px < high + reach)).all(axis=1)
    near = np.flatnonzero(is_near & (sheet.draw < share.max() * np.float32(_DENSEST)))
    corner = np.array([part.y0 - on_sheet.y0, part.x0 - on_sheet.x0], np.float32)
    scene_px = sheet.position_px[near] + corner
    block = ground.block
    local = np.rint(scene_px - np.array([block.y0, block.x0], np.float32)).astype(np.int64)
    rows, columns = np.clip(local, 0, np.array(block.shape) - 1).T
    index = ground.cover[rows, columns]
    covers = stage.landscape.covers
    clumping = np.array([trait.clumping for trait in TRAITS.values()], np.float32)[covers.kind_index][index]
    slow = (ground.coarse[rows, columns].astype(np.float32) - NEUTRAL) / 48
    stands = sheet.draw[near] < share[index] * np.clip(1.0 + clumping * slow, 0.0, _DENSEST)
    near, scene_px = near[stands], scene_px[stands]
    reach_px = sheet.radius_px[near] * np.float32(0.75)
    is_free = stage.landscape.footprints.is_free(scene_px, reach_px, date_index=ground.date_index)
    chosen = np.zeros(len(sheet.draw), np.uint8)
    chosen[near[is_free]] = 255
    return chosen


def _raise_crowns(sheet: CrownSheet, stands: ByteArray, on_sheet: Block, drawing: Drawing, on_drawing: Block) -> None:
    """Raise the crowns of the trees that stand; the taller tree wins."""
    cut = on_sheet.window
    height = cv2.bitwise_and(np.ascontiguousarray(sheet.height[cut]), np.take(stands, sheet.tree[cut]))
    crown, tone = drawing.crown[on_drawing.window], drawing.tone[on_drawing.window]
    is_higher = (np.asarray(height, np.uint8) > crown).view(np.uint8)
    cv2.copyTo(height, is_higher, crown)
    cv2.copyTo(np.ascontiguousarray(sheet.tone[cut]), is_higher, tone)
