"""How the gate asks servers: connections that are kept, and redirects that are looked at before they are followed.

It hands on megabytes of others' bytes as they come, which Python's own client does for less than the one that the rest
of this program asks by.
"""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from model.addresses import LOOKUP_S, find_addresses
from model.redaction import split_credentials
from pipeline.hosts import check_redirect
from pipeline.uris import normalise_uri

MAX_REDIRECTS = 10
"""How often one request is led on."""
_REDIRECTS = {301, 302, 303, 307, 308}
_CONNECT_S = 10.0
_REST_BYTES = 1 << 14
# ^ So much of what stands in a redirect is read, to keep the connection.
_PORTS = {"http": 80, "https": 443}


class Servers:
    """The connections of one thread, kept for the next file of the same server."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[tuple[str, str, int], http.client.HTTPConnection] = {}

    def ask(
        self, method: str, uri: str, *, headers: Mapping[str, str], allow_private: bool, timeout_s: float
    ) -> http.client.HTTPResponse:
        """Ask for a file, and for what its server leads to.

        Args:
            method: GET or HEAD.
            uri: Where it is; user and password in it are sent to its own server alone.
            headers: To be sent.
            allow_private: Whether its server may lead to a closed network.
            timeout_s: How long a server may be silent.

        Raises:
            InputError: it leads there.
            OSError, http.client.HTTPException, ValueError: there is no reply.
        """
        address = split_credentials(uri)
        place, sent = address.place, dict(headers)
        if address.login is not None:
            sent["Authorization"] = _write_login(*address.login)
        for _ in range(MAX_REDIRECTS):
            reply = self._send(method, place, sent, timeout_s=timeout_s)
            target = reply.getheader("Location")
            if reply.status not in _REDIRECTS or not target:
                return reply
            with suppress(http.client.HTTPException):
                reply.read(_REST_BYTES)
            self.settle(reply)
            target = split_credentials(normalise_uri(urljoin(place, target))).place
            if not allow_private:
                check_redirect(place, target)
            if _find_origin(target) != _find_origin(place):
                sent.pop("Authorization", None)
            place = target
        raise OSError(f"led on {MAX_REDIRECTS} times")

    def settle(self, reply: http.client.HTTPResponse) -> None:
        """Let go of a reply; one that was not read to its end takes its connection with it."""
        if reply.length == 0:
            # Read piece by piece it does not notice its end by itself.
            reply.read()
        if not reply.isclosed():
            reply.close()
            self.close()

    def close(self) -> None:
        """Let go of all connections."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def abort(self) -> None:
        """Have whoever waits for a server wait no longer; from another thread."""
        for connection in list(self._kept.values()):
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _send(
        self, method: str, place: str, headers: Mapping[str, str], *, timeout_s: float
    ) -> http.client.HTTPResponse:
        parts, origin = urlsplit(place), _find_origin(place)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        proxy = _find_proxy(parts)
        if proxy is not None and parts.scheme == "http":
            target, headers = f"http://{parts.netloc}{target}", {**headers, **_tell_proxy(proxy)}
        is_kept = origin in self._kept
        if not is_kept:
            self._kept[origin] = _connect(origin, proxy=proxy, timeout_s=timeout_s)
        connection = self._kept[origin]
        try:
            connection.request(method, target, headers=dict(headers))
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as problem:
            self._kept.pop(origin).close()
            # One that was kept may have been closed at the other end meanwhile.
            if not is_kept or isinstance(problem, TimeoutError):
                raise
        return self._send(method, place, headers, timeout_s=timeout_s)


class _Connection(http.client.HTTPConnection):
    """Goes to addresses that a host may be asked at."""

    def connect(self) -> None:
        self.sock = _open_socket(self.host, self.port, timeout_s=self.timeout or _CONNECT_S)


class _SecureConnection(http.client.HTTPSConnection):
    """The same by TLS."""

    def connect(self) -> None:
        plain = _open_socket(self.host, self.port, timeout_s=self.timeout or _CONNECT_S)
        self.sock = _make_tls().wrap_socket(plain, server_hostname=self.host)


def _open_socket(host: str, port: int, *, timeout_s: float) -> socket.socket:
    problem = OSError(f"no address of {host}")
    for address in find_addresses(host, limit_s=min(timeout_s, LOOKUP_S)):
        try:
            found = socket.create_connection((address, port), timeout=min(timeout_s, _CONNECT_S))
        except OSError as failure:
            problem = failure
            continue
        found.settimeout(timeout_s)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    raise problem


def _connect(
    origin: tuple[str, str, int], *, proxy: SplitResult | None, timeout_s: float
) -> http.client.HTTPConnection:
    """Make a connection, which is opened by the first request."""
    scheme, host, port = origin
    if proxy is None:
        if scheme == "https":
            return _SecureConnection(host, port, timeout=timeout_s, context=_make_tls())
        return _Connection(host, port, timeout=timeout_s)
    if proxy.scheme != "http" or not proxy.hostname:
        raise OSError(f"a proxy of the kind {proxy.scheme}://")
    # The operator's own, at whatever address.
    if scheme == "http":
        return http.client.HTTPConnection(proxy.hostname, proxy.port or 80, timeout=timeout_s)
    tunnel = http.client.HTTPSConnection(proxy.hostname, proxy.port or 80, timeout=timeout_s, context=_make_tls())
    tunnel.set_tunnel(host, port, headers=_tell_proxy(proxy))
    return tunnel


def _find_origin(place: str) -> tuple[str, str, int]:
    parts = urlsplit(place)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise OSError(f"led to something of the kind {parts.scheme}://")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _find_proxy(parts: SplitResult) -> SplitResult | None:
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _tell_proxy(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    return {"Proxy-Authorization": _write_login(unquote(proxy.username), unquote(proxy.password or ""))}


def _write_login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@cache
def _make_tls() -> ssl.SSLContext:
    # As the client by which the rest of this program asks.
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    return ssl.create_default_context(cafile=certifi.where())
