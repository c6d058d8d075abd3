"""Draws roofs: hips, gables and flats, each plane with its colour, height and lean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from model.training.synthesis.canvas import Canvas
from model.training.synthesis.crowns import HEIGHT_UNIT_M
from model.training.synthesis.landscape import Building, Wing
from model.training.synthesis.texture import Block, ByteArray, FloatArray

PLANE_DIRECTIONS: Final = 36
PLANE_SLOPES: Final = (0.1, 0.25, 0.4, 0.5, 0.65, 0.85)
"""Directions and slopes that planes are rounded to, so that a byte says how a surface leans."""
FLAT_PLANE: Final = 1 + PLANE_DIRECTIONS * len(PLANE_SLOPES)
"""A flat roof; 0 is the ground."""
PARAPET_PLANE: Final = FLAT_PLANE + 1
"""The edge of a flat roof, which catches more light."""

_FALLING_EDGES = {"hip": [0, 1, 2, 3], "gable_along": [2, 3], "gable_across": [0, 1]}
"""Edges of a wing (low along, high along, low front, high front) towards which its roof falls."""


@dataclass(frozen=True, kw_only=True)
class _Roof:
    """The rasters of one roof, (h, w) each."""

    rise_m: FloatArray
    """Height above the eaves, negative beside the roof."""
    plane: ByteArray
    """How the roof leans."""
    share: FloatArray
    """Share of the pixel under the roof."""


def encode_plane(outward_yx: tuple[float, float], slope: float) -> int:
    """Returns the byte of a plane that falls towards a direction with a slope."""
    turn = math.atan2(outward_yx[0], outward_yx[1]) / math.tau
    direction = round(turn * PLANE_DIRECTIONS) % PLANE_DIRECTIONS
    steepness = min(range(len(PLANE_SLOPES)), key=lambda index: abs(PLANE_SLOPES[index] - slope))
    return 1 + steepness * PLANE_DIRECTIONS + direction


def draw_building(canvas: Canvas, building: Building) -> None:
    """Draws a building at the dates at which it stands."""
    block = _find_block(canvas, building)
    if block is None:
        return
    roof = _raise_roof(building, block, resolution_m=canvas.resolution_m)
    height = np.rint((building.eave_m + roof.rise_m) / np.float32(HEIGHT_UNIT_M)).clip(0, 255).astype(np.uint8)
    is_roof = roof.share > 0.5
    share = np.rint(roof.share * 255).astype(np.uint8)
    is_touched = share > 0
    alpha = roof.share[:, :, None]
    colour = np.array(building.roof_rgb, np.float32) * alpha + np.float32(0.5)
    for drawing in canvas.at(building.is_at):
        np.copyto(block.cut(drawing.height, of=canvas.block), height, where=is_roof)
        np.copyto(block.cut(drawing.plane, of=canvas.block), roof.plane, where=is_touched)
        paint = block.cut(drawing.paint, of=canvas.block)
        paint[:] = paint * (1.0 - alpha) + colour
        covered = block.cut(drawing.paint_share, of=canvas.block)
        np.maximum(covered, share, out=covered)


def _find_block(canvas: Canvas, building: Building) -> Block | None:
    """Returns the building's bounding box in scene pixels within the canvas."""
    pixels = building.outline / canvas.resolution_m
    block = canvas.block
    (low_y, low_x), (high_y, high_x) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
    y0, x0 = max(math.floor(low_y) - 1, block.y0), max(math.floor(low_x) - 1, block.x0)
    y1 = min(math.ceil(high_y) + 1, block.y0 + block.height_px)
    x1 = min(math.ceil(high_x) + 1, block.x0 + block.width_px)
    if y1 <= y0 or x1 <= x0:
        return None
    return Block(y0=y0, x0=x0, height_px=y1 - y0, width_px=x1 - x0)


def _raise_roof(building: Building, block: Block, *, resolution_m: float) -> _Roof:
    """Computes a roof as the highest of its wings at each pixel."""
    placement = building.placement
    rows, columns = block.pixel_centres()
    y = rows * np.float32(resolution_m) - np.float32(placement.centre_yx[0])
    x = columns * np.float32(resolution_m) - np.float32(placement.centre_yx[1])
    along = y * np.float32(placement.along_yx[0]) + x * np.float32(placement.along_yx[1])
    front = y * np.float32(placement.front_yx[0]) + x * np.float32(placement.front_yx[1])
    shape = (block.height_px, block.width_px)
    roof = _Roof(
        rise_m=np.full(shape, -1.0, np.float32), plane=np.zeros(shape, np.uint8), share=np.zeros(shape, np.float32)
    )
    planes = _encode_edges(building)
    for wing in building.wings:
        sides = (along - wing.along0, wing.along1 - along, front - wing.front0, wing.front1 - front)
        edges = np.asarray(np.stack(sides), np.float32)
        nearest = edges.min(axis=0)
        share = np.clip(nearest * np.float32(1.0 / resolution_m) + np.float32(0.5), 0.0, 1.0)
        rise, plane = _raise_wing(wing, edges, nearest, planes, building.roof_slope)
        is_higher = (share > 0) & (rise > roof.rise_m)
        np.copyto(roof.plane, plane, where=is_higher)
        np.copyto(roof.rise_m, np.maximum(rise, 0.0), where=is_higher)
        np.maximum(roof.share, share, out=roof.share)
    return roof


def _encode_edges(building: Building) -> ByteArray:
    """Returns the (4,) bytes of the planes that fall towards a wing's edges."""
    along, front = building.placement.along_yx, building.placement.front_yx
    outwards = ((-along[0], -along[1]), along, (-front[0], -front[1]), front)
    return np.array([encode_plane(outward, building.roof_slope) for outward in outwards], np.uint8)


def _raise_wing(
    wing: Wing, edges: FloatArray, nearest: FloatArray, planes: ByteArray, slope: float
) -> tuple[FloatArray, ByteArray]:
    """Returns a wing's (h, w) rise above the eaves and planes from (4, h, w) distances to its edges."""
    if wing.roof == "flat":
        plane = np.where(nearest < np.float32(0.6), np.uint8(PARAPET_PLANE), np.uint8(FLAT_PLANE))
        return np.zeros_like(nearest), plane
    if wing.roof == "hip":
        return nearest * np.float32(slope), planes[edges.argmin(axis=0)]
    falling = _FALLING_EDGES[wing.roof]
    distances = edges[falling]
    return distances.min(axis=0) * np.float32(slope), planes[falling][distances.argmin(axis=0)]
