"""Composites of dates with clouds where we put them: which pixel is of which date, and which files are opened."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from scipy import ndimage

from model.errors import InputError
from pipeline.config.run import load_config
from pipeline.config.scene import SceneConfig
from pipeline.grid.grid import Grid
from pipeline.scenes import composite_blocks, mosaic
from pipeline.scenes.compose import find_scene, read_scene_sample
from pipeline.scenes.composite import CompositeScene, restore_scene
from pipeline.scenes.composite_blocks import find_hidden, grow, read_composite
from pipeline.scenes.kept_open import KEPT_OPEN
from pipeline.scenes.mosaic import Block
from pipeline.scenes.warp_source import WarpSource

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
CLEAR, CLOUD, SHADOW = 4, 9, 3
MEDIAN = {"rule": "median", "datetimes": ["2026-01-01"]}
WEST, EAST = (slice(None), slice(0, 40)), (slice(None), slice(30, 64))


def write_dates(folder: Path, write_raster: Any, *clouds: Any, levels: tuple[int, ...] = (10, 20, 30)) -> SceneConfig:
    """Write dates, the newest first, each of one grey level, with clouds in some slices of each."""
    uris, classes, moments = [], [], []
    for n, (level, hidden) in enumerate(zip(levels, clouds, strict=True)):
        scl = np.full((1, 64, 64), CLEAR, np.uint8)
        for value, (ys, xs) in hidden:
            scl[0, ys, xs] = value
        bands = np.full((3, 64, 64), level, np.uint8)
        uris.append(str(write_raster(folder / f"date{n}.tif", transform=NORTH_UP, bands=bands)))
        classes.append(str(write_raster(folder / f"scl{n}.tif", transform=NORTH_UP, bands=scl)))
        moments.append(dt.datetime(2026, 6, 20 - n, tzinfo=dt.UTC))
    settings = {"rule": "first_clear", "cloud_buffer_m": 0, "datetimes": moments}
    return SceneConfig.model_validate({"uri": uris, "classes": {"uri": classes}, "composite": settings})


def change(config: SceneConfig, **settings: Any) -> SceneConfig:
    assert config.composite is not None
    return config.model_copy(update={"composite": config.composite.model_copy(update=settings)})


def compose(config: SceneConfig) -> CompositeScene:
    scene = find_scene(config, date="before")
    assert isinstance(scene, CompositeScene)
    return scene


def read(scene: CompositeScene, *, window: Any = WHOLE) -> Block:
    return read_composite(scene, grid=GRID, window=mosaic.Window(*window), resampling="nearest")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that are opened for their pixels."""
    names: list[str] = []
    hold = WarpSource.hold

    @contextmanager
    def count(self: WarpSource) -> Iterator[Any]:
        names.extend(Path(uri).stem for uri in self.rasters)
        with hold(self) as dataset:
            yield dataset

    KEPT_OPEN.close()
    monkeypatch.setattr(WarpSource, "hold", count)
    yield names
    KEPT_OPEN.close()


def test_each_pixel_is_of_the_first_date_that_shows_it(tmp_path: Path, write_raster: Any) -> None:
    config = write_dates(tmp_path, write_raster, [(CLOUD, WEST)], [(SHADOW, EAST)], [(CLOUD, (slice(60, 64), WEST[1]))])
    block = read(compose(config))
    expected = np.full((64, 64), 10)
    expected[:, :40] = 20
    # Cloudy on the first date, in shadow on the second; the third shows it but for four rows.
    expected[:60, 30:40], expected[60:, 30:40] = 30, 0
    np.testing.assert_array_equal(block.pixels, np.broadcast_to(expected, (3, 64, 64)))
    np.testing.assert_array_equal(block.is_valid, expected > 0)
    np.testing.assert_array_equal(block.is_cloudy, expected == 0)
    np.testing.assert_array_equal(block.made_of, np.select([expected == 10, expected == 20, expected == 30], [1, 2, 4]))


def test_the_median_is_of_what_each_date_shows(
    tmp_path: Path, write_raster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "MEDIAN_BYTES", 1)
    monkeypatch.setattr(mosaic, "STRIP_ROWS", 24)
    config = write_dates(tmp_path, write_raster, [(CLOUD, WEST)], [(SHADOW, EAST)], [], levels=(10, 20, 60))
    block = read(compose(change(config, rule="median")))
    expected = np.full((64, 64), 60)
    expected[:, :30], expected[:, 40:] = 40, 35
    np.testing.assert_array_equal(block.pixels[0], expected)
    assert block.made_of is not None
    assert [set(np.unique(part).tolist()) for part in (block.made_of[:, :30], block.made_of[:, 40:])] == [{6}, {5}]


def test_dates_that_add_nothing_are_not_opened(tmp_path: Path, write_raster: Any, opened: list[str]) -> None:
    config = write_dates(tmp_path, write_raster, [], [], [])
    scene = compose(config)
    assert opened == []
    read(scene)
    assert opened == ["scl0", "date0"]

    opened.clear()
    (tmp_path / "cloudy").mkdir()
    hidden = [[(CLOUD, WEST)], [(CLOUD, WEST)], [(CLOUD, EAST)]]
    scene = compose(write_dates(tmp_path / "cloudy", write_raster, *hidden))
    read(scene)
    # Of the second date the classes say that it shows nothing new.
    assert opened == ["scl0", "date0", "scl1", "scl2", "date2"]
    opened.clear()
    read(scene, window=(0, 48, 16, 16))
    assert set(opened) <= {"scl0", "date0"}


@pytest.mark.parametrize("rule", ["first_clear", "median"])
def test_any_window_gives_the_same_pixels_with_a_buffer(tmp_path: Path, write_raster: Any, rule: str) -> None:
    spots = [(CLOUD, (slice(20, 24), slice(31, 33)))], [(CLOUD, (slice(50, 51), slice(5, 60)))], []
    scene = compose(change(write_dates(tmp_path, write_raster, *spots), cloud_buffer_m=7.5, rule=rule))
    whole = read(scene)
    for window in ((0, 0, 32, 32), (0, 32, 32, 32), (32, 0, 32, 64), (13, 25, 7, 3)):
        part, (row, col, height, width) = read(scene, window=window), window
        for name in ("pixels", "is_valid", "is_cloudy", "made_of"):
            expected = getattr(whole, name)[..., row : row + height, col : col + width]
            np.testing.assert_array_equal(getattr(part, name), expected)


def test_clouds_beyond_the_grid_hide_what_is_near(tmp_path: Path, write_raster: Any) -> None:
    scl = np.full((1, 80, 80), CLEAR, np.uint8)
    scl[0, :, :6] = CLOUD
    around = NORTH_UP @ Affine.translation(-8, -8)
    classes = write_raster(tmp_path / "scl.tif", transform=around, bands=scl)
    bands = np.full((3, 80, 80), 10, np.uint8)
    uri = str(write_raster(tmp_path / "date.tif", transform=around, bands=bands))
    settings = {"rule": "first_clear", "cloud_buffer_m": 5, "datetimes": ["2026-06-20"]}
    config = SceneConfig.model_validate({"uri": uri, "classes": {"uri": str(classes)}, "composite": settings})
    block = read(compose(config))
    # Two columns of clear ground lie between the cloud and the grid.
    np.testing.assert_array_equal(block.is_cloudy.all(axis=0), np.arange(64) < 3)


def test_a_buffer_is_a_disk() -> None:
    mask = np.random.default_rng(2).random((90, 120)) > 0.999
    for radius_px in (0, 1, 4, 11, 100):
        expected = ndimage.distance_transform_edt(~mask) <= radius_px
        np.testing.assert_array_equal(grow(mask, radius_px), expected)
    assert not grow(np.zeros((5, 5), bool), 3).any()


def test_metres_of_a_buffer_are_those_of_the_ground(tmp_path: Path, write_raster: Any) -> None:
    scene = compose(write_dates(tmp_path, write_raster, [(CLOUD, (slice(32, 33), slice(32, 33)))], [], []))
    is_hidden, is_told = find_hidden(scene.dates[0], grid=GRID, window=mosaic.Window(*WHOLE), buffer_m=9)
    assert is_told.all()
    assert is_hidden[32].sum() == is_hidden[:, 32].sum() == 19


def test_dates_that_cannot_be_read_are_done_without(
    tmp_path: Path, write_raster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_dates(tmp_path, write_raster, [], [(CLOUD, WEST)], [])
    (tmp_path / "date0.tif").unlink()
    scene = compose(config)
    assert len(scene.dates) == 2
    assert scene.notes[0] == "is made of 2 of 3 dates: 1 could not be read"
    assert str(tmp_path / "date0.tif") in scene.notes[1]

    # Gone since it was looked at.
    (tmp_path / "date1.tif").write_bytes(b"no raster any more")
    KEPT_OPEN.close()
    block = read(scene)
    assert set(np.unique(block.pixels)) == {30}
    assert len(block.unread) == 1
    assert block.unread[0].startswith(scene.dates[0].scene_id)
    assert str(tmp_path / "date1.tif") in block.unread[0]
    # A server that is silent may answer later.
    monkeypatch.setattr(composite_blocks, "get_limits", lambda: type("Limits", (), {"server_silence_s": 0.0}))
    with pytest.raises(InputError, match=r"date1\.tif"):
        read(scene)


def test_of_dates_that_all_fail_the_error_is_told(tmp_path: Path, write_raster: Any) -> None:
    config = write_dates(tmp_path, write_raster, [], [], [])
    scene = compose(config)
    for n in range(3):
        (tmp_path / f"date{n}.tif").write_bytes(b"no raster any more")
    KEPT_OPEN.close()
    with pytest.raises(InputError, match=r"date0\.tif"):
        read(scene)
    with pytest.raises(InputError, match=r"^before: .*date0\.tif"):
        compose(config)


def test_a_record_keeps_all_that_a_composite_is(tmp_path: Path, write_raster: Any) -> None:
    scene = compose(write_dates(tmp_path, write_raster, [(CLOUD, WEST)], [], []))
    restored = restore_scene(scene.to_dict())
    assert isinstance(restored, CompositeScene)
    assert restored.describe_content() == scene.describe_content()
    assert (restored.moments, restored.rule, restored.to_dict()) == (scene.moments, scene.rule, scene.to_dict())
    assert scene.scene_id == "first_clear of 3 dates, 2026-06-18 to 2026-06-20"
    assert scene.datetime == "2026-06-19T00:00:00Z"


def test_content_is_another_with_another_rule_buffer_or_date(tmp_path: Path, write_raster: Any) -> None:
    config = write_dates(tmp_path, write_raster, [], [], [])
    assert config.composite is not None
    moments = config.composite.datetimes
    configs = [
        config,
        change(config, rule="median"),
        change(config, cloud_buffer_m=1),
        change(config, datetimes=(*moments[:2], moments[2] - dt.timedelta(days=1))),
        change(config, datetimes=(moments[1], moments[0], moments[2])),
    ]
    contents = [str(compose(each).describe_content()) for each in configs]
    assert len(set(contents)) == len(contents)
    assert str(compose(config).describe_content()) == contents[0]


def test_a_sample_is_of_as_many_dates_as_it_takes(tmp_path: Path, write_raster: Any, opened: list[str]) -> None:
    scene = compose(write_dates(tmp_path, write_raster, [(CLOUD, WEST)], [], []))
    samples = read_scene_sample(scene, grid=GRID)
    assert set(np.unique(samples[0])) == {10, 20}
    assert "date2" not in opened


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"rule": "median", "datetimes": ["2026-01-01"]}, None, "differ"),
        (
            {"rule": "median", "datetimes": ["2026-01-01"]},
            {"rule": "first_clear", "datetimes": ["2026-01-02"]},
            "differ",
        ),
        ({"rule": "median"}, {"rule": "median", "datetimes": ["2026-01-02"]}, "0 moments"),
    ],
)
def test_rules_that_do_not_go_together(before: Any, after: Any, words: str) -> None:
    scenes = {"before": {"uri": "a.tif", "composite": before}, "after": {"uri": "b.tif", "composite": after}}
    with pytest.raises(InputError, match=words):
        load_config(values={**scenes, "output": "out"})


def test_settings_of_a_scene_without_are_what_they_were() -> None:
    assert "composite" not in SceneConfig(uri="a.tif").model_dump(mode="json")
