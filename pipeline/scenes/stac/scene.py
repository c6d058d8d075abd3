"""STAC as a source of scenes: from what a config names to the files of one acquisition."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shapely.geometry import box
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.config.stac import StacConfig, is_cql2
from pipeline.dates import format_moment, parse_interval
from pipeline.scenes.files import SceneFiles
from pipeline.scenes.stac.documents import DocumentReader, ReadLimits
from pipeline.scenes.stac.items import SceneItem, read_item
from pipeline.scenes.stac.search import FoundItem, find_unmet, search_items

_LISTED_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class LeftOutItem:
    """An item that was found and is no part of the scene."""

    item_id: str
    """Id of the item."""
    reason: str
    """Why it is no part."""


@dataclass(frozen=True, kw_only=True)
class StacScene:
    """A scene out of STAC, and how it came about."""

    files: SceneFiles
    """Where its pixels are."""
    item_ids: tuple[str, ...]
    """Items that it is made of, in the order in which they count."""
    left_out: tuple[LeftOutItem, ...]
    """Items that were found and are no part of it."""
    covered_fraction: float
    """Part of the wanted area that its items show by their own account, 0 to 1."""


def find_stac_scene(
    config: StacConfig, *, area: BaseGeometry | None = None, limits: ReadLimits | None = None
) -> StacScene:
    """Find the items that a config means and make one scene of those of one day; no raster is opened.

    Args:
        config: Where the items are described, and which are meant.
        area: The run's area of interest in WGS84 degrees; the config's own bbox goes over it.
        limits: How long and how much is read before giving up.

    Raises:
        InputError: a document cannot be read, no item fits, or more fit than ``max_items``.
    """
    wanted = choose_area(config, area=area)
    items, left_out = list_items(config, area=wanted, limits=limits)
    if not items:
        raise _refuse_empty(config, left_out).about("stac: ")
    chosen, others = choose_day(items, area=wanted, order=config.order)
    covered = _compute_coverage(chosen, area=wanted if wanted is not None else _unite(items))
    first, more = chosen[0], len(chosen) - 1
    return StacScene(
        files=SceneFiles(
            scene_id=first.item_id + (f" and {more} more" if more else ""),
            datetime=format_moment(min(item.start for item in chosen)),
            parts=tuple(item.part for item in chosen),
            notes=tuple(_describe(chosen, (*left_out, *others), covered_fraction=covered)),
        ),
        item_ids=tuple(item.item_id for item in chosen),
        left_out=(*left_out, *others),
        covered_fraction=covered,
    )


def choose_area(config: StacConfig, *, area: BaseGeometry | None) -> BaseGeometry | None:
    """Tell where items have to be, in WGS84 degrees: in the config's bbox, else in an area of interest."""
    return _make_box(config.bbox) if config.bbox is not None else area


def list_items(
    config: StacConfig, *, area: BaseGeometry | None, limits: ReadLimits | None = None
) -> tuple[list[SceneItem], list[LeftOutItem]]:
    """Find all items that a config means, of any day, and those that were found and do not fit.

    Args:
        config: Where the items are described, and which are meant.
        area: Polygons in WGS84 degrees that they have to touch; None: anywhere.
        limits: How long and how much is read before giving up.

    Raises:
        InputError: a document cannot be read, or more items fit than ``max_items``.
    """
    reader = DocumentReader(limits=limits or ReadLimits())
    try:
        return _sift(search_items(config, area=area, reader=reader), config=config, area=area)
    except InputError as refusal:
        raise refusal.about("stac: ") from None
    finally:
        reader.session.close()


def choose_day(
    items: Sequence[SceneItem], *, area: BaseGeometry | None, order: str
) -> tuple[list[SceneItem], list[LeftOutItem]]:
    """Take the items of the one day and collection that show most of an area.

    A day is one of the local sun: a satellite's pass over a place never falls on two. Days count as equal when they
    show the same whole per cent of the area. Of equal ones the one with the fewest clouds on the mean is taken, or
    with ``newest`` the newest. Collections do not mix, nor do colour pictures with measured bands: of a day that has
    both, the bands count.

    Args:
        items: At least one.
        area: Polygons in WGS84 degrees; None: all that the items together show.
        order: ``least_cloudy`` or ``newest``; the order of the items within the day, too.

    Returns:
        The items of the day in their order, and the others with the reason.
    """
    area = area if area is not None else _unite(items)
    longitude = _find_longitude(area)
    groups: dict[tuple[dt.date, str], list[SceneItem]] = {}
    for item in items:
        groups.setdefault((_compute_day(item, longitude=longitude), item.collection or ""), []).append(item)

    def rank(group: tuple[dt.date, str]) -> tuple[float, float, int, str]:
        covered = round(_compute_coverage(groups[group], area=area), 2)
        clouds = sum(map(_count_clouds, groups[group])) / len(groups[group]) if order == "least_cloudy" else 0.0
        return -covered, clouds, -group[0].toordinal(), group[1]

    best = min(groups, key=rank)
    has_bands = any(not item.is_colour for item in groups[best])
    chosen = [item for item in groups[best] if not (has_bands and item.is_colour)]
    others = [
        LeftOutItem(item_id=item.item_id, reason=_compare(group, best))
        for group in groups
        for item in groups[group]
        if item not in chosen
    ]
    return sorted(chosen, key=lambda item: _rank_item(item, order)), others


def find_misfit(item: SceneItem, *, config: StacConfig, area: BaseGeometry | None) -> str | None:
    """Tell in what an item does not fit what a config asks for, whatever an API made of it; None: it fits."""
    if config.collections and item.collection is not None and item.collection not in config.collections:
        return "not of the collections"
    if config.datetime is not None and not parse_interval(config.datetime).touches(item.start, item.end):
        return f"not within {config.datetime}"
    if area is not None and not item.footprint.intersects(area):
        return "off the area"
    limit = config.max_cloud_percent
    if limit is not None and (item.cloud_percent is None or item.cloud_percent > limit):
        return "clouds not told" if item.cloud_percent is None else f"more than {limit:g} % clouds"
    if config.query is not None and not is_cql2(config.query):
        unmet = find_unmet(item.properties, config.query)
        return None if unmet is None else f"not {unmet}"
    return None


def _sift(
    found: Iterable[FoundItem], *, config: StacConfig, area: BaseGeometry | None
) -> tuple[list[SceneItem], list[LeftOutItem]]:
    items: list[SceneItem] = []
    left_out: list[LeftOutItem] = []
    for candidate in found:
        name = str(candidate.content.get("id") if isinstance(candidate.content, dict) else None)
        if config.ids and name not in config.ids:
            continue
        try:
            item = read_item(candidate, config=config)
            reason = find_misfit(item, config=config, area=area)
        except InputError as refusal:
            reason = refusal.found
        except ValueError as problem:
            reason = str(problem)
        if reason is not None:
            left_out.append(LeftOutItem(item_id=name[:200], reason=reason))
            continue
        items.append(item)
        if len(items) > config.max_items:
            raise InputError(
                f"more than {config.max_items} items of {redact_uri(config.href)} fit",
                expected="a search that few items fit",
                remedy="narrow datetime, bbox, max_cloud_percent or collections, or raise max_items",
            )
        if config.ids and {item.item_id for item in items} == set(config.ids):
            break
    named = {item.item_id for item in items} | {item.item_id for item in left_out}
    left_out += [LeftOutItem(item_id=name, reason="not found") for name in config.ids if name not in named]
    return items, left_out


def _describe(
    chosen: Sequence[SceneItem], left_out: Sequence[LeftOutItem], *, covered_fraction: float
) -> Iterator[str]:
    ids = ", ".join(item.item_id for item in chosen)
    # Never said to be whole where it is not.
    yield f"is made of the STAC items {ids}, which show {int(covered_fraction * 100 + 1e-6)} % of the area"
    yield from (f"does without {count} STAC items: {reason}" for reason, count in _count_reasons(left_out))


def _count_reasons(left_out: Sequence[LeftOutItem]) -> list[tuple[str, int]]:
    counts = Counter(item.reason for item in left_out).most_common()
    rest = sum(count for _, count in counts[_LISTED_REASONS:])
    return counts[:_LISTED_REASONS] + ([("other reasons", rest)] if rest else [])


def _refuse_empty(config: StacConfig, left_out: Sequence[LeftOutItem]) -> InputError:
    name = redact_uri(config.href)
    expected = "an item that fits, with georeferenced rasters of red, green and blue"
    if not left_out:
        return InputError(
            f"{name} has no item that fits", expected=expected, remedy="widen datetime, bbox or the cloud limit"
        )
    if len(left_out) == 1:
        found = f"item {left_out[0].item_id} of {name}: {left_out[0].reason}"
    else:
        words = [f"{reason} ({count})" for reason, count in _count_reasons(left_out)]
        found = f"none of the {len(left_out)} items of {name} fits: {'; '.join(words)}"
    return InputError(found, expected=expected, remedy="correct bands, or widen datetime, bbox or the cloud limit")


def _compare(group: tuple[dt.date, str], best: tuple[dt.date, str]) -> str:
    if group == best:
        return "a picture beside measured bands"
    return "another collection" if group[0] == best[0] else "another day"


def _rank_item(item: SceneItem, order: str) -> tuple[float, float, str]:
    clouds, age = _count_clouds(item), -item.start.timestamp()
    return (clouds, age, item.item_id) if order == "least_cloudy" else (age, clouds, item.item_id)


def _count_clouds(item: SceneItem) -> float:
    # What does not tell comes behind what is overcast.
    return 101.0 if item.cloud_percent is None else item.cloud_percent


def _compute_day(item: SceneItem, *, longitude: float) -> dt.date:
    # In whole hours, as odc-stac has it, so that its users find the same days.
    return (item.start + dt.timedelta(hours=int(longitude / 15))).date()


def _compute_coverage(items: Sequence[SceneItem], *, area: BaseGeometry) -> float:
    if area.area == 0:
        return 1.0 if any(item.footprint.intersects(area) for item in items) else 0.0
    return float(_unite(items).intersection(area).area / area.area)


def _find_longitude(area: BaseGeometry) -> float:
    # The middle of an area on both sides of the date line would lie on the other side of the Earth.
    largest = max(getattr(area, "geoms", [area]), key=lambda part: part.area)
    return float(largest.centroid.x)


def _unite(items: Sequence[SceneItem]) -> BaseGeometry:
    return unary_union([item.footprint for item in items])


def _make_box(bbox: tuple[float, float, float, float]) -> BaseGeometry:
    west, south, east, north = bbox
    if west < east:
        return box(west, south, east, north)
    return unary_union([box(west, south, 180, north), box(-180, south, east, north)])
