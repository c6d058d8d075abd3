"""JSON with a checksum of its own among its values, so that a flipped bit that leaves it JSON is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"
"""Key of the checksum: of everything else in the file, as JSON without blanks and with sorted keys."""


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give values with their checksum behind them; all their keys are texts."""
    return {**values, SEAL: _hash(values)}


def encode_sealed(values: Mapping[str, Any]) -> bytes:
    """Give the content of a file with sealed values, for people to read."""
    return json.dumps(seal(values), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """Read what a file with sealed values holds; one of an earlier version, without a checksum, is taken as it is.

    Where the checksum's own name is damaged, a key stays that its reader does not know.

    Raises:
        ValueError: it is no JSON, or its values are not those that were written.
        TypeError: it is JSON of something else than an object.
    """
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise TypeError("no JSON object")
    if SEAL in values and values.pop(SEAL) != _hash(values):
        raise ValueError(f"not what was written: its {SEAL} is another")
    return values


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
