"""What all groups of settings have in common."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

_UNITS = {"m": "m", "s": "s", "px": "pixels", "tiles": "tiles", "percent": "%"}
_CAPITALS = {"crs": "CRS", "uri": "URI", "aoi": "AOI", "stac": "STAC", "tls": "TLS", "ttl": "TTL", "ids": "IDs"}


def title_field(name: str, _: Any = None) -> str:
    """Give the title of a setting in a form: its words, with the unit in brackets.

    Examples:
        ``tile_size_px`` becomes ``Tile size (pixels)``.
    """
    words = name.split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    words = [_CAPITALS.get(word, word) for word in (words[:-1] if unit else words)]
    title = " ".join(words)
    return f"{title[:1].upper()}{title[1:]}{f' ({unit})' if unit else ''}"


def title_model(model: type[Any]) -> str:
    """Give the title of a group of settings in a form.

    Examples:
        ``BandFilesConfig`` becomes ``Band files``.
    """
    return title_field("_".join(re.findall(r"[A-Z][a-z0-9]*", model.__name__.removesuffix("Config"))).lower())


class StrictConfig(BaseModel):
    """A group of settings; a key that is none of them is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", field_title_generator=title_field, model_title_generator=title_model
    )
