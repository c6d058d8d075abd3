"""Scenes of every kind on the grid: painted places, GDAL's own warp, and clouds and mosaics worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

from model.errors import InputError
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import Grid, build_grid
from pipeline.scenes import memory, mosaic
from pipeline.scenes.mosaic import Block, list_parts_in_window, read_block
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Scene
from pipeline.scenes.warp import choose_resampling, group_sources, read_bands
from pipeline.scenes.warp_source import describe_vrt

NORTH_UP = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)
GRID = Grid(
    crs="EPSG:32614",
    resolution_m=1.0,
    origin_x=500_000.0,
    origin_y=3_300_000.0,
    tile_size_px=32,
    n_rows=2,
    n_cols=2,
    width_px=64,
    height_px=64,
)
WHOLE = (0, 0, 64, 64)
WORDS = np.random.default_rng(3).integers(1, 10_000, (3, 64, 64), dtype=np.uint16)
LIMITS = ((0.0, 10_000.0),) * 3
HOLE = np.zeros((64, 64), bool)
HOLE[10:30, 20:50] = True


def open_scene(**settings: Any) -> Scene:
    return read_scene(SceneConfig.model_validate(settings), date="before")


def read(
    scene: Scene, *, grid: Grid = GRID, window: Any = WHOLE, resampling: str = "auto", limits: Any = None
) -> Block:
    return read_block(scene, grid=grid, window=window, resampling=resampling, limits=limits)


def read_values(scene: Scene, *, grid: Grid = GRID, resampling: str = "auto") -> tuple[Any, Any]:
    bands, is_valid = read_bands(
        scene.parts[0].colours, grid=grid, window=(0, 0, *grid.shape_px), resampling=resampling
    )
    return np.stack(bands), is_valid


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_stored_values_of_every_type_come_through(tmp_path: Path, write_raster: Any, dtype: str) -> None:
    stored = (WORDS % 250 if dtype == "uint8" else WORDS).astype(dtype)
    if dtype not in {"uint8", "uint16", "uint32"}:
        stored[0] *= -1
    scene = open_scene(uri=str(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=stored)))
    values, is_valid = read_values(scene)
    assert values.dtype == dtype
    assert is_valid.all()
    np.testing.assert_array_equal(values, stored)


def test_values_are_scaled_before_they_are_stretched(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=WORDS)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (2.0, 2.0, 2.0), (-1000.0, -1000.0, -1000.0)
    told = read(open_scene(uri=str(path)), limits=LIMITS).pixels
    expected = np.clip((WORDS * 2.0 - 1000) * 255 / 10_000, 0, 255)
    assert np.abs(told - expected).max() <= 0.51
    better = read(open_scene(uri=str(path), scale=1, offset=0), limits=LIMITS).pixels
    assert np.abs(better - WORDS * (255 / 10_000)).max() <= 0.51


@pytest.mark.parametrize("nodata", [None, float("nan"), -9999.0])
def test_no_number_is_nothing_seen(tmp_path: Path, write_raster: Any, nodata: float | None) -> None:
    stored = WORDS.astype(np.float32)
    stored[:, HOLE] = np.nan if nodata is None else nodata
    stored[1, 60, 60] = np.nan
    scene = open_scene(uri=str(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=stored, nodata=nodata)))
    block = read(scene, limits=LIMITS)
    expected = ~HOLE
    expected[60, 60] = False
    np.testing.assert_array_equal(block.is_valid, expected)
    assert not block.pixels[:, ~expected].any()


def test_nodata_of_the_config_and_alpha_of_16_bits(tmp_path: Path, write_raster: Any) -> None:
    stored = np.where(HOLE, 77, WORDS).astype(np.uint16)
    plain = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=stored)
    np.testing.assert_array_equal(read(open_scene(uri=str(plain), nodata=77), limits=LIMITS).is_valid, ~HOLE)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    alpha = np.where(HOLE, 0, 65_535).astype(np.uint16)
    clear = write_raster(tmp_path / "b.tif", transform=NORTH_UP, bands=[*WORDS, alpha], colours=colours)
    block = read(open_scene(uri=str(clear)), limits=LIMITS)
    np.testing.assert_array_equal(block.is_valid, ~HOLE)


def write_bands(tmp_path: Path, write_raster: Any, **changes: Any) -> dict[str, str]:
    """Write red, green and blue into a file each; `changes` are of the green one."""
    files = {}
    for name, band in zip(("red", "green", "blue"), WORDS, strict=True):
        options = {"transform": NORTH_UP, "bands": band[None], "nodata": 0} | (changes if name == "green" else {})
        files[name] = str(write_raster(tmp_path / f"{name}.tif", **options))
    return files


def test_one_file_per_band(tmp_path: Path, write_raster: Any) -> None:
    scene = open_scene(band_files=write_bands(tmp_path, write_raster))
    assert group_sources(scene.parts[0].colours) == [[0, 1, 2]]
    values, is_valid = read_values(scene)
    assert is_valid.all()
    np.testing.assert_array_equal(values, WORDS)
    assert len(scene.assets) == 3
    assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene


def test_bands_of_other_places_count_where_all_are(tmp_path: Path, write_raster: Any) -> None:
    coarse = WORDS[1, ::2, ::2]
    changes = {"transform": NORTH_UP @ Affine.translation(8, 0) @ Affine.scale(2), "bands": coarse[None], "nodata": 5}
    scene = open_scene(band_files=write_bands(tmp_path, write_raster, **changes))
    assert group_sources(scene.parts[0].colours) == [[0, 2], [1]]
    values, is_valid = read_values(scene, resampling="nearest")
    assert is_valid[:, 8:].all()
    assert not is_valid[:, :8].any()
    np.testing.assert_array_equal(values[0], WORDS[0])
    np.testing.assert_array_equal(values[1][:, 8:], np.kron(coarse, np.ones((2, 2), np.uint16))[:, :56])


def test_bands_that_do_not_meet_are_refused(tmp_path: Path, write_raster: Any) -> None:
    files = write_bands(tmp_path, write_raster, transform=NORTH_UP @ Affine.translation(5000, 0))
    with pytest.raises(InputError, match=r"red\.tif and .*green\.tif do not overlap"):
        open_scene(band_files=files)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
@pytest.mark.parametrize("way", ["nodata", "mask", "nan"])
def test_three_of_thirteen_bands_agree_with_rasterios_warp(
    tmp_path: Path, write_raster: Any, resampling: str, way: str
) -> None:
    """Turned by thirty degrees, with a hole."""
    transform = Affine(0.866, 0.5, 500_010.0, 0.5, -0.866, 3_299_990.0)
    smooth = np.add.outer(np.arange(64), np.arange(64)) * 70 + 100
    stored = np.stack([smooth * (13 + n) // 13 for n in range(13)]).astype(np.float32 if way == "nan" else np.uint16)
    if way != "mask":
        stored[:, HOLE] = np.nan if way == "nan" else 0
    options: dict[str, Any] = {"mask": ~HOLE} if way == "mask" else {"nodata": 0 if way == "nodata" else None}
    path = write_raster(tmp_path / "a.tif", transform=transform, bands=stored, **options)
    values, is_valid = read_values(open_scene(uri=str(path), bands=(11, 2, 7)), resampling=resampling)
    seen = np.where(HOLE, np.nan, stored[[10, 1, 6]].astype(np.float32))
    expected = np.full((3, *GRID.shape_px), np.nan, np.float32)
    reproject(
        seen,
        expected,
        src_transform=transform,
        src_crs=GRID.crs,
        src_nodata=np.nan,
        dst_transform=GRID.transform,
        dst_crs=GRID.crs,
        dst_nodata=np.nan,
        resampling=Resampling[resampling],
    )
    both = is_valid & np.isfinite(expected[0])
    assert (is_valid != np.isfinite(expected[0])).mean() < 0.01
    assert both.mean() > 0.2
    # Rounded to whole numbers, and at places that are a thousandth of a pixel apart.
    assert np.abs(values - expected)[:, both].max() <= 2


def make_points(step: int = 16, size: int = 64) -> list[GroundControlPoint]:
    """Give control points of a raster that is turned, and bent by some pixels."""
    transform = Affine(0.866, 0.5, 500_010.0, 0.5, -0.866, 3_299_990.0)
    points = []
    for row in range(0, size + 1, step):
        for col in range(0, size + 1, step):
            x, y = transform @ (col, row)
            points.append(GroundControlPoint(row=row, col=col, x=x + 0.0008 * col * row, y=y - 0.0008 * col * col))
    return points


@pytest.mark.parametrize("way", ["plain", "nodata", "mask", "alpha"])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_control_points_agree_with_rasterios_warp(tmp_path: Path, resampling: str, way: str) -> None:
    smooth = np.add.outer(np.arange(64), 2 * np.arange(64)) + 20
    stored = np.stack([smooth, smooth[::-1], smooth.T]).astype(np.uint8)
    hole = HOLE & (way != "plain")
    bands = [*np.where(hole & (way == "nodata"), 0, stored), *([np.where(hole, 0, 255)] if way == "alpha" else [])]
    path = tmp_path / "a.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", count=len(bands), dtype="uint8", width=64, height=64) as dataset,
    ):
        dataset.gcps = make_points(), CRS.from_epsg(32614)
        if way == "alpha":
            dataset.colorinterp = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha
        if way == "nodata":
            dataset.nodata = 0
        dataset.write(np.stack(bands).astype(np.uint8))
        if way == "mask":
            dataset.write_mask(~hole)
    block = read(open_scene(uri=str(path)), resampling=resampling)
    expected = np.full((3, *GRID.shape_px), np.nan, np.float32)
    reproject(
        np.where(hole, np.nan, stored.astype(np.float32)),
        expected,
        gcps=make_points(),
        src_crs="EPSG:32614",
        src_nodata=np.nan,
        dst_transform=GRID.transform,
        dst_crs=GRID.crs,
        dst_nodata=np.nan,
        resampling=Resampling[resampling],
    )
    is_seen = np.isfinite(expected[0])
    assert (block.is_valid != is_seen).mean() < 0.01
    assert is_seen.mean() > 0.3
    assert np.abs(block.pixels - expected)[:, block.is_valid & is_seen].max() <= 1
    part = read(open_scene(uri=str(path)), window=(10, 5, 40, 30), resampling=resampling)
    np.testing.assert_array_equal(part.pixels, block.pixels[:, 10:50, 5:35])


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        # The same 2 km of sea three times: beyond 180 degrees, before -180, and in the CRS of one side.
        ("EPSG:4326", Affine(1e-4, 0, 179.99, 0, -1e-4, 10.0)),
        ("EPSG:4326", Affine(1e-4, 0, -180.01, 0, -1e-4, 10.0)),
        ("EPSG:32660", Affine(11.0, 0, 828_000.0, 0, -11.0, 1_107_000.0)),
        ("EPSG:4326", Affine(1e-4, 0, 179.99, 0, 1e-4, 9.99)),
    ],
)
def test_places_over_the_date_line_are_where_they_were_painted(
    tmp_path: Path, write_raster: Any, make_ramp: Any, centres: Any, crs: str, transform: Affine
) -> None:
    ramp = make_ramp(crs="EPSG:32660", x=828_000.0, y=1_106_000.0, slope=0.05)
    path = write_raster(tmp_path / "a.tif", crs=crs, transform=transform, ramp=ramp, size=(100, 200))
    scene = open_scene(uri=str(path))
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=10.0, tile_size_px=64)
    block = read(scene, grid=grid, window=(0, 0, grid.height_px, grid.width_px))
    xs, ys = centres(grid.transform, width=grid.width_px, height=grid.height_px)
    expected = ramp.compute(xs, ys, crs=grid.crs)
    is_steady = block.is_valid & (expected > 30).all(axis=0) & (expected < 226).all(axis=0)
    assert block.is_valid.mean() > 0.93
    assert is_steady.mean() > 0.5
    # A level is 20 m: two pixels of the grid.
    assert np.abs(block.pixels - expected)[:, is_steady].max() <= 1.1


@pytest.mark.parametrize(
    ("pixel_m", "asked", "expected"),
    [
        (0.3, "auto", "average"),
        (0.79, "auto", "average"),
        (0.81, "auto", "bilinear"),
        (1.0, "auto", "bilinear"),
        (4.0, "auto", "bilinear"),
        (0.3, "cubic", "cubic"),
    ],
)
def test_finer_rasters_are_averaged(
    tmp_path: Path, write_raster: Any, pixel_m: float, asked: str, expected: str
) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP @ Affine.scale(pixel_m))
    assert choose_resampling(asked, open_scene(uri=str(path)).assets[0], grid=GRID) == expected


def test_a_coarse_pixel_is_the_mean_of_its_area(tmp_path: Path, write_raster: Any) -> None:
    fine = np.random.default_rng(1).integers(0, 9_000, (3, 256, 256)).astype(np.uint16)
    path = write_raster(tmp_path / "b.tif", transform=NORTH_UP @ Affine.scale(0.25), bands=fine)
    values, _ = read_values(open_scene(uri=str(path)))
    expected = fine.reshape(3, 64, 4, 64, 4).mean(axis=(2, 4))
    assert np.abs(values - expected).max() <= 0.5


def test_a_far_too_fine_raster_is_read_from_its_overviews(tmp_path: Path, write_raster: Any) -> None:
    fine = np.kron(WORDS, np.ones((20, 20), np.uint16))
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP @ Affine.scale(0.05), bands=fine)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    scene = open_scene(uri=str(path))
    assert scene.assets[0].overviews == (2, 4)
    thinned = scene.assets[0].take_overview(at_most=10)
    assert (thinned.width, thinned.overview_level, thinned.transform[0]) == (320, 1, pytest.approx(0.2))
    values, _ = read_values(scene)
    assert np.abs(values.astype(float) - WORDS).max() <= 1


# Several rasters of one date.


def write_parts(tmp_path: Path, write_raster: Any, *parts: Any, **options: Any) -> list[str]:
    return [
        str(write_raster(tmp_path / f"part{n}.tif", transform=NORTH_UP, bands=part, nodata=0, **options))
        for n, part in enumerate(parts)
    ]


def test_the_first_valid_part_counts(tmp_path: Path, write_raster: Any) -> None:
    first, second = np.full((2, 3, 64, 64), [[[[10]]], [[[20]]]], np.uint8)
    first[:, :, 40:] = 0
    second[:, 50:] = 0
    uris = write_parts(tmp_path, write_raster, first, second)
    block = read(open_scene(uri=uris))
    expected = np.where(first[0] > 0, first[0], second[0])
    np.testing.assert_array_equal(block.pixels, np.broadcast_to(expected, (3, 64, 64)))
    np.testing.assert_array_equal(block.is_valid, expected > 0)
    swapped = read(open_scene(uri=uris[::-1]))
    np.testing.assert_array_equal(swapped.pixels[0], np.where(second[0] > 0, second[0], first[0]))


@pytest.mark.parametrize("n_parts", [2, 3, 4])
def test_the_median_agrees_with_numpys(
    tmp_path: Path, write_raster: Any, n_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Strips of a few rows, as a large window would have.
    monkeypatch.setattr(mosaic, "MEDIAN_BYTES", 1)
    monkeypatch.setattr(mosaic, "STRIP_ROWS", 24)
    rng = np.random.default_rng(n_parts)
    parts = rng.integers(1, 256, (n_parts, 3, 64, 64), dtype=np.uint8)
    parts *= (rng.random((n_parts, 1, 64, 64)) > 0.4).astype(np.uint8)
    scene = open_scene(uri=write_parts(tmp_path, write_raster, *parts), mosaic="median")
    block = read(scene, resampling="nearest")
    masked = np.ma.masked_equal(parts, 0)
    np.testing.assert_array_equal(block.is_valid, ~masked.mask.all(axis=0)[0])
    # The mean of two in the middle is rounded up.
    expected = np.floor(np.ma.median(masked.astype(float), axis=0).filled(0) + 0.5)
    np.testing.assert_array_equal(block.pixels, expected)


def test_only_parts_that_touch_the_window_are_opened(tmp_path: Path, write_raster: Any) -> None:
    uris = [
        str(
            write_raster(
                tmp_path / f"{n}.tif", transform=NORTH_UP @ Affine.translation(64 * n, 0), bands=WORDS % 250 + 1
            )
        )
        for n in range(4)
    ]
    scene = open_scene(uri=uris)
    grid = Grid.from_dict(GRID.to_dict() | {"n_cols": 8, "width_px": 256})
    parts = list_parts_in_window(scene, grid=grid, window=(0, 70, 32, 40))
    assert [Path(part.red.asset.uri).stem for part in parts] == ["1"]
    for uri in (uris[0], uris[2], uris[3]):
        Path(uri).unlink()
    assert read(scene, grid=grid, window=(0, 70, 32, 40)).is_valid.all()
    assert list_parts_in_window(scene, grid=grid, window=(0, 50, 32, 100)) == list(scene.parts[:3])


def test_neighbours_of_other_zones_make_one_scene_over_the_date_line(tmp_path: Path, write_raster: Any) -> None:
    west = write_raster(
        tmp_path / "w.tif", crs="EPSG:4326", transform=Affine(1e-4, 0, 179.99, 0, -1e-4, 10.0), size=(90, 100)
    )
    east = write_raster(
        tmp_path / "e.tif", crs="EPSG:4326", transform=Affine(1e-4, 0, -180.0, 0, -1e-4, 10.0), size=(90, 100)
    )
    scene = open_scene(uri=[str(west), str(east)])
    assert scene.footprint.bounds == pytest.approx((179.99, 9.991, 180.01, 10.0))
    grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=10.0, tile_size_px=32)
    assert read(scene, grid=grid, window=(0, 0, grid.height_px, grid.width_px)).is_valid[4:-4, 4:-4].all()


# Clouds.


@pytest.fixture
def classes(tmp_path: Path, write_raster: Any) -> str:
    """Classes of 2 m: cloud in the upper left quarter, vegetation elsewhere, 0 for unknown at the right edge."""
    band = np.full((1, 32, 32), 4, np.uint8)
    band[0, :16, :16] = 9
    band[0, :, 30:] = 0
    return str(write_raster(tmp_path / "scl.tif", transform=NORTH_UP @ Affine.scale(2), bands=band, nodata=0))


def test_cloudy_pixels_are_not_valid(tmp_path: Path, write_raster: Any, classes: str) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=WORDS % 250 + 1)
    block = read(open_scene(uri=str(path), classes={"uri": classes}))
    expected = np.zeros((64, 64), bool)
    expected[:32, :32] = True
    np.testing.assert_array_equal(block.is_cloudy, expected)
    np.testing.assert_array_equal(block.is_valid, ~expected)
    assert not block.pixels[:, expected].any()
    clear = read(open_scene(uri=str(path), classes={"uri": classes}, cloud_classes=[8]))
    assert clear.is_valid.all()


def test_another_part_shows_what_lies_under_a_cloud(tmp_path: Path, write_raster: Any, classes: str) -> None:
    low, high = np.full((2, 3, 64, 64), [[[[10]]], [[[20]]]], np.uint8)
    high[:, :20] = 0
    uris = write_parts(tmp_path, write_raster, low, high)
    clear = write_raster(tmp_path / "clear.tif", bands=np.full((1, 64, 64), 4, np.uint8))
    scene = open_scene(uri=uris, classes={"uri": [classes, str(clear)]})
    block = read(scene)
    np.testing.assert_array_equal(block.pixels[0, 20:32, :32], 20)
    np.testing.assert_array_equal(block.pixels[0, :, 32:], 10)
    # Only what no part shows is cloudy.
    expected = np.zeros((64, 64), bool)
    expected[:20, :32] = True
    np.testing.assert_array_equal(block.is_cloudy, expected)
    np.testing.assert_array_equal(block.is_valid, ~expected)


def test_a_band_of_the_scene_itself_may_hold_the_classes(tmp_path: Path, write_raster: Any) -> None:
    stored = np.stack([*WORDS, np.where(HOLE, 3, 4)]).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=stored)
    scene = open_scene(uri=str(path), bands=[1, 2, 3], classes={"band": 4})
    np.testing.assert_array_equal(read(scene, limits=LIMITS).is_cloudy, HOLE)


# Formats.


def test_jpeg_2000_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    # What a lossless JPEG 2000 holds is what was written.
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        count=3,
        dtype="uint16",
        width=64,
        height=64,
        crs="EPSG:32614",
        transform=NORTH_UP,
        QUALITY="100",
        REVERSIBLE="YES",
    ) as dataset:
        dataset.write(WORDS)
    values, is_valid = read_values(open_scene(uri=str(path)))
    assert is_valid.all()
    np.testing.assert_array_equal(values, WORDS)


def test_a_vrt_of_masked_files_is_masked(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=WORDS, mask=~HOLE)
    scene = open_scene(uri=str(path))
    text = describe_vrt(scene.parts[0].colours)
    (tmp_path / "b.vrt").write_text(text)
    copy = open_scene(uri=str(tmp_path / "b.vrt"))
    assert copy.assets[0].has_mask
    np.testing.assert_array_equal(read(copy, limits=LIMITS).is_valid, ~HOLE)


def test_a_file_without_crs_lies_where_the_user_says(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", crs=None, transform=NORTH_UP, bands=WORDS)
    with pytest.raises(InputError, match=r"a\.tif has no CRS;.*--assume-crs"):
        open_scene(uri=str(path))
    scene = open_scene(uri=str(path), assume_crs="EPSG:32614")
    values, is_valid = read_values(scene)
    assert is_valid.all()
    np.testing.assert_array_equal(values, WORDS)
    with pytest.raises(InputError, match=r"before\.assume_crs 'EPSG:0' is not understood"):
        open_scene(uri=str(path), assume_crs="EPSG:0")
    placed = write_raster(tmp_path / "b.tif", transform=NORTH_UP, bands=WORDS)
    assert open_scene(uri=str(placed), assume_crs="EPSG:4326").assets[0].crs == "EPSG:32614"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rpcs_alone_place_no_raster(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(tmp_path / "a.tif", transform=Affine.identity(), bands=WORDS)
    numbers = " ".join(["1"] + ["0"] * 19)
    plain = ("LINE_OFF", "SAMP_OFF", "LAT_OFF", "LONG_OFF", "HEIGHT_OFF")
    scales = ("LINE_SCALE", "SAMP_SCALE", "LAT_SCALE", "LONG_SCALE", "HEIGHT_SCALE")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(
            ns="RPC",
            **dict.fromkeys(plain, "0"),
            **dict.fromkeys(scales, "1"),
            **{f"{a}_{b}_COEFF": numbers for a in ("LINE", "SAMP") for b in ("NUM", "DEN")},
        )
    with pytest.raises(InputError, match=r"a\.tif is placed by RPCs alone;.*gdalwarp -rpc"):
        open_scene(uri=str(path))


def test_an_unbelievable_size_and_giant_blocks_are_refused(
    tmp_path: Path, write_raster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vrt"
    band = '<VRTRasterBand dataType="Byte" band="1"/>'
    path.write_text(f'<VRTDataset rasterXSize="2000000000" rasterYSize="2000000000">{band}</VRTDataset>')
    with pytest.raises(InputError, match=r"2000000000 x 2000000000 pixels;.*1e\+12"):
        open_scene(uri=str(path))
    strip = write_raster(tmp_path / "b.tif", transform=NORTH_UP, bands=WORDS, tiled=True, blockxsize=64, blockysize=64)
    monkeypatch.setattr(memory, "MAX_BLOCK_BYTES", 64 * 64 * 2 - 1)
    with pytest.raises(InputError, match=r"b\.tif is stored in blocks.*of at most.*COG"):
        open_scene(uri=str(strip))
