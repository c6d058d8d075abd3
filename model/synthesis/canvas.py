"""The rasters that a block of a scene is drawn on before any light falls on it, and how built things come onto them.

What stands there is drawn once; how it is seen follows from light and camera alone. So many tiles, each with its own
sun and season, can be cut from one drawing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.synthesis.geometry import Block, ByteArray, FloatArray, PointArray, Presence, bound, offset_polyline
from model.synthesis.ground import Rgb
from model.synthesis.landscape import Building, Road, Surface, Wing
from model.synthesis.textures import HEIGHT_UNIT_M, NEUTRAL

SUBPIXEL_BITS = 4
"""Binary digits after the point in the coordinates that OpenCV draws with."""

_FRINGE_RGB = (138, 130, 112)
"""Colour that half-covered edge pixels mix with before they are blended with the ground."""

PLANE_DIRECTIONS: Final = 36

PLANE_SLOPES: Final = (0.1, 0.25, 0.4, 0.5, 0.65, 0.85)
"""Directions and slopes that planes are rounded to, so that a byte says how a surface leans."""

_FLAT_PLANE: Final = 1 + PLANE_DIRECTIONS * len(PLANE_SLOPES)
"""A flat roof; 0 is the ground."""

PARAPET_PLANE: Final = _FLAT_PLANE + 1
"""The edge of a flat roof, which catches more light."""

_FALLING_EDGES = {"hip": [0, 1, 2, 3], "gable_along": [2, 3], "gable_across": [0, 1]}
"""Edges of a wing (low along, high along, low front, high front) towards which its roof falls."""

_WALK_RGB: Rgb = (184, 179, 168)
_VERGE_RGB: Rgb = (124, 118, 94)
_CURB_RGB: Rgb = (196, 192, 180)
_MIDDLE_RGB: Rgb = (172, 162, 124)
_EDGE_RGB: Rgb = (206, 204, 196)
_WIDE_ROAD_M = 5.4

_LANES = ((0.06, 0.6), (0.35, 0.3), (0.65, 0.3), (0.94, 0.6))
"""Where across a wide road lines are painted, and how strongly."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a block shows at one date, before light; rasters are (H, W) and drawn into in place."""

    ground: NDArray[np.uint16]
    """Index into the table of `look_at_covers`."""
    texture: ByteArray
    """Factor of fine texture in 1/128."""
    paint: ByteArray
    """(H, W, 3) colours of everything built."""
    paint_share: ByteArray
    """Share of the pixel that paint covers, of 255."""
    plane: ByteArray
    """How the surface leans: an index into `Light.plane_table`."""
    height: ByteArray
    """Height of built things above ground in `HEIGHT_UNIT_M`."""
    crown: ByteArray
    """Height of tree crowns above ground in `HEIGHT_UNIT_M`."""
    tone: ByteArray
    """Tone of the tree on top."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """One block of a scene at its two dates."""

    block: Block
    resolution_m: float
    drawings: tuple[Drawing, Drawing]

    def at(self, is_at: Presence) -> list[Drawing]:
        """Return the drawings of the dates at which something stands."""
        return [drawing for drawing, stands in zip(self.drawings, is_at, strict=True) if stands]

    def to_pixels(self, points_m: PointArray) -> NDArray[np.int32]:
        """Convert (N, 2) scene positions (y, x) in metres to OpenCV's fixed-point (x, y) within the block."""
        unit = 1 << SUBPIXEL_BITS
        shift = np.array([self.block.x0 + 0.5, self.block.y0 + 0.5])
        return np.asarray(np.rint((points_m[:, ::-1] / self.resolution_m - shift) * unit), np.int32)

    def fill(self, outline_m: PointArray, rgb: Rgb, is_at: Presence, *, height_m: float = 0.0) -> None:
        """Paint an outline in metres, with smooth edges, at the dates at which it is there."""
        pixels = [self.to_pixels(outline_m)]
        for drawing in self.at(is_at):
            cv2.fillPoly(drawing.paint, pixels, rgb, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.fillPoly(drawing.paint_share, pixels, (255,), cv2.LINE_AA, SUBPIXEL_BITS)
            if height_m > 0:
                cv2.fillPoly(drawing.height, pixels, _to_height(height_m), cv2.LINE_8, SUBPIXEL_BITS)

    def draw_line(self, line_m: PointArray, rgb: Rgb, is_at: Presence, *, share: float, height_m: float = 0.0) -> None:
        """Paint a line one pixel wide along (N, 2) positions in metres; `share` is how far it hides the ground."""
        pixels = [self.to_pixels(line_m)]
        for drawing in self.at(is_at):
            cv2.polylines(drawing.paint, pixels, False, rgb, 1, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.polylines(drawing.paint_share, pixels, False, (round(255 * share),), 1, cv2.LINE_AA, SUBPIXEL_BITS)
            if height_m > 0:
                cv2.polylines(drawing.height, pixels, False, _to_height(height_m), 2, cv2.LINE_8, SUBPIXEL_BITS)


def _to_height(height_m: float) -> Any:
    """Return metres as a value of the height rasters, the way OpenCV takes colours."""
    return (min(255, round(height_m / HEIGHT_UNIT_M)),)


def start_canvas(block: Block, *, resolution_m: float) -> Canvas:
    """Return an empty canvas."""
    before, after = (
        Drawing(
            ground=np.zeros(block.shape, np.uint16),
            texture=np.full(block.shape, NEUTRAL, np.uint8),
            paint=np.asarray(cv2.merge([np.full(block.shape, level, np.uint8) for level in _FRINGE_RGB]), np.uint8),
            paint_share=np.zeros(block.shape, np.uint8),
            plane=np.zeros(block.shape, np.uint8),
            height=np.zeros(block.shape, np.uint8),
            crown=np.zeros(block.shape, np.uint8),
            tone=np.zeros(block.shape, np.uint8),
        )
        for _ in (0, 1)
    )
    return Canvas(block=block, resolution_m=resolution_m, drawings=(before, after))


def draw_surfaces(canvas: Canvas, surfaces: list[Surface]) -> None:
    """Draw small surfaces in the order in which they were planned."""
    for surface in surfaces:
        canvas.fill(surface.outline, surface.rgb, surface.is_at, height_m=surface.height_m)


def draw_roads(canvas: Canvas, roads: list[Road]) -> None:
    """Draw roads layer by layer, so that crossings stay open: pavements, curbs, carriageways, marks."""
    for road in roads:
        if road.has_curb:
            canvas.fill(offset_polyline(road.centreline, road.half_width_m + 2.7), _WALK_RGB, road.is_at)
            canvas.fill(offset_polyline(road.centreline, road.half_width_m + 1.6), _VERGE_RGB, road.is_at)
    for road in roads:
        if road.has_curb:
            canvas.fill(_widen(road.outline, 0.35), _CURB_RGB, road.is_at)
    for road in roads:
        canvas.fill(road.outline, road.rgb, road.is_at)
    for road in roads:
        if road.has_marking:
            _mark_lanes(canvas, road)


def _mark_lanes(canvas: Canvas, road: Road) -> None:
    """Paint a line in the middle of a narrow road, and a white one per lane on a wide one."""
    if road.half_width_m < _WIDE_ROAD_M:
        canvas.fill(offset_polyline(road.centreline, 0.16), _MIDDLE_RGB, road.is_at)
        return
    left, right = _split_sides(road.outline)
    for across, strength in _LANES:
        canvas.draw_line(left + (right - left) * across, _EDGE_RGB, road.is_at, share=strength)


def _widen(outline: PointArray, distance_m: float) -> PointArray:
    """Return the outline of a strip made wider on both sides."""
    left, right = _split_sides(outline)
    across = left - right
    across = across / np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-9)[:, None]
    return np.concatenate([left + across * distance_m, (right - across * distance_m)[::-1]])


def _split_sides(outline: PointArray) -> tuple[PointArray, PointArray]:
    """Return both sides of a strip (see `offset_polyline`), from its start to its end."""
    half = len(outline) // 2
    return outline[:half], outline[half:][::-1]


@dataclass(frozen=True, kw_only=True)
class _Roof:
    """The rasters of one roof, (h, w) each."""

    rise_m: FloatArray
    """Height above the eaves, negative beside the roof."""
    plane: ByteArray
    """How the roof leans."""
    share: FloatArray
    """Share of the pixel under the roof."""


def draw_building(canvas: Canvas, building: Building) -> None:
    """Draw a building at the dates at which it stands."""
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
    pixels = building.outline / canvas.resolution_m
    block = canvas.block
    low_y, low_x, high_y, high_x = bound(pixels)
    y0, x0 = max(math.floor(low_y) - 1, block.y0), max(math.floor(low_x) - 1, block.x0)
    y1 = min(math.ceil(high_y) + 1, block.y0 + block.height_px)
    x1 = min(math.ceil(high_x) + 1, block.x0 + block.width_px)
    return Block.between(y0, x0, y1, x1)


def _raise_roof(building: Building, block: Block, *, resolution_m: float) -> _Roof:
    """Compute a roof as the highest of its wings at each pixel."""
    placement = building.placement
    rows, columns = block.pixel_centres()
    y = rows * np.float32(resolution_m) - np.float32(placement.centre_yx[0])
    x = columns * np.float32(resolution_m) - np.float32(placement.centre_yx[1])
    along = y * np.float32(placement.along_yx[0]) + x * np.float32(placement.along_yx[1])
    front = y * np.float32(placement.front_yx[0]) + x * np.float32(placement.front_yx[1])
    roof = _Roof(
        rise_m=np.full(block.shape, -1.0, np.float32),
        plane=np.zeros(block.shape, np.uint8),
        share=np.zeros(block.shape, np.float32),
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
    """Return the (4,) bytes of the planes that fall towards a wing's edges."""
    along, front = building.placement.along_yx, building.placement.front_yx
    outwards = ((-along[0], -along[1]), along, (-front[0], -front[1]), front)
    steepness = min(range(len(PLANE_SLOPES)), key=lambda index: abs(PLANE_SLOPES[index] - building.roof_slope))
    turns = [math.atan2(y, x) / math.tau for y, x in outwards]
    directions = [round(turn * PLANE_DIRECTIONS) % PLANE_DIRECTIONS for turn in turns]
    return 1 + steepness * PLANE_DIRECTIONS + np.array(directions, np.uint8)


def _raise_wing(
    wing: Wing, edges: FloatArray, nearest: FloatArray, planes: ByteArray, slope: float
) -> tuple[FloatArray, ByteArray]:
    """Return a wing's (h, w) rise above the eaves and planes from (4, h, w) distances to its edges."""
    if wing.roof == "flat":
        plane = np.where(nearest < np.float32(0.6), np.uint8(PARAPET_PLANE), np.uint8(_FLAT_PLANE))
        return np.zeros_like(nearest), plane
    if wing.roof == "hip":
        return nearest * np.float32(slope), planes[edges.argmin(axis=0)]
    falling = _FALLING_EDGES[wing.roof]
    distances = edges[falling]
    return distances.min(axis=0) * np.float32(slope), planes[falling][distances.argmin(axis=0)]
