"""What a run is told of a scene in STAC: where its items are described, and which of them are meant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from pipeline.config.loading import StrictConfig
from pipeline.dates import parse_interval

_DOCUMENT_ENDINGS = (".json", ".geojson")


def names_document(uri: object) -> bool:
    """Tell whether a URI is that of a STAC document rather than of a raster, by its ending."""
    if not isinstance(uri, str | Path):
        return False
    path = urlsplit(str(uri)).path if "://" in str(uri) else str(uri)
    return path.lower().endswith(_DOCUMENT_ENDINGS)


class StacConfig(StrictConfig):
    """Where a scene is described in STAC, and which of what is described there is meant."""

    # A year or an id of digits is a number to YAML.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    href: str = Field(
        min_length=1,
        description="JSON of an item, of a search's result or of a static catalog or collection, or the root of a STAC "
        "API: a local path, or an http(s) or s3 URI.",
    )
    collections: tuple[str, ...] = Field(default=(), description="Ids of collections; left out, all of them.")
    ids: tuple[str, ...] = Field(default=(), description="Ids of items. Left out, all that meet the other conditions.")
    datetime: str | None = Field(
        default=None,
        description="When it was acquired: an instant, day, month or year (RFC 3339), or two of them as in "
        "2024-05-01/2024-06-15; .. leaves an end open.",
    )
    bbox: tuple[float, float, float, float] | None = Field(
        default=None,
        description="West, south, east and north in degrees, west above east across the date line. Left out, the "
        "run's aoi.",
    )
    max_cloud_percent: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Items with more clouds, or without a cloud cover in their metadata, are left out.",
    )
    query: dict[str, Any] | None = Field(
        default=None,
        description="Further conditions on items: a filter in CQL2 JSON (an API that has it), or the query extension's "
        "{property: {operator: value}}.",
    )
    max_items: int = Field(
        default=200, ge=1, le=10_000, description="A search that finds more items is refused: it has to be narrowed."
    )
    bands: tuple[str, str, str] | tuple[str] = Field(
        default=("red", "green", "blue"),
        description="Red, green and blue by common name, asset key, band name or title (key.2: the second band of an "
        "asset); or one asset that holds all three.",
    )
    classes: str | None = Field(
        default="scl",
        description="Asset with the scene classification that shows clouds, by key, name or title. For items "
        "without the default, scl, that of Landsat (qa_pixel) or HLS (Fmask) is taken, else no clouds are masked.",
    )
    nir: str = Field(
        default="nir",
        # Settings without stay what they were, and so do the names of pairs and runs.
        exclude_if=lambda value: value == "nir",
        description="Near infrared, by common name, asset key, band name or title, for scenes whose clouds are found "
        "(clouds.method).",
    )
    alternate: str | None = Field(
        default=None,
        description="Which of the further addresses of an asset is taken where it has that one, such as s3 or https; "
        "left out, its own.",
    )
    order: Literal["least_cloudy", "newest"] = Field(
        default="least_cloudy",
        description="Which item comes first, and which day is taken of those that show most of the area.",
    )

    @field_validator("datetime", mode="before")
    @classmethod
    def _accept_date(cls, value: Any) -> Any:
        # What YAML makes of a plain date.
        return value.isoformat() if isinstance(value, dt.date) else value

    @field_validator("datetime")
    @classmethod
    def _check_datetime(cls, value: str | None) -> str | None:
        if value is not None:
            parse_interval(value)
        return value

    @field_validator("query")
    @classmethod
    def _check_query(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            check_query(value)
        return value

    @field_validator("bbox")
    @classmethod
    def _check_bbox(cls, value: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if value is None:
            return None
        west, south, east, north = value
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
            raise ValueError(f"{list(value)} is no box; write west, south, east, north in degrees")
        return value


_Operator = Callable[[Any, Any], bool]
OPERATORS: dict[str, _Operator] = {
    "eq": lambda value, wanted: bool(value == wanted),
    "neq": lambda value, wanted: bool(value != wanted),
    "lt": lambda value, wanted: bool(value < wanted),
    "lte": lambda value, wanted: bool(value <= wanted),
    "gt": lambda value, wanted: bool(value > wanted),
    "gte": lambda value, wanted: bool(value >= wanted),
    "in": lambda value, wanted: value in wanted,
    "startsWith": lambda value, wanted: str(value).startswith(str(wanted)),
    "endsWith": lambda value, wanted: str(value).endswith(str(wanted)),
    "contains": lambda value, wanted: str(wanted) in str(value),
}


def is_cql2(query: Mapping[str, Any]) -> bool:
    """Tell a filter in CQL2 JSON from the query extension's conditions."""
    return isinstance(query.get("op"), str) and isinstance(query.get("args"), list)


def check_query(query: Mapping[str, Any]) -> None:
    """Check that a query is a filter in CQL2 JSON, or conditions of the query extension.

    Raises:
        ValueError: it is neither, or an operator is unknown.
    """
    if is_cql2(query):
        return
    for name, conditions in query.items():
        if not isinstance(conditions, Mapping) or not conditions:
            raise ValueError(f"{name} has no {{operator: value}}, and there are no op and args of CQL2")
        unknown = sorted(set(conditions) - set(OPERATORS))
        if unknown:
            raise ValueError(f"{name}: unknown operator {', '.join(unknown)}; known are {', '.join(OPERATORS)}")
