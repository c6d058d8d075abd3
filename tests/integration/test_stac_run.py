"""From a description in STAC to pixels: two dates on both sides of Sentinel-2's offset show equal ground alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from distributed import Client
from made_scenes import SETTINGS, give_address, read_result
from stac_material import COLOURS, make_collection, make_item, make_reflectance, serve_folder, write_json, write_rasters

from pipeline.config.run import RunConfig, load_config
from pipeline.runs.check import check_config
from pipeline.scenes.pair import find_pair

SIZE = 64
V1 = {"nodata": 0, "scale": 0.0001, "offset": -0.1}
PLAIN = {"nodata": 0}
OLD, NEW = {"s2:processing_baseline": "02.14"}, {"s2:processing_baseline": "05.09"}
APPLIED = {**NEW, "earthsearch:boa_offset_applied": True}
SETTINGS_AT_10_M = {"grid": {"resolution_m": 10, "tile_size_px": SIZE}, "tiles": {"resampling": "nearest"}}


def write_date(
    folder: Path,
    item_id: str,
    moment: str,
    stored: dict[str, npt.NDArray[Any]],
    *,
    raster: dict[str, Any] | None,
    properties: dict[str, Any],
    scl: npt.NDArray[np.uint8] | None = None,
) -> None:
    properties = {"constellation": "sentinel-2", **properties}
    item = make_item(item_id, moment, width=SIZE, height=SIZE, properties=properties, raster=raster)
    classes = np.full((SIZE, SIZE), 4, np.uint8) if scl is None else scl
    write_rasters(folder, item, {**stored, "scl": classes})
    write_json(folder / f"{item_id}.json", item)
    names = sorted(path.name for path in folder.glob("*.json") if path.name != "collection.json")
    write_json(folder / "collection.json", make_collection(*names))


def make_config(href: str, *, tmp_path: Path, **settings: Any) -> RunConfig:
    dates = {"before": "2019-06-01", "after": "2024-06-01"}
    scenes = {date: {"stac": {"href": href, "datetime": day}} for date, day in dates.items()}
    return load_config(values={**scenes, "output": str(tmp_path / "run"), **SETTINGS_AT_10_M, **settings})


def read_both(config: RunConfig) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    pair, _ = find_pair(config)
    before, after = (pair.read_block(date, window=(0, 0, SIZE, SIZE)) for date in ("before", "after"))
    assert (before.is_valid & after.is_valid).all()
    return before.pixels, after.pixels


@pytest.mark.parametrize(
    ("added", "raster", "properties"),
    [
        # 1000 higher, said by raster:bands, or by nothing but the baseline.
        (1000, V1, NEW),
        (1000, PLAIN, NEW),
        (1000, None, {**NEW, "earthsearch:boa_offset_applied": False}),
        # Taken out of the file already, whatever raster:bands goes on saying.
        (0, V1, APPLIED),
        (0, None, APPLIED),
    ],
)
@pytest.mark.parametrize("before_raster", [PLAIN, {**V1, "offset": 0}])
def test_equal_ground_looks_alike_on_both_sides_of_the_offset(
    tmp_path: Path, added: int, raster: dict[str, Any] | None, properties: dict[str, Any], before_raster: dict[str, Any]
) -> None:
    ground = make_reflectance(height=SIZE, width=SIZE)
    later = {name: values + np.uint16(added) for name, values in ground.items()}
    # One pixel differs, or the two would be the same file.
    later["red"][0, 0] += 1
    write_date(tmp_path, "a", "2019-06-01T17:00:00Z", ground, raster=before_raster, properties=OLD)
    write_date(tmp_path, "b", "2024-06-01T17:00:00Z", later, raster=raster, properties=properties)
    limits = {"tiles": {"resampling": "nearest", "stretch": {"limits": [0, 0.3]}}}

    before, after = read_both(make_config(str(tmp_path / "collection.json"), tmp_path=tmp_path, **limits))

    np.testing.assert_array_equal(before[:, 1:], after[:, 1:])
    # The formula of the offset and the stretch, on the values that the ground was made of.
    expected = np.clip(np.stack([ground[name] for name in COLOURS]) / 10_000 / 0.3 * 255, 0, 255)
    assert np.abs(before[:, 1:] - expected[:, 1:]).max() <= 1


def test_joint_percentiles_keep_equal_ground_equal_too(tmp_path: Path) -> None:
    ground = make_reflectance(height=SIZE, width=SIZE)
    later = {name: values + np.uint16(1000) for name, values in ground.items()}
    later["red"][0, 0] += 1
    write_date(tmp_path, "a", "2019-06-01T17:00:00Z", ground, raster=PLAIN, properties=OLD)
    write_date(tmp_path, "b", "2024-06-01T17:00:00Z", later, raster=PLAIN, properties=NEW)

    before, after = read_both(make_config(str(tmp_path / "collection.json"), tmp_path=tmp_path))

    np.testing.assert_array_equal(before[:, 1:], after[:, 1:])
    assert before.std() > 50


def test_two_items_of_one_day_make_one_scene_over_http(tmp_path: Path) -> None:
    whole = make_reflectance(height=SIZE, width=2 * SIZE)
    for name, left in (("left", 0), ("right", SIZE)):
        item = make_item(f"{name}-2019", "2019-06-01T17:00:00Z", left_px=left, width=SIZE, height=SIZE, raster=V1)
        part = {colour: values[:, left : left + SIZE] for colour, values in whole.items()}
        write_rasters(tmp_path, item, {**part, "scl": np.full((SIZE, SIZE), 4, np.uint8)})
        write_json(tmp_path / f"{name}.json", item)
    item = make_item("later", "2024-06-01T17:00:00Z", width=2 * SIZE, height=SIZE, raster=V1)
    cloudy = np.full((SIZE, 2 * SIZE), 4, np.uint8)
    cloudy[:, :10] = 9
    write_rasters(tmp_path, item, {**{name: values + np.uint16(7) for name, values in whole.items()}, "scl": cloudy})
    write_json(tmp_path / "later.json", item)
    write_json(tmp_path / "collection.json", make_collection("left.json", "right.json", "later.json"))

    with serve_folder(tmp_path) as address:
        config = make_config(f"{address}/collection.json", tmp_path=tmp_path)
        pair, summary = find_pair(config)
        blocks = [pair.read_block(date, window=(0, 0, SIZE, 2 * SIZE)) for date in ("before", "after")]

    assert (pair.before.scene_id, pair.before.datetime) == ("left-2019 and 1 more", "2019-06-01T17:00:00Z")
    assert blocks[0].is_valid.all()
    np.testing.assert_array_equal(blocks[1].is_cloudy, cloudy == 9)
    # Seven ten-thousandths of reflectance on both parts: no seam, and less than a few grey levels.
    seen = blocks[1].is_valid
    assert np.abs(blocks[0].pixels.astype(int) - blocks[1].pixels)[:, seen].max() <= 2
    assert "before is made of the STAC items left-2019, right-2019, which show 100 % of the area" in summary.notes
    assert "before does without 1 STAC items: not within 2019-06-01" in summary.notes


def test_check_names_the_items_and_every_problem(tmp_path: Path) -> None:
    ground = make_reflectance(height=SIZE, width=SIZE)
    write_date(tmp_path, "a", "2019-06-01T17:00:00Z", ground, raster=V1, properties=NEW)
    later = {name: values + np.uint16(9) for name, values in ground.items()}
    write_date(tmp_path, "b", "2024-06-01T17:00:00Z", later, raster=V1, properties=NEW)
    path = tmp_path / "run.yaml"
    names = (("before", "a.json"), ("after", "b.json"))
    scenes = {date: {"stac": {"href": str(tmp_path / name)}} for date, name in names}
    path.write_text(yaml.safe_dump({**scenes, "output": str(tmp_path / "run"), **SETTINGS_AT_10_M}))

    facts = check_config(str(path), assignments=("model.name=stand-in",))
    wrong = check_config(str(path), assignments=("before.stac.datetime=1999", "after.stac.bands=[B8A]"))

    assert facts.problems == []
    assert facts.figures["before_notes"] == "is made of the STAC items a, which show 100 % of the area"
    assert [problem.partition("; ")[0].partition(" of /")[0] for problem in wrong.problems] == [
        "before: stac: item a",
        "after: stac: item b",
    ]
    assert "not within 1999" in wrong.problems[0]
    assert "has no B8A" in wrong.problems[1]


def test_area_of_interest_is_where_scenes_are_searched(tmp_path: Path) -> None:
    ground = make_reflectance(height=SIZE, width=SIZE)
    write_date(tmp_path, "a", "2019-06-01T17:00:00Z", ground, raster=V1, properties=NEW)
    aoi = write_json(
        tmp_path / "aoi.geojson",
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [[[9, 9], [10, 9], [10, 10], [9, 10], [9, 9]]]},
        },
    )
    with pytest.raises(ValueError, match=r"^before: stac: item a of .*: off the area"):
        find_pair(make_config(str(tmp_path / "collection.json"), tmp_path=tmp_path, aoi=str(aoi)))


def test_command_takes_items_in_place_of_rasters(
    tmp_path: Path, client: Client, run_command: Callable[..., Any]
) -> None:
    ground = make_reflectance(height=96, width=96)
    for name, moment, added in (("a", "2019-06-01T17:00:00Z", 0), ("b", "2024-06-01T17:00:00Z", 1000)):
        item = make_item(name, moment, width=96, height=96, raster={**V1, "offset": -added / 10_000})
        stored = {colour: values + np.uint16(added) for colour, values in ground.items()}
        write_rasters(tmp_path, item, {**stored, "scl": np.full((96, 96), 4, np.uint8)})
        write_json(tmp_path / f"{name}.json", item)
    assignments = (*SETTINGS, "grid.resolution_m=10", *give_address(client.scheduler.address))
    settings = [part for assignment in assignments for part in ("--set", assignment)]

    items = [str(tmp_path / name) for name in ("a.json", "b.json")]
    result = run_command("run", *items, "--output", str(tmp_path / "run"), *settings)

    assert result.returncode == 0, result.stderr
    # Four tiles whose ground is the same on both dates, though no stored value is.
    assert read_result(result)["status_counts"]["identical"] == 4
