"""A web server that knows ranges and etags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar, TypeVar

AnyServer = TypeVar("AnyServer", bound=ThreadingHTTPServer)


class RangeHandler(BaseHTTPRequestHandler):
    """Serves /bucket/NAME out of a folder, whole or in ranges, as S3 and good web servers do."""

    protocol_version = "HTTP/1.1"
    folder: Path
    has_etag = True
    moved: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = self.folder / self.path.partition("?")[0].removeprefix("/bucket/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        first, last, status = 0, len(content) - 1, 200
        if wanted := self.headers.get("Range"):
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            first, last, status = int(start), min(int(stop or last), last), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        if self.has_etag:
            self.send_header("ETag", f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')
            self.send_header("Last-Modified", "Sun, 01 Nov 2026 10:00:00 GMT")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[first : last + 1])

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def start_range_server(handler: type[RangeHandler]) -> Iterator[ThreadingHTTPServer]:
    """Serve on a port of this machine while the context lasts."""
    with listen(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield server


@contextmanager
def listen(server: AnyServer) -> Iterator[AnyServer]:
    """Let a server answer while the context lasts, and close it."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
