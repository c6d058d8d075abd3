"""STAC as a source of scenes: from what a config names to the files of one acquisition."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.config.limits import get_limits
from pipeline.config.scene import MAX_COMPOSED, CompositeConfig
from pipeline.config.stac import StacConfig
from pipeline.dates import format_moment, to_utc
from pipeline.scenes.days import LeftOut, average_clouds, compute_coverage, group_days, rank_clouds, rank_day
from pipeline.scenes.files import SceneFiles
from pipeline.scenes.stac.documents import DocumentReader, ReadLimits
from pipeline.scenes.stac.filters import choose_area, find_misfit
from pipeline.scenes.stac.items import FoundItem, SceneItem, read_item
from pipeline.scenes.stac.search import search_items

_LISTED_REASONS = 5
_HALF_DAY = dt.timedelta(hours=12)
# ^ A day of which some items are gone may begin later than it did.


@dataclass(frozen=True, kw_only=True)
class StacScene:
    """A scene out of STAC, and how it came about."""

    files: SceneFiles
    """Where its pixels are."""
    item_ids: tuple[str, ...]
    """Items that it is made of, in the order in which they count."""
    left_out: tuple[LeftOut, ...]
    """Items that were found and are no part of it."""
    covered_fraction: float
    """Part of the wanted area that its items show by their own account, 0 to 1."""


def find_stac_scene(
    config: StacConfig,
    *,
    area: BaseGeometry | None = None,
    limits: ReadLimits | None = None,
    allow_private: bool = False,
) -> StacScene:
    """Find the items that a config means and make one scene of those of one day; no raster is opened.

    Args:
        config: Where the items are described, and which are meant.
        area: The run's area of interest in WGS84 degrees; the config's own bbox goes over it.
        limits: How long and how much is read before giving up.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Raises:
        InputError: a document cannot be read, no item fits, or more fit than ``max_items``.
    """
    wanted = choose_area(config, area=area)
    items, left_out = list_items(config, area=wanted, limits=limits, allow_private=allow_private)
    if not items:
        raise _refuse_empty(config, left_out).about("stac: ")
    chosen, others = choose_day(items, area=wanted, order=config.order)
    covered = compute_coverage(chosen, area=wanted if wanted is not None else _unite(items))
    return StacScene(
        files=_make_files(chosen, notes=_describe(chosen, (*left_out, *others), covered_fraction=covered)),
        item_ids=tuple(item.piece_id for item in chosen),
        left_out=(*left_out, *others),
        covered_fraction=covered,
    )


def find_stac_dates(
    config: StacConfig, *, composite: CompositeConfig, area: BaseGeometry | None = None, allow_private: bool = False
) -> tuple[list[SceneFiles], list[str]]:
    """Find the items that a config means and make one scene of those of each day; no raster is opened.

    Args:
        config: Where the items are described, and which are meant.
        composite: Which of the days are meant, and in which order they count.
        area: The run's area of interest in WGS84 degrees; the config's own bbox goes over it.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Returns:
        The files of each day, and what people should know of what was left out.

    Raises:
        InputError: a document cannot be read, no item fits, or more fit than ``max_items``.
    """
    wanted = choose_area(config, area=area)
    items, left_out = list_items(config, area=wanted, allow_private=allow_private)
    days, others = group_days(items, area=wanted if wanted is not None else _unite(items))
    chosen = {key: day for key, day in days.items() if _is_meant(day, composite=composite)}
    if not chosen:
        raise _refuse_empty(config, left_out).about("stac: ")
    keys = sorted(chosen, key=lambda key: (_rank_date(chosen[key], composite.order), key[1]))
    others += [LeftOut(name=day[0].piece_id, reason="another day") for key, day in days.items() if key not in chosen]
    others += [LeftOut(name=chosen[key][0].piece_id, reason="a day too many") for key in keys[MAX_COMPOSED:]]
    dates = [_make_files(sorted(chosen[key], key=lambda item: _rank_item(item, config.order))) for key in keys]
    counts = _count_reasons((*left_out, *others))
    return dates[:MAX_COMPOSED], [f"does without {count} STAC items: {reason}" for reason, count in counts]


def _is_meant(day: Sequence[SceneItem], *, composite: CompositeConfig) -> bool:
    start = min(item.start for item in day)
    return not composite.datetimes or any(abs(start - to_utc(meant)) < _HALF_DAY for meant in composite.datetimes)


def _rank_date(day: Sequence[SceneItem], order: str) -> tuple[float, float]:
    clouds = rank_clouds(average_clouds(day)) if order == "least_cloudy" else 0.0
    return clouds, -min(item.start for item in day).timestamp()


def _make_files(chosen: Sequence[SceneItem], *, notes: Iterable[str] = ()) -> SceneFiles:
    first, more = chosen[0], len(chosen) - 1
    return SceneFiles(
        scene_id=first.piece_id + (f" and {more} more" if more else ""),
        datetime=format_moment(min(item.start for item in chosen)),
        parts=tuple(item.part for item in chosen),
        notes=tuple(notes),
    )


def list_items(
    config: StacConfig, *, area: BaseGeometry | None, limits: ReadLimits | None = None, allow_private: bool = False
) -> tuple[list[SceneItem], list[LeftOut]]:
    """Find all items that a config means, of any day, and those that were found and do not fit.

    Args:
        config: Where the items are described, and which are meant.
        area: Polygons in WGS84 degrees that they have to touch; None: anywhere.
        limits: How long and how much is read before giving up.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Raises:
        InputError: a document cannot be read, or more items fit than ``max_items``.
    """
    reader = DocumentReader(
        limits=limits or ReadLimits.from_config(get_limits()), origin=config.href, allow_private=allow_private
    )
    try:
        return _sift(search_items(config, area=area, reader=reader), config=config, area=area)
    except InputError as refusal:
        raise refusal.about("stac: ") from None
    finally:
        reader.close()


def choose_day(
    items: Sequence[SceneItem], *, area: BaseGeometry | None, order: str
) -> tuple[list[SceneItem], list[LeftOut]]:
    """Take the items of the one day and collection that show most of an area.

    Days are those that `group_days` makes, in the order of `rank_day`.

    Args:
        items: At least one.
        area: Polygons in WGS84 degrees; None: all that the items together show.
        order: ``least_cloudy`` or ``newest``; the order of the items within the day, too.

    Returns:
        The items of the day in their order, and the others with the reason.
    """
    area = area if area is not None else _unite(items)
    days, left_out = group_days(items, area=area)

    def rank(key: tuple[dt.date, str]) -> tuple[tuple[float, float, float], str]:
        day, covered = days[key], compute_coverage(days[key], area=area)
        start, clouds = min(item.start for item in day), average_clouds(day)
        return rank_day(start=start, cloud_percent=clouds, covered_fraction=covered, order=order), key[1]

    best = min(days, key=rank)
    left_out += [
        LeftOut(name=item.piece_id, reason="another collection" if key[0] == best[0] else "another day")
        for key, others in days.items()
        for item in others
        if key != best
    ]
    return sorted(days[best], key=lambda item: _rank_item(item, order)), left_out


def _sift(
    found: Iterable[FoundItem], *, config: StacConfig, area: BaseGeometry | None
) -> tuple[list[SceneItem], list[LeftOut]]:
    items: list[SceneItem] = []
    left_out: list[LeftOut] = []
    for candidate in found:
        name = str(candidate.content.get("id") if isinstance(candidate.content, dict) else None)
        if config.ids and name not in config.ids:
            continue
        try:
            item = read_item(candidate, config=config)
            reason = find_misfit(item, config=config, area=area)
        except InputError as refusal:
            reason = refusal.found
        if reason is not None:
            left_out.append(LeftOut(name=name[:200], reason=reason))
            continue
        items.append(item)
        if len(items) > config.max_items:
            raise InputError(
                f"more than {config.max_items} items of {redact_uri(config.href)} fit",
                expected="a search that few items fit",
                remedy="narrow datetime, bbox, max_cloud_percent or collections, or raise max_items",
            )
    named = {item.piece_id for item in items} | {item.name for item in left_out}
    left_out += [LeftOut(name=name, reason="not found") for name in config.ids if name not in named]
    return items, left_out


def _describe(chosen: Sequence[SceneItem], left_out: Sequence[LeftOut], *, covered_fraction: float) -> Iterator[str]:
    ids = ", ".join(item.piece_id for item in chosen)
    # Never said to be whole where it is not.
    yield f"is made of the STAC items {ids}, which show {int(covered_fraction * 100 + 1e-6)} % of the area"
    yield from (f"does without {count} STAC items: {reason}" for reason, count in _count_reasons(left_out))


def _count_reasons(left_out: Sequence[LeftOut]) -> list[tuple[str, int]]:
    counts = Counter(item.reason for item in left_out).most_common()
    rest = sum(count for _, count in counts[_LISTED_REASONS:])
    return counts[:_LISTED_REASONS] + ([("other reasons", rest)] if rest else [])


def _refuse_empty(config: StacConfig, left_out: Sequence[LeftOut]) -> InputError:
    name = redact_uri(config.href)
    expected = "an item that fits, with georeferenced rasters of red, green and blue"
    if not left_out:
        return InputError(
            f"{name} has no item that fits", expected=expected, remedy="widen datetime, bbox or the cloud limit"
        )
    if len(left_out) == 1:
        found = f"item {left_out[0].name} of {name}: {left_out[0].reason}"
    else:
        words = [f"{reason} ({count})" for reason, count in _count_reasons(left_out)]
        found = f"none of the {len(left_out)} items of {name} fits: {'; '.join(words)}"
    return InputError(found, expected=expected, remedy="correct bands, or widen datetime, bbox or the cloud limit")


def _rank_item(item: SceneItem, order: str) -> tuple[float, float, str]:
    clouds, age = rank_clouds(item.cloud_percent), -item.start.timestamp()
    return (clouds, age, item.piece_id) if order == "least_cloudy" else (age, clouds, item.piece_id)


def _unite(items: Sequence[SceneItem]) -> BaseGeometry:
    return unary_union([item.footprint for item in items])
