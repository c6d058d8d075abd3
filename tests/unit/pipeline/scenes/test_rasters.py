"""Blocks of pixels against rasterio's own warp, and every way a file says that nothing was seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import Grid, compute_warp_scale
from pipeline.grid.window import Window
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.rasters import open_raster, resolve_uri
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Scene

TEXTURE = np.random.default_rng(7).integers(1, 256, (3, 90, 110), dtype=np.uint8)
NORTH_UP = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)
GRID = Grid(
    crs="EPSG:32614",
    resolution_m=1.0,
    origin_x=500_000.0,
    origin_y=3_300_000.0,
    tile_size_px=64,
    n_rows=2,
    n_cols=2,
    width_px=110,
    height_px=90,
)


def read(path: Path, *, grid: Grid = GRID, window: Any = None, resampling: str = "bilinear") -> tuple[Any, Any, Scene]:
    scene = read_scene(SceneConfig(uri=str(path)), date="before")
    block = read_block(scene, grid=grid, window=window or (0, 0, *grid.shape_px), resampling=resampling)
    return block.pixels, block.is_valid, scene


def place(**changes: Any) -> Grid:
    return Grid.from_dict(GRID.to_dict() | changes)


def test_pixels_on_the_same_grid_come_through_as_they_are(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=TEXTURE)
    pixels, is_valid, _ = read(path)
    expected = np.zeros((3, 128, 128), np.uint8)
    expected[:, :90, :110] = TEXTURE
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(is_valid, expected.any(axis=0))


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(6e-6, 0, -99.0, 0, -5e-6, 29.8297)),
        ("EPSG:3857", Affine(0.5, 0, -11_020_618.0, 0, -0.5, 3_481_765.0)),
        ("EPSG:32614", Affine(0.37, 0, 500_003.3, 0, -0.37, 3_299_990.1)),
        # South up, and turned by thirty degrees.
        ("EPSG:32614", Affine(1.0, 0, 500_000.0, 0, 1.0, 3_299_900.0)),
        ("EPSG:32614", Affine(0.866, 0.5, 500_010.0, 0.5, -0.866, 3_299_940.0)),
    ],
)
def test_any_window_agrees_with_rasterios_warp_of_the_same_window(
    tmp_path: Path, write_raster: Any, crs: str, transform: Affine, resampling: str
) -> None:
    path = write_raster(tmp_path / "a.tif", crs=crs, transform=transform, bands=TEXTURE)
    whole, is_valid, scene = read(path, resampling=resampling)
    assert is_valid.mean() > 0.05
    x_scale, y_scale = compute_warp_scale(crs, transform=transform, grid=GRID)
    expected = np.zeros((3, *GRID.shape_px), np.uint8)
    with rasterio.open(path) as dataset:
        reproject(
            rasterio.band(dataset, [1, 2, 3]),
            expected,
            dst_transform=GRID.transform,
            dst_crs=GRID.crs,
            resampling=Resampling[resampling],
            # GDAL would take the kernel from how much of the file lies under the window.
            XSCALE=x_scale,
            YSCALE=y_scale,
        )
    # Where the raster ends, a last digit decides whether a pixel's centre is still inside: for a whole column.
    both = is_valid & expected.any(axis=0)
    assert (is_valid != expected.any(axis=0)).mean() < 3e-3
    assert np.abs(whole.astype(int) - expected)[:, both].max() <= 1
    for window in ((0, 0, 64, 64), (64, 0, 64, 64), (17, 31, 50, 97)):
        row, col, height, width = window
        part = read_block(scene, grid=GRID, window=window, resampling=resampling)
        np.testing.assert_array_equal(part.pixels, whole[:, row : row + height, col : col + width])
        np.testing.assert_array_equal(part.is_valid, is_valid[row : row + height, col : col + width])


def test_coarser_grids_average_the_same_way_everywhere(tmp_path: Path, write_raster: Any) -> None:
    # The same texture over and over: every block must come out the same, also where the file ends in it.
    path = write_raster(
        tmp_path / "a.tif",
        transform=Affine(0.25, 0, 500_000.0, 0, -0.25, 3_300_000.0),
        bands=np.tile(TEXTURE[:, :64, :64], (1, 20, 20)),
    )
    grid = place(tile_size_px=512, n_rows=1, n_cols=1, width_px=320, height_px=320)
    pixels, _, _ = read(path, grid=grid)
    periods = pixels[:, 16:304, 16:304].reshape(3, 18, 16, 18, 16).astype(int)
    assert np.abs(periods - periods[:, :1, :, :1]).max() <= 1
    assert pixels[:, 16:304, 16:304].std() < TEXTURE.std() / 2


def make_hole() -> Any:
    hole = np.zeros((90, 110), bool)
    hole[20:50, 30:70] = True
    return hole


def write_with_nodata(write: Any, path: Path) -> Path:
    return Path(write(path, transform=NORTH_UP, bands=np.where(make_hole(), 0, TEXTURE), nodata=0))


def write_with_mask(write: Any, path: Path) -> Path:
    return Path(write(path, transform=NORTH_UP, bands=TEXTURE, mask=~make_hole()))


def write_with_alpha(write: Any, path: Path) -> Path:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    alpha = np.where(make_hole(), 0, 255).astype(np.uint8)
    return Path(write(path, transform=NORTH_UP, bands=[*TEXTURE, alpha], colours=colours))


@pytest.mark.parametrize("has_alpha", [None, True])
def test_opacity_from_0_to_1_is_refused(tmp_path: Path, write_raster: Any, has_alpha: bool | None) -> None:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    bands = np.concatenate([TEXTURE, np.ones_like(TEXTURE[:1])]).astype(np.float32)
    path = str(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=bands, colours=colours))
    with pytest.raises(InputError, match="opacity from 0 to 1"):
        read_scene(SceneConfig(uri=path, has_alpha=has_alpha), date="before")


@pytest.mark.parametrize("write_hole", [write_with_nodata, write_with_mask, write_with_alpha])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
def test_a_hole_is_invalid_and_does_not_bleed(
    tmp_path: Path, write_raster: Any, write_hole: Callable[..., Path], resampling: str
) -> None:
    path = write_hole(write_raster, tmp_path / "a.tif")
    pixels, is_valid, _ = read(path, resampling=resampling)
    expected = np.zeros((128, 128), bool)
    expected[:90, :110] = ~make_hole()
    np.testing.assert_array_equal(is_valid, expected)
    np.testing.assert_array_equal(pixels[:, :90, :110], np.where(make_hole(), 0, TEXTURE))


def test_near_infrared_in_place_of_alpha_is_told_and_overridden(tmp_path: Path, write_raster: Any) -> None:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    infrared = np.where(make_hole(), 0, TEXTURE[0]).astype(np.uint8)
    path = str(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=[*TEXTURE, infrared], colours=colours))

    with pytest.raises(InputError, match=r"band 4 as alpha, but .*before\.has_alpha=false"):
        read_scene(SceneConfig(uri=path), date="before")
    scenes = {told: read_scene(SceneConfig(uri=path, has_alpha=told), date="before") for told in (False, True)}
    blocks = {
        told: read_block(scene, grid=GRID, window=Window(0, 0, 128, 128), resampling="nearest")
        for told, scene in scenes.items()
    }

    assert blocks[False].is_valid[:90, :110].all()
    np.testing.assert_array_equal(blocks[True].is_valid[:90, :110], ~make_hole())


def test_one_dark_band_is_not_nodata(tmp_path: Path, write_raster: Any) -> None:
    bands = TEXTURE.copy()
    bands[0] = 0
    pixels, is_valid, _ = read(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=bands, nodata=0))
    assert is_valid[:90, :110].all()
    np.testing.assert_array_equal(pixels[:, :90, :110], bands)


def test_bands_are_read_in_the_order_of_their_colours(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(
        tmp_path / "a.tif",
        transform=NORTH_UP,
        bands=[*TEXTURE, TEXTURE[0]],
        colours=(ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined),
    )
    pixels, _, scene = read(path)
    assert [source.band for source in scene.parts[0].colours] == [3, 2, 1]
    np.testing.assert_array_equal(pixels[:, :90, :110], TEXTURE[::-1])


def test_bands_of_many_are_those_of_the_config(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=[*TEXTURE, *(255 - TEXTURE)])
    scene = read_scene(SceneConfig(uri=str(path), bands=(6, 1, 4)), date="before")
    block = read_block(scene, grid=GRID, window=(0, 0, 90, 110), resampling="bilinear")
    assert block.is_valid.all()
    np.testing.assert_array_equal(block.pixels, [255 - TEXTURE[2], TEXTURE[0], 255 - TEXTURE[0]])


def test_nodata_that_no_byte_can_hold_means_that_all_is_valid(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=TEXTURE)
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset>"
        + "".join(f'<PAMRasterBand band="{n}"><NoDataValue>-9999</NoDataValue></PAMRasterBand>' for n in (1, 2, 3))
        + "</PAMDataset>"
    )
    _, is_valid, scene = read(path)
    assert scene.parts[0].red.nodata is None
    assert is_valid[:90, :110].all()


def test_a_block_that_cannot_be_decoded_is_named(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=TEXTURE, compress="deflate")
    scene = read_scene(SceneConfig(uri=str(path)), date="before")
    content = bytearray(path.read_bytes())
    content[400:-400] = bytes(len(content) - 800)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif cannot be read"):
        read_block(scene, grid=GRID, window=(0, 0, 128, 128), resampling="bilinear")


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b.tif").touch()
    monkeypatch.chdir(tmp_path)
    expected = str(tmp_path / "a b.tif")
    assert resolve_uri("a b.tif") == resolve_uri(expected) == resolve_uri(f"file://{tmp_path}/a%20b.tif") == expected
    assert resolve_uri("https://example.org/a.tif?x=1") == "https://example.org/a.tif?x=1"


@pytest.mark.parametrize(
    ("uri", "words"), [("ftp://x/y.tif", "ftp"), ("nowhere.tif", "does not exist"), (".", "folder")]
)
def test_other_places_are_refused(uri: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve_uri(uri)


def test_opening_says_nothing_about_a_missing_transform(tmp_path: Path, write_raster: Any) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write_raster(tmp_path / "a.tif", crs=None, transform=Affine.identity(), bands=TEXTURE)
    with open_raster(str(path)) as dataset:
        assert dataset.transform.is_identity


def test_decoded_blocks_are_kept(tmp_path: Path, write_raster: Callable[..., Path]) -> None:
    bands = np.random.default_rng(3).integers(1, 256, (3, 1024, 1024), dtype=np.uint8)
    path = write_raster(tmp_path / "scene.tif", bands=bands, compress="deflate", tiled=True)
    with open_raster(str(path)) as dataset:
        first = dataset.read()
        # What the file holds afterwards could not be decoded.
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(bytes(path.stat().st_size - 4096))
        again = dataset.read()

    assert np.array_equal(first, bands)
    assert np.array_equal(again, bands)


def test_pixels_without_extent_are_refused(tmp_path: Path, write_raster: Any) -> None:
    on_a_line = Affine(1.0, 2.0, 500_000.0, 2.0, 4.0, 3_300_000.0)
    path = write_raster(tmp_path / "a.tif", transform=on_a_line, bands=TEXTURE)
    with pytest.raises(InputError, match="pixels without extent"):
        read_scene(SceneConfig(uri=str(path)), date="before")
