"""Which hosts what comes from the network may name: its own, and those that anybody can reach.

A STAC item, a VRT or a redirect is a stranger's doing. What it names is asked from inside the network that this program
runs in: this machine, its neighbours and the metadata service of a cloud would answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from model.addresses import LOOKUP_S, find_addresses, is_kept_public, is_public, keep_public
from model.errors import InputError
from model.redaction import redact_uri
from pipeline.uris import split_uri

_PORTS = {"http": 80, "https": 443}
_UNUSUAL = re.compile(r"[\x00-\x20\\]")
# ^ What the readers of URIs do not all take for the same.
_ADDRESSES_KEPT = 1024


def check_host(uri: str, *, named_by: str, what: str) -> None:
    """Refuse a URI out of a document from the network that leads into this machine or a closed network.

    Args:
        uri: What it names; only http(s) leads to a host of its choice.
        named_by: URI of the document, whose own host and port are fine.
        what: What the URI stands for, to name it in errors.

    Raises:
        InputError: it leads to a loopback, link-local, private or otherwise not public address, by number or by name.
    """
    parts = split_uri(uri)
    if parts.scheme.lower() not in _PORTS:
        return
    if _read_origin(uri) == _read_origin(named_by):
        hold_host(uri)
        return
    is_odd = _UNUSUAL.search(uri) is not None or not parts.hostname
    closed = [address for address in _find_addresses(parts.hostname or "") if not is_public(address)]
    if is_odd or closed:
        raise InputError(
            f"{what} points to {redact_uri(uri)}" + (f", at {closed[0]}, no public address" if closed else ""),
            expected="a URI on a public host, or on the host of the document itself",
            remedy="do not trust this document; if it may lead there, set storage.allow_private_hosts to true",
        )
    keep_public(parts.hostname or "")


def hold_host(uri: str) -> None:
    """Let a host that is found at public addresses, whoever names it, be asked at those alone from now on."""
    parts = split_uri(uri)
    if parts.scheme.lower() not in _PORTS:
        return
    addresses = _find_addresses(parts.hostname or "")
    if addresses and all(map(is_public, addresses)):
        keep_public(parts.hostname or "")


def find_held_hosts(uris: Iterable[str]) -> tuple[str, ...]:
    """Give the hosts of files that are asked at public addresses alone, as other processes have to know."""
    hosts = {parts.hostname or "" for parts in map(split_uri, uris) if parts.scheme.lower() in _PORTS}
    return tuple(sorted(filter(is_kept_public, hosts)))


def check_redirect(source: str, target: str) -> None:
    """Refuse a redirect into this machine or a closed network.

    Args:
        source: URI that was asked for.
        target: URI that its server leads to.

    Raises:
        InputError: it leads there, and not to the server's own host and port.
    """
    check_host(target, named_by=source, what=f"a redirect of {redact_uri(source)}")


def _read_origin(uri: str) -> tuple[str, int | None]:
    parts = split_uri(uri)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return (parts.hostname or "").lower(), port or _PORTS.get(parts.scheme.lower())


@lru_cache(maxsize=_ADDRESSES_KEPT)
def _find_addresses(host: str) -> tuple[str, ...]:
    try:
        return find_addresses(host, limit_s=LOOKUP_S)
    except TimeoutError as late:
        # Who is not known to be public is not asked.
        raise InputError(
            str(late), expected="a name server that answers", remedy="see whether the network is well, then try again"
        ) from None
    except (OSError, UnicodeError):
        # Where nobody knows the name, whoever asks the host says so.
        return ()
