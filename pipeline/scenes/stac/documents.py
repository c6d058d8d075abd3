"""The only place that reads STAC documents: from this machine, over http(s) with patience, out of object stores."""

from __future__ import annotations

import http
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError as ObstoreError
from pystac_client.stac_api_io import StacApiIO

from model.errors import InputError
from model.redaction import redact_uri
from model.web import TRANSIENT_STATUSES, TooMuchError, WebLimits, describe_failure, fetch, open_client
from pipeline.config.limits import LimitsConfig
from pipeline.hosts import check_host, check_redirect
from pipeline.storage.object_store import open_object
from pipeline.uris import is_remote


@dataclass(frozen=True, kw_only=True)
class ReadLimits(WebLimits):
    """How long and how much is read before giving up."""

    max_documents: int = 10_000
    """Most documents of a static catalog, or pages of an API."""
    max_depth: int = 12
    """Most levels of catalogs within catalogs."""

    @classmethod
    def from_config(cls, limits: LimitsConfig) -> Self:
        """Take over what the run says of servers."""
        return cls(silence_s=limits.server_silence_s, total_s=limits.server_request_s)


class DocumentReader(StacApiIO):
    """pystac's reader, with limits, and with errors that people can read and that hold no secrets."""

    def __init__(self, *, limits: ReadLimits, origin: str, allow_private: bool = False) -> None:
        """Open a client that tries again; the session of the base class stays unused.

        Args:
            limits: How long and how much is read before giving up.
            origin: What the user named; where that is on a server, no document leads to a closed network but its own.
            allow_private: Whether they may nevertheless.
        """
        super().__init__()
        self._is_checked = is_remote(origin) and not allow_private
        self._client = open_client(limits, check_redirect=check_redirect if self._is_checked else None)
        self.limits = limits
        self.origin = origin
        self.allow_private = allow_private
        self.n_documents = 0

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

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
            InputError: it does not answer, refuses, sends more than the limit, or is one of a closed network.
        """
        name = redact_uri(href)
        if self._is_checked:
            check_host(href, named_by=self.origin, what="a link of an API")
        if urlsplit(href).scheme.lower() not in {"http", "https"}:
            _refuse(name, "is a link of an API that leads away from the web")
        try:
            reply = fetch(
                href,
                limits=self.limits,
                # A search is a POST, and changes nothing: it is sent again like a GET.
                method=(method or "GET").upper(),
                headers=headers,
                parameters=parameters,
                client=self._client,
            )
        except TooMuchError:
            self._refuse_size(name)
        except httpx.HTTPError as problem:
            _refuse(name, describe_failure(problem, limits=self.limits))
        if not 200 <= reply.status < 300:
            self._refuse_status(name, status=reply.status, answer=reply.data, has_secrets=name != href)
        return _decode(reply.data, name=name)

    def _read_file(self, path: str) -> bytes:
        try:
            self._check_size(Path(path).stat().st_size, name=path)
            return Path(path).read_bytes()
        except OSError as problem:
            _refuse(path, f"cannot be read ({problem.strerror})")

    def _read_object(self, uri: str) -> bytes:
        store, key = open_object(uri, max_retries=self.limits.tries - 1, retry_timeout_s=self.limits.total_s)
        try:
            result = obstore.get(store, key)
            self._check_size(int(result.meta["size"]), name=uri)
            return bytes(result.bytes())
        # What is not there is an error of the operating system's kind.
        except (ObstoreError, OSError) as problem:
            _refuse(uri, f"cannot be read ({type(problem).__name__})")

    def _check_size(self, size: int, *, name: str) -> None:
        if size > self.limits.max_bytes:
            self._refuse_size(name)

    def _refuse_size(self, name: str) -> NoReturn:
        found = f"is larger than {self.limits.max_bytes >> 20} MiB"
        _refuse(name, found, remedy="narrow the search, or name the item itself")

    def _count(self, name: str) -> None:
        self.n_documents += 1
        if self.n_documents > self.limits.max_documents:
            _refuse(
                name,
                f"comes after {self.limits.max_documents} other documents, and no end is in sight",
                remedy="name a collection further down, or narrow datetime, bbox and collections",
            )

    def _refuse_status(self, name: str, *, status: int, answer: bytes, has_secrets: bool) -> NoReturn:
        phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""
        found = f"answers {status} {phrase}".rstrip()
        if status in TRANSIENT_STATUSES:
            _refuse(name, f"{found} ({self.limits.tries} tries)", remedy="try again later")
        if status in {400, 422} and not has_secrets:
            # What is wrong with a search only the API can tell.
            _refuse(name, f"{found}: {answer[:300].decode(errors='replace')!r}", remedy="correct the search")
        remedy = "give access in the environment" if status in {401, 403} else "correct the address, or the ids"
        _refuse(name, found, remedy=remedy)


def _decode(data: bytes, *, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse(name, "is no text in UTF-8")


def _refuse(name: str, found: str, *, remedy: str = "correct the address, or fetch the document first") -> NoReturn:
    raise InputError(
        f"{name} {found}", expected="a STAC document in JSON, or the root of a STAC API", remedy=remedy
    ) from None
