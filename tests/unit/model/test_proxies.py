"""Proxies that not every client here can use are refused, so that none asks servers past them."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from model.errors import InputError
from model.proxies import check_proxies
from model.web import WebLimits, open_client
from pipeline.storage.object_store import open_store


@pytest.mark.parametrize("variable", ["ALL_PROXY", "https_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize(
    ("proxy", "is_known"),
    [
        ("socks5://127.0.0.1:9", False),
        ("socks5h://user:secret@host:1080", False),
        ("ftp://host:1", False),
        ("http://host:3128", True),
        ("HTTPS://host:3128", True),
        ("host:3128", True),
    ],
)
def test_only_http_proxies_are_taken(
    variable: str, proxy: str, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    problem = rf"{variable.upper()} names a proxy of the kind {proxy.split(':')[0]}://; expected"

    for ask in (check_proxies, lambda: open_client(WebLimits()).close(), lambda: open_store("s3://bucket/run")):
        with nullcontext() if is_known else pytest.raises(InputError, match=problem):
            ask()
