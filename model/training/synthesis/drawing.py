"""Draws a planned landscape block by block, both dates at once, in the order of the things themselves.

Ground, paved surfaces, fences, roofs, crowns. With the colours go heights, from which all shadows follow, so houses,
trees and fences shade the ground and each other the way the sun stands.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from model.training.synthesis.canvas import Canvas, Drawing, Stage, start_canvas
from model.training.synthesis.landscape import Landscape, Rgb, Road, Surface
from model.training.synthesis.roofs import draw_building
from model.training.synthesis.terrain import draw_ground, plant_trees
from model.training.synthesis.texture import Block, PointArray, crop_periodic, offset_polyline

_WALK_RGB: Rgb = (184, 179, 168)
_VERGE_RGB: Rgb = (124, 118, 94)
_CURB_RGB: Rgb = (196, 192, 180)
_MIDDLE_RGB: Rgb = (172, 162, 124)
_EDGE_RGB: Rgb = (206, 204, 196)
_WIDE_ROAD_M = 5.4
_LANES = ((0.06, 0.6), (0.35, 0.3), (0.65, 0.3), (0.94, 0.6))
"""Where across a wide road lines are painted, and how strongly."""


class Boxes:
    """Bounding boxes in metres of everything with an outline, to find what a block holds."""

    def __init__(self, landscape: Landscape) -> None:
        self.roads = _bound([road.outline for road in landscape.roads])
        self.surfaces = _bound([surface.outline for surface in landscape.surfaces])
        self.buildings = _bound([building.outline for building in landscape.buildings])
        self.fences = _bound([fence.line for fence in landscape.fences])
        self.trails = _bound([trail.line for trail in landscape.trails])


def _bound(outlines: list[PointArray]) -> NDArray[np.float64]:
    """Returns (N, 4) boxes (y low, x low, y high, x high)."""
    boxes = [(*outline.min(axis=0).tolist(), *outline.max(axis=0).tolist()) for outline in outlines]
    return np.array(boxes).reshape(-1, 4)


def _find_in(boxes: NDArray[np.float64], block: Block, resolution_m: float, *, reach_m: float = 2.0) -> list[int]:
    """Returns the indices of the boxes that come within `reach_m` of a block."""
    low = np.array([block.y0, block.x0]) * resolution_m - reach_m
    high = np.array([block.y0 + block.height_px, block.x0 + block.width_px]) * resolution_m + reach_m
    touches = (boxes[:, :2] < high).all(axis=1) & (boxes[:, 2:] > low).all(axis=1)
    return [int(index) for index in np.flatnonzero(touches)]


def draw_block(stage: Stage, boxes: Boxes, block: Block) -> Canvas:
    """Draws what stands in a block at its two dates."""
    canvas = start_canvas(block, resolution_m=stage.resolution_m)
    landscape, resolution_m = stage.landscape, stage.resolution_m
    covers = draw_ground(stage, canvas)
    trails = [landscape.trails[index] for index in _find_in(boxes.trails, block, resolution_m)]
    for trail in trails:
        canvas.draw_line(trail.line, trail.rgb, trail.is_at, share=trail.share)
    found = _find_in(boxes.roads, block, resolution_m, reach_m=6.0)
    _draw_roads(canvas, [landscape.roads[index] for index in found])
    surfaces = [landscape.surfaces[index] for index in _find_in(boxes.surfaces, block, resolution_m)]
    _draw_surfaces(canvas, [surface for surface in surfaces if not surface.is_on_roof])
    for index in _find_in(boxes.fences, block, resolution_m):
        fence = landscape.fences[index]
        canvas.draw_line(fence.line, fence.rgb, fence.is_at, height_m=fence.height_m, share=0.9)
    for index in _find_in(boxes.buildings, block, resolution_m):
        draw_building(canvas, landscape.buildings[index])
    _draw_surfaces(canvas, [surface for surface in surfaces if surface.is_on_roof])
    plant_trees(stage, canvas, covers)
    for drawing in canvas.drawings:
        _texture_things(stage, block, drawing)
    return canvas


def _draw_surfaces(canvas: Canvas, surfaces: list[Surface]) -> None:
    """Draws small surfaces in the order in which they were planned."""
    for surface in surfaces:
        canvas.fill(surface.outline, surface.rgb, surface.is_at, height_m=surface.height_m)


def _draw_roads(canvas: Canvas, roads: list[Road]) -> None:
    """Draws roads layer by layer, so that crossings stay open: pavements, curbs, carriageways, marks."""
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
    """Paints a line in the middle of a narrow road, and a white one per lane on a wide one."""
    if road.half_width_m < _WIDE_ROAD_M:
        canvas.fill(offset_polyline(road.centreline, 0.16), _MIDDLE_RGB, road.is_at)
        return
    half = len(road.outline) // 2
    left, right = road.outline[:half], road.outline[half:][::-1]
    for across, strength in _LANES:
        canvas.draw_line(left + (right - left) * across, _EDGE_RGB, road.is_at, share=strength)


def _widen(outline: PointArray, distance_m: float) -> PointArray:
    """Returns the outline of a strip (see `offset_polyline`) made wider on both sides."""
    half = len(outline) // 2
    left, right = outline[:half], outline[half:][::-1]
    across = left - right
    across = across / np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-9)[:, None]
    return np.concatenate([left + across * distance_m, (right - across * distance_m)[::-1]])


def _texture_things(stage: Stage, block: Block, drawing: Drawing) -> None:
    """Gives paving, roofs and leaves their own fine texture."""
    layers = (("paved", drawing.paint_share), ("roof", drawing.plane), ("leaf", drawing.crown))
    for name, mask in layers:
        cv2.copyTo(crop_periodic(stage.sheets.grain[name], block, offset_px=stage.offsets_px[1]), mask, drawing.texture)
