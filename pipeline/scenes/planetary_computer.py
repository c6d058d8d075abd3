"""Tokens of the Planetary Computer: its files lie in containers of Azure, and its server gives a token for each.

The package planetary-computer does the same for whole items. It asks by a client of its own, without limits, and puts
tokens into what is written down.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

import httpx

from model.errors import InputError
from model.redaction import redact_uri
from model.web import Reply, describe_failure, fetch, open_client
from pipeline.config.limits import get_limits
from pipeline.dates import parse_moment

BASE_URL = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
"""Server of the tokens; what stands behind it is /ACCOUNT/CONTAINER."""
BASE_URL_VARIABLE = "PC_SDK_SAS_URL"
"""Environment variable that names another server, as the package planetary-computer has it."""
KEY_VARIABLE = "PC_SDK_SUBSCRIPTION_KEY"
"""Environment variable with the key of a subscription; without one the server gives less per minute."""
MAX_REPLY_BYTES = 1 << 16
"""Largest reply of the server of tokens."""

_HOST = re.compile(r"([a-z0-9]{3,24})\.blob\.core\.windows\.net")
_CONTAINER = re.compile(r"[a-z0-9$](-?[a-z0-9]){0,62}")
_TOKEN = re.compile(r"[\w.~%:+/&=-]{1,4096}", re.ASCII)
_SPARE_S = 60.0
_SPARE_FRACTION = 0.25
# ^ A token is used until so long before its end: whatever was opened by it goes on being read.
_TRIAL_FRACTION = 0.1
# ^ One that is younger is not what keeps a file from being read.

Container = tuple[str, str]
"""Account and container."""


@dataclass(frozen=True, kw_only=True)
class _Token:
    query: str
    begun_s: float
    lifetime_s: float

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.begun_s

    @property
    def is_good(self) -> bool:
        return self.age_s < self.lifetime_s - min(_SPARE_S, _SPARE_FRACTION * self.lifetime_s)


def find_container(uri: str) -> Container | None:
    """Tell account and container of a file; None if it lies elsewhere, or is signed already."""
    parts = urlsplit(uri)
    host = _HOST.fullmatch(parts.netloc)
    container = parts.path.removeprefix("/").partition("/")[0]
    if host is None or not _CONTAINER.fullmatch(container) or "sig" in parse_qs(parts.query):
        return None
    return host[1], container


class PlanetaryComputer:
    """Asks for a token once per container, and again shortly before it runs out."""

    def __init__(self, base_url: str, *, key: str | None = None) -> None:
        """Begin without any token.

        Args:
            base_url: Server of the tokens.
            key: Of a subscription.
        """
        self._base_url = base_url.rstrip("/")
        self._headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
        self._locks: defaultdict[Container, threading.Lock] = defaultdict(threading.Lock)
        self._tokens: dict[Container, _Token] = {}
        self._refusals: dict[Container, tuple[InputError, float]] = {}

    def sign(self, uri: str) -> str:
        """Give the address with a token that is good for a while; that of another host as it is.

        Raises:
            InputError: the server of the tokens gives none.
        """
        container = find_container(uri)
        if container is None:
            return uri
        return f"{uri}{'&' if '?' in uri else '?'}{self._find_token(container).query}"

    def renew(self, uri: str) -> None:
        """Forget the token of a file, unless it is too young to be the cause of anything."""
        container = find_container(uri)
        token = None if container is None else self._tokens.get(container)
        if container is not None and token is not None and token.age_s >= _TRIAL_FRACTION * token.lifetime_s:
            self._tokens.pop(container, None)

    def _find_token(self, container: Container) -> _Token:
        begun_s = time.monotonic()
        with self._locks[container]:
            token = self._tokens.get(container)
            if token is not None and token.is_good:
                return token
            refusal, refused_s = self._refusals.get(container, (None, 0.0))
            if refusal is not None and refused_s >= begun_s:
                # Whoever waited meanwhile does not wait once more, each in turn.
                raise refusal.about("")
            try:
                token = self._tokens[container] = self._ask(container)
            except InputError as problem:
                self._refusals[container] = problem, time.monotonic()
                raise
            return token

    def _ask(self, container: Container) -> _Token:
        url, begun_s = f"{self._base_url}/{'/'.join(container)}", time.monotonic()
        limits = replace(get_limits().to_web(), max_bytes=MAX_REPLY_BYTES)
        try:
            with open_client(limits, has_redirects=False) as client:
                reply = fetch(url, limits=limits, headers=self._headers, client=client)
        except httpx.HTTPError as problem:
            refusal = _refuse(url, describe_failure(problem, limits=limits))
        else:
            if reply.status == 200:
                return _read_token(reply, url=url, begun_s=begun_s)
            refusal = _refuse(url, f"answers {reply.status}")
        raise refusal


def _read_token(reply: Reply, *, url: str, begun_s: float) -> _Token:
    try:
        content = json.loads(reply.data)
        query, end = content["token"], parse_moment(content["msft:expiry"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _refuse(url, "sends no token") from None
    if not isinstance(query, str) or not _TOKEN.fullmatch(query) or "sig" not in parse_qs(query):
        raise _refuse(url, "sends something else than a token")
    return _Token(query=query, begun_s=begun_s, lifetime_s=(end - dt.datetime.now(dt.UTC)).total_seconds())


def _refuse(url: str, words: str) -> InputError:
    return InputError(
        f"{redact_uri(url)}, which signs for sign: planetary-computer, {words}",
        expected="a token, and when it runs out",
        remedy=f"see whether the server is well, or correct {BASE_URL_VARIABLE}, then try again",
    )
