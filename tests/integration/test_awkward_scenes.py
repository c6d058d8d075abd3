"""Real files: the stated outcome of each raster that breaks readers, and scenes as people have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.scenes.pair import ScenePair, find_pair

GREY = ("before.bands=[1, 1, 1]", "after.bands=[1, 1, 1]")
ASSUMED = ("before.assume_crs=EPSG:32614", "after.assume_crs=EPSG:32614")
WORKS: dict[str, tuple[float, Sequence[str]]] = {
    # Metres per pixel of the grid, and what has to be told.
    "eo-learn__import-tiff-test1.tiff": (30, GREY),
    "rasterio__RGBA.uint16.tif": (1.4, ()),
    "rasterio__alpha.tif": (4, ()),
    "rasterio__cogeo.tif": (0.6, ()),
    "rasterio__float_nan.tif": (100, (*GREY, *ASSUMED)),
    "rasterio__rgb1.tif": (300, ()),
    "rasterio__rgb1_fake_nir_epsg3857.tif": (200, GREY),
    "rasterio__rotated.tif": (17, (*GREY, *ASSUMED)),
    "rasterio__test_esri_wkt.tif": (10, GREY),
    "rio-stac__S2A_MSIL2A_20220722T105631_N0400_R094_T31TCN_20220722T171159.tif": (10, ()),
    "rio-stac__dataset_nocrs.tif": (1000, GREY),
    "rio-tiler__cog_dateline.tif": (200, GREY),
    "rio-tiler__cog_gcps_ovr.tif": (200, GREY),
    "rio-tiler__cog_rgb_mask.tif": (0.15, ()),
    "rio-tiler__cog_uint8_rgba.tif": (1000, ()),
    "rioxarray__2d_test.tif": (14, GREY),
}
REFUSED: dict[str, tuple[str, Sequence[str]]] = {
    # The words, and what was told.
    "eo-learn__import-tiff-test1.tiff": (r"1 band;.*bands='\[1, 1, 1\]'", ()),
    "rasterio__all-nodata.tif": ("no valid pixel", ()),
    "rasterio__corrupt.tif": ("ends after 298232 bytes", ()),
    "rasterio__float_nan.tif": ("has no CRS;.*--assume-crs", ()),
    "rasterio__rgb1_fake_nir_epsg3857.tif": ("1 band", ()),
    "rasterio__rotated.tif": ("has no CRS;.*--assume-crs", ()),
    "rasterio__test_esri_wkt.tif": ("1 band", ()),
    "rio-stac__dataset_nocrs.tif": ("1 band", ()),
    "rio-tiler__cog_dateline.tif": ("1 band", ()),
    "rio-tiler__cog_gcps_ovr.tif": ("1 band", ()),
    "rio-tiler__cog_hirise_mars.tif": ("Equirectangular MARS.*on Earth", ()),
    "rio-tiler__inverted_lat.tif": ("no valid pixel", GREY),
    "rioxarray__2d_test.tif": ("1 band", ()),
    "rioxarray__cint16.tif": ("holds complex_int16;.*intensity", ()),
    "rioxarray__test_rpcs.tif": ("placed by RPCs alone;.*gdalwarp -rpc", GREY),
}


@pytest.fixture(scope="module")
def fixtures(shared_data: Path) -> Path:
    return shared_data / "data" / "fixtures"


def find(before: Any, after: Any, *assignments: str) -> ScenePair:
    return find_pair(
        load_config(values={"before": before, "after": after, "output": "never"}, assignments=assignments)
    )[0]


def find_twins(path: Path, folder: Path, *assignments: str) -> ScenePair:
    """Pair a file with its like: a byte after the end changes the checksum and no pixel."""
    twin = folder / path.name
    twin.write_bytes(path.read_bytes() + b"\0")
    return find(str(path), str(twin), *assignments)


def read_whole(pair: ScenePair, date: str = "before") -> Any:
    return pair.read_block(date, window=(0, 0, pair.grid.height_px, pair.grid.width_px))


def test_every_awkward_raster_has_its_outcome(fixtures: Path) -> None:
    names = {path.name for path in (fixtures / "awkward_rasters").iterdir()}
    assert names == set(WORKS) | set(REFUSED)
    assert len(names) == 22


@pytest.mark.parametrize("name", WORKS)
def test_awkward_rasters_that_work(fixtures: Path, tmp_path: Path, name: str) -> None:
    resolution_m, told = WORKS[name]
    path = fixtures / "awkward_rasters" / name
    pair = find_twins(path, tmp_path, f"grid.resolution_m={resolution_m}", *told)
    block = read_whole(pair)
    asset = pair.before.assets[0]
    with rasterio.open(path) as dataset:
        bands = [source.band for source in pair.before.parts[0].colours]
        stored, points = dataset.read(bands), dataset.gcps[0]
        is_valid = (dataset.read_masks(bands) > 0).any(axis=0) & np.isfinite(stored).all(axis=0)
    seen = np.full((1, *pair.grid.shape_px), 0, np.uint8)
    reproject(
        is_valid.astype(np.uint8)[None],
        seen,
        src_crs=asset.crs,
        **({"gcps": points} if asset.control_points else {"src_transform": asset.affine}),
        dst_transform=pair.grid.transform,
        dst_crs=pair.grid.crs,
        resampling=Resampling.nearest,
    )
    expected = seen[0, : pair.grid.height_px, : pair.grid.width_px] > 0
    # Valid where rasterio's warp of the valid pixels is; at edges averages reach a pixel further.
    assert (block.is_valid != expected).mean() < 0.05
    assert block.is_valid.any()
    np.testing.assert_array_equal(block.pixels, read_whole(pair, "after").pixels)


@pytest.mark.parametrize("name", REFUSED)
def test_awkward_rasters_that_are_refused(fixtures: Path, tmp_path: Path, name: str) -> None:
    words, told = REFUSED[name]
    with pytest.raises(InputError, match=rf"before: .*{name}.*{words}"):
        find_twins(fixtures / "awkward_rasters" / name, tmp_path, "grid.resolution_m=100", *told)


OSCD_DATES = ("imgs_1", "imgs_2")


@pytest.mark.parametrize("city", ["bercy", "rennes"])
def test_sentinel_2_of_one_file_per_band(fixtures: Path, city: str) -> None:
    scenes = []
    for folder in OSCD_DATES:
        files = {path.stem[-3:]: str(path) for path in (fixtures / "oscd" / "images" / city / folder).glob("*.tif")}
        assert len(files) == 13
        scenes.append({"band_files": {"red": files["B04"], "green": files["B03"], "blue": files["B02"]}})
    pair = find(*scenes, "grid.resolution_m=10")
    assert pair.stretch.before is not None
    assert pair.stretch.before == pair.stretch.after
    before, after = (read_whole(pair, date) for date in ("before", "after"))
    assert before.is_valid.mean() > 0.95
    for block in (before, after):
        # Stretched over the whole range, and neither black nor white.
        assert 40 < block.pixels[:, block.is_valid].mean() < 200
        assert np.percentile(block.pixels, 5) < 40 < 215 < np.percentile(block.pixels, 99.9)
    # One city twice: the dates look alike.
    both = before.is_valid & after.is_valid
    assert np.corrcoef(before.pixels[1][both], after.pixels[1][both])[0, 1] > 0.6


def test_bands_of_other_resolutions_make_one_scene(fixtures: Path) -> None:
    """Sentinel-2's B05 to B07 have pixels twice as large as B02's."""
    scenes = []
    for folder in OSCD_DATES:
        files = {path.stem[-3:]: str(path) for path in (fixtures / "oscd" / "images" / "bercy" / folder).glob("*.tif")}
        scenes.append({"band_files": {"red": files["B07"], "green": files["B05"], "blue": files["B02"]}})
    pair = find(*scenes, "grid.resolution_m=10")
    assert read_whole(pair).is_valid.mean() > 0.95


def test_cloudy_sentinel_2_in_bytes(fixtures: Path) -> None:
    pair = find(*(str(fixtures / "guyana_s2_geo" / f"example_{n}.tif") for n in ("t0", "t1")), "grid.resolution_m=10")
    assert pair.stretch.before is pair.stretch.after is None
    assert read_whole(pair).is_valid.mean() > 0.95


def test_two_files_of_each_date_make_one_scene(fixtures: Path) -> None:
    folder = fixtures / "joplin_geo" / "input"
    before, after = ([str(path) for path in sorted((folder / date).glob("*.tif"))] for date in ("pre", "post"))
    pair = find(before, after, "grid.resolution_m=0.6")
    alone = [find(b, a, "grid.resolution_m=0.6") for b, a in zip(sorted(before, reverse=True), after, strict=True)]
    assert pair.grid.width_px == pytest.approx(sum(single.grid.width_px for single in alone), abs=30)
    blocks = {date: read_whole(pair, date) for date in ("before", "after")}
    for single in alone:
        col = round((single.grid.origin_x - pair.grid.origin_x) / 0.6)
        row = round((pair.grid.origin_y - single.grid.origin_y) / 0.6)
        for date, whole in blocks.items():
            part = read_whole(single, date)
            height, width = part.is_valid.shape
            shown = whole.pixels[:, max(row, 0) : row + height, col : col + width]
            inner = part.is_valid[-shown.shape[1] :, : shown.shape[2]]
            assert shown.shape[1:] == inner.shape
            difference = np.abs(shown.astype(int) - part.pixels[:, -shown.shape[1] :, : shown.shape[2]])
            # Kernels as wide as at another grid's centre: equal but for a level.
            assert (difference[:, inner] > 1).mean() < 0.01
