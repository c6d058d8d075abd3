"""Secrets stay where they came from: what leaves this program names places without passwords and signatures.

What is secret is known by its value. Whoever takes an address in calls `remember_secrets`, and from then on its secrets
are left out of every text, in whatever way somebody else has quoted or encoded them. Addresses that nobody took in,
such as those in a server's words, are masked by their form. The value of every query parameter is left out, not only
of those known to be secret: a signed URL may call its signature anything, and nobody needs a query to know which file
was read, as its checksum tells that. What is shown of a text is cut short here as well.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
"""Stands where a password, a signature or another value of a query was."""

# A quote or bracket ends an address only where nothing of an address follows it.
_URL = re.compile(r"(?:openai:)?[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s\"'<>`|\\^{}]|[\"'<>`|\\^{}]+(?=[\w%&=/+@#?.-]))+")
_IS_URL = re.compile(r"(?:openai:)?[A-Za-z][A-Za-z0-9+.-]*://")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_PORT = re.compile(r":\d*$")
_SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|BEARER|USERPWD|CREDENTIALS?)(_ID)?$")
_SECRET_NAME = re.compile(r"sig|token|key|pass|pwd|secret|cred|auth|code|sas|session", re.IGNORECASE)
_SHORTEST_SECRET = 8
# ^ Shorter ones would take ordinary words with them.
_SHORTEST_PASSWORD = 6
_LONG_VALUE = 20
# ^ A value of a query that is no word of the language, whatever its name.
_KEEPING_FRAGMENTS = ("openai:", "file")
# ^ In the name of a served model it is the model's name, in a page of this machine a place.
_MOST_FORMS = 65_536
# ^ A region that is watched for months meets new signatures every day; the oldest are forgotten.

_masks: dict[str, str] = {}
"""What stands for each form of each secret that was met, in the order in which they came."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A URI in parts: where it leads, and what is secret of it."""

    place: str
    """The URI without user and password."""
    credentials: str
    """User and password as they stand in the URI; empty where there are none."""

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password, decoded; None where there are none."""
        user, _, password = self.credentials.partition(":")
        return (unquote(user), unquote(password)) if self.credentials else None


def split_credentials(uri: str) -> Address:
    """Take user and password off a URI, also where signs in the password have not been encoded."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Address(place=uri, credentials="")
    end = next((index for index, sign in enumerate(rest) if sign in "/?#"), len(rest))
    host = rest[:end]
    if "@" not in host and ":" in host.rpartition("]")[2] and not _PORT.search(host) and "@" in rest:
        # What stands behind the colon is no port: a password with / ? or # in it.
        end = rest.rindex("@") + 1
        host = rest[:end]
    credentials, at, name = host.rpartition("@")
    return Address(place=f"{scheme}://{name}{rest[end:]}" if at else uri, credentials=credentials)


def redact_uri(uri: str) -> str:
    """Give a URI without its user, password, fragment and the values of its query; a local path stays as it is.

    Examples:
        ``https://me:pw@host/a.tif?sig=abc`` becomes ``https://***@host/a.tif?sig=***``.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return uri
    address = split_credentials(uri)
    rest = address.place.removeprefix(f"{scheme}://")
    rest, hash_sign, fragment = rest.partition("#")
    path, question_mark, query = rest.partition("?")
    # A parameter without a value may be a token by itself.
    names = [part.partition("=")[0] if "=" in part else "" for part in query.split("&")]
    masked = "&".join(f"{name}={MASK}" if name else MASK for name in names) if question_mark else ""
    user = f"{MASK}@" if address.credentials else ""
    shown = MASK if fragment and not scheme.startswith(_KEEPING_FRAGMENTS) else fragment
    return f"{scheme}://{user}{path}{question_mark}{masked}{hash_sign}{shown}"


def remember_secrets(values: Any) -> None:
    """Keep what is secret in some addresses out of all that is told from now on, in this process.

    Args:
        values: A text, or mappings and lists of them in any depth; whatever is no address holds nothing secret.
    """
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            remember_secrets(value)
    elif isinstance(values, str) and "://" in values:
        _remember_address(values)


def _remember_address(uri: str) -> None:
    address = split_credentials(uri)
    user, _, password = address.credentials.partition(":")
    if address.credentials:
        _remember(f"{address.credentials}@", mask=f"{MASK}@")
        _remember_packed(unquote(address.credentials))
    if len(unquote(password)) >= _SHORTEST_PASSWORD:
        _remember(password, mask=MASK)
        _remember_packed(unquote(password))
    if not password and len(user) >= _SHORTEST_SECRET:
        # A token by itself.
        _remember(user, mask=MASK)
    rest, _, fragment = address.place.removeprefix("openai:").partition("#")
    query = rest.partition("?")[2]
    if query:
        _remember(f"?{query}", mask=redact_uri(f"x://x?{query}").removeprefix("x://x"))
    for part in [*query.split("&"), *([] if uri.startswith("openai:") else fragment.split("&"))]:
        name, equals, value = part.partition("=")
        value = value if equals else name
        least = _SHORTEST_SECRET if _SECRET_NAME.search(name) or not equals else _LONG_VALUE
        if equals and value:
            _remember(part, mask=f"{name}={MASK}")
        if len(value) >= least:
            _remember(value, mask=MASK)


def _remember_packed(plain: str) -> None:
    """Remember a secret as headers have it; what fills up the last letters may be left out."""
    for pack in (base64.b64encode, base64.urlsafe_b64encode):
        _remember(pack(plain.encode()).decode().rstrip("="), mask=MASK)


def _list_forms(secret: str) -> Iterator[str]:
    """List the ways in which a secret is quoted, encoded and escaped, once or twice, by us and by others."""
    plain = unquote(secret)
    whole = quote(plain, safe="")
    quoted = [whole, quote(plain), quote_plus(plain), quote(whole), quote(plain.encode("latin-1", "replace"), safe="")]
    # Most programs write the digits of %2F in capitals, and some do not.
    quoted += [_PERCENT.sub(lambda found: found[0].lower(), text) for text in quoted]
    for text in (secret, plain, *quoted):
        yield from (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
        yield from (text.replace("'", r"\'"), text.replace("'", r"'\''"), repr(text.encode())[2:-1])
        escaped = html.escape(text)
        yield from (escaped, html.escape(text, quote=False), escaped.replace("&#x27;", "&#39;"))
        yield from (escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;"), escaped.replace("&#x27;", "&apos;"))


def _remember(secret: str, *, mask: str) -> None:
    for form in _list_forms(secret):
        _masks.setdefault(form, mask)
    while len(_masks) > _MOST_FORMS:
        del _masks[next(iter(_masks))]


@lru_cache(maxsize=64)
def _list_secret_forms(secret: str) -> tuple[str, ...]:
    return tuple(sorted(set(_list_forms(secret)), key=len, reverse=True))


def redact_text(text: str, *, environment: Mapping[str, str] = os.environ) -> str:
    """Give a message without any secret that is known, nor one of the environment, and with every URI redacted."""
    known = [form for form in tuple(_masks) if form in text]
    # The longest first, as one may be part of another.
    for form in sorted(known, key=len, reverse=True):
        text = text.replace(form, _masks.get(form, MASK))
    if "://" in text:
        text = _URL.sub(lambda found: redact_uri(found[0]), text)
    for name, secret in environment.items():
        if len(secret) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name):
            for form in _list_secret_forms(secret):
                text = text.replace(form, MASK)
    return text


def shorten_text(text: str, *, max_length: int) -> str:
    """Keep a text to what there is room for; an ellipsis stands for what is cut off."""
    return text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"


def redact_named(values: Any) -> Any:
    """Mask texts in plain values that stand under a name such as password or token, in any depth."""
    if isinstance(values, Mapping):
        return {
            key: MASK if isinstance(value, str) and _SECRET_NAME.search(str(key)) else redact_named(value)
            for key, value in values.items()
        }
    if isinstance(values, list | tuple):
        return type(values)(redact_named(value) for value in values)
    return values


def redact_values(values: Any, *, kept: Iterable[str] = ()) -> Any:
    """Redact every text in plain values, such as those that become JSON; one that is all one address as such.

    Args:
        values: Mappings, lists, texts and numbers, in any depth.
        kept: Keys at the top whose values stay as they are.
    """
    if isinstance(values, str):
        is_address = _IS_URL.match(values) is not None and not re.search(r"\s", values)
        return redact_text(redact_uri(values) if is_address else values)
    if isinstance(values, Mapping):
        untouched = frozenset(kept)
        return {
            redact_values(key) if "://" in str(key) else key: value if key in untouched else redact_values(value)
            for key, value in values.items()
        }
    if isinstance(values, list | tuple):
        return type(values)(redact_values(value) for value in values)
    return values
