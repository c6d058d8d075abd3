"""Which hosts a document may name, however their addresses are written."""

from __future__ import annotations

import socket
import threading
from typing import Any

import httpx
import pytest

from model.errors import InputError
from model.web import WebLimits, fetch
from pipeline import hosts
from pipeline.hosts import check_host

DOCUMENT = "https://stac.example/item.json"
NAMES = {"inner.example": "10.1.2.3", "both.example": "8.8.8.8 169.254.169.254", "six.example": "fd00::1"}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give hosts addresses without asking anybody."""
    known = socket.getaddrinfo

    def find(host: str, port: Any, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".example"):
            addresses = NAMES.get(host, "93.184.215.14").split()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
        # Numbers are read as the system reads them.
        return known(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/a.tif",
        "http://127.1/a.tif",
        "http://2130706433/a.tif",
        "http://0x7f000001/a.tif",
        "http://0/a.tif",
        "http://localhost:9000/a.tif",
        "http://[::1]/a.tif",
        "http://[::ffff:127.0.0.1]/a.tif",
        "http://[64:ff9b::7f00:1]/a.tif",
        "http://[2002:7f00:1::]/a.tif",
        "http://[::127.0.0.1]/a.tif",
        "http://[::ffff:0:7f00:1]/a.tif",
        "http://[64:ff9b:1::7f00:1]/a.tif",
        "http://[fec0::1]/a.tif",
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.1.1/a.tif",
        "http://100.64.0.1/a.tif",
        "http://user@10.0.0.1/a.tif",
        "HTTP://10.0.0.1/a.tif",
        "http://inner.example/a.tif",
        "http://both.example/a.tif",
        "http://six.example/a.tif",
        "http://public.example\\@127.0.0.1/a.tif",
        "http://public.example/\ta.tif",
        "http:///a.tif",
    ],
)
def test_closed_networks_are_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"^the asset red points to .*storage\.allow_private_hosts"):
        check_host(uri, named_by=DOCUMENT, what="the asset red")


@pytest.mark.parametrize(
    ("uri", "document"),
    [
        ("https://other.example/a.tif", DOCUMENT),
        ("http://8.8.8.8/a.tif", DOCUMENT),
        ("http://[2606:4700::1111]/a.tif", DOCUMENT),
        ("s3://bucket/a.tif", DOCUMENT),
        # Its own host, which whoever named the document has named.
        ("http://127.0.0.1:8000/a.tif", "http://127.0.0.1:8000/item.json"),
        ("http://inner.example:80/a.tif", "http://inner.example/item.json"),
    ],
)
def test_public_hosts_and_the_own_one_are_fine(uri: str, document: str) -> None:
    check_host(uri, named_by=document, what="the asset red")


def test_a_host_that_moves_into_a_closed_network_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    check_host("http://moving.example/a.tif", named_by=DOCUMENT, what="an asset")
    monkeypatch.setitem(NAMES, "moving.example", "127.0.0.1")

    with pytest.raises(httpx.ConnectError, match=r"moving\.example was at public addresses and is at 127\.0\.0\.1 now"):
        fetch("http://Moving.example/a.tif", limits=WebLimits(tries=1))


def test_the_own_host_of_a_document_does_not_move_into_a_closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    check_host("http://owner.example/a.tif", named_by="http://owner.example/item.json", what="an asset")
    monkeypatch.setitem(NAMES, "owner.example", "169.254.169.254")

    with pytest.raises(httpx.ConnectError, match=r"owner\.example was at public addresses and is at 169\.254"):
        fetch("http://owner.example/a.tif", limits=WebLimits(tries=1))


def test_another_port_of_the_same_host_is_another_service() -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9000"):
        check_host("http://127.0.0.1:9000/a", named_by="http://127.0.0.1:8000/item.json", what="a link")


def test_a_name_that_nobody_looks_up_in_time_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait(60) and [])
    monkeypatch.setattr(hosts, "LOOKUP_S", 0.05)
    try:
        with pytest.raises(InputError, match=r"slow\.example was not looked up within 0\.05 s"):
            check_host("https://slow.example/a.tif", named_by=DOCUMENT, what="an asset")
        with pytest.raises(httpx.ConnectTimeout, match=r"slow\.example was not looked up"):
            fetch("http://slow.example/a", limits=WebLimits(silence_s=0.05, total_s=0.2, tries=1))
    finally:
        is_over.set()
