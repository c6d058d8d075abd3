"""Which hosts what comes from the network may name: its own, and those that anybody can reach.

A STAC item, a VRT or a redirect is a stranger's doing. What it names is asked from inside the network that this program
runs in: this machine, its neighbours and the metadata service of a cloud would answer.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import urllib.request
from functools import lru_cache
from http.client import HTTPMessage, HTTPResponse
from typing import IO, cast
from urllib.parse import unquote, urlsplit

from model.errors import InputError
from model.redaction import redact_uri

_PORTS = {"http": 80, "https": 443}
_UNUSUAL = re.compile(r"[\x00-\x20\\]")
# ^ What the readers of URIs do not all take for the same.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
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
    parts = urlsplit(uri)
    if parts.scheme.lower() not in _PORTS or _read_origin(uri) == _read_origin(named_by):
        return
    is_odd = _UNUSUAL.search(uri) is not None or not parts.hostname
    closed = [address for address in _find_addresses(parts.hostname or "") if not _is_public(address)]
    if is_odd or closed:
        raise InputError(
            f"{what} points to {redact_uri(uri)}" + (f", at {closed[0]}, no public address" if closed else ""),
            expected="a URI on a public host, or on the host of the document itself",
            remedy="do not trust this document; if it may lead there, set storage.allow_private_hosts to true",
        )


def open_http(
    uri: str, *, timeout_s: float, headers: dict[str, str] | None = None, allow_private: bool = False
) -> HTTPResponse:
    """Ask a server, and follow where it redirects to unless that is a closed network.

    Args:
        uri: What to ask for; user and password in it are sent as a header.
        timeout_s: How long the server may be silent.
        headers: To be sent.
        allow_private: Whether it may redirect to a closed network.

    Raises:
        InputError: it does and may not.
        OSError: the server does not answer, or not with what was asked for.
    """
    address, login = _split_credentials(uri)
    opener = urllib.request.build_opener() if allow_private else urllib.request.build_opener(_CheckedRedirects)
    request = urllib.request.Request(address, headers={**(headers or {}), **login})
    return cast(HTTPResponse, opener.open(request, timeout=timeout_s))


def _split_credentials(uri: str) -> tuple[str, dict[str, str]]:
    """Give a URI without user and password, which urllib would take for the host, and the header that says them."""
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return uri, {}
    token = base64.b64encode(unquote(user).encode()).decode("ascii")
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {token}"}


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        check_host(newurl, named_by=req.full_url, what=f"a redirect of {redact_uri(req.full_url)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read_origin(uri: str) -> tuple[str, int | None]:
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return (parts.hostname or "").lower(), port or _PORTS.get(parts.scheme.lower())


@lru_cache(maxsize=_ADDRESSES_KEPT)
def _find_addresses(host: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None)))
    except (OSError, UnicodeError):
        # Where nobody knows the name, whoever asks the host says so.
        return ()


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    return address.is_global and not address.is_multicast
