"""The only place that reads STAC documents: from this machine, over http(s) with patience, out of object stores."""

from __future__ import annotations

import http
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import obstore
import requests
from obstore.exceptions import BaseError as ObstoreError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.storage.object_store import open_object
from pipeline.uris import is_remote

_TRANSIENT = (429, 500, 502, 503, 504)
_READ_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """How long and how much is read before giving up."""

    timeout_s: float = 30.0
    """How long a server may take to answer, or to go on with an answer, in seconds."""
    tries: int = 5
    """How often a request is sent at most, where the server is down, too slow, busy (429) or faulty (5xx)."""
    backoff_s: float = 0.5
    """Wait before the second further try, in seconds; it doubles each time."""
    longest_wait_s: float = 30.0
    """Most that is waited between two tries, also where the server asks for more, in seconds."""
    max_document_bytes: int = 32 << 20
    """Largest document, in bytes."""
    max_documents: int = 10_000
    """Most documents of a static catalog, or pages of an API."""
    max_depth: int = 12
    """Most levels of catalogs within catalogs."""


class DocumentReader(StacApiIO):
    """pystac's reader, with limits, and with errors that people can read and that hold no secrets."""

    def __init__(self, *, limits: ReadLimits) -> None:
        """Open a session that tries again."""
        super().__init__(
            timeout=limits.timeout_s,
            max_retries=Retry(
                total=limits.tries - 1,
                backoff_factor=limits.backoff_s,
                backoff_max=limits.longest_wait_s,
                retry_after_max=max(1, int(limits.longest_wait_s)),
                status_forcelist=_TRANSIENT,
                # A search is a POST, and changes nothing.
                allowed_methods=None,
                raise_on_status=False,
            ),
        )
        self.limits = limits
        self.n_documents = 0

    def read_document(self, href: str) -> dict[str, Any]:
        """Read a JSON object.

        Args:
            href: An absolute local path, or an http(s) or s3 URI.

        Raises:
            InputError: it cannot be had, is too large, or is no JSON object.
        """
        return self.read_json(href)

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a JSON object, as pystac asks for it."""
        name = redact_uri(source.href if hasattr(source, "href") else str(source))
        self._count(name)
        text = self.read_text(source, *args, **kwargs)
        try:
            content: Any = self.json_loads(text)
        except (ValueError, RecursionError) as problem:
            _refuse(name, f"is no JSON ({str(problem).partition(':')[0]})")
        if not isinstance(content, dict):
            _refuse(name, f"holds a JSON {type(content).__name__}")
        return content

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Read text, as pystac asks for it: a link of a page, or an href."""
        if not isinstance(source, str) or urlsplit(source).scheme.lower() in {"http", "https"}:
            return super().read_text(source, *args, **kwargs)
        data = self._read_object(source) if is_remote(source) else self._read_file(source)
        return _decode(data, name=redact_uri(source))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Ask a server, as pystac-client does, but read no more than the limit.

        Raises:
            InputError: it does not answer, refuses, or sends more than the limit.
        """
        name = redact_uri(href)
        if urlsplit(href).scheme.lower() not in {"http", "https"}:
            _refuse(name, "is a link of an API that leads away from the web")
        verb = (method or "GET").upper()
        try:
            with _keep_quiet():
                status, data = self._ask(verb, href, headers=headers, parameters=parameters)
        # Their words hold the whole URL, and with it what may be secret.
        except requests.RequestException as problem:
            _refuse(name, self._explain(problem))
        if not 200 <= status < 300:
            self._refuse_status(name, status=status, answer=data, has_secrets=name != href)
        return _decode(data, name=name)

    def _ask(
        self, verb: str, href: str, *, headers: dict[str, str] | None, parameters: dict[str, Any] | None
    ) -> tuple[int, bytes]:
        # urllib3 tries again until an answer begins; here, where one breaks off.
        for n_left in reversed(range(self.limits.tries)):
            try:
                with self.session.request(
                    verb,
                    href,
                    headers=headers,
                    json=parameters if verb == "POST" else None,
                    params=None if verb == "POST" else parameters,
                    timeout=self.timeout,
                    stream=True,
                ) as response:
                    return response.status_code, self._receive(response, name=redact_uri(href))
            except requests.exceptions.ChunkedEncodingError:
                if n_left == 0:
                    raise
        raise AssertionError("at least one try")

    def _receive(self, response: requests.Response, *, name: str) -> bytes:
        data = bytearray()
        for piece in response.iter_content(_READ_BYTES):
            data += piece
            self._check_size(len(data), name=name)
        return bytes(data)

    def _read_file(self, path: str) -> bytes:
        try:
            self._check_size(Path(path).stat().st_size, name=path)
            return Path(path).read_bytes()
        except OSError as problem:
            _refuse(path, f"cannot be read ({problem.strerror})")

    def _read_object(self, uri: str) -> bytes:
        store, key = open_object(uri, max_retries=self.limits.tries - 1, retry_timeout_s=self.limits.timeout_s)
        try:
            result = obstore.get(store, key)
            self._check_size(int(result.meta["size"]), name=uri)
            return bytes(result.bytes())
        # What is not there is an error of the operating system's kind.
        except (ObstoreError, OSError) as problem:
            _refuse(uri, f"cannot be read ({type(problem).__name__})")

    def _check_size(self, size: int, *, name: str) -> None:
        limit = self.limits.max_document_bytes
        if size > limit:
            _refuse(name, f"is larger than {limit >> 20} MiB", remedy="narrow the search, or name the item itself")

    def _count(self, name: str) -> None:
        self.n_documents += 1
        if self.n_documents > self.limits.max_documents:
            _refuse(
                name,
                f"comes after {self.limits.max_documents} other documents, and no end is in sight",
                remedy="name a collection further down, or narrow datetime, bbox and collections",
            )

    def _explain(self, problem: requests.RequestException) -> str:
        tries = f"{self.limits.tries} tries"
        words = repr(problem)
        if isinstance(problem, requests.Timeout) or "timed out" in words.lower():
            return f"does not answer within {self.limits.timeout_s:g} s ({tries})"
        if isinstance(problem, requests.exceptions.SSLError):
            return "has no certificate that can be trusted"
        if isinstance(problem, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
            resolved = "is not known by name" if "NameResolution" in words else "cannot be reached or breaks off"
            return f"{resolved} ({tries})"
        return f"cannot be asked ({type(problem).__name__})"

    def _refuse_status(self, name: str, *, status: int, answer: bytes, has_secrets: bool) -> NoReturn:
        phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""
        found = f"answers {status} {phrase}".rstrip()
        if status in _TRANSIENT:
            _refuse(name, f"{found} ({self.limits.tries} tries)", remedy="try again later")
        if status in {400, 422} and not has_secrets:
            # What is wrong with a search only the API can tell.
            _refuse(name, f"{found}: {answer[:300].decode(errors='replace')!r}", remedy="correct the search")
        remedy = "give access in the environment" if status in {401, 403} else "correct the address, or the ids"
        _refuse(name, found, remedy=remedy)


@contextmanager
def _keep_quiet() -> Iterator[None]:
    # urllib3 warns of every further try with the whole URL, and with it what may be secret.
    loggers = [logging.getLogger(name) for name in ("urllib3.connectionpool", "urllib3.util.retry")]
    for logger in loggers:
        logger.addFilter(_drop_record)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_drop_record)


def _drop_record(record: logging.LogRecord) -> bool:  # noqa: ARG001  (the form that logging asks for)
    return False


def _decode(data: bytes, *, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse(name, "is no text in UTF-8")


def _refuse(name: str, found: str, *, remedy: str = "correct the address, or fetch the document first") -> NoReturn:
    raise InputError(
        f"{name} {found}", expected="a STAC document in JSON, or the root of a STAC API", remedy=remedy
    ) from None
