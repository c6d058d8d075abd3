"""Rasters that stay open between reads: lent to one at a time, closed when others come, on errors and when idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import build_grid
from pipeline.grid.window import Window
from pipeline.scenes.kept_open import OpenRasters
from pipeline.scenes.mosaic import read_block
from pipeline.scenes.reader import read_scene

PATIENCE_S = 20.0


class Shelf:
    """Opens rasters that are but numbers, and remembers which are open."""

    def __init__(self) -> None:
        self.n_opened = 0
        self.open: set[int] = set()

    def make(self) -> Callable[[], AbstractContextManager[int]]:
        @contextmanager
        def hold() -> Iterator[int]:
            self.n_opened += 1
            number = self.n_opened
            self.open.add(number)
            try:
                yield number
            finally:
                self.open.remove(number)

        return hold


def test_the_next_read_finds_it_open() -> None:
    shelf, rasters = Shelf(), OpenRasters[int](at_most=2, idle_s=60)
    for _ in range(3):
        with rasters.take("a", shelf.make()) as raster:
            assert raster == 1
    assert shelf.open == {1}
    rasters.close()
    assert shelf.open == set()


def test_two_at_once_have_one_each() -> None:
    shelf, rasters = Shelf(), OpenRasters[int](at_most=2, idle_s=60)
    with rasters.take("a", shelf.make()) as first, rasters.take("a", shelf.make()) as second:
        assert (first, second) == (1, 2)
    assert shelf.open == {1, 2}
    rasters.close()


def test_those_read_last_are_kept() -> None:
    shelf, rasters = Shelf(), OpenRasters[int](at_most=2, idle_s=60)
    for key in ("a", "b", "a", "c"):
        with rasters.take(key, shelf.make()):
            pass
    # b was longest not read.
    assert shelf.open == {1, 3}
    rasters.close()


def test_one_that_failed_is_not_lent_again() -> None:
    shelf, rasters = Shelf(), OpenRasters[int](at_most=2, idle_s=60)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(OSError, match="damaged"))
        with rasters.take("a", shelf.make()):
            raise OSError("damaged")
    assert shelf.open == set()
    with rasters.take("a", shelf.make()) as raster:
        assert raster == 2
    rasters.close()


def test_none_stays_open_for_nobody() -> None:
    shelf, rasters = Shelf(), OpenRasters[int](at_most=2, idle_s=0.05)
    with rasters.take("a", shelf.make()):
        pass
    end = time.monotonic() + PATIENCE_S
    while shelf.open and time.monotonic() < end:
        time.sleep(0.01)
    assert shelf.open == set()


def test_a_file_that_is_written_anew_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"

    def read(value: int) -> int:
        new = tmp_path / "new.tif"
        profile = {"count": 3, "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32614"}
        transform = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)
        with rasterio.open(new, "w", driver="GTiff", transform=transform, **profile) as file:
            file.write(np.full((3, 64, 64), value, dtype=np.uint8))
        new.rename(path)
        scene = read_scene(SceneConfig(uri=str(path)), date="before")
        grid = build_grid(scene.footprint, scene.footprint, crs="auto", resolution_m=1.0, tile_size_px=64)
        window = Window(0, 0, 64, 64)
        return int(read_block(scene, grid=grid, window=window, resampling="bilinear").pixels[0, 32, 32])

    assert [read(10), read(200)] == [10, 200]
