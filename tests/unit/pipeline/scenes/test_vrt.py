"""Files that name other files: what a VRT and a zip archive may reach, and what they may not."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import build_grid
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.rasters import name_for_gdal, resolve_uri
from pipeline.scenes.reader import read_scene

NORTH_UP = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)
PIXELS = np.random.default_rng(2).integers(1, 256, (3, 40, 40), dtype=np.uint8)


def describe(name: str, *, is_relative: bool = True, kind: str = "", inner: str = "") -> str:
    """Write a VRT of three bands of another file."""
    source = f'<SimpleSource><SourceFilename relativeToVRT="{int(is_relative)}">{name}</SourceFilename>'
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"{kind}>{inner}{source}<SourceBand>{n}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    return (
        '<VRTDataset rasterXSize="40" rasterYSize="40"><SRS>EPSG:32614</SRS>'
        f"<GeoTransform>500000, 1, 0, 3300000, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )


def check(uri: str) -> Any:
    """Read a scene whose pixels are `PIXELS`."""
    scene = read_scene(SceneConfig(uri=uri), date="before")
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=40)
    block = read_block(scene, grid=grid, window=(0, 0, 40, 40), resampling="bilinear")
    np.testing.assert_array_equal(block.pixels, PIXELS)
    return scene


@pytest.fixture
def raster(tmp_path: Path, write_raster: Any) -> Path:
    return Path(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=PIXELS))


def test_a_local_vrt_reads_what_is_beside_it_and_elsewhere(tmp_path: Path, raster: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "b.vrt").write_text(describe("a.tif"))
    (tmp_path / "folder" / "c.vrt").write_text(describe(str(raster), is_relative=False))
    (tmp_path / "d.vrt").write_text(describe("folder/c.vrt"))
    # By content, whatever it is called.
    shutil.copy(tmp_path / "b.vrt", tmp_path / "e.tif")
    for name in ("b.vrt", "folder/c.vrt", "d.vrt", "e.tif"):
        check(str(tmp_path / name))


RAW = ' subClass="VRTRawRasterBand"'
PYTHON = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (describe("a.tif", kind=RAW), "takes the bytes of another file for pixels"),
        (describe("a.tif", kind=' subClass="VRTDerivedRasterBand"', inner=PYTHON), "holds code"),
        (describe(describe("a.tif").replace("<", "&lt;")), "holds another VRT in place of a file's name"),
        (describe("a.tif")[:-20], "cannot be read"),
        (describe("self.vrt"), "names a VRT that names a VRT"),
        (describe("raw.vrt"), "raw.vrt takes the bytes"),
    ],
)
def test_what_no_vrt_may_do(tmp_path: Path, raster: Path, text: str, words: str) -> None:
    (tmp_path / "self.vrt").write_text(text)
    (tmp_path / "raw.vrt").write_text(describe("a.tif", kind=RAW))
    with pytest.raises(InputError, match=words):
        check(str(tmp_path / "self.vrt"))


def make_archive(path: Path, raster: Path, **texts: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(raster, "scene one/a.tif")
        for name, text in texts.items():
            archive.writestr(f"scene one/{name}.vrt", text)
    return path


def test_a_file_in_an_archive_has_two_names(tmp_path: Path, raster: Path) -> None:
    path = make_archive(tmp_path / "my scenes.zip", raster, b=describe("a.tif"))
    uri = f"zip://{path}!scene one/a.tif"
    assert resolve_uri(uri) == resolve_uri(f"/vsizip/{path}/scene one/a.tif") == uri
    assert name_for_gdal(uri) == f"/vsizip/{{{path}}}/scene one/a.tif"
    plain, virtual = check(uri), check(f"zip://{path}!scene one/b.vrt")
    assert plain.scene_id == "a"
    assert plain.checksum != virtual.checksum


@pytest.mark.parametrize("name", ["../a.tif", "scene one/../../b.tif", "b.tif", "", "/etc/passwd"])
def test_no_name_leads_out_of_an_archive(tmp_path: Path, raster: Path, name: str) -> None:
    path = make_archive(tmp_path / "scenes.zip", raster)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../a.tif", raster.read_bytes())
        archive.writestr("scene one/../../b.tif", raster.read_bytes())
    with pytest.raises(InputError, match=r"scenes\.zip has no file"):
        resolve_uri(f"zip://{path}!{name}")


@pytest.mark.parametrize(
    "text",
    [
        describe("../../a.tif"),
        describe("/etc/passwd"),
        describe("a.tif", is_relative=False),
        describe("/vsicurl/http://127.0.0.1/a.tif", is_relative=False),
    ],
)
def test_a_vrt_in_an_archive_reads_nothing_outside_of_it(tmp_path: Path, raster: Path, text: str) -> None:
    path = make_archive(tmp_path / "scenes.zip", raster, b=text)
    with pytest.raises(InputError, match="which is not in its archive"):
        check(f"zip://{path}!scene one/b.vrt")


def test_what_is_no_archive_is_named(tmp_path: Path, raster: Path) -> None:
    for uri in (f"zip://{raster}!a.tif", f"zip://{tmp_path}/nowhere.zip!a.tif"):
        with pytest.raises(InputError, match="cannot be read"):
            resolve_uri(uri)


@pytest.mark.parametrize("name", ["/vsicurl/http://127.0.0.1/a.tif", "/vsimem/a.tif", "GTIFF_DIR:1:a.tif"])
def test_gdals_other_names_are_no_files(name: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        resolve_uri(name)


def test_a_format_that_lists_servers_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service>'
        "<DataWindow><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    with pytest.raises(InputError, match=r"a\.xml cannot be read"):
        check(str(path))
