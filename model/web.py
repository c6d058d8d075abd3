"""The one manner in which this program asks servers: a limit for every wait, for every reply, and for where it leads.

What a server does is a stranger's doing. It may be silent, drip its words for hours, send a small body that unpacks to
gigabytes, or send the program on to another host with the password meant for this one. So each request has a limit of
silence and one for all of it, headers and further tries included; bodies are counted as they are unpacked; and user
and password of a URI are a header for its own host, which no redirect takes along.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpcore
import httpx

from model.addresses import LOOKUP_S, find_addresses
from model.proxies import check_proxies
from model.redaction import redact_text, remember_secrets, split_credentials

Outcome = TypeVar("Outcome")
CheckRedirect = Callable[[str, str], None]
"""Is given the URI that was asked for and the one that the server leads to."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""A server that says so may answer otherwise a little later."""
MAX_BODY_BYTES = 32 << 20
"""Largest body of a server's reply, unpacked, where nothing else is said."""
MAX_SILENCES = 2
"""How often a server may be silent for as long as it may until it is given up."""
_CONNECT_S = 10.0
_PIECE_BYTES = 1 << 16
_GZIP_OR_ZLIB = 47

_deadline_s: ContextVar[float] = ContextVar("deadline_s", default=math.inf)
"""When what is being asked has to have ended, on the monotonic clock."""


@dataclass(frozen=True, kw_only=True)
class WebLimits:
    """How long and how much of a server is borne."""

    silence_s: float = 30.0
    """How long it may be silent."""
    total_s: float = 300.0
    """How long one request may take in all, further tries and the waits between them included."""
    tries: int = 5
    """How often a request is sent at most, where the server is down, too slow, busy (429) or faulty (5xx)."""
    first_wait_s: float = 0.5
    """Wait before the first further try; it doubles each time."""
    longest_wait_s: float = 30.0
    """Most that is waited between two tries, also where the server asks for more."""
    max_bytes: int = MAX_BODY_BYTES
    """Largest body, unpacked."""


class TooMuchError(httpx.TransportError):
    """A body that goes on beyond the limit."""


class AwayError(httpx.TransportError):
    """A redirect to another host."""


class _TimedStream(httpcore.NetworkStream):
    """A connection on which no wait goes beyond the end of the time, however little comes each time."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_find_rest(timeout, error=httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=_find_rest(timeout, error=httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        rest_s = _find_rest(timeout, error=httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=rest_s))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _TimedNetwork(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        problem: Exception = httpcore.ConnectError(f"no address of {host}")
        try:
            rest_s = _find_rest(timeout, error=httpcore.ConnectTimeout)
            addresses = find_addresses(host, limit_s=LOOKUP_S if rest_s is None else rest_s)
        except TimeoutError as late:
            raise httpcore.ConnectTimeout(str(late)) from None
        except (OSError, UnicodeError) as unknown:
            raise httpcore.ConnectError(str(unknown)) from None
        for address in addresses:
            rest_s = _find_rest(timeout, error=httpcore.ConnectTimeout)
            try:
                return _TimedStream(super().connect_tcp(address, port, rest_s, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                problem = failure
        raise problem


def _find_rest(timeout_s: float | None, *, error: type[Exception]) -> float | None:
    """Give how long may be waited now; None: as long as it takes."""
    rest_s = min(_deadline_s.get() - time.monotonic(), math.inf if timeout_s is None else timeout_s)
    if rest_s <= 0:
        raise error("the time for the whole request is over")
    return None if rest_s == math.inf else rest_s


class _CountedBody(httpx.SyncByteStream):
    """A body that is unpacked here, a piece at a time, and counted."""

    def __init__(self, stream: httpx.SyncByteStream, *, encoding: str, max_bytes: int) -> None:
        self._stream, self._encoding, self._max_bytes = stream, encoding, max_bytes

    def __iter__(self) -> Iterator[bytes]:
        n_bytes = 0
        for piece in self._unpack() if self._encoding else self._stream:
            n_bytes += len(piece)
            if n_bytes > self._max_bytes:
                raise TooMuchError(f"a body of more than {self._max_bytes:,} bytes")
            yield piece

    def _unpack(self) -> Iterator[bytes]:
        if self._encoding not in {"gzip", "x-gzip", "deflate"}:
            raise httpx.DecodingError(f"a body packed as {self._encoding[:30]}, which nobody asked for")
        unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            for packed in self._stream:
                while packed:
                    yield unpacker.decompress(packed, _PIECE_BYTES)
                    packed = unpacker.unconsumed_tail
            yield unpacker.flush()
        except zlib.error as problem:
            raise httpx.DecodingError(f"a body that cannot be unpacked ({problem})") from None

    def close(self) -> None:
        self._stream.close()


def open_client(
    limits: WebLimits,
    *,
    has_redirects: bool = True,
    check_redirect: CheckRedirect | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Client:
    """Make a client that keeps to limits; it belongs to whoever asked for it, who closes it.

    Args:
        limits: How much of a server is borne; the time in all is set by `limit_time`.
        has_redirects: Whether redirects to other hosts are followed; one that stays on the host always is.
        check_redirect: Raises the error of a redirect that must not be followed.
        headers: Sent with every request.

    Raises:
        InputError: the environment names a proxy of a kind that is not known here.
    """
    check_proxies()

    def receive(response: httpx.Response) -> None:
        target = response.headers.get("location") if response.has_redirect_location else None
        if target is not None and not has_redirects and not _is_same_origin(response.request.url, target):
            raise AwayError(f"a redirect to another host, {redact_text(str(response.request.url.join(target)))}")
        if target is not None and check_redirect is not None:
            check_redirect(str(response.request.url), str(response.request.url.join(target)))
        encoding = response.headers.pop("content-encoding", "").strip().lower().replace("identity", "")
        response.headers.pop("content-length", None)
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _CountedBody(response.stream, encoding=encoding, max_bytes=limits.max_bytes)

    client = httpx.Client(
        timeout=httpx.Timeout(limits.silence_s, connect=min(_CONNECT_S, limits.silence_s)),
        follow_redirects=True,
        headers={"Accept-Encoding": "gzip", **(headers or {})},
        event_hooks={"response": [receive]},
    )
    # There is no public way to hand a network to the pools of a client that takes proxies from the environment.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = _TimedNetwork()
    return client


def _is_same_origin(url: httpx.URL, target: str) -> bool:
    other = url.join(target)
    return (other.scheme, other.host, other.port) == (url.scheme, url.host, url.port)


@contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Have all requests of this thread inside the context end in time."""
    token = _deadline_s.set(min(_deadline_s.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline_s.reset(token)


def repeat(
    ask: Callable[[], Outcome], *, limits: WebLimits, find_wait: Callable[[Outcome | Exception], float | None]
) -> Outcome:
    """Ask until there is an outcome that stands, or the tries or the time are over.

    Args:
        ask: Sends one request.
        limits: How often, and for how long in all.
        find_wait: Looks at what came: None where it stands, else the seconds that the server asks to be left alone.

    Returns:
        The last outcome; where it is an exception, it is raised.
    """
    with limit_time(limits.total_s):
        for n_before in range(limits.tries):
            try:
                outcome: Outcome | Exception = ask()
            except Exception as problem:
                outcome = problem
            asked_s = find_wait(outcome)
            if asked_s is None or n_before == limits.tries - 1:
                break
            wait_s = min(max(asked_s, limits.first_wait_s * 2**n_before), limits.longest_wait_s)
            if time.monotonic() + wait_s >= _deadline_s.get():
                break
            time.sleep(wait_s)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def read_retry_after(header: str) -> float:
    """Give how many seconds a server asks to be left alone; 0 where it does not say, or nothing sensible."""
    text = header.strip()
    try:
        wait_s = (
            float(text) if text.replace(".", "", 1).isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return wait_s if 0 < wait_s < math.inf else 0.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server sent."""

    status: int
    """As HTTP numbers them."""
    headers: httpx.Headers
    """Of the last reply, after all redirects."""
    data: bytes
    """The body, unpacked."""


def fetch(
    uri: str,
    *,
    limits: WebLimits,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    parameters: dict[str, Any] | None = None,
    at_most: int | None = None,
    check_redirect: CheckRedirect | None = None,
    client: httpx.Client | None = None,
) -> Reply:
    """Ask a server once, or again where it may answer otherwise then.

    Args:
        uri: An http(s) URI; user and password in it are sent to its host alone.
        limits: What is borne.
        method: GET or POST.
        headers: To be sent.
        parameters: Of the query, or of a POST its JSON.
        at_most: Bytes to read of the body; left out, all of it, and more than the limit is an error.
        check_redirect: Raises the error of a redirect that must not be followed.
        client: What `open_client` gave, to ask one server often; left out, one for this request alone.

    Raises:
        httpx.HTTPError: there is no reply that keeps to the limits; its words may hold secrets.
    """
    remember_secrets(uri)
    address = split_credentials(uri)
    is_post = method == "POST"

    def ask() -> Reply:
        with web.stream(
            method,
            address.place,
            headers=headers,
            json=parameters if is_post else None,
            params=None if is_post else parameters or None,
            auth=address.login,
        ) as response:
            data = bytearray()
            for piece in response.iter_raw():
                data += piece
                if at_most is not None and len(data) >= at_most:
                    break
            return Reply(status=response.status_code, headers=response.headers, data=bytes(data[:at_most]))

    n_silent = 0

    def find_wait(outcome: Reply | Exception) -> float | None:
        nonlocal n_silent
        # Silence is what takes long: a server that keeps it twice is not waited for again.
        n_silent += isinstance(outcome, httpx.TimeoutException)
        if n_silent == MAX_SILENCES:
            return None
        if isinstance(outcome, Reply):
            return (
                read_retry_after(outcome.headers.get("retry-after", ""))
                if outcome.status in TRANSIENT_STATUSES
                else None
            )
        is_lost = isinstance(outcome, httpx.TransportError) and not isinstance(outcome, TooMuchError | AwayError)
        return 0.0 if is_lost and not isinstance(outcome, httpx.UnsupportedProtocol) else None

    try:
        with open_client(limits, check_redirect=check_redirect) if client is None else nullcontext(client) as web:
            return repeat(ask, limits=limits, find_wait=find_wait)
    except httpx.InvalidURL as problem:
        raise httpx.UnsupportedProtocol(str(problem)) from None


def describe_failure(problem: httpx.HTTPError, *, limits: WebLimits) -> str:
    """Say in words why `fetch` brought no reply, to follow on the server's name."""
    tries, words = f"{limits.tries} tries", str(problem)
    if isinstance(problem, httpx.TimeoutException):
        return f"does not answer within {limits.silence_s:g} s ({tries})"
    if isinstance(problem, httpx.NetworkError | httpx.RemoteProtocolError):
        if "CERTIFICATE" in words or "SSL" in words:
            return "has no certificate that can be trusted"
        is_unknown = "not known" in words or "name resolution" in words or "No address" in words
        return f"{'is not known by name' if is_unknown else 'cannot be reached or breaks off'} ({tries})"
    return f"leads to {words}" if isinstance(problem, AwayError) else f"cannot be asked ({type(problem).__name__})"


def redact_record(record: logging.LogRecord) -> bool:
    """Take secrets out of what a library logs: a filter for its logger."""
    record.msg, record.args = redact_text(record.getMessage()), None
    return True


# It tells every request with its whole URL. For good, as a filter that comes and goes is taken off by who ends first.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).addFilter(redact_record)
