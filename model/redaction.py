"""Credentials stay where they came from: what leaves this program names places without passwords and signatures.

The value of every query parameter is left out, not only of those known to be secret: a signed URL may call its
signature anything, and nobody needs a query to know which file was read, as its checksum tells that. What is shown of
a text is cut short here as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"
"""Stands where a password, a signature or another value of a query was."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>`|\\^{}]+")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_QUERY = re.compile(r"\?([^#]*)")
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "OPENAI_API_KEY")
_SHORTEST_SECRET = 8
# ^ Shorter ones would take ordinary words with them.


def redact_uri(uri: str) -> str:
    """Give a URI without its user, password and the values of its query; a local path stays as it is.

    Examples:
        ``https://me:pw@host/a.tif?sig=abc`` becomes ``https://***@host/a.tif?sig=***``.
    """
    if "://" not in uri:
        return uri
    return _QUERY.sub(_mask_query, _USER.sub(rf"\1{MASK}@", uri), count=1)


def _mask_query(found: re.Match[str]) -> str:
    # A parameter without a value may be a token by itself.
    names = [part.partition("=")[0] if "=" in part else "" for part in found[1].split("&")]
    return "?" + "&".join(f"{name}={MASK}" if name else MASK for name in names)


def redact_text(text: str, *, environment: Mapping[str, str] = os.environ) -> str:
    """Give a message with every URI in it redacted, and without the secrets of the environment."""
    if "://" in text:
        text = _URL.sub(lambda found: redact_uri(found[0]), text)
    for name in _SECRET_VARIABLES:
        secret = environment.get(name, "")
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return text


def shorten_text(text: str, *, max_length: int) -> str:
    """Keep a text to what there is room for; an ellipsis stands for what is cut off."""
    return text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"


def redact_values(values: Any, *, kept: Iterable[str] = ()) -> Any:
    """Redact every text in plain values, such as those that become JSON.

    Args:
        values: Mappings, lists, texts and numbers, in any depth.
        kept: Keys at the top whose values stay as they are.
    """
    if isinstance(values, str):
        return redact_text(values)
    if isinstance(values, Mapping):
        untouched = frozenset(kept)
        return {
            redact_values(key): value if key in untouched else redact_values(value) for key, value in values.items()
        }
    if isinstance(values, list | tuple):
        return type(values)(redact_values(value) for value in values)
    return values
