"""Which pieces make up the scene of one day: the one rule for runs and for regions, for STAC items and for files."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import shapely
from shapely.geometry.base import BaseGeometry

_SAME_ACQUISITION = dt.timedelta(minutes=1)
_SAME_FOOTPRINT = 0.75
# ^ Part that two outlines have to share, of what they cover together, to be one and the same; neighbours share a tenth.
_NUMBER = re.compile(r"(\d{1,18})")


@dataclass(frozen=True, kw_only=True)
class ScenePiece:
    """One STAC item or one file: all of an acquisition, or a part of it."""

    piece_id: str
    """Id of the item, or path of the file below its folder."""
    start: dt.datetime
    """First moment of the acquisition, UTC."""
    collection: str | None = None
    """Id of the item's collection; None for files."""
    cloud_percent: float | None = None
    """Clouds by its own account, 0 to 100; None where it does not tell."""
    footprint: BaseGeometry | None = None
    """What it shows, in WGS84 longitude and latitude; None where nobody tells without opening it."""
    version: str = ""
    """What is another once its pixels are others: a checksum, a version of the processing, an etag."""
    processed: tuple[str, ...] = ()
    """By which version and when it was processed; of two of one acquisition, the one that sorts last counts."""
    is_colour: bool = False
    """Whether one colour raster holds red, green and blue: a picture rather than measured values."""


Piece = TypeVar("Piece", bound=ScenePiece)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something that was found and takes no part."""

    name: str
    """Id of the item, path of the file, or name of the scene or pair."""
    reason: str
    """Why it takes no part."""
    block_id: str | None = None
    """The block of a region that it takes no part in; None: all of the region, or a run."""


def group_days(
    pieces: Iterable[Piece], *, area: BaseGeometry
) -> tuple[dict[tuple[dt.date, str], list[Piece]], list[LeftOut]]:
    """Put the pieces of one day and one collection together.

    A day is one of the local sun: a satellite's pass over a place never falls on two. Of several versions of one item
    or of one acquisition the one that was processed last counts; of pictures and measured values of one day, the
    values. Collections do not mix.

    Args:
        pieces: What was found, in any order; a piece may come twice.
        area: The area of interest in WGS84 degrees.

    Returns:
        The pieces of each day and collection by id, and those that are part of none.
    """
    kept, left_out = _take_versions(pieces)
    # In whole hours, as odc-stac has it, so that its users find the same days.
    hours = dt.timedelta(hours=int(_find_longitude(area) / 15))
    groups: dict[tuple[dt.date, str], list[Piece]] = {}
    for piece in kept:
        groups.setdefault(((piece.start + hours).date(), piece.collection or ""), []).append(piece)
    for key, found in groups.items():
        latest, former = _take_acquisitions(found)
        has_values = any(not piece.is_colour for piece in latest)
        pictures = [piece for piece in latest if has_values and piece.is_colour]
        left_out += [LeftOut(name=piece.piece_id, reason="a former processing of the same") for piece in former]
        left_out += [LeftOut(name=piece.piece_id, reason="a picture beside measured bands") for piece in pictures]
        chosen = [piece for piece in latest if not (has_values and piece.is_colour)]
        groups[key] = sorted(chosen, key=lambda piece: piece.piece_id)
    return groups, left_out


def compute_coverage(pieces: Sequence[ScenePiece], *, area: BaseGeometry) -> float:
    """Give the part of an area that pieces show by their own account, 0 to 1; where one does not tell, all of it."""
    known = [piece.footprint for piece in pieces if piece.footprint is not None]
    if len(known) < len(pieces):
        return 1.0
    seen = shapely.union_all(known)
    if area.area == 0:
        return float(seen.intersects(area))
    return min(1.0, float(seen.intersection(area).area / area.area))


def average_clouds(pieces: Sequence[ScenePiece]) -> float | None:
    """Give the mean of the clouds that pieces tell, 0 to 100; None where none tells."""
    clouds = [piece.cloud_percent for piece in pieces if piece.cloud_percent is not None]
    return sum(clouds) / len(clouds) if clouds else None


def rank_clouds(percent: float | None) -> float:
    """Give the place of clouds among others: what does not tell comes behind what is overcast."""
    return 101.0 if percent is None else percent


def rank_day(
    *, start: dt.datetime, cloud_percent: float | None, covered_fraction: float, order: str
) -> tuple[float, float, float]:
    """Give the place of a day among others: what shows most first, then the newest, or that with the fewest clouds.

    Days count as equal when they show the same whole per cent of the area. A run and a region rank by this alone.

    Args:
        start: Its first acquisition, UTC.
        cloud_percent: Mean of its clouds; None where nobody tells.
        covered_fraction: Part of the area that it shows, 0 to 1.
        order: ``least_cloudy`` or ``newest``.
    """
    clouds = rank_clouds(cloud_percent) if order == "least_cloudy" else 0.0
    return -round(covered_fraction, 2), clouds, -start.timestamp()


def _take_versions(pieces: Iterable[Piece]) -> tuple[list[Piece], list[LeftOut]]:
    latest: dict[tuple[str | None, str], list[Piece]] = {}
    left_out: list[LeftOut] = []
    for piece in sorted(pieces, key=_rank_age, reverse=True):
        known = latest.setdefault((piece.collection, piece.piece_id), [])
        # Catalogs without collections call the same place by the same id on every date.
        same = next((other for other in known if abs(piece.start - other.start) <= _SAME_ACQUISITION), None)
        if same is None:
            known.append(piece)
        # The same once more, as pages of an API that is being written to give it, is worth no word.
        elif same.processed != piece.processed:
            left_out.append(LeftOut(name=piece.piece_id, reason="a former processing of the same"))
    return [piece for known in latest.values() for piece in known], left_out


def _take_acquisitions(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    taken: list[Piece] = []
    former: list[Piece] = []
    # The latest first.
    for piece in pieces:
        is_former = any(_is_same_acquisition(piece, other) for other in taken)
        (former if is_former else taken).append(piece)
    return taken, former


def _rank_age(piece: ScenePiece) -> tuple[list[list[str | int]], str]:
    # Version 10 comes after version 9: numbers count as numbers, and every second part of a text is one.
    parts = [_NUMBER.split(text) for text in piece.processed]
    return [[int(part) if place % 2 else part for place, part in enumerate(each)] for each in parts], piece.piece_id


def _is_same_acquisition(first: ScenePiece, second: ScenePiece) -> bool:
    if first.footprint is None or second.footprint is None or first.is_colour != second.is_colour:
        return False
    if abs(first.start - second.start) > _SAME_ACQUISITION:
        return False
    both, either = first.footprint.intersection(second.footprint).area, first.footprint.union(second.footprint).area
    return bool(both >= _SAME_FOOTPRINT * either)


def _find_longitude(area: BaseGeometry) -> float:
    # The middle of an area on both sides of the date line would lie on the other side of the Earth.
    largest = max(getattr(area, "geoms", [area]), key=lambda part: part.area)
    return float(largest.centroid.x)
