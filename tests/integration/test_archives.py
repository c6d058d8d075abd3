"""What each archive says of its files goes through a region's plan and is read, by its example in configs/regions."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from archive_items import ARCHIVES, CRS, LEFT, SIZE, TOP, make_files
from range_server import RangeHandler, start_range_server
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping
from stac_material import make_collection, write_json

from pipeline.config.region import load_region_config
from pipeline.grid.window import Window
from pipeline.regions.region import Region
from pipeline.scenes.pair import find_pair

NOW = dt.datetime(2024, 6, 10, tzinfo=dt.UTC)
DAYS = {"before": "2023-06-01", "after": "2024-06-02"}


class ArchiveHandler(RangeHandler):
    """Serves whatever host and bucket is asked for, by the last part of the name, and a token for every container."""

    asked: list[str]

    def do_GET(self) -> None:  # noqa: N802  (the name that http.server calls)
        self.asked.append(f"{self.path} {self.headers['x-amz-request-payer'] or ''}")
        parts = urlsplit(self.path)
        if parts.path.startswith("/token/"):
            content = json.dumps({"msft:expiry": "2999-01-01T00:00:00Z", "token": "sig=made-signature"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.path = f"/bucket/{parts.path.rpartition('/')[2]}"
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    (tmp_path / "files").mkdir()
    asked: list[str] = []
    with start_range_server(
        type("Handler", (ArchiveHandler,), {"folder": tmp_path / "files", "asked": asked})
    ) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        for name, value in {
            "http_proxy": address,
            "no_proxy": "127.0.0.1",
            "PC_SDK_SAS_URL": f"{address}/token",
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "us-west-2",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REQUEST_PAYER": "requester",
        }.items():
            monkeypatch.setenv(name, value)
        yield asked


def write_archive(tmp_path: Path, name: str) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Write a catalog of two days and the files that it names; give it, and what the files hold."""
    archive, held = ARCHIVES[name], {}
    for seed, (date, day) in enumerate(DAYS.items()):
        item_id = f"MADE_{day.replace('-', '')}"
        item = archive.describe(item_id, day)
        write_json(tmp_path / "catalog" / f"{date}.json", item)
        files, held[date] = make_files(archive, item_id, seed=seed)
        for file, data in files.items():
            (tmp_path / "files" / file).write_bytes(data)
    collection = make_collection("before.json", "after.json", collection=item["collection"])
    return write_json(tmp_path / "catalog" / "collection.json", collection), held


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_is_planned_and_read_by_its_example(
    name: str, asked: list[str], tmp_path: Path, repository: Path
) -> None:
    archive = ARCHIVES[name]
    catalog, held = write_archive(tmp_path, name)
    side = SIZE * archive.pixel_m
    outline = box(*transform_bounds(CRS, "EPSG:4326", LEFT, TOP - side, LEFT + side, TOP))
    aoi = write_json(tmp_path / "district.geojson", mapping(outline))
    windows = {"before_dates": "2023", "after_dates": "2024"} if archive.dtype == "uint8" else {}
    region = load_region_config(
        repository / "configs" / "regions" / f"{name}.yaml",
        values={
            "aoi": str(aoi),
            "output": str(tmp_path / "region"),
            "source": {"search": {"href": str(catalog)}},
            "pairing": windows,
            "dates": {"min_covered_fraction": 0.5},
            "registration": {"estimate": False},
            "tiles": {"resampling": "nearest"},
            "grid": {"tile_size_px": SIZE},
        },
    )

    with Region.prepare(region) as settled:
        plan = settled.plan(NOW)
        (record,) = plan.to_do
        pair, _ = find_pair(settled.make_run_config(record))

    assert [str(scene.start.date()) for scene in (record.pair.before, record.pair.after)] == list(DAYS.values())
    block = pair.read_block("before", window=Window(0, 0, *pair.grid.shape_px))
    rows = find_rows(block.is_valid | block.is_cloudy)
    is_hidden = np.zeros((SIZE, SIZE), dtype=bool)
    is_hidden[: 16 if region.source.scene.snow_hides else 8] = bool(archive.cloud)
    np.testing.assert_array_equal(block.is_cloudy[rows], is_hidden)
    np.testing.assert_array_equal(block.is_valid[rows], ~is_hidden)
    expected = np.stack([held["before"][colour] for colour in ("red", "green", "blue")])
    if archive.dtype != "uint8":
        (low, high), stored = region.tiles.stretch.limits, expected.astype(float)
        scale, offset = {"landsat": (2.75e-5, -0.2), "sentinel2": (1e-4, 0)}.get(name, (1e-4, -0.1))
        expected = np.clip((stored * scale + offset - low) / (high - low) * 255, 0, 255)
    shown = block.pixels[:, rows[0], rows[1]].astype(float)
    assert np.abs(shown - expected)[:, ~is_hidden].max() <= 1
    assert has_asked_its_own_way(name, asked)


def find_rows(is_known: Any) -> tuple[slice, slice]:
    """Find the scene in the grid, whose tiles lie on the lattice."""
    rows, cols = np.flatnonzero(is_known.any(axis=1)), np.flatnonzero(is_known.any(axis=0))
    assert (len(rows), len(cols)) == (SIZE, SIZE)
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def has_asked_its_own_way(name: str, asked: list[str]) -> bool:
    files = [line for line in asked if "/token/" not in line]
    if name in {"planetary-computer", "naip"}:
        return all("sig=made-signature" in line for line in files)
    if name in {"copernicus", "landsat"}:
        bucket = "/eodata/" if name == "copernicus" else "/usgs-landsat/"
        return all(line.startswith(bucket) and line.endswith(" requester") for line in files)
    return all(line.startswith("http://") and "sig=" not in line for line in files)
