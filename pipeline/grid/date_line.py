"""Shapes in degrees near the date line: run on beyond 180 to be worked with, cut at it to be told."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

_HALF_TURN, _WHOLE_TURN = 180.0, 360.0
_LONGEST_EDGE = 270.0
# ^ Degrees; what is longer goes the short way round. Between this and half a turn, shapes as large as that are meant.


def unwrap_shape(shape: BaseGeometry) -> BaseGeometry:
    """Let polygons run on beyond 180 degrees where an edge seems to go the long way round the Earth.

    An edge from 179 to -179 is two degrees long and crosses the date line; one from -180 to 180 is a whole turn, such
    as the lower edge of a map of Antarctica, and stays.
    """
    west, _, east, _ = shape.bounds
    if not east - west > _LONGEST_EDGE:
        return shape
    polygons = []
    for part in shapely.get_parts(shape):
        rings = [_unwrap_ring(shapely.get_coordinates(ring)) for ring in (part.exterior, *part.interiors)]
        polygons.append(shapely.Polygon(rings[0], [_move_beside(hole, rings[0]) for hole in rings[1:]]))
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def wrap_shape(shape: BaseGeometry) -> BaseGeometry:
    """Cut a shape at the date line, so that all of it lies from -180 to 180, as GeoJSON wants it."""
    west, _, east, _ = shape.bounds
    if west >= -_HALF_TURN and east <= _HALF_TURN:
        return shape
    if not np.isfinite([west, east]).all():
        return shape
    parts = []
    first = np.floor((west + _HALF_TURN) / _WHOLE_TURN) * _WHOLE_TURN
    # No shape goes round the Earth more than once, wherever it begins.
    for turn in (first, first + _WHOLE_TURN):
        band = shapely.box(turn - _HALF_TURN, -90.0, turn + _HALF_TURN, 90.0)
        parts.append(shapely.transform(shapely.intersection(shape, band), lambda xy, turn=turn: xy - [turn, 0.0]))
    return shapely.union_all(parts)


def make_box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Make the shape of bounds as GeoJSON has them: west above east where they reach over the date line."""
    return wrap_shape(shapely.box(west, south, east if west <= east else east + _WHOLE_TURN, north))


def _unwrap_ring(corners: np.ndarray) -> np.ndarray:
    steps = np.diff(corners[:, 0])
    is_long = (np.abs(steps) > _LONGEST_EDGE) & (np.abs(steps) < _WHOLE_TURN)
    turns = np.concatenate([[0.0], np.cumsum(np.where(is_long, -np.sign(steps) * _WHOLE_TURN, 0.0))])
    return np.column_stack([corners[:, 0] + turns, corners[:, 1]])


def _move_beside(hole: np.ndarray, shell: np.ndarray) -> np.ndarray:
    """Move a hole by whole turns to where its shell is."""
    turn = _WHOLE_TURN * round((shell[:, 0].mean() - hole[:, 0].mean()) / _WHOLE_TURN)
    return np.asarray(np.add(hole, [turn, 0.0]))
