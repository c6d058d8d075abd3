"""Searches in a real STAC API, stac-fastapi-pgstac, and what a scene out of them is made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pgstac_server import MissingPartError, run_api
from shapely.geometry import shape
from stac_material import make_collection, make_item

from model.errors import InputError
from pipeline.config.stac import StacConfig
from pipeline.scenes.stac.documents import ReadLimits
from pipeline.scenes.stac.scene import StacScene, find_stac_scene

pytestmark = pytest.mark.timeout(600)

FILES = "https://files.example/"
ITEMS = [
    make_item("may-a", "2024-05-01T17:00:00Z", clouds=5, prefix=FILES),
    make_item("may-b", "2024-05-01T17:00:20Z", clouds=1, left_px=64, prefix=FILES),
    make_item("june", "2024-06-03T17:00:00Z", clouds=60, width=128, prefix=FILES, properties={"view:off_nadir": 3}),
    make_item("july", "2024-07-05T17:00:00Z", clouds=15, width=128, prefix=FILES, properties={"view:off_nadir": 30}),
    make_item("far", "2024-05-01T17:00:00Z", clouds=0, left_px=10_000, prefix=FILES),
    make_item("landsat", "2024-05-01T17:00:00Z", clouds=0, width=128, collection="landsat", prefix=FILES),
    # Minutes apart: within one minute they would be processings of one acquisition.
    *(
        make_item(f"many-{n:03d}", f"2023-01-01T{15 + n // 30}:{n % 30 * 2:02d}:00Z", collection="many", prefix=FILES)
        for n in range(150)
    ),
]
AREA = shape(ITEMS[2]["geometry"]).buffer(-1e-4)
BBOX = AREA.bounds
S2 = {"collections": ["sentinel-2-l2a"]}


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start the API; its environment is made once and kept with pytest's cache, or where a variable says."""
    kept = os.environ.get("DELTAVLM_STAC_API_CACHE")
    cache = Path(kept) if kept else Path(request.config.cache.mkdir("stac-api"))
    collections = [make_collection(collection=name) for name in ("sentinel-2-l2a", "landsat", "many")]
    try:
        with run_api(collections, ITEMS, cache=cache) as root:
            yield root
    except MissingPartError as missing:
        pytest.skip(f"no STAC API: {missing}")


def find(api: str, **settings: Any) -> StacScene:
    return find_stac_scene(StacConfig(href=api, **settings), limits=ReadLimits(first_wait_s=0.01))


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        # Two halves of one day show it all, and are clearer than the other days.
        ({**S2, "bbox": BBOX}, "may-b may-a"),
        ({**S2, "bbox": BBOX, "order": "newest"}, "july"),
        ({**S2, "bbox": BBOX, "datetime": "2024-06/.."}, "july"),
        ({**S2, "bbox": BBOX, "datetime": "2024-06-03T17:00:00Z"}, "june"),
        ({**S2, "bbox": BBOX, "datetime": "2024-06/..", "max_cloud_percent": 20}, "july"),
        ({**S2, "ids": ["june"]}, "june"),
        ({"collections": ["landsat"], "bbox": BBOX}, "landsat"),
        # The query extension and CQL2 are the API's.
        ({**S2, "bbox": BBOX, "query": {"view:off_nadir": {"gt": 1, "lt": 10}}}, "june"),
        ({**S2, "bbox": BBOX, "query": {"op": ">", "args": [{"property": "view:off_nadir"}, 1]}}, "july"),
        (
            {
                **S2,
                "bbox": BBOX,
                "max_cloud_percent": 20,
                "query": {"op": "in", "args": [{"property": "id"}, ["june", "july"]]},
            },
            "july",
        ),
    ],
)
def test_search(api: str, settings: dict[str, Any], chosen: str) -> None:
    assert " ".join(find(api, **settings).item_ids) == chosen


def test_area_of_interest_stands_in_for_the_box(api: str) -> None:
    scene = find_stac_scene(StacConfig(href=api, **S2), area=AREA)

    assert scene.item_ids == ("may-b", "may-a")
    assert scene.covered_fraction == pytest.approx(1, abs=1e-3)
    assert {item.name for item in scene.left_out} == {"june", "july"}
    assert [part.red.uri for part in scene.files.parts] == [f"{FILES}may-{name}/red.tif" for name in "ba"]


def test_a_search_of_several_pages_is_read_to_its_end(api: str) -> None:
    scene = find(api, collections=["many"], bbox=BBOX)
    assert len(scene.item_ids) == 150


def test_box_across_the_date_line_is_asked_for_on_both_sides(api: str) -> None:
    _, south, east, north = BBOX
    assert find(api, **S2, bbox=(170.0, south, east, north)).item_ids == ("may-b", "may-a")
    with pytest.raises(InputError, match="has no item that fits"):
        find(api, **S2, bbox=(170.0, south, -170.0, north))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({**S2, "bbox": BBOX, "datetime": "1999"}, "has no item that fits"),
        ({"collections": ["nowhere"], "bbox": BBOX}, "has no item that fits"),
        ({**S2}, "nothing says where to look; expected bbox, ids, or the run's aoi"),
        ({"collections": ["many"], "bbox": BBOX, "max_items": 120}, "gives more than 120 items; .*raise max_items"),
        ({**S2, "bbox": BBOX, "query": {"op": "=", "args": ["eo:cloud"]}}, "answers (400|500)"),
        ({**S2, "bbox": BBOX, "bands": ["B8A"]}, "has no B8A"),
    ],
)
def test_search_that_fails_says_why(api: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=rf"^stac: .*{reason}"):
        find(api, **settings)


def test_address_of_a_collection_asks_for_the_root(api: str) -> None:
    with pytest.raises(InputError, match="root of the API"):
        find(f"{api}/collections/sentinel-2-l2a", bbox=BBOX)
