"""STAC items made to measure, with the rasters that belong to them, and servers for them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import uvicorn
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

CRS = "EPSG:32614"
EAST, NORTH, PIXEL_M = 620_000.0, 3_350_000.0, 10.0
COLOURS = ("red", "green", "blue")
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"


def make_item(
    item_id: str,
    moment: str,
    *,
    left_px: int = 0,
    width: int = 64,
    height: int = 64,
    collection: str | None = "sentinel-2-l2a",
    clouds: float | None = 10.0,
    prefix: str = "",
    properties: Mapping[str, Any] | None = None,
    raster: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a scene of one file per band.

    Args:
        item_id: Its id.
        moment: Its datetime.
        left_px: Columns between the common corner and the scene's.
        width: Columns.
        height: Rows.
        collection: Id of its collection.
        clouds: Its cloud cover.
        prefix: Stands before the names of the files, such as a URL.
        properties: Further ones.
        raster: What ``raster:bands`` says of each colour.
    """
    transform = Affine(PIXEL_M, 0.0, EAST + left_px * PIXEL_M, 0.0, -PIXEL_M, NORTH)
    outline = (EAST + left_px * PIXEL_M, NORTH - height * PIXEL_M, EAST + (left_px + width) * PIXEL_M, NORTH)
    bounds = transform_bounds(CRS, "EPSG:4326", *outline)
    assets: dict[str, Any] = {
        name: {
            "href": f"{prefix}{item_id}/{name}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "eo:bands": [{"name": name, "common_name": name}],
            **({"raster:bands": [dict(raster)]} if raster is not None else {}),
        }
        for name in COLOURS
    }
    assets["scl"] = {"href": f"{prefix}{item_id}/scl.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [PROJECTION, EO, RASTER],
        "id": item_id,
        "geometry": mapping(box(*bounds)),
        "bbox": list(bounds),
        "properties": {
            "datetime": moment,
            "proj:code": CRS,
            "proj:shape": [height, width],
            "proj:transform": list(transform)[:6],
            **({} if clouds is None else {"eo:cloud_cover": clouds}),
            **(properties or {}),
        },
        "links": [] if collection is None else [{"rel": "collection", "href": "../collection.json"}],
        "assets": assets,
        **({} if collection is None else {"collection": collection}),
    }


def make_collection(*item_hrefs: str, collection: str = "sentinel-2-l2a") -> dict[str, Any]:
    """Describe a collection with links to items."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection,
        "description": "made for a test",
        "license": "CC0-1.0",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-01-01T00:00:00Z", None]]},
        },
        "links": [{"rel": "item", "href": href, "type": "application/geo+json"} for href in item_hrefs],
    }


def make_catalog(*child_hrefs: str, catalog_id: str = "root") -> dict[str, Any]:
    """Describe a catalog with links to catalogs or collections."""
    links = [{"rel": "child", "href": href, "type": "application/json"} for href in child_hrefs]
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": catalog_id,
        "description": "made for a test",
        "links": links,
    }


def write_json(path: Path, content: Any) -> Path:
    """Write a document and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_rasters(folder: Path, item: Mapping[str, Any], stored: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the rasters of an item: a tiled GeoTIFF of one band for each name."""
    target = folder / str(item["id"])
    target.mkdir(parents=True, exist_ok=True)
    for name, values in stored.items():
        with rasterio.open(
            target / f"{name}.tif",
            "w",
            driver="COG",
            dtype=values.dtype,
            count=1,
            height=values.shape[0],
            width=values.shape[1],
            nodata=0,
            crs=CRS,
            transform=Affine(*item["properties"]["proj:transform"]),
        ) as dataset:
            dataset.write(values, 1)


def make_reflectance(*, height: int = 64, width: int = 64, seed: int = 3) -> dict[str, npt.NDArray[np.uint16]]:
    """Make Sentinel-2's stored values of red, green and blue before baseline 04.00: 10,000 times the reflectance."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(200, 4000, (height, width)).astype(np.uint16) for name in COLOURS}


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve files with ranges and etags, and give the address."""
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    # A port that listens already: who comes before the server is up waits in line.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Answers one request, given the handler and the body that was sent."""


@contextmanager
def serve_answers(answer: Answer) -> Iterator[str]:
    """Run a server that answers as it is told, and give its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        do_POST = do_GET  # noqa: N815  (the name that http.server calls)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(
    handler: BaseHTTPRequestHandler, content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    """Send JSON, or bytes as they are."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **(headers or {}),
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)
