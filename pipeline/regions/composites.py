"""Dates of a region that are made of several scenes: which of a window go together, which composites are compared."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from shapely.geometry.base import BaseGeometry

from pipeline.config.region import DateChoiceConfig, RegionConfig
from pipeline.config.region_sources import LastAnalysedPairing, PairingConfig, SeriesPairing, YearEarlierPairing
from pipeline.dates import Interval
from pipeline.regions.dates import DatedScene, choose_scenes
from pipeline.regions.pairs import RegionPair, choose_pairs, find_windows
from pipeline.scenes.days import LeftOut, ScenePiece, compute_coverage, rank_clouds

_HALF_DAY = dt.timedelta(hours=12)

ScenePairs = list[tuple[DatedScene, DatedScene]]
_Index = Mapping[tuple[str | None, str], Sequence[ScenePiece]]


@dataclass(frozen=True, kw_only=True)
class Composer:
    """What the composites of a pass are made by."""

    pairing: PairingConfig
    """How they are paired, which says where their windows are."""
    choice: DateChoiceConfig
    """Which scenes are good enough, and how many a composite is made of."""
    now: dt.datetime
    """The present, with its zone."""
    analysed: Sequence[RegionPair] = ()
    """Pairs that have a result."""

    def list_windows(self) -> tuple[Interval, ...]:
        """List the windows that composites are made of, in the order of time.

        Those of ``series`` and ``last-analysed`` are counted from ``since``, and only those that are over: a composite
        does not grow from pass to pass.
        """
        windows = find_windows(self.pairing, now=self.now, analysed=self.analysed)
        if not isinstance(self.pairing, SeriesPairing | LastAnalysedPairing):
            return windows
        length, tick = dt.timedelta(days=self.choice.composite_days), dt.timedelta.resolution
        first = dt.datetime.combine(self.pairing.since, dt.time(), tzinfo=dt.UTC)
        start, end = windows[0].start or first, windows[0].end or self.now
        # From the beginning of the window that the last pair's earlier date is of.
        begin = first + max(0, (start - first) // length) * length
        return tuple(
            Interval(start=begin + n * length, end=begin + (n + 1) * length - tick)
            for n in range((end + tick - begin) // length)
        )

    def pair(
        self, scenes: Sequence[DatedScene], *, pieces: Sequence[ScenePiece], area: BaseGeometry
    ) -> tuple[ScenePairs, list[LeftOut]]:
        """Make composites and choose which are compared.

        Args:
            scenes: All that are good enough, in any order.
            pieces: What they are made of.
            area: The area of interest in WGS84 degrees.

        Returns:
            Earlier and later composite of each pair, and what takes part in none, with the reason.
        """
        windows, known = self.list_windows(), _index(pieces)
        composites: list[DatedScene] = []
        left_out: list[LeftOut] = []
        waiting = list(scenes)
        # The later first: where windows overlap, what both hold is the later one's.
        for window in reversed(windows):
            inside, waiting = _divide(waiting, [window.touches(scene.start, scene.start) for scene in waiting])
            if composites:
                first = composites[-1].dates[0].start
                inside, later = _divide(inside, [scene.start < first for scene in inside])
                left_out += _leave_out(later, reason="not earlier than the later composite")
            inside.sort(key=self._rank)
            chosen = inside[: self.choice.max_scenes]
            left_out += _leave_out(inside[len(chosen) :], reason="one of too many of its window (dates.max_scenes)")
            if chosen:
                composites.append(self._compose(chosen, window=window, known=known, area=area))
            else:
                left_out.append(LeftOut(name=f"window {window.format()}", reason="no scene that is good enough"))
        left_out += _leave_out(waiting, reason="in no window, or in one that is not over")
        usable, poor = choose_scenes(composites[::-1], choice=self.choice)
        if isinstance(self.pairing, SeriesPairing | LastAnalysedPairing):
            pairs, others = choose_pairs(usable, pairing=self.pairing, now=self.now, analysed=self.analysed)
        else:
            pairs, others = ([(usable[0], usable[1])] if len(usable) == len(windows) else []), []
        return pairs, [*left_out, *poor, *others]

    def _rank(self, scene: DatedScene) -> tuple[float, float]:
        is_by_clouds = getattr(self.pairing, "order", "newest") == "least_cloudy"
        return rank_clouds(scene.cloud_percent) if is_by_clouds else 0.0, -scene.start.timestamp()

    def _compose(
        self, chosen: Sequence[DatedScene], *, window: Interval, known: _Index, area: BaseGeometry
    ) -> DatedScene:
        dates = sorted(chosen, key=lambda scene: (scene.start, scene.scene_id))
        collections = {date.collection for date in dates}
        clouds = [date.cloud_percent for date in dates if date.cloud_percent is not None]
        shown = [piece for date in dates for piece in _list_pieces(date, known=known)]
        days = dict.fromkeys((f"{dates[0].start:%Y-%m-%d}", f"{dates[-1].start:%Y-%m-%d}"))
        return DatedScene(
            scene_id=f"{self.choice.composite} of {len(dates)} date{'s' if dates[1:] else ''}, {' to '.join(days)}",
            start=dates[(len(dates) - 1) // 2].start,
            piece_ids=tuple(sorted(piece for date in dates for piece in date.piece_ids)),
            version=hashlib.sha256("\n".join(date.version for date in dates).encode()).hexdigest()[:12],
            collection=collections.pop() if len(collections) == 1 else None,
            cloud_percent=sum(clouds) / len(clouds) if clouds else None,
            covered_fraction=compute_coverage(shown, area=area),
            dates=tuple(dates),
            window=None if isinstance(self.pairing, YearEarlierPairing) else window.format(),
        )


def make_composer(config: RegionConfig, *, now: dt.datetime, analysed: Sequence[RegionPair]) -> Composer | None:
    """Give what a region's dates are composed by; None where each is one day's scene.

    Args:
        config: The region.
        now: The present, with its zone.
        analysed: Pairs of the place that have a result.
    """
    if config.dates.composite == "none":
        return None
    return Composer(pairing=config.pairing, choice=config.dates, now=now, analysed=analysed)


def _index(pieces: Sequence[ScenePiece]) -> _Index:
    known: dict[tuple[str | None, str], list[ScenePiece]] = {}
    for piece in pieces:
        known.setdefault((piece.collection, piece.piece_id), []).append(piece)
    return known


def _list_pieces(date: DatedScene, *, known: _Index) -> list[ScenePiece]:
    named = [piece for name in date.piece_ids for piece in known[date.collection, name]]
    # Catalogs without collections call the same place by the same id on every date.
    return [piece for piece in named if abs(piece.start - date.start) < _HALF_DAY]


def _divide(scenes: Sequence[DatedScene], fits: Sequence[bool]) -> tuple[list[DatedScene], list[DatedScene]]:
    """Give the scenes that fit, and the others."""
    return list(compress(scenes, fits)), list(compress(scenes, [not each for each in fits]))


def _leave_out(scenes: Sequence[DatedScene], *, reason: str) -> list[LeftOut]:
    return [LeftOut(name=scene.scene_id, reason=reason) for scene in scenes]
