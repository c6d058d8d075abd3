"""Servers that drip, flood, stall, unpack to gigabytes and send on: each request ends, and no password goes along."""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from model.redaction import redact_text
from model.web import MAX_SILENCES, AwayError, Reply, TooMuchError, WebLimits, fetch, open_client, read_retry_after

LIMITS = WebLimits(silence_s=1, total_s=3, tries=2, first_wait_s=0.01, max_bytes=1 << 20)
PAUSE_S = 0.1
BOMB = gzip.compress(b" " * 50_000_000)
LONGEST_S = 10.0
"""Far more than the limits, as other work may hold the machine up, and far less than these servers would take."""


class Stranger(BaseHTTPRequestHandler):
    """Does what its server's script says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        self.server.script(self)  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None:
        pass

    def reply(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Callable[[Stranger], None]) -> None:
        super().__init__(("127.0.0.1", 0), Stranger)
        self.script = script
        self.seen: list[dict[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of those who hang up, which they are to do here."""

    def name(self, *, host: str = "127.0.0.1", user: str = "") -> str:
        return f"http://{user}{host}:{self.server_port}/a"


@contextmanager
def serve(script: Callable[[Stranger], None]) -> Iterator[Server]:
    with Server(script) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def drip_headers(stranger: Stranger) -> None:
    for sign in b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 1000:
        stranger.wfile.write(bytes([sign]))
        time.sleep(PAUSE_S)


def drip_body(stranger: Stranger) -> None:
    stranger.send_response(200)
    stranger.send_header("Content-Length", "1000")
    stranger.end_headers()
    for _ in range(1000):
        stranger.wfile.write(b".")
        time.sleep(PAUSE_S)


def stall(stranger: Stranger) -> None:
    time.sleep(60)


def flood(stranger: Stranger) -> None:
    stranger.send_response(200)
    stranger.send_header("Transfer-Encoding", "chunked")
    stranger.end_headers()
    while True:
        stranger.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def send_bomb(stranger: Stranger) -> None:
    stranger.reply(BOMB, Content_Encoding="gzip")


def send_unasked(stranger: Stranger) -> None:
    stranger.reply(b"...", Content_Encoding="br")


def lead_in_circles(stranger: Stranger) -> None:
    stranger.reply(b"", status=302, Location="/a")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (drip_headers, httpx.TimeoutException),
        (drip_body, httpx.TimeoutException),
        (stall, httpx.TimeoutException),
        (flood, TooMuchError),
        (send_bomb, TooMuchError),
        (send_unasked, httpx.DecodingError),
        (lead_in_circles, httpx.TooManyRedirects),
    ],
)
def test_a_request_ends_whatever_the_server_does(script: Callable[[Stranger], None], error: type[Exception]) -> None:
    start = time.monotonic()

    with serve(script) as server, pytest.raises(error):
        fetch(server.name(), limits=LIMITS)

    assert time.monotonic() - start < LONGEST_S


def test_a_packed_body_is_unpacked_and_its_beginning_can_be_had() -> None:
    with serve(lambda stranger: stranger.reply(gzip.compress(b"0123456789" * 1000), Content_Encoding="gzip")) as server:
        whole, beginning = fetch(server.name(), limits=LIMITS), fetch(server.name(), limits=LIMITS, at_most=4)

    assert whole.data == b"0123456789" * 1000
    assert beginning.data == b"0123"


def test_a_password_goes_to_its_own_host_alone() -> None:
    with (
        serve(lambda stranger: stranger.reply(b"there")) as other,
        serve(lambda s: s.reply(b"", status=307, Location=other.name(host="localhost"))) as server,
    ):
        reply = fetch(server.name(user="me:p%40ss@"), limits=LIMITS)

    assert reply.data == b"there"
    assert server.seen[0]["Authorization"] == "Basic bWU6cEBzcw=="
    assert [name for name in other.seen[0] if name.lower() in {"authorization", "cookie"}] == []


def test_a_redirect_on_the_same_host_is_followed_and_one_to_another_refused_where_that_is_asked_for() -> None:
    def script(stranger: Stranger) -> None:
        if stranger.path == "/a":
            stranger.reply(b"", status=307, Location="/b")
        elif stranger.path == "/b":
            stranger.reply(b"here")
        else:
            stranger.reply(b"", status=307, Location=stranger.path.removeprefix("/to/"))

    with serve(script) as server, open_client(LIMITS, has_redirects=False) as client:
        assert client.get(server.name()).content == b"here"
        for target in ("http://localhost:1/x", f"http://localhost:{server.server_port}/b", "//other.example/b"):
            with pytest.raises(AwayError, match="a redirect to another host"):
                client.get(f"http://127.0.0.1:{server.server_port}/to/{target}")


@pytest.mark.parametrize(
    ("waits", "n_asked"),
    [(["0"], 2), (["3600"], 1), (["Wed, 21 Oct 2099 07:28:00 GMT"], 1), (["soon"], 2), (["nan"], 2)],
)
def test_a_wait_that_a_server_asks_for_ends_with_the_time(waits: list[str], n_asked: int) -> None:
    start = time.monotonic()

    with serve(lambda s: s.reply(b"{}", status=429, Retry_After=waits[0])) as server:
        reply = fetch(server.name(), limits=LIMITS)

    assert (reply.status, len(server.seen)) == (429, n_asked)
    assert time.monotonic() - start < LONGEST_S


def test_what_passes_is_tried_again() -> None:
    def script(stranger: Stranger) -> None:
        stranger.reply(b"now", status=200 if len(server.seen) > 1 else 503)

    with serve(script) as server:
        reply = fetch(server.name(), limits=LIMITS)

    assert (reply.status, reply.data, len(server.seen)) == (200, b"now", 2)


def test_records_of_the_client_hold_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serve(lambda stranger: stranger.reply(b"")) as server:
        fetch(f"{server.name(user='me:hunter2hunter2@')}?sig=abcdefgh'ijk", limits=LIMITS)

    assert "sig=***" in caplog.text
    assert not any(secret in caplog.text for secret in ("hunter2", "abcdefgh", "ijk"))
    assert "hunter2" not in redact_text("said hunter2hunter2")


def test_no_sensible_wait_is_none() -> None:
    headers = ("", "-1", "1e400", "nan", "soon", "Wed, 21 Oct 1999 07:28:00 GMT")

    assert [read_retry_after(each) for each in headers] == [0] * len(headers)
    assert read_retry_after(" 2.5 ") == 2.5


@pytest.mark.parametrize("uri", ["http://", "http://[::1/a", "ftp://host/a", "http://me:pa/ss@:x/a"])
def test_what_is_no_address_is_an_error_of_the_web(uri: str) -> None:
    with pytest.raises(httpx.HTTPError):
        fetch(uri, limits=LIMITS)


def test_a_reply_is_plain() -> None:
    with serve(lambda stranger: stranger.reply(b"x", ETag='"1"')) as server:
        reply = fetch(server.name(), limits=LIMITS)

    assert isinstance(reply, Reply)
    assert reply.headers["etag"] == '"1"'


def test_a_server_that_is_silent_twice_is_given_up() -> None:
    limits = WebLimits(silence_s=0.2, total_s=60, tries=5, first_wait_s=0.01)
    with serve(stall) as server, pytest.raises(httpx.ReadTimeout):
        fetch(server.name(), limits=limits)
    assert len(server.seen) == MAX_SILENCES
