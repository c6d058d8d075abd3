"""Static catalogs on this machine, behind http and in an object store; and everything that may go wrong on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from stac_material import make_catalog, make_collection, make_item, send, serve_answers, serve_folder, write_json

from model.errors import InputError
from pipeline.config.stac import StacConfig
from pipeline.scenes.stac.documents import ReadLimits
from pipeline.scenes.stac.scene import StacScene, find_stac_scene

LIMITS = ReadLimits(silence_s=120, tries=3, first_wait_s=0.01, longest_wait_s=0.05, max_documents=30, max_depth=4)
BOX = (-180.0, -80.0, 180.0, 80.0)
CONFORMS = [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search", "item-search#query")]


def find(href: str, *, limits: ReadLimits = LIMITS, **settings: Any) -> StacScene:
    return find_stac_scene(StacConfig(href=href, **settings), limits=limits)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Write a catalog with two collections of items, one in a catalog of its own, and give its folder."""
    folder = tmp_path / "catalog"
    write_json(folder / "catalog.json", make_catalog("s2/collection.json", "./more/catalog.json"))
    write_json(folder / "s2" / "collection.json", make_collection("one/one.json", "two/two.json"))
    write_json(folder / "s2" / "one" / "one.json", make_item("one", "2024-05-01T17:00:00Z", clouds=4))
    write_json(folder / "s2" / "two" / "two.json", make_item("two", "2024-05-03T17:00:00Z", clouds=3))
    write_json(
        folder / "more" / "catalog.json", make_catalog("aerial/collection.json", "../catalog.json", catalog_id="m")
    )
    write_json(folder / "more" / "aerial" / "collection.json", make_collection("../a.json", collection="aerial"))
    write_json(folder / "more" / "a.json", make_item("a", "2024-05-01T17:00:00Z", clouds=0, collection="aerial"))
    return folder


@pytest.fixture
def bucket(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put the catalog into a bucket of a real S3 server, and give its URI."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="scenes")
    for path in catalog.rglob("*.json"):
        client.upload_file(str(path), "scenes", f"catalog/{path.relative_to(catalog)}")
    yield "s3://scenes/catalog"
    client.close()
    server.stop()


CHOICES = [
    ("catalog.json", {}, "a", "more/a/red.tif"),
    ("catalog.json", {"collections": ["sentinel-2-l2a"]}, "two", "s2/two/two/red.tif"),
    ("s2/collection.json", {}, "two", "s2/two/two/red.tif"),
    ("catalog.json", {"ids": ["one"]}, "one", "s2/one/one/red.tif"),
    ("s2/one/one.json", {}, "one", "s2/one/one/red.tif"),
    ("catalog.json", {"datetime": "2024-05-02/.."}, "two", "s2/two/two/red.tif"),
    ("catalog.json", {"query": {"eo:cloud_cover": {"gt": 3}}}, "one", "s2/one/one/red.tif"),
    ("catalog.json", {"bbox": BOX, "order": "newest"}, "two", "s2/two/two/red.tif"),
]


@pytest.mark.parametrize(("name", "settings", "chosen", "red"), CHOICES)
def test_catalog_on_this_machine(catalog: Path, name: str, settings: dict[str, Any], chosen: str, red: str) -> None:
    scene = find(str(catalog / name), **settings)
    assert (scene.item_ids, scene.files.parts[0].red.uri) == ((chosen,), str(catalog / red))


@pytest.mark.parametrize(("name", "settings", "chosen", "red"), CHOICES)
def test_catalog_over_http(catalog: Path, name: str, settings: dict[str, Any], chosen: str, red: str) -> None:
    with serve_folder(catalog) as address:
        scene = find(f"{address}/{name}", **settings)
    assert (scene.item_ids, scene.files.parts[0].red.uri) == ((chosen,), f"{address}/{red}")


def test_catalog_in_a_bucket(bucket: str) -> None:
    for name, settings, chosen, red in CHOICES:
        scene = find(f"{bucket}/{name}", **settings)
        assert (scene.item_ids, scene.files.parts[0].red.uri) == ((chosen,), f"{bucket}/{red}")
    with pytest.raises(InputError, match=r"s3://scenes/catalog/none\.json cannot be read"):
        find(f"{bucket}/none.json")


def test_items_of_a_local_catalog_may_share_a_folder_above_them(catalog: Path) -> None:
    item = make_item("one", "2024-05-01T17:00:00Z", prefix="../../data/")
    path = write_json(catalog / "s2" / "one" / "one.json", item)

    scene = find(str(catalog / "catalog.json"), ids=["one"])

    assert scene.files.parts[0].red.uri == str(catalog / "data" / "one" / "red.tif")
    with pytest.raises(InputError, match=r"item one of .*the asset red of item one points to .* outside .*"):
        find(str(path))


@pytest.mark.parametrize("href", ["/etc/hostname", "file:///etc/hostname", "../../../hostname.json"])
@pytest.mark.parametrize("rel", ["item", "child"])
def test_links_do_not_lead_out_of_the_catalog(catalog: Path, href: str, rel: str) -> None:
    root = make_catalog(href) if rel == "child" else make_collection(href)
    path = write_json(catalog / "catalog.json", root)

    with pytest.raises(InputError, match=rf"^stac: a link to an {rel} in .*catalog\.json points to .*outside"):
        find(str(path))
    if not href.startswith(".."):
        with serve_folder(catalog) as address, pytest.raises(InputError, match="a place on this machine"):
            find(f"{address}/catalog.json")


def test_remote_item_does_not_reach_local_files(catalog: Path) -> None:
    item = make_item("one", "2024-05-01T17:00:00Z", prefix="/etc/")
    write_json(catalog / "one.json", item | {"links": [{"rel": "self", "href": "/etc/one.json"}]})
    with (
        serve_folder(catalog) as address,
        pytest.raises(InputError, match="red of item one of a remote document points to"),
    ):
        find(f"{address}/one.json")


def test_catalogs_that_go_round_or_too_deep_end(catalog: Path, tmp_path: Path) -> None:
    # The fixture's second catalog names the first one again, which was read already.
    assert find(str(catalog / "catalog.json"), collections=["aerial"]).item_ids == ("a",)

    for depth in range(8):
        child = f"{'d/' * depth}c.json"
        write_json(tmp_path / "deep" / child, make_catalog("d/c.json", catalog_id=str(depth)))
    with pytest.raises(InputError, match=r"4 levels down .*expected at most 4 levels"):
        find(str(tmp_path / "deep" / "c.json"))


def test_catalog_of_very_many_documents_is_not_read_to_its_end(tmp_path: Path) -> None:
    hrefs = [f"{n}.json" for n in range(40)]
    for n, href in enumerate(hrefs):
        write_json(tmp_path / href, make_item(str(n), "2024-05-01T17:00:00Z", clouds=None))
    path = write_json(tmp_path / "collection.json", make_collection(*hrefs))

    with pytest.raises(InputError, match=r"comes after 30 other documents"):
        find(str(path))
    with pytest.raises(InputError, match=r"more than 20 items of .* fit"):
        find(str(path), max_items=20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[1]", "holds a JSON list"),
        (b"\xff\xfe{}", "is no text in UTF-8"),
        (b"{}", "holds no STAC object"),
        (b'{"type": "Topology"}', "type 'Topology'"),
        (b'{"type": "Catalog", "stac_version": "1.0.0"}', "is no sound STAC catalog"),
        (b'{"type": "FeatureCollection", "features": 7}', "has no item that fits"),
        (b'{"type": "FeatureCollection", "features": [7, null]}', "is no STAC item with an id"),
        (b"[" * 100_000, "is no JSON"),
        (json.dumps({"type": "Feature", "id": "x"}).encode(), "item x of .* is no sound STAC item"),
    ],
)
def test_document_that_is_none_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"^stac: .*{reason}"):
        find(str(tmp_path / "x.json"))


def test_large_documents_are_not_read(tmp_path: Path) -> None:
    limits = ReadLimits(max_bytes=1 << 20)
    (tmp_path / "x.json").write_bytes(b" " * (2 << 20))
    with serve_folder(tmp_path) as address:
        for href in (str(tmp_path / "x.json"), f"{address}/x.json"):
            with pytest.raises(InputError, match="is larger than 1 MiB"):
                find_stac_scene(StacConfig(href=href), limits=limits)


def make_root(handler: BaseHTTPRequestHandler, *, conforms: list[str] = CONFORMS) -> dict[str, Any]:
    search = f"http://{handler.headers['Host']}/search"
    links = [
        {"rel": "search", "href": search, "method": method, "type": "application/geo+json"}
        for method in ("GET", "POST")
    ]
    return {**make_catalog(), "conformsTo": conforms, "links": links}


def serve_api(search: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None], **root: Any) -> Any:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if handler.path.startswith("/search"):
            search(handler, json.loads(body or b"{}"))
        else:
            send(handler, make_root(handler, **root))

    return serve_answers(answer)


def make_page(*items: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    links = [] if following is None else [{"rel": "next", "href": following, "method": "GET"}]
    return {"type": "FeatureCollection", "features": list(items), "links": links}


ONE = make_item("one", "2024-05-01T17:00:00Z", prefix="https://files.example/")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_api_that_fails_for_a_while_is_asked_again(status: int) -> None:
    tries = []

    def search(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        tries.append(body)
        if len(tries) < 3:
            # A server may ask for an hour; no longer than the limit is waited, or this test would be stopped.
            patience = {"Retry-After": "3600"} if status == 429 else {}
            send(handler, {"description": "busy"}, status=status, headers=patience)
        else:
            send(handler, make_page(ONE))

    with serve_api(search) as address:
        assert find(address, bbox=BOX).item_ids == ("one",)
    assert len(tries) == 3


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, r"answers 429 Too Many Requests \(3 tries\).*try again later"),
        (500, r"answers 500 Internal Server Error \(3 tries\)"),
        (503, r"answers 503 Service Unavailable \(3 tries\)"),
        (400, r"answers 400 Bad Request: .*told why.*correct the search"),
        (401, "answers 401 Unauthorized; .*give access in the environment"),
        (404, "answers 404 Not Found"),
        (599, "answers 599;"),
    ],
)
def test_api_that_refuses_is_named(status: int, reason: str) -> None:
    with (
        serve_api(lambda handler, body: send(handler, {"description": "told why"}, status=status)) as address,
        pytest.raises(InputError, match=rf"^stac: {address}/search {reason}"),
    ):
        find(address, bbox=BOX)


def test_api_that_is_down_or_silent_is_named() -> None:
    def stay_silent(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.close_connection = True
        handler.connection.recv(1)
        # ^ Waits until the other side gives up.

    with (
        serve_api(stay_silent) as address,
        pytest.raises(InputError, match=r"does not answer within 0.5 s \(3 tries\)"),
    ):
        find(address, limits=replace(LIMITS, silence_s=0.5), bbox=BOX)
    with pytest.raises(InputError, match=rf"{address} cannot be reached or breaks off \(3 tries\)"):
        find(address, bbox=BOX)


def test_answer_that_breaks_off_is_asked_for_again() -> None:
    tries = []

    def cut(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        tries.append(body)
        send(handler, b'{"type": "Fea', headers={"Content-Length": "1000"})
        handler.close_connection = True

    with serve_api(cut) as address, pytest.raises(InputError, match="/search cannot be reached or breaks off"):
        find(address, bbox=BOX)
    assert len(tries) == 3


def test_pages_without_end_are_ended() -> None:
    def repeat(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        send(handler, make_page(ONE, following=f"http://{handler.headers['Host']}/search?token=again"))

    def count(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        number = int(handler.path.partition("=")[2] or 0)
        page = make_page(ONE | {"id": str(number)}, following=f"http://{handler.headers['Host']}/search?n={number + 1}")
        send(handler, page)

    with serve_api(repeat) as address, pytest.raises(InputError, match="more than 9 items, only 1 of them different"):
        find(address, bbox=BOX, max_items=9)
    with serve_api(count) as address:
        with pytest.raises(InputError, match=r"gives more than 9 items; .*raise max_items"):
            find(address, bbox=BOX, max_items=9)
        with pytest.raises(InputError, match="comes after 30 other documents"):
            find(address, bbox=BOX, max_items=1000)


@pytest.mark.parametrize("following", ["file:///etc/hostname", "/etc/hostname"])
def test_next_page_does_not_lead_into_this_machine(following: str) -> None:
    with (
        serve_api(lambda handler, body: send(handler, make_page(ONE, following=following))) as address,
        pytest.raises(InputError, match="leads away from the web"),
    ):
        find(address, bbox=BOX)


def test_search_without_a_hit_says_so() -> None:
    with (
        serve_api(lambda handler, body: send(handler, make_page())) as address,
        pytest.raises(InputError, match=rf"^stac: {address} has no item that fits"),
    ):
        find(address, bbox=BOX)


def test_api_that_heeds_nothing_is_held_to_what_was_asked_for() -> None:
    cloudy = make_item("cloudy", "2024-05-01T17:00:00Z", clouds=90, prefix="https://files.example/")
    with serve_api(lambda handler, body: send(handler, make_page(ONE, cloudy)), conforms=CONFORMS[:2]) as address:
        scene = find(address, bbox=BOX, max_cloud_percent=50, query={"eo:cloud_cover": {"lt": 50}})
        with pytest.raises(InputError, match="has no filter extension"):
            find(address, bbox=BOX, query={"op": "=", "args": []})

    assert scene.item_ids == ("one",)
    assert [(item.name, item.reason) for item in scene.left_out] == [("cloudy", "more than 50 % clouds")]


def test_api_without_a_search_is_named() -> None:
    with (
        serve_answers(lambda handler, body: send(handler, {**make_catalog(), "conformsTo": CONFORMS[:1]})) as address,
        pytest.raises(InputError, match=r"cannot be searched"),
    ):
        find(address, bbox=BOX)


def test_what_is_secret_stands_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = "hunter2"

    def refuse(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        send(handler, {"detail": f"bad {handler.path}"}, status=int(handler.path[1:4]))

    with serve_answers(refuse) as address:
        for status in (400, 403, 404, 503):
            host = address.removeprefix("http://")
            for href, shown in (
                (f"{address}/{status}?token={secret}", f"{address}/{status}?token=***"),
                (f"http://me:{secret}@{host}/{status}", f"http://***@{host}/{status}"),
            ):
                with pytest.raises(InputError) as refusal:
                    find(href, bbox=BOX)
                assert f"{shown} answers {status}" in str(refusal.value)
                assert secret not in str(refusal.value)
    with pytest.raises(InputError) as refusal:
        find(f"{address}/x?token={secret}", bbox=BOX)
    assert secret not in str(refusal.value)
    assert secret not in caplog.text
