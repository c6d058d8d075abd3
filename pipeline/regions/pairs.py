"""Which scenes of a region are compared: pure decisions from what was found, what is done and what time it is.

All windows are counted in UTC, in days of 24 hours, so that no clock change shortens or lengthens one. A key names the
region's place, and those of its settings that shape the answers.
"""

from __future__ import annotations

import calendar
import datetime as dt
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import shapely
from shapely.geometry.base import BaseGeometry

from model.interface import ENGINE_VERSION, ModelIdentity
from pipeline.answers.screening import find_screen
from pipeline.config.region import LatticeGridConfig, RegionConfig
from pipeline.config.region_sources import (
    DatesPairing,
    LastAnalysedPairing,
    PairingConfig,
    SeriesPairing,
    StacSourceConfig,
    YearEarlierPairing,
)
from pipeline.config.run import list_report_settings
from pipeline.dates import Interval, parse_interval, to_utc
from pipeline.grid.projections import check_grid_crs, find_utm_code
from pipeline.regions.dates import DatedScene
from pipeline.scenes.days import LeftOut, rank_day
from pipeline.scenes.registration import BLOCK_SIZE_PX, N_BLOCKS

_KEY_LENGTH = 12
_DEGREES = 1e-7
# ^ About a centimetre: the same area out of another file is the same.


def find_crs(crs: str, *, area: BaseGeometry) -> str:
    """Give the CRS of a region's grid: the one that is named, or for ``auto`` the UTM zone of the area's middle.

    Raises:
        InputError: it is not understood or not in metres, or the area is too near to a pole.
    """
    if crs != "auto":
        return check_grid_crs(crs)
    middle = find_middle(area)
    return find_utm_code(middle.x, middle.y)


def find_middle(area: BaseGeometry) -> shapely.Point:
    """Give the middle of an area's bounds in degrees, longitude from -180 to 180, also of one over the date line."""
    west, south, east, north = find_bounds(area)
    return shapely.Point((((west + east) / 2 + 180) % 360) - 180, (south + north) / 2)


def find_bounds(area: BaseGeometry) -> tuple[float, float, float, float]:
    """Give west, south, east and north of an area in degrees; of one over the date line, east beyond 180."""
    west, south, east, north = area.bounds
    if east - west > 180:
        # Both sides of the date line: the western hemisphere's part is moved behind the eastern's.
        west, south, east, north = shapely.transform(area, _move_east).bounds
    return west, south, east, north


def hash_cell(area: BaseGeometry, *, grid: LatticeGridConfig, crs: str) -> str:
    """Name a place: an area of interest and the grid that it is cut by."""
    shape = shapely.to_wkb(shapely.set_precision(area, _DEGREES).normalize(), byte_order=1)
    content = [hashlib.sha256(shape).hexdigest(), {**grid.model_dump(mode="json", exclude={"max_tiles"}), "crs": crs}]
    return _hash(content)


def hash_settings(config: RegionConfig, *, identity: ModelIdentity) -> str:
    """Name the settings that the result of a pair depends on, beside its place and its scenes."""
    scene = config.source.scene.model_dump(mode="json")
    # A setting that came later changes no key of a region that does not use it.
    later = {"has_alpha": None, "snow_hides": False}
    source: dict[str, Any] = {
        "scene": {key: scene[key] for key in scene if key not in later or scene[key] != later[key]}
    }
    if isinstance(config.source, StacSourceConfig):
        search = config.source.search
        source |= {"bands": search.bands, "classes": search.classes, "order": search.order}
    composite = config.make_composite()
    screen = find_screen([prompt.to_prompt() for prompt in config.prompts], model=config.model)
    return _hash(
        [
            source,
            config.tiles.model_dump(mode="json", exclude={"shard_size_tiles"}),
            {**config.registration.model_dump(mode="json"), "n_blocks": N_BLOCKS, "block_size_px": BLOCK_SIZE_PX},
            [[prompt.name, prompt.kind.value, prompt.text] for prompt in config.prompts],
            identity.weight_hash,
            config.model.precision,
            ENGINE_VERSION,
            *([["composite", composite.rule, composite.cloud_buffer_m, composite.order]] if composite else []),
            *([["screened", config.model.screening_confidence]] if screen else []),
            *list_report_settings(config.report),
        ]
    )


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


def _move_east(lon_lat: Any) -> Any:
    moved = lon_lat.copy()
    moved[moved[:, 0] < 0, 0] += 360
    return moved


_DAY = dt.timedelta(days=1)
_COMMON_YEAR, _YEAR_DAYS = 2001, 365
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class RegionPair:
    """Two scenes of a region that are to be compared, or were."""

    pair_id: str
    """Days of both scenes and a hash of all that the answer depends on: place, scenes and settings."""
    before: DatedScene
    """The earlier scene."""
    after: DatedScene
    """The later scene."""

    @property
    def key(self) -> tuple[object, object]:
        """Which scenes these are, however they were processed and whatever was asked."""
        return self.before.key, self.after.key

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {"pair_id": self.pair_id, "before": self.before.to_dict(), "after": self.after.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            ValueError: its id leads to another folder than one of its own.
        """
        pair_id = values["pair_id"]
        if not isinstance(pair_id, str) or not _PLAIN_ID.fullmatch(pair_id):
            raise ValueError(f"pair_id {str(pair_id)[:100]!r} is none")
        scenes = {date: DatedScene.from_dict(values[date]) for date in ("before", "after")}
        return cls(pair_id=pair_id, **scenes)


def find_windows(
    pairing: PairingConfig, *, now: dt.datetime, analysed: Sequence[RegionPair] = ()
) -> tuple[Interval, ...]:
    """Tell which spans of time scenes have to be looked for in.

    Args:
        pairing: How scenes are paired.
        now: The present, with its zone; nothing later is looked for.
        analysed: Pairs that have a result.
    """
    if isinstance(pairing, DatesPairing):
        return tuple(_end_at(parse_interval(text), now) for text in (pairing.before_dates, pairing.after_dates))
    if isinstance(pairing, YearEarlierPairing):
        return tuple(
            Interval(start=end - pairing.window_days * _DAY, end=end) for end in (subtract_year(now), to_utc(now))
        )
    if isinstance(pairing, SeriesPairing):
        until = None if pairing.until is None else _begin(pairing.until) + _DAY - dt.timedelta.resolution
        return (_end_at(Interval(start=_begin(pairing.since), end=until), now),)
    latest = max(analysed, key=lambda pair: pair.after.start, default=None)
    # From the scene that the last one was compared with: that may be needed again once the last is processed anew.
    start = _begin(pairing.since) if latest is None else latest.before.start - _DAY
    return (_end_at(Interval(start=start, end=None), now),)


def choose_pairs(
    scenes: Sequence[DatedScene],
    *,
    pairing: PairingConfig,
    now: dt.datetime,
    analysed: Sequence[RegionPair] = (),
) -> tuple[list[tuple[DatedScene, DatedScene]], list[LeftOut]]:
    """Choose which scenes are compared with which.

    Args:
        scenes: All that are good enough, in any order.
        pairing: How they are paired.
        now: The present, with its zone.
        analysed: Pairs that have a result.

    Returns:
        Earlier and later scene of each pair in the order of time, and what takes part in none, with the reason.
    """
    ordered = sorted((scene for scene in scenes if scene.start <= now), key=lambda scene: (scene.start, scene.scene_id))
    if isinstance(pairing, SeriesPairing):
        return _pair_series(ordered, pairing=pairing, now=now)
    if isinstance(pairing, LastAnalysedPairing):
        return _pair_with_last(ordered, analysed=analysed)
    windows = find_windows(pairing, now=now)
    return _pair_windows(ordered, windows=(windows[0], windows[1]), order=pairing.order)


def subtract_year(moment: dt.datetime) -> dt.datetime:
    """Give the same moment of the year before, UTC; of a leap day, the 28th of February."""
    moment = to_utc(moment)
    last_day = calendar.monthrange(moment.year - 1, moment.month)[1]
    return moment.replace(year=moment.year - 1, day=min(moment.day, last_day))


def find_season_gap(pair: RegionPair, *, pairing: PairingConfig) -> str | None:
    """Say in words that the dates of a pair lie too far apart in the year; None where they do not, or may."""
    if not isinstance(pairing, YearEarlierPairing):
        return None
    before, after = (_place_in_year(scene.start) for scene in (pair.before, pair.after))
    apart = min(abs(after - before), _YEAR_DAYS - abs(after - before))
    if apart <= pairing.max_season_days:
        return None
    return (
        f"{pair.pair_id}: its dates lie {apart} days apart in the year, more than {pairing.max_season_days} "
        "(pairing.max_season_days): seasons may look like changes"
    )


def _place_in_year(moment: dt.datetime) -> int:
    """Give the day of the year as of one without a leap day."""
    month, day = moment.month, moment.day
    return dt.date(_COMMON_YEAR, month, min(day, calendar.monthrange(_COMMON_YEAR, month)[1])).timetuple().tm_yday


def name_pair(before: DatedScene, after: DatedScene, *, cell: str, settings: str) -> RegionPair:
    """Name a pair after all that its result depends on.

    Args:
        before: The earlier scene.
        after: The later scene.
        cell: Key of the place: area of interest and grid.
        settings: Key of the settings that shape the answers.
    """
    content = [cell, settings, *([scene.collection, scene.piece_ids, scene.version] for scene in (before, after))]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    return RegionPair(pair_id=f"{before.start:%Y%m%d}_{after.start:%Y%m%d}_{digest}", before=before, after=after)


def _pair_windows(
    scenes: Sequence[DatedScene], *, windows: tuple[Interval, Interval], order: str
) -> tuple[list[tuple[DatedScene, DatedScene]], list[LeftOut]]:
    inside = [[scene for scene in scenes if window.touches(scene.start, scene.start)] for window in windows]
    if empty := [
        LeftOut(name=f"{date} window {window.format()}", reason="no scene that is good enough")
        for date, window, found in zip(("before", "after"), windows, inside, strict=True)
        if not found
    ]:
        return [], empty

    def rank(scene: DatedScene) -> tuple[float, float, float]:
        covered = scene.covered_fraction
        return rank_day(start=scene.start, cloud_percent=scene.cloud_percent, covered_fraction=covered, order=order)

    after = min(inside[1], key=rank)
    earlier = [scene for scene in inside[0] if scene.start < after.start]
    if not earlier:
        return [], [LeftOut(name=after.scene_id, reason="no scene of the before window is earlier")]
    before = min(earlier, key=rank)
    others = {id(scene): scene for found in inside for scene in found if scene not in (before, after)}

    def explain(scene: DatedScene) -> str:
        if rank(after if scene in inside[1] else before)[0] < rank(scene)[0]:
            return "a scene of the window that shows more of the area is taken"
        return "a newer scene of the window is taken" if order == "newest" else "a scene with fewer clouds is taken"

    return [(before, after)], [LeftOut(name=scene.scene_id, reason=explain(scene)) for scene in others.values()]


def _pair_series(
    scenes: Sequence[DatedScene], *, pairing: SeriesPairing, now: dt.datetime
) -> tuple[list[tuple[DatedScene, DatedScene]], list[LeftOut]]:
    (window,) = find_windows(pairing, now=now)
    kept: list[DatedScene] = []
    left_out: list[LeftOut] = []
    for scene in scenes:
        if not window.touches(scene.start, scene.start):
            left_out.append(LeftOut(name=scene.scene_id, reason="not within the series"))
        elif kept and (scene.start.date() - kept[-1].start.date()).days < pairing.min_days_apart:
            reason = f"less than {pairing.min_days_apart} days after {kept[-1].scene_id} (pairing.min_days_apart)"
            left_out.append(LeftOut(name=scene.scene_id, reason=reason))
        else:
            kept.append(scene)
    if len(kept) == 1:
        left_out.append(LeftOut(name=kept[0].scene_id, reason="the only scene: there is nothing to compare it with"))
    return list(itertools.pairwise(kept)), left_out


def _pair_with_last(
    scenes: Sequence[DatedScene], *, analysed: Sequence[RegionPair]
) -> tuple[list[tuple[DatedScene, DatedScene]], list[LeftOut]]:
    if not scenes:
        return [], []
    newest = scenes[-1]
    earlier = [scene for scene in scenes if scene.start < newest.start]
    known = {scene.key for pair in analysed for scene in (pair.before, pair.after)}
    seen = [scene for scene in earlier if scene.key in known]
    if not earlier:
        return [], [LeftOut(name=newest.scene_id, reason="the only scene: there is nothing to compare it with")]
    before = seen[-1] if seen else earlier[0]
    others = [scene for scene in scenes if scene not in (before, newest) and scene.key not in known]
    return [(before, newest)], [LeftOut(name=scene.scene_id, reason="a newer scene is taken") for scene in others]


def _end_at(window: Interval, now: dt.datetime) -> Interval:
    end = to_utc(now) if window.end is None else min(window.end, to_utc(now))
    return Interval(start=window.start, end=end)


def _begin(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
