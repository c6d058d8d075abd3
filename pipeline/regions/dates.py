"""The dates of a region: what was found is put together day by day, and the days that are good enough are taken.

Plain values in and out; what finds them is `pipeline.regions.search`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from shapely.geometry.base import BaseGeometry

from pipeline.config.region import DateChoiceConfig
from pipeline.dates import format_moment
from pipeline.scenes.days import LeftOut, ScenePiece, average_clouds, compute_coverage, group_days

_SLACK = 1e-6
_COMPOSITE = frozenset({"dates", "window"})
# ^ What records of single scenes do not have.


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
    dates: tuple[DatedScene, ...] = ()
    """Of a composite the scenes that it is made of, in the order of time; `start` is that of the one in the middle."""
    window: str | None = None
    """Of a composite of a window that stays as it is, that window."""

    @property
    def key(self) -> tuple[object, ...]:
        """What stays equal when the scene is processed anew; of a window, when scenes are found later."""
        return ("window", self.window) if self.window is not None else (self.collection, self.piece_ids)

    @property
    def keys(self) -> frozenset[object]:
        """What scenes have in common that are not independent of each other."""
        if not self.dates:
            return frozenset({self.key})
        return frozenset((self.collection, (piece,)) for piece in self.piece_ids)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _COMPOSITE}
        values |= {"start": format_moment(self.start), "piece_ids": list(self.piece_ids)}
        if self.dates:
            values |= {"dates": [date.to_dict() for date in self.dates], "window": self.window}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        start = dt.datetime.fromisoformat(values["start"])
        dates = tuple(cls.from_dict(date) for date in values.get("dates", ()))
        return cls(**{**values, "start": start, "piece_ids": tuple(values["piece_ids"]), "dates": dates})


def group_scenes(pieces: Sequence[ScenePiece], *, area: BaseGeometry) -> tuple[list[DatedScene], list[LeftOut]]:
    """Put the pieces of each day and collection together, as one run would.

    Args:
        pieces: What was found, in any order; a piece may come twice.
        area: The area of interest in WGS84 degrees.

    Returns:
        The days in the order of time, and the pieces that are part of none.
    """
    days, left_out = group_days(pieces, area=area)
    scenes = [_describe(day, area=area) for day in days.values()]
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
    is_part = choice.composite != "none" and not scene.dates
    if not is_part and scene.covered_fraction + _SLACK < choice.min_covered_fraction:
        return (
            f"shows {int(scene.covered_fraction * 100)} % of the area, "
            f"less than {choice.min_covered_fraction * 100:g} % (dates.min_covered_fraction)"
        )
    if scene.dates:
        return None
    limit, clouds = choice.max_cloud_percent, scene.cloud_percent
    if limit is not None and clouds is not None and clouds > limit:
        return f"{clouds:.0f} % clouds, more than {limit:g} % (dates.max_cloud_percent)"
    return None


def _describe(pieces: Sequence[ScenePiece], *, area: BaseGeometry) -> DatedScene:
    ids = [piece.piece_id for piece in pieces]
    versions = sorted(f"{piece.piece_id}\n{piece.version}" for piece in pieces)
    return DatedScene(
        scene_id=ids[0] + (f" and {len(ids) - 1} more" if ids[1:] else ""),
        start=min(piece.start for piece in pieces),
        piece_ids=tuple(ids),
        version=hashlib.sha256("\n\n".join(versions).encode()).hexdigest()[:12],
        collection=pieces[0].collection,
        cloud_percent=average_clouds(pieces),
        covered_fraction=compute_coverage(pieces, area=area),
    )
