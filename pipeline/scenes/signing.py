"""Signatures of archives that give their files to nobody without: made where a file is opened, and kept nowhere else.

What a run knows of a file, and what it writes down, is the plain address. Whoever opens it asks for the signed one
here, in the process that opens it, as often as it does: a signature may run out before the run has ended. Which signer
that is goes with the scene.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from model.errors import InputError
from model.redaction import redact_uri, remember_secrets
from pipeline.config.scene import NO_SIGNER, PLANETARY_COMPUTER
from pipeline.grid.grid import GDAL_ERRORS
from pipeline.scenes.planetary_computer import BASE_URL, BASE_URL_VARIABLE, KEY_VARIABLE, PlanetaryComputer
from pipeline.uris import is_remote

Result = TypeVar("Result")

KEPT_S = 60.0
"""How long an address that a function has signed is used before the function is asked again."""
MAX_RENEWALS = 3
"""How often something is read again by new signatures: on a slow server a short-lived one runs out more than once."""
_YOUNGEST_S = 1.0
_MOST_KEPT = 4096


class Signer(Protocol):
    """What signs addresses; one for all threads of a process."""

    def sign(self, uri: str) -> str:
        """Give the signed address of a file on a server; of a server that needs no signature the plain one.

        Raises:
            InputError: there is no signature to be had.
        """

    def renew(self, uri: str) -> None:
        """Forget the signature of a file, unless it is too young to be the cause that nothing can be read."""


class FunctionSigner:
    """A function of an installed package: it takes a plain http(s) or s3 address and gives the signed one, http(s)."""

    def __init__(self, name: str) -> None:
        """Import it.

        Args:
            name: ``module:function``.

        Raises:
            InputError: there is no such function.
        """
        module, _, function = name.partition(":")
        try:
            self._call: Callable[[str], object] = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as problem:
            raise InputError(
                f"sign {name}: {problem}",
                expected="module:function of a package that is installed here, and on every worker",
                remedy="correct the name, or install the package",
            ) from None
        self._name = name
        self._kept: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def sign(self, uri: str) -> str:
        """Ask the function, or give what it said a little while ago.

        Raises:
            InputError: it fails, or gives something else than an http(s) address.
        """
        with self._lock:
            signed, asked_s = self._kept.get(uri, ("", 0.0))
        if signed and time.monotonic() - asked_s < KEPT_S:
            return signed
        signed = self._ask(uri)
        with self._lock:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[uri] = signed, time.monotonic()
        return signed

    def renew(self, uri: str) -> None:
        """Forget what the function said, if that was not just now."""
        with self._lock:
            if uri in self._kept and time.monotonic() - self._kept[uri][1] >= _YOUNGEST_S:
                del self._kept[uri]

    def _ask(self, uri: str) -> str:
        try:
            signed = self._call(uri)
        except InputError:
            raise
        # Somebody else's code.
        except Exception as problem:
            refusal = self._refuse(uri, f"fails ({type(problem).__name__}: {problem})")
        else:
            if signed == uri or (isinstance(signed, str) and urlsplit(signed).scheme in {"http", "https"}):
                return str(signed)
            refusal = self._refuse(uri, f"gives a {type(signed).__name__} that is no http(s) address")
        raise refusal

    def _refuse(self, uri: str, words: str) -> InputError:
        return InputError(
            f"sign {self._name} {words} for {redact_uri(uri)}",
            expected="the signed address as a text, or the plain one where none is needed",
            remedy="correct the function",
        )


def check_signer(name: str) -> None:
    """Look for a signer, without asking it for anything.

    Raises:
        InputError: there is none of this name.
    """
    _find_signer(name)


_current: ContextVar[str] = ContextVar("signer", default=NO_SIGNER)


@contextmanager
def use_signer(name: str) -> Iterator[None]:
    """Have whatever is opened inside the context be signed by this signer.

    Raises:
        InputError: there is no such signer.
    """
    check_signer(name)
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)


def is_signing() -> bool:
    """Tell whether addresses are signed in this context."""
    return _current.get() != NO_SIGNER


def sign_uri(uri: str) -> str:
    """Give the address by which a file is to be opened now; a local file's is its path.

    Raises:
        InputError: there is no signature to be had.
    """
    signer = _find_signer(_current.get())
    if signer is None or not is_remote(uri):
        return uri
    signed = signer.sign(uri)
    # Others' words will repeat it.
    remember_secrets(signed)
    return signed


def renew_signatures(uris: Iterable[str]) -> None:
    """Forget the signatures of files that could not be read, if they are old enough to be the cause."""
    signer = _find_signer(_current.get())
    if signer is not None:
        for uri in uris:
            signer.renew(uri)


def read_signed(read: Callable[[], Result], *, uris: Sequence[str]) -> Result:
    """Read files that `sign_uri` gives the addresses of, and again where there are new ones by then.

    Clocks differ, signatures are taken back, and some a file outlives while it is read: `MAX_RENEWALS` of them.

    Args:
        read: Opens the files and reads them.
        uris: The files.
    """
    if not is_signing():
        return read()
    for _ in range(MAX_RENEWALS):
        used = [sign_uri(uri) for uri in uris]
        try:
            return read()
        except GDAL_ERRORS as problem:
            failure = problem
        renew_signatures(uris)
        if [sign_uri(uri) for uri in uris] == used:
            raise failure
    return read()


def _find_signer(name: str) -> Signer | None:
    if name == NO_SIGNER:
        return None
    if name == PLANETARY_COMPUTER:
        # Tokens of one server are none of another.
        return _open_planetary_computer(os.environ.get(BASE_URL_VARIABLE) or BASE_URL, os.environ.get(KEY_VARIABLE))
    return _open_function(name)


@lru_cache
def _open_planetary_computer(base_url: str, key: str | None) -> Signer:
    return PlanetaryComputer(base_url, key=key)


@lru_cache
def _open_function(name: str) -> Signer:
    return FunctionSigner(name)
