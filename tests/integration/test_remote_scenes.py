"""Scenes behind http and s3 URIs, on a server on this machine that knows ranges and etags."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import numpy as np
import obstore
import pytest
import rasterio
from affine import Affine
from s3_server import BUCKET, start_s3_server

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import build_grid
from pipeline.grid.window import Window
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.reader import read_scene

PIXELS = np.random.default_rng(1).integers(1, 256, (3, 64, 64), dtype=np.uint8)


class RangeHandler(BaseHTTPRequestHandler):
    """Serves /bucket/NAME out of a folder, whole or in ranges, as S3 and good web servers do."""

    protocol_version = "HTTP/1.1"
    folder: Path
    has_etag = True

    def do_GET(self) -> None:
        path = self.folder / self.path.partition("?")[0].removeprefix("/bucket/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        first, last, status = 0, len(content) - 1, 200
        if wanted := self.headers.get("Range"):
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            first, last, status = int(start), min(int(stop or last), last), 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        if self.has_etag:
            self.send_header("ETag", f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')
            self.send_header("Last-Modified", "Sun, 01 Nov 2026 10:00:00 GMT")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[first : last + 1])

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class UnquotingHandler(RangeHandler):
    """The same, of names with letters that a URL has to encode."""

    def do_GET(self) -> None:
        self.path = unquote(self.path)
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (RangeHandler,), {"folder": tmp_path})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder_uri(tmp_path: Path) -> Iterator[str]:
    """Serve the folder from a process of its own: GDAL opens what a VRT names while it lets no other thread run."""
    handler = type("Handler", (RangeHandler,), {"folder": tmp_path})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    yield f"http://127.0.0.1:{server.server_port}/bucket"
    process.kill()
    process.join()
    server.server_close()


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


def check_scene(uri: str, *, etag: str) -> None:
    scene = read_scene(SceneConfig(uri=uri), date="before")
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
    block = read_block(scene, grid=grid, window=Window(0, 0, 64, 64), resampling="bilinear")
    assert (scene.uris, scene.scene_id, scene.checksum) == ((uri,), "scene", f"etag:{etag}")
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

        check_scene(f"S3://{BUCKET}/{key}", etag=etag)
        with pytest.raises(InputError, match="an empty name between two slashes"):
            read_scene(SceneConfig(uri=f"s3://{BUCKET}/scenes//scene.tif"), date="before")


@pytest.mark.parametrize("name", ["m\u00fcnchen.tif", "a b.tif", "100%.tif"])
def test_an_address_may_be_typed_as_it_reads(tmp_path: Path, etag: str, name: str) -> None:
    handler = type("Handler", (UnquotingHandler,), {"folder": tmp_path})
    (tmp_path / name).write_bytes((tmp_path / "scene.tif").read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        check_scene(f"HTTP://127.0.0.1:{server.server_port}/bucket/{name}", etag=etag)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
