"""What GDAL may have of servers through the gate, and what it may not, whatever their redirects and names say."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from range_server import listen

from pipeline.scenes.gate_server import Gate, Route, read_route

CONTENT = bytes(range(256)) * 8
LOGIN = "Basic " + base64.b64encode(b"me:s3cret word").decode()


class Server(ThreadingHTTPServer):
    """Has one file, and what leads elsewhere; keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str | None]] = []
        self.leads_to = ""

    def name(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", self.server.leads_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.command == "HEAD" and self.path.startswith("/signed"):
            self.send_error(403)
            return
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = CONTENT[int(first) : int(last or len(CONTENT)) + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(CONTENT)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with listen(Server()) as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with listen(Server()) as server:
        yield server


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Ask a gate for a file, as GDAL does."""
    with listen(Gate()) as gate, httpx.Client(trust_env=False) as client:

        def ask(uri: str, *, method: str = "GET", ending: str = "", asked: str = "", **given: bool) -> httpx.Response:
            route = Route(
                token="t" * 22,
                uri=uri,
                is_public=given.get("is_public", False),
                allow_private=given.get("allow_private", False),
                silence_s=5.0,
                total_s=5.0,
            )
            gate.add(read_route(route.write()))
            address = f"http://127.0.0.1:{gate.server_port}{route.path}{ending}"
            return client.request(method, address, headers={"Range": asked} if asked else {})

        yield ask


def test_a_file_comes_whole_and_in_ranges(ask: Ask, server: Server) -> None:
    whole, part = ask(server.name("/a.tif")), ask(server.name("/a.tif"), asked="bytes=256-259")

    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (part.status_code, part.content) == (206, bytes([0, 1, 2, 3]))
    assert part.headers["Content-Range"] == "bytes 256-259/2048"


@pytest.mark.parametrize("path", ["/a.tif", "/signed.tif"])
def test_the_length_is_told_also_where_the_server_knows_no_head(ask: Ask, server: Server, path: str) -> None:
    reply = ask(server.name(path), method="HEAD")

    assert (reply.status_code, reply.headers["Content-Length"]) == (200, "2048")


def test_nothing_else_is_to_be_had(ask: Ask, server: Server) -> None:
    assert ask(server.name("/a.tif"), ending=".aux.xml").status_code == 200
    endings = (".ovr", "/../b.tif", "?b", "x")
    assert [ask(server.name("/a.tif"), ending=ending).status_code for ending in endings] == [404] * 4
    assert [path for _, path, _ in server.asked] == ["/a.tif.aux.xml"]


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 1_0",
        "Content-Length: 3\r\nContent-Length: 10",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
    ],
)
def test_no_length_is_told_that_others_might_read_otherwise(ask: Ask, head: str) -> None:
    body = b"a\r\n0123456789\r\n0\r\n\r\n" if "chunked" in head else b"0123456789"

    class Odd(Handler):
        def do_GET(self) -> None:
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{head}\r\nConnection: close\r\n\r\n".encode() + body)
            self.close_connection = True

    with listen(ThreadingHTTPServer(("127.0.0.1", 0), Odd)) as odd:
        reply = ask(f"http://127.0.0.1:{odd.server_port}/a.tif")

    assert "Content-Length" not in reply.headers
    assert reply.headers["Connection"] == "close"
    assert b"0123456789".startswith(reply.content)


@pytest.mark.parametrize("ending", ["", ".aux.xml"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_redirect_leads_into_a_closed_network(
    ask: Ask, server: Server, other: Server, method: str, ending: str
) -> None:
    server.leads_to = other.name("/secret.tif")

    assert ask(server.name("/away.tif"), method=method, ending=ending).status_code == 403
    assert other.asked == []
    assert ask(server.name("/away.tif"), allow_private=True).content == CONTENT


def test_a_redirect_on_the_same_server_is_followed(ask: Ask, server: Server) -> None:
    server.leads_to = server.name("/a.tif")

    assert ask(server.name("/away.tif")).content == CONTENT


def test_user_and_password_go_to_their_own_server_alone(ask: Ask, server: Server, other: Server) -> None:
    server.leads_to = other.name("/a.tif")
    uri = server.name("/away.tif").replace("://", "://me:s3cret%20word@")

    assert ask(uri, allow_private=True).content == CONTENT
    assert [login for _, _, login in server.asked] == [LOGIN]
    assert [login for _, _, login in other.asked] == [None]


def test_a_host_that_was_public_is_not_asked_at_a_closed_address(
    ask: Ask, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **named: Any) -> Any:
        return known("127.0.0.1" if host == "moved.example" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    uri = server.name("/a.tif").replace("127.0.0.1", "moved.example")

    assert ask(uri, is_public=True).status_code == 502
    assert server.asked == []


def test_a_redirect_to_a_name_that_changes_its_address_is_not_followed(
    ask: Ask, server: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, told = socket.getaddrinfo, ["8.8.8.8", "127.0.0.1"]

    def look_up(host: str, *rest: Any, **named: Any) -> Any:
        return known(told.pop(0) if host == "rebinding.example" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.leads_to = other.name("/a.tif").replace("127.0.0.1", "rebinding.example")

    assert ask(server.name("/away.tif")).status_code == 502
    assert (told, other.asked) == ([], [])
