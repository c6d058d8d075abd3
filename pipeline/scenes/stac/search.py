"""From what a config names to the STAC items that may be meant: one item, a list, a static catalog or an API."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pystac
from pystac_client import Client, ItemSearch
from pystac_client.warnings import PystacClientWarning
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.config.stac import StacConfig
from pipeline.dates import parse_interval
from pipeline.scenes.stac.documents import DocumentReader
from pipeline.scenes.stac.filters import write_query
from pipeline.scenes.stac.hrefs import Place, locate_document, resolve_href
from pipeline.scenes.stac.items import FoundItem
from pipeline.uris import is_remote

_PAGE_ITEMS = 100


def search_items(config: StacConfig, *, area: BaseGeometry | None, reader: DocumentReader) -> Iterator[FoundItem]:
    """Give the items that a config may mean; of an API those that fit, of documents all that stand there.

    Args:
        config: Where they are described.
        area: Polygons in WGS84 degrees that they have to touch; None: anywhere.
        reader: What reads the documents.

    Raises:
        InputError: a document cannot be read or is nothing of STAC, a link leads out of its place, or an API
            cannot do what is asked for.
    """
    place = locate_document(config.href, allow_private=reader.allow_private)
    document = reader.read_document(place.href)
    kind = document.get("type")
    if kind == "Feature":
        yield FoundItem(content=document, place=place)
    elif kind == "FeatureCollection":
        features = document.get("features")
        yield from (_locate_item(feature, place=place) for feature in (features if isinstance(features, list) else []))
    elif isinstance(document.get("conformsTo"), list):
        yield from _search_api(config, document, area=area, reader=reader)
    elif pystac.serialization.identify_stac_object_type(document) in {
        pystac.STACObjectType.CATALOG,
        pystac.STACObjectType.COLLECTION,
    }:
        yield from _walk_catalog(config, document, place=place, reader=reader)
    else:
        raise InputError(
            f"{redact_uri(config.href)} holds {f'a JSON object of type {kind!r}' if kind else 'no STAC object'}",
            expected="an item, a list of items, a catalog or collection, or the root of a STAC API",
            remedy="correct the address",
        )


def _locate_item(content: Any, *, place: Place) -> FoundItem:
    # Items out of a list or an API lie where they say; what they say leads no further than the list itself may.
    links = content.get("links") if isinstance(content, dict) else None
    hrefs = [link.get("href") for link in links or [] if isinstance(link, dict) and link.get("rel") == "self"]
    if place.is_remote and hrefs and isinstance(hrefs[0], str) and is_remote(hrefs[0]) and place.may_name(hrefs[0]):
        place = replace(place, href=hrefs[0])
    return FoundItem(content=content, place=place)


def _walk_catalog(
    config: StacConfig, document: dict[str, Any], *, place: Place, reader: DocumentReader
) -> Iterator[FoundItem]:
    waiting: deque[tuple[Place, dict[str, Any] | None, int]] = deque([(place, document, 0)])
    seen = {place.href}
    while waiting:
        here, content, depth = waiting.popleft()
        content = reader.read_document(here.href) if content is None else content
        catalog = _parse_catalog(content, href=here.href)
        is_wanted = (
            not config.collections or not isinstance(catalog, pystac.Collection) or catalog.id in config.collections
        )
        for link in catalog.get_item_links() if is_wanted else []:
            there = _follow(link, place=here)
            if there.href not in seen:
                seen.add(there.href)
                yield FoundItem(content=reader.read_document(there.href), place=there)
        children = catalog.get_child_links()
        if not children and not catalog.get_item_links() and catalog.get_links("items"):
            raise InputError(
                f"{redact_uri(here.href)} is a collection of an API",
                expected="the root of the API, or a static collection",
                remedy=f"name the root of the API, and set collections to [{catalog.id}]",
            )
        if depth == reader.limits.max_depth and children:
            raise InputError(
                f"{redact_uri(here.href)} is {depth} levels down and has further catalogs below",
                expected=f"at most {reader.limits.max_depth} levels",
                remedy="name a catalog further down",
            )
        for link in children:
            there = _follow(link, place=here)
            if there.href not in seen:
                seen.add(there.href)
                waiting.append((there, None, depth + 1))


def _parse_catalog(content: dict[str, Any], *, href: str) -> pystac.Catalog:
    kind = pystac.Collection if content.get("type") == "Collection" or "extent" in content else pystac.Catalog
    try:
        return kind.from_dict(content, href=href, migrate=True)
    # pystac lets through whatever its parsing of a malformed document runs into.
    except Exception as problem:
        raise InputError(
            f"{redact_uri(href)} is no sound STAC catalog ({type(problem).__name__}: {problem})",
            expected="a catalog or a collection as STAC describes them",
            remedy="correct the document",
        ) from None


def _follow(link: pystac.Link, *, place: Place) -> Place:
    href = resolve_href(str(link.target), place=place, what=f"a link to an {link.rel} in {redact_uri(place.href)}")
    return replace(place, href=href, root=None if is_remote(href) else place.root)


def _search_api(
    config: StacConfig, document: dict[str, Any], *, area: BaseGeometry | None, reader: DocumentReader
) -> Iterator[FoundItem]:
    name = redact_uri(config.href)
    if area is None and not config.ids:
        raise InputError(
            f"{name} is the root of an API, and nothing says where to look",
            expected="bbox, ids, or the run's aoi",
            remedy="set one of them",
        )
    place = locate_document(config.href, allow_private=reader.allow_private)
    try:
        with warnings.catch_warnings():
            # What an API cannot do is checked here; pystac-client would say it again.
            warnings.simplefilter("ignore", PystacClientWarning)
            search = _make_search(config, Client.from_dict(document, href=config.href), area=area, reader=reader)
            yield from _take_items(config, search, place=place)
    # It is raised where an API has no search, and it is a warning.
    except PystacClientWarning as problem:
        raise InputError(
            f"{name} cannot be searched ({problem})",
            expected="a STAC API with item search, or a static catalog",
            remedy="correct the address: the root of the API, not one of its collections",
        ) from None


def _make_search(
    config: StacConfig, client: Client, *, area: BaseGeometry | None, reader: DocumentReader
) -> ItemSearch:
    client._stac_io = reader
    query, cql2 = write_query(config, client=client)
    methods = {link.extra_fields.get("method", "GET") for link in client.get_links("search")}
    is_across = area is not None and area.bounds[2] - area.bounds[0] > 180
    return client.search(
        method="POST" if "POST" in methods else "GET",
        max_items=config.max_items + 1,
        limit=min(_PAGE_ITEMS, config.max_items + 1),
        ids=list(config.ids) or None,
        collections=list(config.collections) or None,
        bbox=None if area is None or is_across else list(area.bounds),
        # Of an area on both sides of the date line the bounds are the whole globe.
        intersects=mapping(_split_bounds(area)) if area is not None and is_across else None,
        datetime=parse_interval(config.datetime).format() if config.datetime else None,
        query=query,
        filter=cql2,
        filter_lang="cql2-json" if cql2 else None,
    )


def _split_bounds(area: BaseGeometry) -> BaseGeometry:
    halves = (area.intersection(box(-180, -90, 0, 90)), area.intersection(box(0, -90, 180, 90)))
    return unary_union([box(*half.bounds) for half in halves if not half.is_empty])


def _take_items(config: StacConfig, search: ItemSearch, *, place: Place) -> Iterator[FoundItem]:
    seen: set[tuple[Any, Any]] = set()
    for n_before, content in enumerate(islice(search.items_as_dicts(), config.max_items + 1)):
        if n_before == config.max_items:
            repeats = f", only {len(seen)} of them different: its pages do not end" if len(seen) < n_before else ""
            raise InputError(
                f"{redact_uri(config.href)} gives more than {config.max_items} items{repeats}",
                expected="a search that few items fit",
                remedy="narrow datetime, bbox, max_cloud_percent or collections, or raise max_items",
            )
        is_sound = isinstance(content, dict)
        seen.add((content.get("collection"), content.get("id")) if is_sound else (None, n_before))
        yield _locate_item(content, place=place)
