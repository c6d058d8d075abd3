"""By which address GDAL opens a file: one on a server by that of the gate, which asks the server in its place."""

from __future__ import annotations

import atexit
import os
import re
import secrets
import select
import subprocess
import sys
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from model.addresses import is_kept_public
from model.errors import InputError
from model.proxies import check_proxies
from model.redaction import remember_secrets, split_credentials
from pipeline.config.limits import get_limits
from pipeline.scenes.gate_server import MAX_ROUTES, Route
from pipeline.scenes.signing import sign_uri

_START_S = 60.0
_GATE_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+(/[A-Za-z0-9_-]{22}/[^\s'\"<>]*)")


class _Gate:
    """The process at the gate, and the files that it was told of."""

    def __init__(self) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.scenes.gate_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            # What is pressed at the terminal is for this process; the gate goes with it.
            start_new_session=True,
            text=True,
        )
        self._routes: dict[tuple[str, bool, bool], Route] = {}
        self._way = _read_way()
        self._port = int(self._read())

    @property
    def is_fit(self) -> bool:
        """Whether it runs, and asks servers in the way that this process would now."""
        return self._process.poll() is None and self._way == _read_way()

    def admit(self, uri: str, *, is_public: bool, allow_private: bool) -> str:
        """Give the address of a file at the gate, the same each time."""
        key = (uri, is_public, allow_private)
        if key not in self._routes:
            limits = get_limits()
            route = Route(
                token=secrets.token_urlsafe(16),
                uri=uri,
                is_public=is_public,
                allow_private=allow_private,
                silence_s=limits.server_silence_s,
                total_s=limits.server_request_s,
            )
            self._write(route.write())
            self._read()
            if len(self._routes) >= MAX_ROUTES:
                del self._routes[next(iter(self._routes))]
            self._routes[key] = route
        return f"http://127.0.0.1:{self._port}{self._routes[key].path}"

    def list_files(self) -> dict[str, str]:
        """Give what is asked of the gate for each file, and its own address."""
        return {route.path: route.uri for route in list(self._routes.values())}

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Let go of it in a process that was forked from the one whose it is."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.returncode = 0

    def _write(self, line: str) -> None:
        if self._process.stdin is None:
            raise OSError("the gate takes nothing")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        told = self._process.stdout
        # A line comes whole, and one at a time: nothing of it waits in Python's own memory.
        if told is None or not select.select([told], [], [], _START_S)[0] or not (line := told.readline()):
            raise OSError("the gate does not answer")
        return line


def _read_way() -> dict[str, str]:
    """Give what the environment says of proxies and certificates."""
    names = [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("SSL_CERT_")]
    return {name: os.environ[name] for name in names}


class _Gates:
    """The gate of this process, which is begun when the first file wants it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.gate: _Gate | None = None

    def admit(self, uri: str, *, is_public: bool, allow_private: bool) -> str:
        with self.lock:
            try:
                if self.gate is None or not self.gate.is_fit:
                    self.close()
                    self.gate = _Gate()
                return self.gate.admit(uri, is_public=is_public, allow_private=allow_private)
            except (OSError, ValueError) as problem:
                self.close()
                words = str(problem)
        raise InputError(
            f"the process that asks servers for scenes did not start or has ended ({words})",
            expected="room for one more process",
            remedy="see what stands above on stderr, make room, and start the run again",
        )

    def close(self) -> None:
        if self.gate is not None:
            self.gate.close()
            self.gate = None

    def forget(self) -> None:
        """Begin anew in a forked process: the gate, and maybe the lock, belong to the one that it was forked from."""
        if self.gate is not None:
            self.gate.leave()
        self.lock, self.gate = threading.Lock(), None


_gates = _Gates()
atexit.register(_gates.close)
os.register_at_fork(after_in_child=_gates.forget)


def find_address(uri: str, *, allow_private: bool = False) -> str:
    """Give the address by which GDAL is to open a file now.

    Args:
        uri: What `resolve_uri` gave.
        allow_private: Whether its server may lead to hosts of closed networks. Then GDAL asks it by itself, unless
            there is a password that it must not know.

    Returns:
        Of an http(s) file an address at the gate; else what `sign_uri` gives.

    Raises:
        InputError: there is no signature to be had, no gate, or a proxy of a kind that is not known here.
    """
    signed = sign_uri(uri)
    if urlsplit(signed).scheme.lower() not in {"http", "https"}:
        return signed
    check_proxies()
    # Words about it will name it.
    remember_secrets(signed)
    address = split_credentials(signed)
    if allow_private and not address.credentials:
        return signed
    is_public = is_kept_public(urlsplit(address.place).hostname or "")
    return _gates.admit(signed, is_public=is_public and not allow_private, allow_private=allow_private)


def is_at_gate(address: str) -> bool:
    """Tell whether `find_address` gave an address at the gate."""
    return _GATE_ADDRESS.fullmatch(address) is not None


def name_servers(words: str) -> str:
    """Put the files' own addresses into what GDAL says of those at the gate."""
    files = {} if _gates.gate is None else _gates.gate.list_files()

    def name(found: re.Match[str]) -> str:
        path = next((path for path in files if found[1].startswith(path)), None)
        return found[0] if path is None else files[path] + found[1].removeprefix(path)

    return _GATE_ADDRESS.sub(name, words)
