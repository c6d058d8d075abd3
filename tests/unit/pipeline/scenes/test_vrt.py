"""Files that name other files: what a VRT and a zip archive may reach, and what they may not."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.vrt import WarpedVRT

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import build_grid
from pipeline.scenes.headers import read_header
from pipeline.scenes.held_vrt import open_vrt
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.rasters import name_for_gdal, resolve_uri
from pipeline.scenes.reader import read_scene
from pipeline.scenes.vrt import choose_text, read_vrt

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


BOMB = "<!DOCTYPE VRTDataset [<!ENTITY a0 'a'>" + "".join(
    f"<!ENTITY a{n} '{10 * f'&a{n - 1};'}'>" for n in range(1, 10)
)
BOMB += "]>"


def option(name: str) -> str:
    return f'<OpenOptions><OOI key="{name}">1</OOI></OpenOptions>'


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
        # GDAL reads names in any case and any namespace.
        (describe("a.tif", kind=' subclass="vrtrawrasterband"'), "has an attribute 'subclass' at VRTRasterBand"),
        (describe("a.tif", kind=' subClass="VRTRAWRASTERBAND"'), "subClass 'VRTRAWRASTERBAND'"),
        (describe("a.tif").replace("SourceFilename", "sourcefilename"), "has an element 'sourcefilename'"),
        (describe("a.tif").replace("<VRTDataset", '<VRTDataset xmlns="http://x"'), "begins with an element {http://x}"),
        (describe("a.tif").replace("<VRTDataset", '<VRTDataset xmlns:x="http://x" x:y="1"'), "has an attribute"),
        (describe("a.tif", inner="<ProcessingSteps/>"), "has an element 'ProcessingSteps'"),
        (
            describe("a.tif").replace("</SimpleSource>", option("ROOT_PATH") + "</SimpleSource>"),
            "has an option 'ROOT_PATH'",
        ),
        (describe("GTIFF_DIR:1:a.tif"), "GTIFF_DIR:1:a.tif does not exist"),
        (describe("vrt://a.tif?bands=1,2,3", is_relative=False), "does not exist"),
        (describe("/vsicurl//etc/passwd", is_relative=False), "which is on this machine"),
        (describe("/vsisubfile/0_9,a.tif", is_relative=False), "does not exist"),
        (BOMB + describe("&a9;"), "a document type declaration"),
        (('<?xml version="1.0" encoding="UTF-8"?>' + BOMB + describe("a.tif")), "a document type declaration"),
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


def test_a_vrt_is_handed_on_in_words_of_our_own(tmp_path: Path, raster: Path) -> None:
    more = '<Metadata domain="GEOLOCATION"><MDI key="X_DATASET">/etc/x.tif</MDI></Metadata><Histograms/>'
    (tmp_path / "b.vrt").write_text(describe("a.tif", inner=more))
    (tmp_path / "c.vrt").write_text(describe("b.vrt"))
    vrt = read_vrt(str(tmp_path / "c.vrt"))
    assert vrt is not None
    assert vrt.rasters == (str(raster),)
    assert set(vrt.files) == {str(raster), str(tmp_path / "b.vrt")}
    assert "/etc" not in vrt.text
    assert "b.vrt" not in vrt.text
    # What is in the files by now is of no account.
    (tmp_path / "b.vrt").write_text("gone")
    with open_vrt(vrt.text, rasters=vrt.rasters) as dataset:
        np.testing.assert_array_equal(dataset.read(), PIXELS)


def test_vrts_that_unfold_to_more_than_fits_are_refused(tmp_path: Path, raster: Path) -> None:
    (tmp_path / "0.vrt").write_text(describe("a.tif"))
    for n in range(1, 5):
        bands = describe(f"{n - 1}.vrt").partition("</VRTRasterBand>")[0] + "</VRTRasterBand>"
        start, _, band = bands.partition("<VRTRasterBand")
        source = band[band.index("<SimpleSource>") : band.index("</VRTRasterBand>")]
        text = start + "<VRTRasterBand" + band.replace(source, 40 * source) + "</VRTDataset>"
        (tmp_path / f"{n}.vrt").write_text(text)
    with pytest.raises(InputError, match="is too large, with the VRTs that it names"):
        read_vrt(str(tmp_path / "4.vrt"))


@pytest.mark.parametrize("source", ["../a.tif", "{folder}/a.tif", "away.tif"])
def test_a_vrt_of_a_stac_item_stays_in_the_folder_of_the_item(tmp_path: Path, raster: Path, source: str) -> None:
    folder = tmp_path / "item"
    folder.mkdir()
    shutil.copy(raster, folder / "inside.tif")
    (folder / "away.tif").symlink_to(raster)
    (folder / "good.vrt").write_text(describe("inside.tif"))
    name = source.format(folder=tmp_path)
    (folder / "bad.vrt").write_text(describe(name, is_relative=not name.startswith("/")))
    assert read_header(str(folder / "good.vrt"), root=str(folder)).width == 40
    with pytest.raises(InputError, match="which is outside"):
        read_header(str(folder / "bad.vrt"), root=str(folder))
    assert read_header(str(folder / "bad.vrt")).width == 40


def test_warped_vrts_and_pixel_functions_are_read_as_ever(tmp_path: Path, raster: Path) -> None:
    with rasterio.open(raster) as dataset, WarpedVRT(dataset, crs="EPSG:32614") as warped:
        rasterio.shutil.copy(warped, tmp_path / "warped.vrt", driver="VRT")
    function = "<PixelFunctionType>real</PixelFunctionType><PixelFunctionArguments k='1'/>"
    kind = ' subClass="VRTDerivedRasterBand"'
    (tmp_path / "function.vrt").write_text(describe("a.tif", kind=kind, inner=function))
    for name in ("warped.vrt", "function.vrt"):
        check(str(tmp_path / name))


def test_a_window_of_a_large_vrt_on_servers_names_what_it_needs() -> None:
    names = [f"https://host.example/{n}.tif" for n in range(40)]
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="0">/vsicurl/{name}</SourceFilename><SourceBand>1</SourceBand>'
        f'<DstRect xOff="{100 * n}" yOff="0" xSize="100" ySize="100"/></SimpleSource>'
        for n, name in enumerate(names)
    )
    text = (
        '<VRTDataset rasterXSize="4000" rasterYSize="100"><VRTRasterBand dataType="Byte" band="1">'
        f"{sources}</VRTRasterBand></VRTDataset>"
    )
    shorter, named = choose_text(text, rasters=names, window=(250, 10, 410, 20))
    assert named == names[2:5]
    assert shorter.count("SourceBand>") == 6
    assert choose_text(text, rasters=names[:16], window=(250, 10, 410, 20)) == (text, names[:16])


NAMES_GRID = "+proj=utm +zone=14 +ellps=WGS84 +nadgrids={name} +units=m +no_defs"


def test_no_crs_has_a_file_opened(tmp_path: Path, raster: Path) -> None:
    # A pipe that nobody writes to would be waited for without end.
    os.mkfifo(tmp_path / "pipe")
    crs = NAMES_GRID.format(name=tmp_path / "pipe")
    vrt = tmp_path / "a.vrt"
    vrt.write_text(describe("a.tif").replace("EPSG:32614", crs))
    shutil.copy(raster, tmp_path / "b.tif")
    (tmp_path / "b.tif.aux.xml").write_text(f"<PAMDataset><SRS>{crs.replace('n', '&#110;')}</SRS></PAMDataset>")

    for uri in (vrt, tmp_path / "b.tif"):
        with pytest.raises(InputError, match="has a CRS that reads the file"):
            read_header(str(uri))


@pytest.mark.parametrize("name", ["/vsicurl/http://[bad/a.tif", "http://[bad/a.tif"])
def test_half_an_address_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.vrt").write_text(describe(name, is_relative=False))

    with pytest.raises(InputError):
        read_header(str(tmp_path / "a.vrt"))


def damage(data: bytes, *, at: int, by: bytes) -> bytes:
    return data[:at] + by + data[at + len(by) :]


@pytest.mark.parametrize("kind", ["locked", "packed in another way", "cut", "without a header"])
def test_an_archive_that_cannot_be_unpacked_is_told(tmp_path: Path, raster: Path, kind: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(raster, "a.tif")
    data, index = path.read_bytes(), path.read_bytes().find(b"PK\1\2")
    if kind == "locked":
        data = damage(damage(data, at=6, by=b"\1"), at=index + 8, by=b"\1")
    elif kind == "packed in another way":
        data = damage(damage(data, at=8, by=b"a"), at=index + 10, by=b"a")
    else:
        data = damage(data, at=60 if kind == "cut" else 0, by=b"\xff" * 60)
    path.write_bytes(data)

    with pytest.raises(InputError, match="cannot be read"):
        read_header(resolve_uri(f"zip://{path}!a.tif"))


def test_a_part_of_a_vrt_whose_place_is_no_number_is_left_to_gdal() -> None:
    names = [f"https://example.com/{number}.tif" for number in range(17)]
    text = describe(f"/vsicurl/{names[0]}").replace(
        "<SourceBand>1", '<DstRect xOff="x" yOff="0" xSize="1" ySize="1"/><SourceBand>1'
    )

    assert choose_text(text, rasters=names, window=(0, 0, 1, 1))[1] == [names[0]]
