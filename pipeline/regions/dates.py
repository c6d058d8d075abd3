"""The dates of a region: what was found is put together day by day, and the days that are good enough are taken.

Plain values in and out; what lists them is `region_listing`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.config.region import DateChoiceConfig
from pipeline.dates import format_moment

_SAME_ACQUISITION = dt.timedelta(minutes=1)
_SAME_FOOTPRINT = 0.99
# ^ Part that two outlines have to share, of what they cover together, to be one and the same.
_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class ScenePiece:
    """One STAC item or one file: all of an acquisition, or a part of it."""

    piece_id: str
    """Id of the item, or path of the file below its folder."""
    start: dt.datetime
    """When it was acquired, UTC."""
    collection: str | None = None
    """Id of the item's collection; None for files."""
    cloud_percent: float | None = None
    """Clouds by its own account, 0 to 100; None where it does not tell."""
    footprint: BaseGeometry | None = None
    """What it shows, in WGS84 longitude and latitude; None where nobody tells without opening it."""
    version: str = ""
    """What is another once its pixels are others: a checksum, a version of the processing, an etag."""
    processed: str = ""
    """When or by which version it was processed; of two of one acquisition, the one that sorts last counts."""
    is_colour: bool = False
    """Whether it is a picture rather than measured values."""


@dataclass(frozen=True, kw_only=True)
class DatedScene:
    """What the pieces of one day show of a region."""

    scene_id: str
    """Name for people."""
    start: dt.datetime
    """First acquisition of the day, UTC."""
    piece_ids: tuple[str, ...]
    """Items or files, sorted."""
    version: str
    """Changes with the version of any piece."""
    collection: str | None = None
    """Collection of the items; None for files."""
    cloud_percent: float | None = None
    """Mean of what the pieces tell; None where none tells."""
    covered_fraction: float = 1.0
    """Part of the area that they show by their own account, 0 to 1."""

    @property
    def key(self) -> tuple[str | None, tuple[str, ...]]:
        """What stays equal when the scene is processed anew."""
        return self.collection, self.piece_ids

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self) | {"start": format_moment(self.start), "piece_ids": list(self.piece_ids)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        start = dt.datetime.fromisoformat(values["start"])
        return cls(**{**values, "start": start, "piece_ids": tuple(values["piece_ids"])})


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something that was found and takes no part."""

    name: str
    """Id of the item, path of the file, or name of the scene or pair."""
    reason: str
    """Why it takes no part."""


def group_scenes(pieces: Sequence[ScenePiece], *, area: BaseGeometry) -> tuple[list[DatedScene], list[LeftOut]]:
    """Put pieces of one day and one collection together, as one run would.

    A day is one of the local sun, in whole hours. Of several versions of one acquisition the one that was processed
    last counts; of pictures and measured values of one day, the values.

    Args:
        pieces: What was found, in any order; a piece may come twice.
        area: The area of interest in WGS84 degrees.

    Returns:
        The days in the order of time, and the pieces that are part of none.
    """
    hours = dt.timedelta(hours=int(_find_longitude(area) / 15))
    groups: dict[tuple[dt.date, str], list[ScenePiece]] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.start, piece.piece_id, piece.processed)):
        groups.setdefault(((piece.start + hours).date(), piece.collection or ""), []).append(piece)
    scenes: list[DatedScene] = []
    left_out: list[LeftOut] = []
    for found in groups.values():
        latest, former = _take_latest(found)
        has_values = any(not piece.is_colour for piece in latest)
        pictures = [piece for piece in latest if has_values and piece.is_colour]
        left_out += [LeftOut(name=piece.piece_id, reason="a former processing of the same") for piece in former]
        left_out += [LeftOut(name=piece.piece_id, reason="a picture beside measured bands") for piece in pictures]
        scenes.append(_join([piece for piece in latest if piece not in pictures], area=area))
    return sorted(scenes, key=lambda scene: (scene.start, scene.scene_id)), left_out


def choose_scenes(scenes: Sequence[DatedScene], *, choice: DateChoiceConfig) -> tuple[list[DatedScene], list[LeftOut]]:
    """Keep the scenes that are good enough, and say what is wrong with the others."""
    reasons = [_find_fault(scene, choice=choice) for scene in scenes]
    pairs = list(zip(scenes, reasons, strict=True))
    return (
        [scene for scene, reason in pairs if reason is None],
        [LeftOut(name=scene.scene_id, reason=reason) for scene, reason in pairs if reason is not None],
    )


def _find_fault(scene: DatedScene, *, choice: DateChoiceConfig) -> str | None:
    if scene.covered_fraction + _SLACK < choice.min_covered_fraction:
        return (
            f"shows {int(scene.covered_fraction * 100)} % of the area, "
            f"less than {choice.min_covered_fraction * 100:g} % (dates.min_covered_fraction)"
        )
    limit, clouds = choice.max_cloud_percent, scene.cloud_percent
    if limit is not None and clouds is not None and clouds > limit:
        return f"{clouds:.0f} % clouds, more than {limit:g} % (dates.max_cloud_percent)"
    return None


def _take_latest(pieces: Sequence[ScenePiece]) -> tuple[list[ScenePiece], list[ScenePiece]]:
    taken: list[ScenePiece] = []
    former: list[ScenePiece] = []
    for piece in sorted(pieces, key=lambda piece: (piece.processed, piece.piece_id), reverse=True):
        if any(piece.piece_id == other.piece_id for other in (*taken, *former)):
            # The same item once more, as pages of an API that is being written to give it.
            continue
        is_former = any(_is_same_acquisition(piece, other) for other in taken)
        (former if is_former else taken).append(piece)
    return taken, former


def _is_same_acquisition(first: ScenePiece, second: ScenePiece) -> bool:
    if first.footprint is None or second.footprint is None or first.is_colour != second.is_colour:
        return False
    if abs(first.start - second.start) > _SAME_ACQUISITION:
        return False
    both, either = first.footprint.intersection(second.footprint).area, first.footprint.union(second.footprint).area
    return bool(both >= _SAME_FOOTPRINT * either)


def _join(pieces: Sequence[ScenePiece], *, area: BaseGeometry) -> DatedScene:
    ids = sorted(piece.piece_id for piece in pieces)
    versions = sorted(f"{piece.piece_id}\n{piece.version}" for piece in pieces)
    clouds = [piece.cloud_percent for piece in pieces if piece.cloud_percent is not None]
    return DatedScene(
        scene_id=ids[0] + (f" and {len(ids) - 1} more" if ids[1:] else ""),
        start=min(piece.start for piece in pieces),
        piece_ids=tuple(ids),
        version=hashlib.sha256("\n\n".join(versions).encode()).hexdigest()[:12],
        collection=pieces[0].collection,
        cloud_percent=sum(clouds) / len(clouds) if clouds else None,
        covered_fraction=_compute_coverage([piece.footprint for piece in pieces], area=area),
    )


def _compute_coverage(footprints: Sequence[BaseGeometry | None], *, area: BaseGeometry) -> float:
    known = [footprint for footprint in footprints if footprint is not None]
    if len(known) < len(footprints):
        return 1.0
    return min(1.0, float(shapely.union_all(known).intersection(area).area / area.area))


def _find_longitude(area: BaseGeometry) -> float:
    # The middle of an area on both sides of the date line would lie on the other side of the Earth.
    largest = max(getattr(area, "geoms", [area]), key=lambda part: part.area)
    return float(largest.centroid.x)
