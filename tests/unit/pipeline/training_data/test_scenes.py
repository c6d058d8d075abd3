"""Files of a synthetic pair: valid COGs and GeoParquet that say the same thing in the same place."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate

from model.errors import InputError
from model.synthesis.pairs import synthesize_pair
from pipeline.training_data.scenes import DEFAULT_ORIGIN, SyntheticFiles, write_synthetic_pair

SEED, SIZE_PX, LEVEL = 3, (256, 320), 0.5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SyntheticFiles:
    folder = tmp_path_factory.mktemp("synthetic") / "new" / "folder"
    return write_synthetic_pair(folder, seed=SEED, size_px=SIZE_PX, change_level=LEVEL)


def test_only_the_four_files_are_left(files: SyntheticFiles) -> None:
    names = {path.name for path in files.before.parent.iterdir()}
    assert names == {"before.tif", "after.tif", "change_mask.tif", "truth.parquet"}


def test_files_hold_the_pixels_of_the_pair(files: SyntheticFiles) -> None:
    pair = synthesize_pair(SEED, height_px=SIZE_PX[0], width_px=SIZE_PX[1], change_level=LEVEL)
    for path, expected in ((files.before, pair.before), (files.after, pair.after)):
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, 2), expected)
    with rasterio.open(files.change_mask) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pair.change_mask)


@pytest.mark.parametrize("name", ["before", "after", "change_mask"])
def test_rasters_are_valid_cogs_on_one_grid(files: SyntheticFiles, name: str) -> None:
    path = getattr(files, name)
    is_valid, errors, warnings = cog_validate(path, strict=True)
    assert (is_valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.crs.to_epsg() == 32614
        assert dataset.transform[:6] == (0.5, 0.0, DEFAULT_ORIGIN[0], 0.0, -0.5, DEFAULT_ORIGIN[1])
        assert dataset.shape == SIZE_PX


def test_scenes_are_rgb_and_dated(files: SyntheticFiles) -> None:
    datetimes = []
    for path in (files.before, files.after):
        with rasterio.open(path) as dataset:
            assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            tags = dataset.tags()
        datetimes.append(tags["ACQUISITION_DATETIME"])
        assert tags["TIFFTAG_DATETIME"] == tags["ACQUISITION_DATETIME"].translate({45: 58, 84: 32, 90: None})
    assert datetimes == ["2024-06-15T15:30:00Z", "2026-06-20T15:45:00Z"]


def test_truth_lies_on_the_mask(files: SyntheticFiles) -> None:
    truth = gpd.read_parquet(files.truth)
    with rasterio.open(files.change_mask) as dataset:
        mask, transform = dataset.read(1), dataset.transform
    for kind, value in (("building", 255), ("road", 128)):
        of_kind = truth[truth.kind == kind]
        is_changed = of_kind.is_in_before != of_kind.is_in_after
        changed = rasterize(of_kind[is_changed].geometry, out_shape=mask.shape, transform=transform)
        stayed = of_kind[~is_changed].geometry
        if len(stayed):
            changed[rasterize(stayed, out_shape=mask.shape, transform=transform) == 1] = 0
        assert changed.sum() > 300
        assert np.count_nonzero((mask == value) != (changed == 1)) <= 4


def test_truth_table_describes_what_it_holds(files: SyntheticFiles) -> None:
    truth = gpd.read_parquet(files.truth)
    assert list(truth.columns) == ["object_id", "kind", "is_in_before", "is_in_after", "area_m2", "geometry"]
    assert truth.crs.to_epsg() == 32614
    assert truth.object_id.is_unique
    assert set(truth.kind) <= {"building", "road"}
    assert (truth.is_in_before | truth.is_in_after).all()
    np.testing.assert_allclose(truth.area_m2, truth.geometry.area)
    assert truth.geometry.is_valid.all()
    left, top = DEFAULT_ORIGIN
    bounds = truth.total_bounds
    assert bounds[0] >= left
    assert bounds[3] <= top
    assert bounds[2] <= left + SIZE_PX[1] * 0.5
    assert bounds[1] >= top - SIZE_PX[0] * 0.5


def test_truth_is_geoparquet_1_1_with_bbox_covering(files: SyntheticFiles) -> None:
    metadata = json.loads(pq.read_schema(files.truth).metadata[b"geo"])
    assert metadata["version"] == "1.1.0"
    assert "bbox" in metadata["columns"]["geometry"]["covering"]


def test_writing_again_replaces_the_files(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32755", "origin": (300_000.0, 6_100_000.0), "resolution_m": 1.0}
    first = write_synthetic_pair(tmp_path, seed=1, size_px=64)
    second = write_synthetic_pair(tmp_path, seed=2, size_px=64, **place)
    assert first == second
    with rasterio.open(second.after) as dataset:
        assert dataset.crs.to_epsg() == 32755
        assert dataset.transform[:6] == (1.0, 0.0, 300_000.0, 0.0, -1.0, 6_100_000.0)


def test_scene_without_buildings_and_roads_has_an_empty_truth(tmp_path: Path) -> None:
    seed = next(
        seed for seed in range(60) if not synthesize_pair(seed, height_px=64, width_px=64, resolution_m=0.2).objects
    )
    files = write_synthetic_pair(tmp_path, seed=seed, size_px=64, resolution_m=0.2)
    truth = gpd.read_parquet(files.truth)
    assert len(truth) == 0
    assert truth.crs.to_epsg() == 32614


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size_px": 63}, "the size is 63 x 63 px; expected 64 to 16384 px on both sides"),
        ({"size_px": (256, 20000)}, "the size is 256 x 20000 px"),
        ({"resolution_m": 0.0}, "the resolution is 0.0 m; expected 0.2 to 2.0 m"),
        ({"seed": -3}, "the seed is -3; expected an integer from 0"),
        ({"change_level": 2.0}, "the change level is 2.0; expected a probability from 0"),
        ({"removal_level": -1.0}, "the removal level is -1.0; expected a probability from 0"),
        ({"crs": "EPSG:4326"}, "the CRS 'EPSG:4326' is not in metres; expected a projected CRS"),
        ({"crs": "EPSG:2277"}, "the CRS 'EPSG:2277' is not in metres"),
        ({"crs": "nonsense"}, "the CRS 'nonsense' is not known; expected a projected CRS"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_synthetic_pair(tmp_path / "out", **{"seed": 0, **arguments})
    assert not (tmp_path / "out").exists()
