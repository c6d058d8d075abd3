"""An archive that signs: a server of short-lived tokens, and a store that gives nothing without a good one.

Both in a process of its own, a proxy through which hosts of Azure are reached: the addresses are those of the archive.
"""

from __future__ import annotations

import datetime as dt
import hmac
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from range_server import RangeHandler

ACCOUNT = "madeaccount"
STORE = f"http://{ACCOUNT}.blob.core.windows.net"
SECRET = b"known to the archive alone"


@dataclass(frozen=True, kw_only=True)
class SigningServer:
    """Where it is, and what it was asked for."""

    address: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process has to be told to meet this archive in place of the real one."""
        return {"http_proxy": self.address, "no_proxy": "", "PC_SDK_SAS_URL": f"{self.address}/token"}

    def list_tokens(self) -> list[str]:
        """Give the signatures that it has given so far, in their order."""
        return [line["sig"] for line in self._read_log() if line["what"] == "token"]

    def list_answers(self) -> list[int]:
        """Give the statuses that the store has answered with."""
        return [line["status"] for line in self._read_log() if line["what"] == "file"]

    def take_back_tokens(self) -> None:
        """Have the store refuse the tokens that were given so far."""
        Path(f"{self.log}.taken_back").touch()

    def _read_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


class _Handler(RangeHandler):
    token_s: float
    told_s: float
    pause_s: float
    log: Path

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        parts = urlsplit(self.path)
        if parts.path.startswith("/token/"):
            self._give_token(parts.path.removeprefix("/token/"))
            return
        status = 200 if self._is_signed() else 403
        self._note(what="file", status=status)
        if status == 403:
            self._send(b"<Error><Code>AuthenticationFailed</Code></Error>", status=403)
            return
        time.sleep(self.pause_s)
        self.path = f"/bucket{parts.path}"
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

    def _give_token(self, container: str) -> None:
        begun = time.time()
        end = f"{begun + self.token_s:.6f}"
        signature = _sign(container, end)
        self._note(what="token", sig=signature)
        told = dt.datetime.fromtimestamp(begun + self.told_s, dt.UTC).isoformat().replace("+00:00", "Z")
        content = {"msft:expiry": told, "token": f"se={end}&sp=rl&sv=2024-05-04&sig={quote(signature, safe='')}"}
        self._send(json.dumps(content).encode())

    def _is_signed(self) -> bool:
        parts = urlsplit(self.path)
        container = f"{(parts.hostname or '').partition('.')[0]}/{parts.path.split('/')[1]}"
        query = parse_qs(parts.query)
        end, signature = (query.get(name, [""])[0] for name in ("se", "sig"))
        if not end or signature != _sign(container, end):
            return False
        taken_back = Path(f"{self.log}.taken_back")
        is_valid = not taken_back.exists() or float(end) - self.token_s > taken_back.stat().st_mtime
        return is_valid and time.time() < float(end)

    def _send(self, data: bytes, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _note(self, **line: Any) -> None:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.close(descriptor)


def _sign(container: str, end: str) -> str:
    return hmac.new(SECRET, f"{container} {end}".encode(), "sha256").hexdigest() + "+/="


@contextmanager
def start_signing_server(
    folder: Path, *, log: Path, token_s: float = 2.0, told_s: float | None = None, pause_s: float = 0.0
) -> Iterator[SigningServer]:
    """Serve files of a folder, by container, while the context lasts.

    Args:
        folder: Holds a folder per container.
        log: Is written: what was asked for.
        token_s: How long a token lives.
        told_s: How long it lives by the server's word; left out, that is true.
        pause_s: How long every part of a file takes.
    """
    log.touch()
    settings = {"folder": folder, "log": log, "token_s": token_s, "told_s": told_s or token_s, "pause_s": pause_s}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), settings))
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield SigningServer(address=f"http://127.0.0.1:{server.server_port}", log=log)
    finally:
        process.kill()
        process.join()
        server.server_close()
