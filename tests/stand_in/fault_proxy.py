"""A proxy before a real HTTP server that lets some requests fail in the ways that networks and servers fail."""

from __future__ import annotations

import http.client
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

RESET, LOST_REPLY = "reset", "lost reply"
Fault = int | str | None
"""A status to answer with, `RESET` to cut the connection before the server hears anything, `LOST_REPLY` to cut it after
the server has done what was asked; None: no fault."""
Plan = Callable[[int, str, str], Fault]
"""Gives the fault of a request by its number, method and path."""


def plan_no_fault(number: int, method: str, path: str) -> Fault:
    """Let every request pass."""
    return None


class FaultProxy(ThreadingHTTPServer):
    """Passes requests on, but for those that its plan lets fail."""

    daemon_threads = True

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = upstream_port
        self.plan: Plan = plan_no_fault
        self.faults: Counter[Fault] = Counter()
        self._n_requests = 0
        self._lock = Lock()

    def choose_fault(self, method: str, path: str) -> Fault:
        with self._lock:
            self._n_requests += 1
            fault = self.plan(self._n_requests, method, path)
            self.faults[fault] += 1
            return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.choose_fault(self.command, self.path)
        if fault == RESET:
            self._reset()
        elif isinstance(fault, int):
            self._reply(fault, [], b"<Error><Code>SlowDown</Code></Error>" if self.command != "HEAD" else b"")
        else:
            status, headers, content = self._ask_upstream(body)
            if fault == LOST_REPLY:
                self._reset()
            else:
                self._reply(status, headers, content)

    def _ask_upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        is_head = self.command == "HEAD" and lengths
        self.send_header("Content-Length", lengths[0] if is_head else str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        # Closing with a linger of zero sends a reset instead of a goodbye.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def start_fault_proxy(upstream_port: int) -> Iterator[FaultProxy]:
    """Start the proxy on a free port, and stop it with the context."""
    proxy = FaultProxy(upstream_port)
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
