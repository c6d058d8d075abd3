"""A made archive: items that plan and read as those of Sentinel-2, one truth on both sides of a processing baseline."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.scenes.pair import find_pair
from pipeline.training_data.archives import NEW_BASELINE, OLD_BASELINE, ArchiveDate, write_archive
from pipeline.training_data.synthetic_archives import write_synthetic_archive

WEST, EAST = "EPSG:32614", "EPSG:32615"
SIZE = 96
BORDER_X, NORTH = 788_730.0, 3_349_000.0
PLACE = Affine(10.0, 0.0, BORDER_X - SIZE * 5, 0.0, -10.0, NORTH)
DAYS = dt.date(2025, 6, 1), dt.date(2026, 6, 1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two dates of equal ground, one of each baseline, on which the east is cloudy on the first."""
    folder = tmp_path_factory.mktemp("archive")
    ground = np.random.default_rng(0).integers(20, 200, (SIZE // 8, SIZE // 8, 3)).repeat(8, 0).repeat(8, 1)
    classes = np.full((SIZE, SIZE), 4, np.uint8)
    cloudy = classes.copy()
    cloudy[:, SIZE * 3 // 4 :] = 9
    dates = [
        ArchiveDate(day=day, pixels=ground.astype(np.uint8), classes=seen, baseline=baseline)
        for day, seen, baseline in zip(DAYS, (cloudy, classes), (OLD_BASELINE, NEW_BASELINE), strict=True)
    ]
    zones = {WEST: slice(0, 64), EAST: slice(32, SIZE)}
    return write_archive(folder, dates, crs=CRS.from_user_input(WEST), transform=PLACE, zones=zones)


def test_items_tell_what_an_archive_tells(archive: Path) -> None:
    items = {path.stem: json.loads(path.read_text()) for path in (archive.parent / "items").glob("*.json")}
    assert sorted(items) == [
        "made_32614_20250601_03.01", "made_32614_20260601_05.11",
        "made_32615_20250601_03.01", "made_32615_20260601_05.11",
    ]  # fmt: skip
    west, east = items["made_32614_20250601_03.01"], items["made_32615_20250601_03.01"]
    assert west["properties"]["eo:cloud_cover"] == 0
    assert east["properties"]["eo:cloud_cover"] == pytest.approx(100 * 24 / 64, abs=2)
    assert [each["properties"]["proj:code"] for each in (west, east)] == [WEST, EAST]
    shapes = [shapely.geometry.shape(each["geometry"]) for each in (west, east)]
    assert 0 < shapes[0].intersection(shapes[1]).area < shapes[0].area
    stored = {}
    for name in sorted(items):
        with (
            rasterio.open(archive.parent / "items" / name / "red.tif") as file,
            rasterio.open(archive.parent / "items" / name / "scl.tif") as classes,
        ):
            stored[name] = file.read(1)
            assert (file.dtypes[0], file.res[0], classes.res[0]) == ("uint16", 10.0, 20.0)
    old, new = (stored[f"made_32614_{each}"].astype(int) for each in ("20250601_03.01", "20260601_05.11"))
    assert (new - old == 1000).all()


def test_both_baselines_show_the_same_ground_in_both_zones(archive: Path) -> None:
    settings = {
        date: {"stac": {"href": str(archive), "datetime": str(day)}}
        for date, day in zip(("before", "after"), DAYS, strict=True)
    }
    grid = {"crs": WEST, "resolution_m": 10, "tile_size_px": 32, "anchor": "overlap"}
    stretch = {"resampling": "nearest", "stretch": {"limits": [0, 0.3]}}
    values = {**settings, "grid": grid, "tiles": stretch, "registration": {"estimate": False}}
    pair, _ = find_pair(load_config(values=values | {"output": "never-written"}))
    blocks = [pair.read_block(date, window=(0, 0, 96, 96)) for date in ("before", "after")]

    both = blocks[0].is_valid & blocks[1].is_valid
    # All but the corners, between the edges of the two zones' files.
    assert blocks[1].is_valid.mean() > 0.9
    # Where clouds were on the first date.
    assert 0.2 < blocks[0].is_cloudy.mean() < 0.3
    np.testing.assert_array_equal(*(block.pixels[:, both] for block in blocks))


def test_made_archive_has_its_truth_and_replaces_a_former_one(tmp_path: Path) -> None:
    former = tmp_path / "items" / "made_32614_20200101_03.01"
    former.mkdir(parents=True)
    (former / "red.tif").write_bytes(b"former")
    files = write_synthetic_archive(tmp_path, dates=DAYS, seed=6, size_px=128, resolution_m=2.0, change_level=1.0)
    truth, area = gpd.read_parquet(files.truth), gpd.read_file(files.area).geometry.iloc[0]

    assert not former.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "area.geojson", "catalog.json", "collection.json", "items", "truth.parquet"
    }  # fmt: skip
    assert (truth["is_in_before"] != truth["is_in_after"]).any()
    # Over the border of the zones, three quarters of it in the west.
    assert area.bounds[0] < -96 < area.bounds[2]
    assert truth.to_crs("EPSG:4326").intersects(area).any()


@pytest.mark.parametrize(
    "name", ["mine.json", "made_32614_20200101_03.01/notes.txt", "made_32614_20200101_03.01/red.tif.bak"]
)
def test_items_of_others_are_kept(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / "items" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(InputError, match="is not of a made archive"):
        write_synthetic_archive(tmp_path, dates=DAYS, seed=6, size_px=128, resolution_m=2.0)
    assert foreign.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"items"}


@pytest.mark.parametrize("is_linked", [True, False])
def test_items_that_are_no_folder_are_kept(tmp_path: Path, is_linked: bool) -> None:
    target = tmp_path / "elsewhere" / "made_32614_20200101_03.01.json"
    target.parent.mkdir()
    target.write_text("mine")
    items = tmp_path / "made" / "items"
    items.parent.mkdir()
    items.symlink_to(target.parent) if is_linked else items.write_text("mine")
    with pytest.raises(InputError, match="is not of a made archive"):
        write_synthetic_archive(items.parent, dates=DAYS, seed=6, size_px=128, resolution_m=2.0)
    assert target.exists()
    assert items.exists()


def test_dates_that_make_no_archive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="each later than the one before"):
        write_synthetic_archive(tmp_path / "made", dates=DAYS[::-1], seed=6)
    assert not (tmp_path / "made").exists()
