"""The process at the gate: it asks servers for the rasters that GDAL reads, in the one manner of this program.

GDAL's own client follows a redirect wherever it leads, looks names up by itself, and takes a password along in the name
of a file. Here each redirect is looked at, a host that was found at public addresses is asked at those alone, and user
and password are a header for their own host. What GDAL may have is a list of files that its process has named, each
under a name that nobody can guess; there is nothing else to be had, for nobody on this machine.

It is a process of its own, as GDAL often reads while it lets no other thread of its process run.
"""

from __future__ import annotations

import json
import os
import posixpath
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TextIO
from urllib.parse import urlsplit

from model.addresses import keep_public
from model.errors import InputError
from model.redaction import split_credentials
from pipeline.scenes.gate_client import Servers
from pipeline.uris import AUX_SUFFIX

MAX_ROUTES = 1 << 16
"""Files that are known at a time; the oldest are forgotten first, here and by the process that named them."""
_ASKED_HEADERS = ("Range", "If-Range", "User-Agent")
_TOLD_HEADERS = (
    *("Content-Length", "Content-Range", "Content-Type", "Accept-Ranges", "ETag", "Last-Modified", "Retry-After"),
)
_NO_HEAD = {400, 401, 403, 405, 501}
# ^ What servers say that do not know HEAD, and those whose signatures are for GET.
_ONE_BYTE = "bytes=0-0"
_PIECE_BYTES = 1 << 16
_IDLE_S = 120.0
_LATER = 2.0
# ^ GDAL's own limits say in better words what is late; those here are so many times longer.


@dataclass(frozen=True, kw_only=True)
class Route:
    """One file that may be asked for."""

    token: str
    """Stands for it in the address that GDAL is given."""
    uri: str
    """Where it is, user and password included."""
    is_public: bool
    """Whether its host was found at public addresses, so that it is asked at those alone."""
    allow_private: bool
    """Whether its server may lead to a closed network."""
    silence_s: float
    """How long its server may be silent."""
    total_s: float
    """How long one request may take in all."""

    @property
    def path(self) -> str:
        """What is asked of the gate for it; its last part is the file's own name, by which GDAL knows some formats."""
        return f"/{self.token}/{posixpath.basename(urlsplit(self.uri).path) or 'raster'}"

    def write(self) -> str:
        """Give a line of text that `read_route` reads."""
        return json.dumps(asdict(self))


def read_route(line: str) -> Route:
    """Read what `Route.write` wrote."""
    return Route(**json.loads(line))


class Gate(ThreadingHTTPServer):
    """Listens on loopback, and gives the files of its routes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        """Begin without routes, on a port that is free."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self._routes: dict[str, Route] = {}
        self._lock = threading.Lock()

    def add(self, route: Route) -> None:
        """Let a file be asked for."""
        if route.is_public:
            keep_public(urlsplit(split_credentials(route.uri).place).hostname or "")
        with self._lock:
            if len(self._routes) >= MAX_ROUTES:
                del self._routes[next(iter(self._routes))]
            self._routes[route.token] = route

    def find(self, path: str) -> tuple[Route, str] | None:
        """Give the file that a path stands for, and its address; None where there is none."""
        with self._lock:
            route = self._routes.get(path.split("/")[1] if path.startswith("/") else "")
        if route is None or path not in {route.path, route.path + AUX_SUFFIX}:
            return None
        return route, route.uri if path == route.path else route.uri + AUX_SUFFIX

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a reader that has left."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Gate
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._servers = Servers()

    def finish(self) -> None:
        self._servers.close()
        super().finish()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        found = self.server.find(self.path)
        if found is None:
            self._refuse(404)
            return
        route, uri = found
        # However little comes each time.
        end = threading.Timer(route.total_s * _LATER, self._servers.abort)
        end.daemon = True
        end.start()
        try:
            reply = self._ask(route, uri)
        except InputError:
            self._refuse(403)
        except TimeoutError:
            self._refuse(504)
        except (OSError, HTTPException, ValueError):
            self._refuse(502)
        else:
            self._send(reply)
            self._servers.settle(reply)
        finally:
            end.cancel()

    def _ask(self, route: Route, uri: str) -> HTTPResponse:
        headers = {name: value for name in _ASKED_HEADERS if (value := self.headers.get(name)) is not None}
        ask = partial(self._servers.ask, allow_private=route.allow_private, timeout_s=route.silence_s * _LATER)
        reply = ask(self.command, uri, headers=headers)
        if self.command == "HEAD" and reply.status in _NO_HEAD:
            self._servers.settle(reply)
            reply = ask("GET", uri, headers={**headers, "Range": _ONE_BYTE})
        if reply.status < 200:
            raise HTTPException(f"an answer of status {reply.status}")
        return reply

    def _send(self, reply: HTTPResponse) -> None:
        told = {name: value for name in _TOLD_HEADERS if (value := reply.getheader(name)) is not None}
        status = reply.status
        if reply.chunked or not _is_number(told.get("Content-Length", "")):
            # What GDAL and Python might not take for the same: its rest would be the beginning of the next answer.
            told.pop("Content-Length", None)
        if self.command == "HEAD" and status == 206:
            # Of the one byte that stands for a HEAD.
            status, size = 200, told.pop("Content-Range", "").rpartition("/")[2]
            told |= {"Content-Length": size} if _is_number(size) else {}
        self.send_response(status)
        if "Content-Length" not in told:
            told["Connection"] = "close"
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send_body(reply)

    def _send_body(self, reply: HTTPResponse) -> None:
        try:
            while piece := reply.read1(_PIECE_BYTES):
                self.wfile.write(piece)
        except (OSError, HTTPException):
            self.close_connection = True
        if reply.length:
            # Its beginning is gone: that it ends too early tells that something is wrong.
            self.close_connection = True

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing: a reader that cannot have a file says so itself."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def serve(commands: Iterable[str], answers: TextIO) -> None:
    """Listen, and take in a route with each line, until there are no more.

    Args:
        commands: What `Route.write` gave, a line each.
        answers: Is told the port, and then an empty line for each route that can be asked for.
    """
    with Gate() as gate:
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        print(gate.server_port, file=answers, flush=True)
        for line in commands:
            gate.add(read_route(line))
            print(file=answers, flush=True)
        gate.shutdown()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
    # Requests that are under way are nobody's any more.
    os._exit(0)
