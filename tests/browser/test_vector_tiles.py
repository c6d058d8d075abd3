"""Vector tiles drawn by a map that is not ours, protomaps-leaflet, from a file server that knows ranges and no more."""

from __future__ import annotations

import io
import shutil
from importlib import resources
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from page_visits import Visit
from PIL import Image
from range_server import RangeHandler, start_range_server

from pipeline.tables.vector_formats import VECTOR_FORMATS, write_layer

DRAWER = Path(__file__).parents[2] / "runs/npm/node_modules/protomaps-leaflet/dist/protomaps-leaflet.js"
COLOURS = {"building": (255, 0, 0), "road": (0, 0, 255)}
SIDE_M = 400.0
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="leaflet.css">
<style>body { margin: 0 } #map { width: 600px; height: 600px; background: white }</style><div id="map"></div>
<script src="leaflet.js"></script><script src="protomaps-leaflet.js"></script>
<script>
  const rules = Object.entries(COLOURS).map(([kind, colour]) => ({
    dataLayer: "changes",
    symbolizer: new protomapsL.PolygonSymbolizer({ fill: `rgb(${colour})` }),
    filter: (zoom, feature) => feature.props.kind === kind,
  }));
  const layer = protomapsL.leafletLayer({ url: "changes.pmtiles", paintRules: rules, labelRules: [] });
  layer.on("load", () => { document.body.dataset.drawn = "yes"; });
  const map = L.map("map", { zoomControl: false, attributionControl: false, fadeAnimation: false });
  map.setView(MIDDLE, 15);
  layer.addTo(map);
</script>
"""


@pytest.mark.skipif(not DRAWER.exists(), reason="npm install --prefix runs/npm protomaps-leaflet was not done")
def test_changes_are_drawn_where_they_are(visit: Visit, tmp_path: Path) -> None:
    """A building to the west and a road to the east of the middle of the map."""
    x, y = 600_000.0, 5_000_000.0
    shapes = [shapely.box(x - 1.5 * SIDE_M, y, x - 0.5 * SIDE_M, y + SIDE_M), shapely.box(x, y, x + SIDE_M, y + SIDE_M)]
    kinds = pd.array(["building", "road"], "string")
    frame = gpd.GeoDataFrame({"kind": kinds}, geometry=shapes, crs="EPSG:32631")
    frame.to_parquet(tmp_path / "changes.parquet")
    with pa.OSFile(str(tmp_path / "changes.parquet")) as source:
        write_layer(source, tmp_path / "changes.pmtiles", layer="changes", kind=VECTOR_FORMATS["pmtiles"])
    middle = gpd.GeoSeries([shapely.Point(x, y)], crs=frame.crs).to_crs("EPSG:4326").iloc[0]
    page = PAGE.replace("COLOURS", str({kind: list(colour) for kind, colour in COLOURS.items()}))
    (tmp_path / "map.html").write_text(page.replace("MIDDLE", str([middle.y, middle.x])), encoding="utf-8")
    shutil.copy(DRAWER, tmp_path)
    leaflet = resources.files("pipeline.report.page") / "vendor" / "leaflet"
    for name in ("leaflet.js", "leaflet.css"):
        (tmp_path / name).write_bytes((leaflet / name).read_bytes())

    with start_range_server(type("Handler", (RangeHandler,), {"folder": tmp_path})) as server:
        visit.page.goto(f"http://127.0.0.1:{server.server_port}/bucket/map.html")
        visit.page.wait_for_selector("body[data-drawn]")
        picture = visit.page.locator("#map").screenshot()

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), int)
    # At zoom 15 a pixel is 4.78 m at the equator; Mercator stretches with latitude.
    metres_per_px = 4.777 * np.cos(np.deg2rad(middle.y))
    for kind, (left, right) in {"building": (-1.5, -0.5), "road": (0.0, 1.0)}.items():
        ys, xs = np.nonzero((np.abs(pixels - COLOURS[kind]) < 40).all(axis=2))
        found_m = np.array([xs.min() - 300, xs.max() + 1 - 300, 300 - ys.max() - 1, 300 - ys.min()]) * metres_per_px
        wanted_m = np.array([left, right, 0.0, 1.0]) * SIDE_M
        # Two pixels, and a turn of grid north of about a degree.
        assert np.abs(found_m - wanted_m).max() < 20
        assert len(ys) * metres_per_px**2 == pytest.approx(SIDE_M**2, rel=0.05)
    assert [words for words in visit.complaints if "favicon" not in words and "404" not in words] == []
