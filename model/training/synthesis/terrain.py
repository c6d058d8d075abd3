"""Draws the ground of a block: which cover lies where, its texture, and the trees that stand on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.canvas import SUBPIXEL_BITS, Canvas, Drawing, Stage
from model.training.synthesis.crowns import CrownSheet
from model.training.synthesis.ground import KINDS, MIX_LEVELS, TRAITS
from model.training.synthesis.sheets import NEUTRAL
from model.training.synthesis.texture import Block, ByteArray, FloatArray, crop_periodic

COARSE_SPACING_M: Final = 70.0
COARSE_LATTICE_SIZE: Final = 96
_COARSE_STEP_PX = 8
_DENSEST = 2.5
"""How many times the usual number of trees stands where they clump most."""
_NO_MAP = np.empty(0, np.float32)
"""OpenCV's second map of coordinates, which is empty where the first one holds both."""


def draw_ground(stage: Stage, canvas: Canvas) -> tuple[ByteArray, ByteArray]:
    """Covers the ground of both dates; returns the (H, W) cover index at each."""
    block, (before, after) = canvas.block, canvas.drawings
    coarse = _sample_coarse(stage, block)
    bend = crop_periodic(stage.sheets.bend, block, offset_px=stage.offsets_px[0])
    rows, columns = np.indices((block.height_px, block.width_px), dtype=np.int16, sparse=True)
    bent = np.stack([bend[:, :, 0] + columns, bend[:, :, 1] + rows], axis=2)
    first, second = (_map_covers(stage, canvas, date_index, bent) for date_index in (0, 1))
    _colour_ground(stage, block, first, coarse, before.ground, before.texture)
    np.copyto(after.ground, before.ground)
    np.copyto(after.texture, before.texture)
    # Most of the ground is the same at both dates.
    x, y, width, height = cv2.boundingRect((first != second).view(np.uint8))
    if width and height:
        part = Block(y0=block.y0 + y, x0=block.x0 + x, height_px=height, width_px=width)
        second_part, coarse_part = part.cut(second, of=block), part.cut(coarse, of=block)
        ground, texture = part.cut(after.ground, of=block), part.cut(after.texture, of=block)
        _colour_ground(stage, part, second_part, coarse_part, ground, texture)
    return first, second


def _sample_coarse(stage: Stage, block: Block) -> ByteArray:
    """Returns the (H, W) slow variation of the ground around `NEUTRAL`; equal at equal scene positions."""
    step = _COARSE_STEP_PX
    y0, x0 = math.floor(block.y0 / step) - 1, math.floor(block.x0 / step) - 1
    y1 = math.ceil((block.y0 + block.height_px) / step) + 1
    x1 = math.ceil((block.x0 + block.width_px) / step) + 1
    scale = step * stage.resolution_m / COARSE_SPACING_M
    cosine, sine = math.cos(stage.coarse_angle_rad) * scale, math.sin(stage.coarse_angle_rad) * scale
    matrix = np.array([[cosine, -sine, cosine * x0 - sine * y0], [sine, cosine, sine * x0 + cosine * y0]])
    # warpAffine loses its wrap-around far outside the lattice: bring the origin back into one period.
    matrix[:, 2] = np.mod(matrix[:, 2], COARSE_LATTICE_SIZE)
    field = cv2.warpAffine(
        stage.coarse_lattice,
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    levels = np.clip(np.rint(field * np.float32(1.3 * 48) + np.float32(NEUTRAL)), 0, 255).astype(np.uint8)
    grown = cv2.resize(levels, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    top, left = block.y0 - y0 * step, block.x0 - x0 * step
    return np.ascontiguousarray(grown[top : top + block.height_px, left : left + block.width_px])


def _map_covers(stage: Stage, canvas: Canvas, date_index: int, bent: NDArray[np.int16]) -> ByteArray:
    """Returns the (H, W) cover index; the borders of natural patches are bent, those of lots are straight."""
    cover = np.zeros((canvas.block.height_px, canvas.block.width_px), np.uint8)
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
    """Fills in which of its colours each cover shows, and the fine texture of the ground.

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
    """Returns the smallest block that holds everything of a mask over a block."""
    x, y, width, height = cv2.boundingRect(mask)
    return Block(y0=block.y0 + y, x0=block.x0 + x, height_px=height, width_px=width)


def _list_present(cover: ByteArray) -> NDArray[np.intp]:
    """Returns the indices of the covers that are seen."""
    return np.flatnonzero(cv2.calcHist([cover], [0], None, [256], [0, 256]))


def _draw_rows(stage: Stage, block: Block, cover: ByteArray, index: int, texture: ByteArray) -> None:
    """Draws the rows of a field into its texture."""
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
    """Returns phases in 1/256 of a turn as bytes."""
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


def plant_trees(stage: Stage, canvas: Canvas, covers: tuple[ByteArray, ByteArray]) -> None:
    """Lets the trees of the sheets stand where the ground of each date bears them and nothing is built.

    Args:
        stage: The landscape and its textures.
        canvas: Drawn into.
        covers: What `draw_ground` returned.
    """
    block = canvas.block
    coarse = _sample_coarse(stage, block)
    for date_index, (cover, drawing) in enumerate(zip(covers, canvas.drawings, strict=True)):
        ground = _Ground(block=block, cover=cover, coarse=coarse, date_index=date_index)
        present = _list_present(cover)
        for sheet_index, sheet in enumerate(stage.sheets.crowns):
            share = stage.landscape.covers.trees[:, sheet_index]
            if not share[present].any():
                continue
            offset = stage.offsets_px[2 + sheet_index]
            for part, corner in _repetitions(block, stage.sheets.size_px, offset):
                stands = _choose_trees(stage, ground, sheet, share, part, corner)
                _raise_crowns(sheet, stands, part, corner, block, drawing)


def _repetitions(block: Block, size_px: int, offset: tuple[int, int]) -> list[tuple[Block, tuple[int, int]]]:
    """Returns the parts of a block that see one repetition of a sheet each, and where in the scene that one begins."""
    parts = []
    for top in range((block.y0 + offset[0]) // size_px * size_px - offset[0], block.y0 + block.height_px, size_px):
        for left in range((block.x0 + offset[1]) // size_px * size_px - offset[1], block.x0 + block.width_px, size_px):
            y0, x0 = max(top, block.y0), max(left, block.x0)
            y1 = min(top + size_px, block.y0 + block.height_px)
            x1 = min(left + size_px, block.x0 + block.width_px)
            parts.append((Block(y0=y0, x0=x0, height_px=y1 - y0, width_px=x1 - x0), (top, left)))
    return parts


def _choose_trees(
    stage: Stage, ground: _Ground, sheet: CrownSheet, share: FloatArray, part: Block, corner: tuple[int, int]
) -> ByteArray:
    """Chooses the trees of a sheet that stand.

    Args:
        stage: The landscape and its textures.
        ground: What bears them.
        sheet: The population.
        share: (covers,) share of the population that each cover bears.
        part: Part of the block that one repetition of the sheet is seen in.
        corner: Row and column of the scene where that repetition begins.

    Returns:
        For each tree 255 where it stands and can be seen in the part, else 0.
    """
    low = np.array([part.y0 - corner[0], part.x0 - corner[1]], np.float32)
    high = low + np.array([part.height_px, part.width_px], np.float32)
    reach = sheet.radius_px[:, None] + np.float32(2.0)
    is_near = ((sheet.position_px > low - reach) & (sheet.position_px < high + reach)).all(axis=1)
    near = np.flatnonzero(is_near & (sheet.draw < share.max() * np.float32(_DENSEST)))
    scene_px = sheet.position_px[near] + np.array(corner, np.float32)
    block = ground.block
    local = np.rint(scene_px - np.array([block.y0, block.x0], np.float32)).astype(np.int64)
    rows = np.clip(local[:, 0], 0, block.height_px - 1)
    columns = np.clip(local[:, 1], 0, block.width_px - 1)
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


def _raise_crowns(
    sheet: CrownSheet, stands: ByteArray, part: Block, corner: tuple[int, int], block: Block, drawing: Drawing
) -> None:
    """Raises the crowns of the trees that stand; the taller tree wins."""
    top, left = part.y0 - corner[0], part.x0 - corner[1]
    cut = (slice(top, top + part.height_px), slice(left, left + part.width_px))
    height = cv2.bitwise_and(np.ascontiguousarray(sheet.height[cut]), np.take(stands, sheet.tree[cut]))
    crown, tone = part.cut(drawing.crown, of=block), part.cut(drawing.tone, of=block)
    is_higher = (np.asarray(height, np.uint8) > crown).view(np.uint8)
    cv2.copyTo(height, is_higher, crown)
    cv2.copyTo(np.ascontiguousarray(sheet.tone[cut]), is_higher, tone)
