"""A region as operators have it: scenes from a real STAC API, files that need tokens, passes under a Prefect server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
import yaml
from made_blocks import SIDE_M, TILE_PX, WEST, list_made_blocks, write_archive, write_area
from made_scenes import command_line
from pgstac_server import MissingPartError, run_api
from prefect_processes import PrefectServer
from signing_server import STORE, start_signing_server

pytestmark = pytest.mark.timeout(900)

BLOCKS = list_made_blocks()[1:3]
HOUSE_M = 44.0


def write_scenes(folder: Path) -> tuple[shapely.Geometry, list[dict[str, Any]], dict[str, Any]]:
    """Write two dates of two blocks; gives the house over their border, the items for an API, and the collection."""
    left, _, _, top = BLOCKS[0].bounds
    house = shapely.Point(left + 40, top).buffer(HOUSE_M / 2, cap_style="square")
    years: dict[str, dict[str, Any]] = {"s2025": {"day": "2025-06-01", "blocks": BLOCKS}}
    years["s2026"] = {"day": "2026-06-01", "blocks": BLOCKS, "houses": [house]}
    write_archive(folder / "scenes", years)
    write_area(folder / "area.geojson", BLOCKS)
    items = []
    for name in years:
        item = json.loads((folder / "scenes" / "items" / f"{name}.json").read_text())
        item["assets"]["visual"]["href"] = f"{STORE}/scenes/items/{name}.tif"
        items.append(item | {"links": []})
    return house, items, json.loads((folder / "scenes" / "collection.json").read_text()) | {"links": []}


def write_region(folder: Path, *, api: str) -> Path:
    region = {
        "name": "served",
        "aoi": str(folder / "area.geojson"),
        "source": {
            "kind": "stac",
            "search": {"href": api, "collections": ["sentinel-2-l2a"]},
            "sign": "planetary-computer",
        },
        "pairing": {"kind": "dates", "before_dates": "2025", "after_dates": "2026"},
        "output": str(folder / "region"),
        "grid": {"resolution_m": 1, "tile_size_px": TILE_PX},
        "tiles": {"shard_size_tiles": 2, "resampling": "nearest"},
        "registration": {"estimate": False},
        "model": {"name": "stand-in-outlining"},
        "blocks": {"size_km": SIDE_M / 1000, "n_blocks_at_once": 2},
        "cluster": {"n_workers": 1},
    }
    path = folder / "served.yaml"
    path.write_text(yaml.safe_dump(region))
    return path


def find_cache(request: pytest.FixtureRequest) -> Path:
    kept = os.environ.get("DELTAVLM_STAC_API_CACHE")
    return Path(kept) if kept else Path(request.config.cache.mkdir("stac-api"))


def test_a_pass_under_prefect_reads_what_an_api_lists_and_a_store_gives_for_tokens(
    tmp_path: Path, prefect_home: Path, request: pytest.FixtureRequest
) -> None:
    house, items, collection = write_scenes(tmp_path)
    try:
        with (
            run_api([collection], items, cache=find_cache(request)) as api,
            start_signing_server(tmp_path, log=tmp_path / "store.log") as store,
        ):
            settings = store.environment | {"no_proxy": "127.0.0.1"}
            server = PrefectServer(folder=tmp_path, first_home=prefect_home, settings=settings)
            with server.run(), server.work(*command_line("serve", str(write_region(tmp_path, api=api)))):
                deployment = server.wait_for(lambda: server.find_deployment("served"), what="deployment")
                run = server.wait_for_state(server.start_run(deployment, as_of="2026-07-01T00:00:00Z"))
                told = server.read_artifacts(run["id"])
            tokens, answers = store.list_tokens(), store.list_answers()
    except MissingPartError as missing:
        pytest.skip(f"no STAC API: {missing}")

    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert {row["block"]: row["status"] for row in json.loads(told["blocks"]["data"])} == {
        block.block_id: "done" for block in BLOCKS
    }
    events = gpd.read_parquet(tmp_path / "region" / "report" / "events.parquet")
    ground = gpd.GeoSeries([house], crs=WEST).to_crs(events.crs).iloc[0]
    assert events["area_m2"].tolist() == pytest.approx([HOUSE_M**2], rel=0.06)
    assert events.geometry.iloc[0].intersection(ground).area == pytest.approx(ground.area, rel=0.06)
    # Everything came from the store, by tokens that are kept nowhere.
    assert tokens
    assert answers.count(200) > 4
    kept = [path for path in (tmp_path / "region").rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in kept for token in tokens)
