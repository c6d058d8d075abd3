"""What a stretch is chosen by: all of a small scene, of a large one its overviews or scattered blocks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import Grid, build_grid
from pipeline.scenes.pair import ScenePair, find_pair, list_notes
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Scene
from pipeline.scenes.stretch_sample import MAX_SAMPLE_PX, choose_windows, read_sample

NORTH_UP = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)


def open_scene(path: Path | str, **settings: Any) -> Scene:
    return read_scene(SceneConfig.model_validate({"uri": str(path), **settings}), date="before")


def lay_grid(scene: Scene, *, resolution_m: float = 1.0) -> Grid:
    return build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=resolution_m, tile_size_px=256)


def write_large(path: Path, *, size: int = 12_000) -> Path:
    """Write stripes that rise from 1000 in the north to 13,000 in the south, and nothing between them."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        dtype="uint16",
        width=size,
        height=size,
        crs="EPSG:32614",
        transform=NORTH_UP,
        tiled=True,
        compress="zstd",
        sparse_ok=True,
    ) as dataset:
        column = (np.arange(size, dtype=np.uint16) + 1000)[:, None]
        for band in (1, 2, 3):
            for left in range(0, size, 1000):
                window = rasterio.windows.Window(left, 0, 256, size)
                dataset.write(np.broadcast_to(column, (size, 256)), band, window=window)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large") / "a.tif")


def test_a_small_scene_is_read_whole(tmp_path: Path, write_raster: Any) -> None:
    stored = np.random.default_rng(0).integers(1, 5000, (3, 90, 70)).astype(np.uint16)
    stored[:, :9] = 0
    scene = open_scene(write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=stored, nodata=0), scale=2, offset=-7)
    sample = read_sample(scene, grid=lay_grid(scene))
    for values, band in zip(sample, stored, strict=True):
        np.testing.assert_array_equal(np.sort(values), np.sort(band[9:].ravel() * 2.0 - 7))


def test_clouds_are_left_out(tmp_path: Path, write_raster: Any) -> None:
    stored = np.full((4, 64, 64), 500, np.uint16)
    stored[:3, :20], stored[3, :20] = 9000, 9
    path = write_raster(tmp_path / "a.tif", transform=NORTH_UP, bands=stored)
    scene = open_scene(path, bands=(1, 2, 3), classes={"band": 4})
    assert set(read_sample(scene, grid=lay_grid(scene))[0].tolist()) == {500.0}


def test_windows_lie_in_the_grid_and_are_few() -> None:
    for width, height in ((10, 10), (5000, 300), (40_000, 40_000), (500_000, 200), (100, 900_000)):
        grid = Grid(
            crs="EPSG:32614",
            resolution_m=1.0,
            origin_x=0.0,
            origin_y=0.0,
            tile_size_px=256,
            n_rows=-(-height // 256),
            n_cols=-(-width // 256),
            width_px=width,
            height_px=height,
        )
        windows = choose_windows(grid, n_blocks=64)
        assert all(0 <= row < row + h <= height and 0 <= col < col + w <= width for row, col, h, w in windows)
        assert sum(h * w for _, _, h, w in windows) <= 4 * MAX_SAMPLE_PX
        if height * width <= 4 * MAX_SAMPLE_PX:
            assert sum(h * w for _, _, h, w in windows) == height * width


def spoil_first_block(path: Path) -> None:
    """Make the upper left block unreadable: whoever reads all of the file trips over it."""
    with rasterio.open(path) as dataset:
        offset, size = (int(dataset.get_tag_item(f"BLOCK_{name}_0_0", "TIFF", bidx=1)) for name in ("OFFSET", "SIZE"))
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    with rasterio.open(path) as dataset, pytest.raises(rasterio.errors.RasterioIOError):
        dataset.read(1, window=rasterio.windows.Window(0, 0, 9, 9))


def test_scattered_blocks_stand_for_a_large_scene(tmp_path: Path, large: Path) -> None:
    path = Path(shutil.copy(large, tmp_path / "a.tif"))
    spoil_first_block(path)
    # Neither the look at its pixels nor the sample reads them all.
    scene = open_scene(path, nodata=0)
    grid = lay_grid(scene)
    sample = read_sample(scene, grid=grid)
    assert 1000 < len(sample[0]) <= MAX_SAMPLE_PX
    assert np.percentile(sample[0], [2, 50, 98]) == pytest.approx([1_240, 7_000, 12_760], abs=300)
    # The same every time.
    np.testing.assert_array_equal(sample, read_sample(scene, grid=grid))


def test_overviews_stand_for_a_large_scene(tmp_path: Path, large: Path) -> None:
    path = Path(shutil.copy(large, tmp_path / "a.tif"))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([4, 16], Resampling.nearest)
    spoil_first_block(path)
    scene = open_scene(path, nodata=0)
    sample = read_sample(scene, grid=lay_grid(scene))
    assert 1000 < len(sample[0]) <= MAX_SAMPLE_PX
    assert np.percentile(sample[0], [2, 50, 98]) == pytest.approx([1_240, 7_000, 12_760], abs=30)


# What is said of a pair.


def find(before: Path, after: Path, *assignments: str) -> ScenePair:
    values = {"before": str(before), "after": str(after), "output": "never-written"}
    return find_pair(load_config(values=values, assignments=assignments))[0]


def test_equal_values_become_equal_bytes_on_both_dates(tmp_path: Path, write_raster: Any) -> None:
    stored = np.random.default_rng(1).integers(100, 3000, (2, 3, 64, 64)).astype(np.uint16)
    stored[1, :, :20] = stored[0, :, :20]
    # The later scene was put out with another offset, as Sentinel-2's were from 2022 on.
    paths = [write_raster(tmp_path / f"{n}.tif", transform=NORTH_UP, bands=stored[n] + 1000 * n) for n in (0, 1)]
    pair = find(*paths, "grid.resolution_m=1", "after.offset=-1000")
    before, after = (pair.read_block(date, window=(0, 0, 64, 64)).pixels for date in ("before", "after"))
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    assert 200 < len(np.unique(before)) <= 256
    expected = np.percentile(stored.astype(np.float32)[:, 0], [2, 98])
    assert pair.stretch.before == pair.stretch.after
    assert pair.stretch.before is not None
    assert pair.stretch.before[0] == pytest.approx(tuple(expected), rel=1e-5)
    assert list_notes(pair) == [pair.stretch.describe()]


@pytest.mark.parametrize(
    ("resolution_m", "words"),
    [
        (1.0, []),
        (1.9, []),
        (0.6, []),
        (0.4, ["before has pixels of 1 m, the grid of 0.4 m: it shows less detail than its tiles seem to"]),
        (2.5, ["before has pixels of 1 m, the grid of 2.5 m: its detail is averaged away"]),
    ],
)
def test_other_resolutions_are_said(tmp_path: Path, write_raster: Any, resolution_m: float, words: list[str]) -> None:
    paths = [write_raster(tmp_path / f"scene{n * 'x'}.tif", transform=NORTH_UP) for n in (0, 1)]
    config = load_config(
        values={"before": str(paths[0]), "after": str(paths[1]), "output": "x"},
        assignments=[f"grid.resolution_m={resolution_m}"],
    )
    pair, summary = find_pair(config)
    notes = list_notes(pair)
    assert notes == [*words, *(text.replace("before", "after") for text in words)]
    assert dict(summary.notes) == dict.fromkeys(notes, 1)


def test_a_grid_far_too_coarse_is_refused(tmp_path: Path, write_raster: Any) -> None:
    paths = [write_raster(tmp_path / f"scene{n * 'x'}.tif", transform=NORTH_UP) for n in (0, 1)]
    with pytest.raises(InputError, match=r"grid\.resolution_m is 20.*about 1 m wide;.*16 times coarser.*gdaladdo"):
        find(*paths, "grid.resolution_m=20")


def test_bands_of_one_file_may_be_two_dates(tmp_path: Path, write_raster: Any) -> None:
    path = write_raster(
        tmp_path / "a.tif", transform=NORTH_UP, bands=np.arange(6 * 64 * 64).reshape(6, 64, 64).astype(np.uint8)
    )
    pair = find(path, path, "before.bands=[1, 2, 3]", "after.bands=[4, 5, 6]", "grid.resolution_m=1")
    assert pair.before.checksum == pair.after.checksum
