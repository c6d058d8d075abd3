"""Whether an item is what a config asks for: as an API is told it, and as it is checked on whatever was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pystac_client import Client, ConformanceClasses
from shapely.geometry.base import BaseGeometry

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.config.stac import OPERATORS, StacConfig, is_cql2
from pipeline.dates import parse_interval
from pipeline.grid.date_line import make_box
from pipeline.scenes.stac.items import SceneItem


def choose_area(config: StacConfig, *, area: BaseGeometry | None) -> BaseGeometry | None:
    """Tell where items have to be, in WGS84 degrees: in the config's bbox, else in an area of interest."""
    if config.bbox is None:
        return area
    return make_box(*config.bbox)


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
        unmet = _find_unmet(item.properties, config.query)
        return None if unmet is None else f"not {unmet}"
    return None


def write_query(config: StacConfig, *, client: Client) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Write what an API is asked for beside place and time, so far as it can do it.

    Returns:
        Conditions of the query extension, and a filter in CQL2; what the API cannot do is left to `find_misfit`.

    Raises:
        InputError: a filter in CQL2 is asked for, and the API has none.
    """
    has_query = client.conforms_to(ConformanceClasses.QUERY)
    has_filter = client.conforms_to(ConformanceClasses.FILTER)
    clouds = config.max_cloud_percent
    if config.query is not None and is_cql2(config.query):
        if not has_filter:
            raise InputError(
                f"{redact_uri(config.href)} has no filter extension, but query is a filter in CQL2",
                expected="the query extension's {property: {operator: value}}",
                remedy="write query so",
            )
        if clouds is None:
            return None, config.query
        limit = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, clouds]}
        return None, {"op": "and", "args": [config.query, limit]}
    query = {key: dict(value) for key, value in (config.query or {}).items()}
    if clouds is not None:
        query.setdefault("eo:cloud_cover", {}).setdefault("lte", clouds)
    return (query or None) if has_query else None, None


def _find_unmet(properties: Mapping[str, Any], query: Mapping[str, Any]) -> str | None:
    # The first condition in words, such as view:off_nadir lte 20; what an item does not have meets none.
    for name, conditions in query.items():
        for operator, wanted in conditions.items():
            value = properties.get(name)
            try:
                is_met = value is not None and OPERATORS[operator](value, wanted)
            except TypeError:
                is_met = False
            if not is_met:
                return f"{name} {operator} {wanted}"
    return None
