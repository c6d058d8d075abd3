"""Scenes behind http and s3 URIs, on a server on this machine that knows ranges and etags."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import numpy as np
import obstore
import pytest
import rasterio
from affine import Affine
from asked_server import start_asked_server
from range_server import RangeHandler, start_range_server
from s3_server import BUCKET, start_s3_server
from shapely.geometry import box, mapping

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import build_grid
from pipeline.grid.window import Window
from pipeline.scenes.headers import read_header
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Scene

PIXELS = np.random.default_rng(1).integers(1, 256, (3, 64, 64), dtype=np.uint8)


class UnquotingHandler(RangeHandler):
    """The same, of names with letters that a URL has to encode."""

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        self.path = unquote(self.path)
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    with start_range_server(type("Handler", (RangeHandler,), {"folder": tmp_path})) as server:
        yield server


@contextmanager
def serve_apart(handler: type[RangeHandler]) -> Iterator[str]:
    """Serve from a process of its own: GDAL opens what a VRT names while it lets no other thread run."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    yield f"http://127.0.0.1:{server.server_port}/bucket"
    process.kill()
    process.join()
    server.server_close()


@pytest.fixture
def folder_uri(tmp_path: Path) -> Iterator[str]:
    with serve_apart(type("Handler", (RangeHandler,), {"folder": tmp_path})) as uri:
        yield uri


@pytest.fixture
def etag(tmp_path: Path) -> str:
    """Lay a scene on the server and give its etag."""
    with rasterio.open(
        tmp_path / "scene.tif",
        "w",
        driver="GTiff",
        count=3,
        height=64,
        width=64,
        dtype="uint8",
        crs="EPSG:32614",
        transform=Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0),
    ) as dataset:
        dataset.write(PIXELS)
    return hashlib.md5((tmp_path / "scene.tif").read_bytes(), usedforsecurity=False).hexdigest()


def check_scene(uri: str, *, etag: str, read_as: str | None = None, scene_id: str = "scene") -> None:
    scene = read_scene(SceneConfig(uri=uri), date="before")
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
    block = read_block(scene, grid=grid, window=Window(0, 0, 64, 64), resampling="bilinear")
    assert (scene.uris, scene.scene_id, scene.checksum) == ((read_as or uri,), scene_id, f"etag:{etag}")
    assert block.is_valid.all()
    np.testing.assert_array_equal(block.pixels, PIXELS)


def test_a_scene_over_http(server: ThreadingHTTPServer, etag: str) -> None:
    check_scene(f"http://127.0.0.1:{server.server_port}/bucket/scene.tif", etag=etag)


def test_a_scene_in_an_object_store(server: ThreadingHTTPServer, etag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{server.server_port}"
    settings = {
        # GDAL's words, and then those of the object store.
        "AWS_S3_ENDPOINT": address,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
        "AWS_ENDPOINT": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    check_scene("s3://bucket/scene.tif", etag=etag)


def test_a_missing_scene_is_named(server: ThreadingHTTPServer) -> None:
    with pytest.raises(InputError, match=r"^before: http://.*nowhere\.tif cannot be read"):
        read_scene(SceneConfig(uri=f"http://127.0.0.1:{server.server_port}/bucket/nowhere.tif"), date="before")


def test_a_server_that_cannot_tell_contents_apart_is_refused(server: ThreadingHTTPServer, etag: str) -> None:
    server.RequestHandlerClass.has_etag = False  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="neither ETag nor Last-Modified"):
        read_scene(SceneConfig(uri=f"http://127.0.0.1:{server.server_port}/bucket/scene.tif"), date="before")


def write_vrt(path: Path, source: str, *, is_relative: bool = True) -> None:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{int(is_relative)}">{source}</SourceFilename><SourceBand>{n}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32614</SRS>'
        f"<GeoTransform>500000, 1, 0, 3300000, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )


def test_a_vrt_on_a_server_reads_what_is_on_servers(folder_uri: str, etag: str, tmp_path: Path) -> None:
    for name, source, is_relative in (
        ("a.vrt", "scene.tif", True),
        ("b.vrt", f"/vsicurl/{folder_uri}/scene.tif", False),
    ):
        write_vrt(tmp_path / name, source, is_relative=is_relative)
        scene = read_scene(SceneConfig(uri=f"{folder_uri}/{name}"), date="before")
        grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
        block = read_block(scene, grid=grid, window=Window(0, 0, 64, 64), resampling="bilinear")
        np.testing.assert_array_equal(block.pixels, PIXELS)
    # Another content of the file that it reads is another content of the VRT.
    former = scene.checksum
    with rasterio.open(tmp_path / "scene.tif", "r+") as dataset:
        dataset.write(255 - PIXELS)
    assert read_scene(SceneConfig(uri=f"{folder_uri}/b.vrt"), date="before").checksum != former


@pytest.mark.parametrize(
    ("source", "is_relative"),
    [("{folder}/scene.tif", False), ("/vsizip//tmp/x.zip/a.tif", False), ("file://{folder}/scene.tif", False)],
)
def test_a_vrt_on_a_server_reads_nothing_of_this_machine(
    folder_uri: str, etag: str, tmp_path: Path, source: str, is_relative: bool
) -> None:
    write_vrt(tmp_path / "a.vrt", source.format(folder=tmp_path), is_relative=is_relative)
    with pytest.raises(InputError, match=r"a\.vrt reads .*, which is on this machine"):
        read_scene(SceneConfig(uri=f"{folder_uri}/a.vrt"), date="before")


def test_a_vrt_on_a_server_under_another_name_is_not_opened(folder_uri: str, etag: str, tmp_path: Path) -> None:
    write_vrt(tmp_path / "a.tif", str(tmp_path / "scene.tif"), is_relative=False)
    with pytest.raises(InputError, match=r"a\.tif cannot be read"):
        read_scene(SceneConfig(uri=f"{folder_uri}/a.tif"), date="before")


def test_a_key_of_any_letters_is_read_and_one_without_a_name_is_told(
    tmp_path: Path, etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "scenes/a b/100%/m\u00fcnchen#1?d%20e.tif"
    with start_s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        folder, _, name = key.partition("/")
        obstore.put(server.open_store(folder), name, (tmp_path / "scene.tif").read_bytes())

        read_as, scene_id = f"s3://{BUCKET}/{key}", "m\u00fcnchen#1?d%20e"
        check_scene(f"S3://{BUCKET}/{key}", etag=etag, read_as=read_as, scene_id=scene_id)
        with pytest.raises(InputError, match="an empty name between two slashes"):
            read_scene(SceneConfig(uri=f"s3://{BUCKET}/scenes//scene.tif"), date="before")


@pytest.mark.parametrize(
    ("name", "quoted"), [("m\u00fcnchen.tif", "m%C3%BCnchen.tif"), ("a b.tif", "a%20b.tif"), ("100%.tif", "100%25.tif")]
)
def test_an_address_may_be_typed_as_it_reads(tmp_path: Path, etag: str, name: str, quoted: str) -> None:
    handler = type("Handler", (UnquotingHandler,), {"folder": tmp_path})
    (tmp_path / name).write_bytes((tmp_path / "scene.tif").read_bytes())
    with start_range_server(handler) as server:
        folder = f"http://127.0.0.1:{server.server_port}/bucket"
        check_scene(
            f"{folder.upper().replace('BUCKET', 'bucket')}/{name}",
            etag=etag,
            read_as=f"{folder}/{quoted}",
            scene_id=name.removesuffix(".tif"),
        )


def read_shown(uri: str) -> float:
    scene = read_scene(SceneConfig(uri=uri), date="before")
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
    return float(read_block(scene, grid=grid, window=Window(0, 0, 64, 64), resampling="bilinear").is_valid.mean())


def test_what_lies_beside_a_scene_counts_as_it_does_on_disk(
    server: ThreadingHTTPServer, etag: str, tmp_path: Path
) -> None:
    path, uri = tmp_path / "scene.tif", f"http://127.0.0.1:{server.server_port}/bucket/scene.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.arange(64 * 64).reshape(64, 64) % 64 >= 16)
    assert read_shown(uri) == read_shown(str(path)) == 0.75
    masked = read_header(uri)
    assert masked.checksum != f"etag:{etag}"
    (tmp_path / "scene.tif.msk").unlink()
    (tmp_path / "scene.tif.aux.xml").write_text(
        "<PAMDataset>"
        + "".join(f'<PAMRasterBand band="{n}"><NoDataValue>9</NoDataValue></PAMRasterBand>' for n in (1, 2, 3))
        + "</PAMDataset>"
    )
    # Another scene to GDAL, which keeps what a server once said.
    shutil.copy(path, tmp_path / "other.tif")
    shutil.copy(f"{path}.aux.xml", tmp_path / "other.tif.aux.xml")
    assert [band.nodata for band in read_header(uri.replace("scene", "other")).bands] == [9.0] * 3
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(tmp_path / "other.tif", "r+") as dataset:
        dataset.build_overviews([2, 4])
    assert read_header(uri.replace("scene", "other")).overviews == (2, 4)


def test_a_page_of_words_is_no_mask(server: ThreadingHTTPServer, etag: str, tmp_path: Path) -> None:
    for suffix in (".msk", ".ovr", ".aux.xml"):
        (tmp_path / f"scene.tif{suffix}").write_text("<html>There is no such page.</html>")
    check_scene(f"http://127.0.0.1:{server.server_port}/bucket/scene.tif", etag=etag)


class ChangingHandler(RangeHandler):
    """Serves another file under the same name, with the same etag, once it is told to."""

    is_bad = False
    bad: bytes

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        good = (self.folder / "scene.tif").read_bytes()
        content = self.bad if self.is_bad else good
        if not self.path.endswith(("scene.tif", ".vrt")):
            content = b""
        elif self.path.endswith(".vrt"):
            content = (self.folder / "a.vrt").read_bytes()
        first, last = 0, len(content) - 1
        if wanted := self.headers.get("Range"):
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or last), last)
        self.send_response((206 if wanted else 200) if content else 404)
        if wanted and content:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("ETag", '"always"')
        self.send_header("Content-Length", str(max(0, last - first + 1)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[first : last + 1])

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)


WMS = '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/a</ServerUrl></Service></GDAL_WMS>'


def read_in_worker(scene: Scene, queue: multiprocessing.SimpleQueue[str]) -> None:
    """Read a scene as a process does that knows nothing of what others saw."""
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
    try:
        block = read_block(scene, grid=grid, window=Window(0, 0, 64, 64), resampling="bilinear")
        queue.put("secret" if (block.pixels == 77).any() else "pixels")
    except InputError as refusal:
        queue.put(str(refusal))


@pytest.mark.parametrize("name", ["scene.tif", "a.vrt"])
@pytest.mark.parametrize("text", ["", WMS])
def test_a_worker_reads_no_other_file_than_what_was_looked_at(tmp_path: Path, etag: str, name: str, text: str) -> None:
    with rasterio.open(tmp_path / "scene.tif") as dataset:
        profile = dataset.profile
    with rasterio.open(tmp_path / "secret.tif", "w", **profile) as dataset:
        dataset.write(np.full((3, 64, 64), 77, np.uint8))
    write_vrt(tmp_path / "a.vrt", "scene.tif")
    write_vrt(tmp_path / "bad.vrt", str(tmp_path / "secret.tif"), is_relative=False)
    bad = text.encode() or (tmp_path / "bad.vrt").read_bytes()
    handler = type("Handler", (ChangingHandler,), {"folder": tmp_path, "bad": bad})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    try:
        uri = f"http://127.0.0.1:{server.server_port}/{name}"
        header = read_scene_apart(uri, context=context)
        handler.is_bad = True
        process = context.Process(target=read_in_worker, args=(header, queue))
        process.start()
        process.join()
        assert "cannot be read" in queue.get()
    finally:
        server.shutdown()
        server.server_close()


def read_scene_apart(uri: str, *, context: Any) -> Scene:
    """Look at a scene in a process of its own: GDAL opens what a VRT names while it lets no other thread run."""
    queue = context.SimpleQueue()
    process = context.Process(target=put_scene, args=(uri, queue))
    process.start()
    scene: Scene = queue.get()
    process.join()
    return scene


def put_scene(uri: str, queue: Any) -> None:
    queue.put(read_scene(SceneConfig(uri=uri), date="before"))


def test_a_scene_that_has_changed_is_told_by_its_etag(server: ThreadingHTTPServer, etag: str, tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{server.server_port}/bucket/scene.tif"
    scene = read_scene(SceneConfig(uri=uri), date="before")
    with rasterio.open(tmp_path / "scene.tif", "r+") as dataset:
        dataset.write(255 - PIXELS)
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
    with pytest.raises(InputError, match="is another file than when the scenes were looked at"):
        read_block(scene, grid=grid, window=Window(0, 0, 64, 64), resampling="bilinear")


@pytest.fixture
def inner() -> Iterator[tuple[str, list[str]]]:
    """Give the address of a service that only this machine can reach, and what it was asked for."""
    with start_asked_server() as address_and_paths:
        yield address_and_paths


class LeadingHandler(RangeHandler):
    """Serves files to whoever looks at their beginning, and leads those elsewhere who read on."""

    closed = ""
    leading = ""

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        is_look = self.command == "GET" and self.headers.get("Range") in {None, "bytes=0-0"}
        is_leading = self.path.endswith(f"/{self.leading}") and not is_look
        self.moved = {self.path: f"{self.closed}/secret"} if is_leading else {}  # type: ignore[misc]
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)


@pytest.mark.parametrize("leading", ["scene.tif", "scene.tif.ovr", "scene.tif.msk", "scene.tif.aux.xml"])
def test_a_server_leads_gdal_no_further_than_us(
    tmp_path: Path, etag: str, inner: tuple[str, list[str]], leading: str
) -> None:
    closed, asked = inner
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False, TIFF_USE_OVR=True):
        with rasterio.open(tmp_path / "scene.tif", "r+") as dataset:
            dataset.write_mask(np.full((64, 64), 255, np.uint8))
        with rasterio.open(tmp_path / "scene.tif", "r+") as dataset:
            dataset.build_overviews([2])
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    handler = type("Handler", (LeadingHandler,), {"folder": tmp_path, "closed": closed, "leading": leading})
    with serve_apart(handler) as folder:
        config = SceneConfig(uri=f"{folder}/scene.tif")
        if leading == "scene.tif.aux.xml":
            # As where it is not there.
            assert read_scene(config, date="before").checksum
        else:
            with pytest.raises(InputError, match=r"scene\.tif.* cannot be read \(.*403"):
                read_scene(config, date="before")
    assert asked == []


ITEM = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "one",
    "properties": {"datetime": "2024-05-01T00:00:00Z"},
    "links": [],
    "bbox": [-99.1, 29.7, -98.9, 29.9],
    "geometry": mapping(box(-99.1, 29.7, -98.9, 29.9)),
}


@pytest.mark.parametrize("way", ["asset", "vrt", "self link", "redirect", "redirect of an item"])
def test_nothing_from_the_network_leads_into_this_machine(
    server: ThreadingHTTPServer, etag: str, tmp_path: Path, inner: tuple[str, list[str]], way: str
) -> None:
    base, (closed, asked) = f"http://127.0.0.1:{server.server_port}/bucket", inner
    href = f"{closed}/scene.tif" if way == "asset" else "scene.tif"
    links = [{"rel": "self", "href": f"{closed}/item.json"}] if way == "self link" else []
    item = {**ITEM, "links": links, "assets": {"visual": {"href": href, "type": "image/tiff"}}}
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    write_vrt(tmp_path / "a.vrt", f"/vsicurl/{closed}/scene.tif", is_relative=False)
    server.RequestHandlerClass.moved = {  # type: ignore[attr-defined]
        "/bucket/away.tif": f"{closed}/scene.tif",
        "/bucket/away.json": f"{closed}/item.json",
    }
    name = {"vrt": "a.vrt", "redirect": "away.tif", "redirect of an item": "away.json"}.get(way, "items.json")
    config = SceneConfig.model_validate({"uri": f"{base}/{name}"})
    if way == "self link":
        # What the item says of itself is not believed, and what it names lies where it was found.
        assert read_scene(config, date="before").uris == (f"{base}/scene.tif",)
    else:
        with pytest.raises(InputError, match=r"points to http://127\.0\.0\.1:\d+"):
            read_scene(config, date="before")
    assert asked == []
    if way in {"asset", "redirect"}:
        with pytest.raises(InputError, match="cannot be read"):
            read_scene(config, date="before", allow_private=True)
        assert asked
