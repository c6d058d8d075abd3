"""The small view that every mark keeps of its shard, and the map that is made of them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine
from PIL import Image

from pipeline.config.run import load_config
from pipeline.grid.window import Window
from pipeline.polygons.aoi import find_shards_needed
from pipeline.report.page.pictures import PicturePair, read_pictures
from pipeline.scenes.pair import find_pair
from pipeline.storage.folder import RunFolder
from pipeline.tiles.marks import name_mark
from pipeline.tiles.shards import create_store, write_shard
from pipeline.tiles.store import TileStore
from pipeline.tiles.thumbnails import UNSEEN_COLOUR, make_thumbnail, read_thumbnail

TILE_PX = 64
N_ROWS, N_COLS = 3, 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, write_raster: Any, make_ramp: Any) -> TileStore:
    """A store of 3 x 5 tiles in shards of 2 x 2, whose first tile shows nothing after."""
    folder = tmp_path_factory.mktemp("thumbnails")
    transform = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 3_300_000.0)
    size = {"transform": transform, "size": (N_ROWS * TILE_PX, N_COLS * TILE_PX)}
    ramp = make_ramp(crs="EPSG:32614", x=500_000.0, y=3_300_000.0, slope=0.3)
    mask = np.full(size["size"], 255, dtype=np.uint8)
    mask[:TILE_PX, :TILE_PX] = 0
    scenes = {
        "before": str(write_raster(folder / "before.tif", ramp=ramp, **size)),
        "after": str(write_raster(folder / "after.tif", ramp=ramp, mask=mask, **size)),
    }
    settings = ("grid.resolution_m=1", f"grid.tile_size_px={TILE_PX}", "grid.crs=EPSG:32614")
    pair, _ = find_pair(load_config(values={**scenes, "output": "never-written"}, assignments=settings))
    run = RunFolder(str(folder / "run"))
    create_store(run, pair, shard_size_tiles=2)
    for shard in find_shards_needed(pair.grid, area=None, shard_size_tiles=2):
        write_shard(run, pair, 2, *shard)
    return TileStore(folder=run, grid=pair.grid, content_key=pair.content_key, shard_size_tiles=2)


class Refusing(TileStore):
    """A store whose pixels may not be read."""

    def read_pairs(self, tiles: Any) -> Any:
        raise AssertionError(f"{len(tiles)} tiles were read")


def refuse_pixels(store: TileStore) -> TileStore:
    return Refusing(
        folder=store.folder,
        grid=store.grid,
        content_key=store.content_key,
        shard_size_tiles=store.shard_size_tiles,
    )


def decode(uri: str) -> npt.NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), dtype=np.int16)


def draw(store: TileStore, *, max_size_px: int, is_visible: Any = None) -> PicturePair:
    grid = store.grid
    window = Window(top=0, left=0, height=grid.height_px, width=grid.width_px)
    everywhere = np.ones((grid.n_rows, grid.n_cols), dtype=bool)
    everywhere[0, 0] = False
    is_visible = everywhere if is_visible is None else is_visible
    return read_pictures(store, is_visible=is_visible, window=window, max_size_px=max_size_px)


def test_a_map_of_many_tiles_is_made_of_thumbnails_and_looks_the_same(store: TileStore) -> None:
    # 16 pixels to a tile come from thumbnails, 17 from the tiles themselves.
    small = draw(refuse_pixels(store), max_size_px=16 * N_COLS)
    with pytest.raises(AssertionError, match="tiles were read"):
        draw(refuse_pixels(store), max_size_px=17 * N_COLS)
    expected = draw(store, max_size_px=32 * N_COLS)

    for found, wanted in ((small.before_uri, expected.before_uri), (small.after_uri, expected.after_uri)):
        shrunk = decode(wanted).reshape(16 * N_ROWS, 2, 16 * N_COLS, 2, 3).mean(axis=(1, 3))
        difference = np.abs(decode(found) - shrunk)
        # Where the ramp begins anew, and at the border of what is not seen, a JPEG has its doubts.
        assert np.median(difference) <= 3
        assert np.percentile(difference, 90) <= 12
        assert np.abs(decode(found)[2:12, 2:12] - UNSEEN_COLOUR).max() <= 6


def test_only_visible_tiles_are_drawn_whatever_the_thumbnail_shows(store: TileStore) -> None:
    is_visible = np.zeros((N_ROWS, N_COLS), dtype=bool)
    is_visible[2, 4] = True

    picture = decode(draw(refuse_pixels(store), max_size_px=8 * N_COLS, is_visible=is_visible).before_uri)

    assert picture.shape == (8 * N_ROWS, 8 * N_COLS, 3)
    assert np.abs(picture[:14] - UNSEEN_COLOUR).max() <= 6
    assert np.abs(picture[18:, 34:] - UNSEEN_COLOUR).max() > 50


def test_a_shard_that_is_gone_is_blank(store: TileStore, tmp_path: Path) -> None:
    marks = store.folder.list_names("marks")
    gone = name_mark(store.content_key, (1, 2), shard_size_tiles=2)
    folder = RunFolder(str(tmp_path))
    for name in [*marks, *store.folder.list_names("tiles.zarr")]:
        if name != gone:
            folder.put(name, store.folder.read(name))
    copy = TileStore(folder=folder, grid=store.grid, content_key=store.content_key, shard_size_tiles=2)

    picture = decode(draw(refuse_pixels(copy), max_size_px=8 * N_COLS).before_uri)

    assert np.abs(picture[18:, 34:] - UNSEEN_COLOUR).max() <= 6


def test_a_thumbnail_comes_back_as_a_picture_of_both_dates() -> None:
    pixels = np.zeros((2, 3, 32, 64), dtype=np.uint8)
    pixels[0], pixels[1] = 60, 180
    is_valid = np.ones((2, 32, 64), dtype=bool)

    picture = read_thumbnail(make_thumbnail(pixels, is_valid, tile_size_px=32), n_rows=1, n_cols=2)

    assert picture.shape == (2, 16, 32, 3)
    assert np.abs(picture[0].astype(int) - 60).max() <= 2
    assert np.abs(picture[1].astype(int) - 180).max() <= 2


def test_a_shard_that_shows_nothing_on_both_dates_needs_no_thumbnail() -> None:
    pixels = np.full((2, 3, 16, 16), 99, dtype=np.uint8)
    is_valid = np.zeros((2, 16, 16), dtype=bool)
    is_valid[0] = True

    thumbnail = make_thumbnail(pixels, is_valid, tile_size_px=16)

    assert thumbnail == ""
    assert (read_thumbnail(thumbnail, n_rows=1, n_cols=1) == UNSEEN_COLOUR).all()
