"""A server that speaks OpenAI's chat completions over HTTP, and goes wrong in every way it is told to.

What it says is up to a script, a function from the body of a request to a `Reply` or a `Fault`.
"""

from __future__ import annotations

import base64
import io
import json
import math
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Body = dict[str, Any]
Token = tuple[str, float, dict[str, float]]
"""A token, its probability and those of the likeliest tokens at its place."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A completion."""

    text: str | None
    tokens: Sequence[Token] = ()
    finish_reason: str = "stop"
    refusal: str | None = None

    def to_dict(self, body: Body) -> dict[str, Any]:
        probabilities = {"content": [write_token(*token) for token in self.tokens]} if self.tokens else None
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": self.finish_reason,
                    "message": {"role": "assistant", "content": self.text, "refusal": self.refusal},
                    "logprobs": probabilities if body.get("logprobs") else None,
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Anything but a completion."""

    status: int = 200
    text: str = ""
    """The body."""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    is_reset: bool = False
    """Whether the connection breaks instead."""
    is_slow: bool = False
    """Whether nothing comes until the server ends."""


Script = Callable[[Body], Reply | Fault]

SOON = {"retry-after-ms": "1"}
"""Spares the tests the client's waiting."""


def refuse(status: int, message: str, *, headers: dict[str, str] = SOON, **details: Any) -> Fault:
    """Answer with an error in the form of the API."""
    return Fault(
        status=status, text=json.dumps({"error": {"message": message, "type": "x", **details}}), headers=headers
    )


def write_token(text: str, probability: float, alternatives: dict[str, float]) -> dict[str, Any]:
    others = [{"token": other, "logprob": math.log(p), "bytes": None} for other, p in alternatives.items()]
    return {"token": text, "logprob": math.log(probability), "bytes": None, "top_logprobs": others}


def read_texts(body: Body) -> list[str]:
    """Give the texts of a request's last message."""
    content = body["messages"][-1]["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def read_pair(body: Body) -> npt.NDArray[np.uint8]:
    """Decode a request's images, uint8 of shape (date=2, band=3, y, x)."""
    urls = [part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
    images = []
    for url in urls:
        head, _, data = url.partition(",")
        assert head == "data:image/png;base64"
        images.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True)))))
    return np.stack(images).transpose(0, 3, 1, 2)


class OpenAiServer(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    daemon_threads = True

    def __init__(self, script: Script, *, key: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.key = key
        self.bodies: list[Body] = []
        """Every request to complete a chat, in the order in which they came."""
        self.keys: set[str] = set()
        """What stood in their headers."""
        self.n_most_at_once = 0
        self.is_ending = Event()
        self.n_at_once = 0
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def name(self) -> str:
        return f"openai:{self.url}#stand-in"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OpenAiServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            server.keys.add(self.headers["Authorization"].removeprefix("Bearer "))
            server.n_at_once += 1
            server.n_most_at_once = max(server.n_most_at_once, server.n_at_once)
        try:
            self._send(self._decide(body), body=body)
        finally:
            with server.lock:
                server.n_at_once -= 1

    def _decide(self, body: Body) -> Reply | Fault:
        if self.server.key is not None and self.headers["Authorization"] != f"Bearer {self.server.key}":
            return refuse(401, f"Incorrect API key provided: {self.headers['Authorization']}.")
        if self.path != "/v1/chat/completions":
            return refuse(404, f"no such path {self.path}")
        if body["model"] != "stand-in":
            return refuse(404, f"The model `{body['model']}` does not exist")
        return self.server.script(body)

    def _send(self, answer: Reply | Fault, *, body: Body) -> None:
        if isinstance(answer, Reply):
            answer = Fault(text=json.dumps(answer.to_dict(body)))
        if answer.is_slow:
            self.server.is_ending.wait()
        if answer.is_reset:
            # Closing with nothing lingering is what the other side sees as a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        content = answer.text.encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Type": answer.content_type}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serve(script: Script, *, key: str | None = None) -> Iterator[OpenAiServer]:
    """Run a server while the context lasts."""
    with OpenAiServer(script, key=key) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.is_ending.set()
            server.shutdown()
            thread.join()
