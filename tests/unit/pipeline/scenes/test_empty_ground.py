"""Ground of which a file holds nothing is found without a warp, and what lies beside it is not lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterWindow

import pipeline.scenes.warp as warp
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import Grid, build_grid
from pipeline.grid.window import Window
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.reader import read_scene
from pipeline.scenes.scene import Scene

SIZE_PX, BLOCK_PX = 1024, 128
KINDS = ("sparse", "nodata", "alpha", "mask", "float")


def write_scene(path: Path, *, kind: str, spot: tuple[int, int]) -> None:
    """Write a scene that shows one square of 40 pixels and nothing else."""
    row, col = spot
    n_bands = 4 if kind == "alpha" else 3
    dtype = "float32" if kind == "float" else "uint8"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=SIZE_PX,
            height=SIZE_PX,
            count=n_bands,
            dtype=dtype,
            nodata=None if kind in {"alpha", "mask"} else np.nan if kind == "float" else 0,
            crs="EPSG:32614",
            transform=Affine(0.5, 0, 621_000.0, 0, -0.5, 3_362_000.0),
            tiled=True,
            blockxsize=BLOCK_PX,
            blockysize=BLOCK_PX,
            sparse_ok=kind in {"sparse", "alpha"},
        ) as file,
    ):
        if kind == "alpha":
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        if kind in {"nodata", "float", "mask"}:
            file.write(np.full((3, SIZE_PX, SIZE_PX), np.nan if kind == "float" else 0, dtype=dtype))
        square = np.full((n_bands, 40, 40), 200, dtype=dtype)
        square[3:] = 255
        file.write(square, window=RasterWindow(col, row, 40, 40))
        if kind == "mask":
            mask = np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint8)
            mask[row : row + 40, col : col + 40] = 255
            file.write_mask(mask)


def open_scene(path: Path) -> tuple[Scene, Grid]:
    scene = read_scene(SceneConfig(uri=str(path)), date="before")
    return scene, build_grid(scene.footprint, scene.footprint, crs="EPSG:32614", resolution_m=0.5, tile_size_px=128)


@pytest.fixture
def warped(monkeypatch: pytest.MonkeyPatch) -> list[RasterWindow]:
    """Where the warp was asked for pixels."""
    windows: list[RasterWindow] = []
    read = warp.WarpedVRT.read

    def read_and_tell(self: Any, *arguments: Any, **options: Any) -> Any:
        windows.append(options["window"])
        return read(self, *arguments, **options)

    monkeypatch.setattr(warp.WarpedVRT, "read", read_and_tell)
    return windows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spot", [(300, 300), (236, 500), (984, 984), (0, 0)], ids=str)
def test_nothing_is_lost_and_nothing_warped_in_vain(
    tmp_path: Path, warped: list[RasterWindow], kind: str, spot: tuple[int, int]
) -> None:
    write_scene(tmp_path / f"{kind}.tif", kind=kind, spot=spot)
    scene, grid = open_scene(tmp_path / f"{kind}.tif")
    limits = ((0.0, 255.0),) * 3 if kind == "float" else None
    windows = [Window(row, col, 128, 128) for row in range(0, SIZE_PX, 128) for col in range(0, SIZE_PX, 128)]

    seen = np.zeros((SIZE_PX, SIZE_PX), dtype=np.bool_)
    for window in windows:
        block = read_block(scene, grid=grid, window=window, resampling="bilinear", limits=limits)
        top, left, height, width = window
        seen[top : top + height, left : left + width] = block.is_valid
        assert (block.pixels[:, block.is_valid] == 200).all()
        assert not block.pixels[:, ~block.is_valid].any()

    expected = np.zeros_like(seen)
    expected[spot[0] : spot[0] + 40, spot[1] : spot[1] + 40] = True
    np.testing.assert_array_equal(seen, expected)
    # The square touches at most four tiles; kernels reach into five more where it lies in a corner.
    assert 1 <= len(warped) <= 9


def test_blocks_that_a_file_lacks_show_something_where_their_value_is_not_nodata(tmp_path: Path) -> None:
    path = tmp_path / "black.tif"
    write_scene(path, kind="sparse", spot=(300, 300))
    with rasterio.open(path, "r+") as file:
        file.nodata = None
    scene = read_scene(SceneConfig(uri=str(path), nodata=255), date="before")
    grid = build_grid(scene.footprint, scene.footprint, crs="EPSG:32614", resolution_m=0.5, tile_size_px=128)

    block = read_block(scene, grid=grid, window=Window(768, 768, 128, 128), resampling="bilinear")

    # Without a nodata value of its own the file's missing blocks are 0: black, and seen.
    assert block.is_valid.all()
    assert not block.pixels.any()
