"""Which proxies the environment names, and whether all that asks servers here can go through them."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies

from model.errors import InputError

_KINDS = frozenset({"http", "https"})


def check_proxies() -> None:
    """Refuse a proxy of a kind that not all clients here can use, so that none of them asks past it.

    Raises:
        InputError: the environment names one, for example with ``socks5://``.
    """
    named = getproxies()
    for scheme in ("http", "https", "all"):
        proxy = named.get(scheme, "")
        kind = urlsplit(proxy).scheme.lower() if "://" in proxy else "http"
        if kind not in _KINDS:
            raise InputError(
                f"{scheme.upper()}_PROXY names a proxy of the kind {kind}://",
                expected="http:// or https://",
                remedy="name an HTTP proxy, or unset it where servers can be reached without; NO_PROXY names hosts "
                "that are asked without one",
            )
