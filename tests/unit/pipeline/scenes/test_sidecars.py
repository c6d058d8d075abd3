"""Files beside a raster: those of its own name count wherever it lies, those of a stranger's choice nowhere."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import build_grid
from pipeline.scenes.headers import read_header
from pipeline.scenes.mosaic import Block, read_block
from pipeline.scenes.reader import read_scene

FINE = Affine(0.25, 0.0, 500_000.0, 0.0, -0.25, 3_300_000.0)
SIZE_PX = 1024
PIXELS = np.full((3, SIZE_PX, SIZE_PX), 90, dtype=np.uint8)
SHOWN = np.ones((SIZE_PX, SIZE_PX), dtype=bool)
SHOWN[:, : SIZE_PX // 4] = False
VRT = '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'


def write(path: Path, write_raster: Any, *, is_masked: bool = False, is_inside: bool = True) -> Path:
    write_raster(path, transform=FINE, bands=PIXELS, tiled=True)
    if is_masked:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=is_inside), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(SHOWN)
    return path


def add_overviews(path: Path, *, is_inside: bool) -> None:
    with rasterio.Env(TIFF_USE_OVR=not is_inside), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8, 16], Resampling.average)


def read(uri: str, *, resolution_m: float = 1.0) -> Block:
    scene = read_scene(SceneConfig(uri=uri), date="before")
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=resolution_m, tile_size_px=16)
    return read_block(scene, grid=grid, window=(0, 0, grid.height_px, grid.width_px), resampling="auto")


@pytest.mark.parametrize("has_mask_inside", [True, False])
@pytest.mark.parametrize("has_overviews_inside", [True, False])
def test_what_a_mask_hides_stays_hidden_in_overviews(
    tmp_path: Path, write_raster: Any, has_mask_inside: bool, has_overviews_inside: bool
) -> None:
    path = write(tmp_path / "a.tif", write_raster, is_masked=True, is_inside=has_mask_inside)
    add_overviews(path, is_inside=has_overviews_inside)
    # Some writers give overviews no mask.
    (tmp_path / "a.tif.msk.ovr").unlink(missing_ok=True)
    header = read_header(str(path))
    assert header.has_mask
    assert header.overviews == (2, 4, 8, 16)
    assert header.access.mask == ("" if has_mask_inside else f"{path}.msk")
    assert header.access.overviews == ("" if has_overviews_inside else f"{path}.ovr")
    for resolution_m in (1.0, 8.0):
        block = read(str(path), resolution_m=resolution_m)
        assert block.is_valid.mean() == pytest.approx(0.75, abs=0.04)
        assert (block.pixels[:, block.is_valid] == 90).all()


def test_a_mask_counts_in_an_archive_as_it_does_in_a_folder(tmp_path: Path, write_raster: Any) -> None:
    path = write(tmp_path / "a.tif", write_raster, is_masked=True, is_inside=False)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in ("a.tif", "a.tif.msk"):
            archive.write(tmp_path / name, f"s/{name}")
    inside, outside = read(f"zip://{tmp_path}/z.zip!s/a.tif"), read(str(path))
    np.testing.assert_array_equal(inside.is_valid, outside.is_valid)
    assert outside.is_valid.mean() == 0.75


@pytest.mark.parametrize("key", ["OVERVIEW_FILE", "overview_file"])
@pytest.mark.parametrize("domain", ["OVERVIEWS", "overviews"])
@pytest.mark.parametrize("is_inside", [True, False])
def test_overviews_of_any_other_name_are_refused(
    tmp_path: Path, write_raster: Any, key: str, domain: str, is_inside: bool
) -> None:
    other = write(tmp_path / "other.tif", write_raster)
    path = write(tmp_path / "a.tif", write_raster)
    if is_inside:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns=domain, **{key: str(other)})
    else:
        text = f'<PAMDataset><Metadata domain="{domain}"><MDI key="{key}">{other}</MDI></Metadata></PAMDataset>'
        (tmp_path / "a.tif.aux.xml").write_text(text)
    with pytest.raises(InputError, match=r"names another file as its overviews \(OVERVIEW_FILE\)"):
        read_header(str(path))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_overviews_that_name_others_in_turn_are_refused(tmp_path: Path, write_raster: Any) -> None:
    path = write(tmp_path / "a.tif", write_raster)
    add_overviews(path, is_inside=False)
    with rasterio.open(tmp_path / "a.tif.ovr", "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/etc/other.tif")
    with pytest.raises(InputError, match=r"a\.tif\.ovr names another file"):
        read_header(str(path))


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
@pytest.mark.parametrize("text", [VRT, "<GDAL_WMS><Service name='TMS'/></GDAL_WMS>", "nothing"])
def test_what_stands_beside_a_raster_has_to_be_what_gdal_writes(
    tmp_path: Path, write_raster: Any, suffix: str, text: str
) -> None:
    path = write(tmp_path / "a.tif", write_raster)
    (tmp_path / f"a.tif{suffix}").write_text(text)
    with pytest.raises(InputError, match=rf"a\.tif\{suffix} is no TIFF"):
        read_header(str(path))


def test_a_mask_of_another_size_is_refused(tmp_path: Path, write_raster: Any) -> None:
    path = write(tmp_path / "a.tif", write_raster)
    small = write_raster(tmp_path / "mask.tif", bands=[np.zeros((8, 8), np.uint8)])
    with rasterio.open(small, "r+") as dataset:
        dataset.update_tags(INTERNAL_MASK_FLAGS_1="2")
    small.rename(tmp_path / "a.tif.msk")
    with pytest.raises(InputError, match=r"a\.tif\.msk has 8 x 8 pixels, not 1024 x 1024"):
        read_header(str(path))


def test_metadata_beside_a_raster_still_tells(tmp_path: Path, write_raster: Any) -> None:
    path = write(tmp_path / "a.tif", write_raster)
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>90</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    assert read_header(str(path)).bands[0].nodata == 90
