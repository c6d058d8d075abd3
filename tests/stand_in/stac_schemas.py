"""pystac's own validation of items and collections, with all schemas at hand: no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
from pystac.validation.stac_validator import JsonSchemaSTACValidator

_FOLDER = Path(__file__).parents[1] / "data" / "stac_schemas"


def read_valid_stac(values: dict[str, Any], *, href: str = "/region/report/item.json") -> Any:
    """Have pystac read an item or collection and validate it, extensions included.

    Args:
        values: The item or collection.
        href: Where it is said to lie.
    """
    validator = JsonSchemaSTACValidator()
    for path in _FOLDER.glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        validator.schema_cache[schema["$id"].rstrip("#")] = schema
    kind = pystac.Item if values["type"] == "Feature" else pystac.Collection
    found = kind.from_dict(json.loads(json.dumps(values)))
    found.validate(validator=validator)
    # What pystac would write again is not what counts, but the document itself.
    stac_type = pystac.STACObjectType.ITEM if kind is pystac.Item else pystac.STACObjectType.COLLECTION
    validator.validate(values, stac_type, "1.1.0", values["stac_extensions"], href)
    found.set_self_href(href)
    return found
