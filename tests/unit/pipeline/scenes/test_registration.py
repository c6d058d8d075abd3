"""Shifts that are known, on made and real ground, changed, clouded and cut: measured, put right, measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from affine import Affine
from scipy import ndimage

from model.synthesis.pairs import synthesize_pair
from pipeline.config.grid import RegistrationConfig
from pipeline.config.run import load_config
from pipeline.grid.grid import Grid
from pipeline.scenes.pair import ScenePair, find_pair
from pipeline.scenes.registration import (
    BlockShift,
    Registration,
    agree_on_shift,
    choose_blocks,
    derive_content_key,
    estimate_shift,
    measure_registration,
)

FINE = 4
"""Scenes are made so many times finer than they are looked at, so that shifts of a quarter pixel are whole ones."""


@pytest.fixture(scope="module")
def ground() -> tuple[Any, Any]:
    """Two dates of made ground in fine pixels (3, y, x): a quarter of it grew new houses under another sun.

    All of it under another sun would not do: shadows that fall elsewhere are a shift of half the edges there are.
    """
    pair = synthesize_pair(7, height_px=1536, width_px=1536, resolution_m=0.5, change_level=0.8)
    before, after = np.moveaxis(pair.before, 2, 0), np.moveaxis(pair.after, 2, 0)
    grown = before.copy()
    grown[:, :700, 500:1400] = after[:, :700, 500:1400]
    return before, grown


def look(scene: Any, *, rows_px: float = 0.0, cols_px: float = 0.0, size_px: int = 352) -> Any:
    """Look at fine ground through pixels `FINE` times larger, from so far up and left that things lie further on."""
    margin = 15 * FINE
    top, left = margin - round(rows_px * FINE), margin - round(cols_px * FINE)
    part = scene[:, top : top + size_px * FINE, left : left + size_px * FINE].astype(float)
    return np.rint(part.reshape(3, size_px, FINE, size_px, FINE).mean(axis=(2, 4))).astype(np.uint8)


def hide_nothing(pixels: Any) -> Any:
    return np.ones(pixels.shape[1:], bool)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.0, -3.0), (0.25, 0.5), (-2.75, 1.25), (6.0, 5.5)])
def test_shifts_are_found_though_the_town_grew(ground: Any, shift: tuple[float, float]) -> None:
    before, after = look(ground[0]), look(ground[1], rows_px=shift[0], cols_px=shift[1])

    found = estimate_shift(before, after, is_valid=hide_nothing(before), max_shift_px=32)

    assert found == pytest.approx(shift, abs=0.15)


@pytest.mark.parametrize("shift", [(0.25, -0.5), (-3.75, 12.0)])
def test_nothing_but_a_shift_is_found_exactly(ground: Any, shift: tuple[float, float]) -> None:
    before, after = look(ground[0]), look(ground[0], rows_px=shift[0], cols_px=shift[1])

    found = estimate_shift(before, after, is_valid=hide_nothing(before), max_shift_px=32)

    assert found == pytest.approx(shift, abs=0.06)


def test_shifts_are_found_in_another_season_and_under_clouds(ground: Any) -> None:
    shift = (1.25, -0.75)
    before, after = look(ground[0]), look(ground[0], rows_px=shift[0], cols_px=shift[1])
    # Fields turn from green to brown, patch by patch, some lighter and some darker than they were; haze over all.
    rng = np.random.default_rng(2)
    patches = ndimage.zoom(rng.uniform(0.4, 1.2, (3, 6, 6)), (1, 352 / 6, 352 / 6), order=1)
    season = np.clip(after * patches + 40 + rng.normal(0, 3, after.shape), 0, 255).astype(np.uint8)
    clouds = ndimage.gaussian_filter(rng.normal(0, 1, (352, 352)), 25)
    is_valid = clouds < np.quantile(clouds, 0.7)
    season[:, ~is_valid] = 0
    before_too = np.where(is_valid, before, 0).astype(np.uint8)

    found = estimate_shift(before_too, season, is_valid=is_valid, max_shift_px=32)

    assert found == pytest.approx(shift, abs=0.2)


@pytest.mark.parametrize("smoothness_px", [0, 2, 6])
def test_noise_tells_nothing(smoothness_px: int) -> None:
    rng = np.random.default_rng(smoothness_px)
    grid = make_grid(size_px=768)
    dates = {}
    for date in ("before", "after"):
        noise = rng.normal(0, 1, (3, 768, 768))
        noise = ndimage.gaussian_filter(noise, (0, smoothness_px, smoothness_px)) if smoothness_px else noise
        dates[date] = np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)

    registration = measure(dates, grid=grid)

    assert registration.n_blocks == 9
    assert registration.row_px is None
    assert registration.distance_px is None
    assert registration.describe() is None
    assert registration.correction_px == (0.0, 0.0)


def test_featureless_and_hidden_blocks_tell_nothing(ground: Any) -> None:
    plain = np.full((3, 256, 256), 77, np.uint8)
    pixels = look(ground[0], size_px=256)
    hidden = hide_nothing(pixels)
    hidden[: 256 * 2 // 3] = False

    assert estimate_shift(plain, plain, is_valid=hide_nothing(plain), max_shift_px=32) is None
    assert estimate_shift(pixels, plain, is_valid=hide_nothing(plain), max_shift_px=32) is None
    assert estimate_shift(pixels, pixels, is_valid=hidden, max_shift_px=32) is None
    # There is a shift, but beyond what was asked for.
    moved = look(ground[0], rows_px=7.0, size_px=256)
    assert estimate_shift(pixels, moved, is_valid=hide_nothing(pixels), max_shift_px=5) is None


def make_grid(*, size_px: int, **options: Any) -> Grid:
    values = {"width_px": size_px, "height_px": size_px, "n_rows": 1, "n_cols": 1, **options}
    return Grid(
        crs="EPSG:32614", resolution_m=0.5, origin_x=600_000.0, origin_y=3_300_000.0, tile_size_px=2048, **values
    )


def measure(dates: dict[str, Any], *, grid: Grid) -> Registration:
    def read(date: str, on: Grid, window: tuple[int, int, int, int]) -> tuple[Any, Any]:
        assert on == grid
        row, col, height, width = window
        pixels = dates[date][:, row : row + height, col : col + width]
        assert pixels.shape[1:] == (height, width)
        return pixels, hide_nothing(pixels)

    return measure_registration(read, grid=grid, coarseness=1.0, config=RegistrationConfig())


@pytest.mark.parametrize(
    ("height_px", "width_px", "n_blocks", "size_px"),
    [(4000, 4000, 16, 512), (600, 6000, 16, 300), (1024, 1024, 9, 512), (200, 150, 1, 150), (90, 4000, 0, 0)],
)
def test_blocks_cover_what_both_scenes_show(height_px: int, width_px: int, n_blocks: int, size_px: int) -> None:
    grid = make_grid(size_px=0, height_px=height_px, width_px=width_px)
    windows = choose_blocks(grid)
    assert len(windows) == n_blocks
    assert {window[2:] for window in windows} <= {(size_px, size_px)}
    assert all(w[0] >= 0 and w[0] + w[2] <= height_px and w[1] >= 0 and w[1] + w[3] <= width_px for w in windows)
    if n_blocks > 1:
        assert min(window[1] for window in windows) == 0
        assert max(window[1] for window in windows) == width_px - size_px


def place(*shifts: tuple[float, float]) -> list[BlockShift]:
    return [BlockShift(top_px=0, left_px=0, row_px=row, col_px=col) for row, col in shifts]


@pytest.mark.parametrize(
    ("shifts", "n_blocks", "expected"),
    [
        # A few that went astray do not count.
        ([(1.0, 2.0), (1.1, 2.0), (0.9, 2.1), (-20.0, 7.0)], 4, (1.0, 2.0)),
        # Houses that lean this way and that way: no single shift.
        ([(0.0, 3.0), (2.0, -4.0), (-3.0, 0.0), (5.0, 5.0), (0.0, -8.0)], 5, None),
        # Two blocks of sixteen are no witness; one of one has to do.
        ([(1.0, 2.0), (1.0, 2.0)], 16, None),
        ([(1.0, 2.0)], 1, (1.0, 2.0)),
        ([], 16, None),
        ([], 0, None),
    ],
)
def test_blocks_have_to_agree(shifts: list[tuple[float, float]], n_blocks: int, expected: Any) -> None:
    shift, _, _ = agree_on_shift(place(*shifts), n_blocks=n_blocks)
    assert shift == (expected if expected is None else pytest.approx(expected, abs=0.06))


def test_what_was_measured_survives_json_and_is_told() -> None:
    registration = Registration(
        row_px=3.0,
        col_px=-4.0,
        spread_px=0.1,
        agreeing_fraction=1.0,
        n_blocks=4,
        resolution_m=0.5,
        coarseness=1,
        block_size_px=512,
        is_corrected=True,
        blocks=tuple(place((3.0, -4.0))),
    )
    values = registration.to_dict()
    assert (values["n_blocks_used"], values["distance_m"]) == (1, 2.5)
    assert Registration.from_dict(values) == registration
    assert registration.describe() == (
        "the later date lies 3.0 px below and 4.0 px left of the earlier one (2.5 m); this was corrected"
    )
    assert derive_content_key("key", registration=registration) != "key"
    assert derive_content_key("key", registration=None) == "key"


@pytest.fixture(scope="module")
def shifted_scenes(tmp_path_factory: pytest.TempPathFactory, ground: Any, write_raster: Any) -> dict[str, str]:
    """A pair of files whose later one lies 2.25 pixels too far down and 1.5 too far left, by its own word."""
    folder = tmp_path_factory.mktemp("shifted")
    place_of = Affine(1.0, 0.0, 600_000.0, 0.0, -1.0, 3_300_000.0)
    paths = {}
    for date, scene, shift in (("before", ground[0], (0.0, 0.0)), ("after", ground[1], (2.25, -1.5))):
        bands = look(scene, rows_px=shift[0], cols_px=shift[1])
        paths[date] = str(write_raster(folder / f"{date}.tif", bands=bands, transform=place_of))
    return paths


def find(scenes: dict[str, str], *assignments: str) -> tuple[ScenePair, list[str]]:
    values = {**scenes, "output": "never-written"}
    pair, summary = find_pair(load_config(values=values, assignments=["grid.resolution_m=1", *assignments]))
    return pair, list(summary.notes)


def test_a_shift_is_told_put_right_and_gone(shifted_scenes: dict[str, str]) -> None:
    found, notes = find(shifted_scenes)
    corrected, corrected_notes = find(shifted_scenes, "registration.correct=true")
    unmeasured, no_notes = find(shifted_scenes, "registration.estimate=false")

    assert found.registration is not None
    assert corrected.registration is not None
    assert (found.registration.row_px, found.registration.col_px) == pytest.approx((2.25, -1.5), abs=0.15)
    assert found.registration.agreeing_fraction == 1.0
    assert any("below" in note and "left of the earlier one" in note for note in notes)
    assert any("this was corrected" in note for note in corrected_notes)
    assert (unmeasured.registration, no_notes) == (None, [])
    # The pixels are others, so their key is; measuring alone changes nothing.
    assert found.content_key == unmeasured.content_key != corrected.content_key

    def read(date: str, on: Grid, window: tuple[int, int, int, int]) -> tuple[Any, Any]:
        block = corrected.read_block(date, window=window)
        return block.pixels, block.is_valid

    again = measure_registration(read, grid=corrected.grid, coarseness=1.0, config=RegistrationConfig())
    assert again.distance_px == pytest.approx(0, abs=0.15)


def test_scenes_coarser_than_the_grid_are_measured_in_their_own_pixels(shifted_scenes: dict[str, str]) -> None:
    pair, _ = find(shifted_scenes, "grid.resolution_m=0.25")
    registration = pair.registration
    assert registration is not None
    assert registration.coarseness == 4
    assert (registration.row_px, registration.col_px) == pytest.approx((9.0, -6.0), abs=0.6)
    assert registration.to_dict()["distance_m"] == pytest.approx(np.hypot(2.25, 1.5), abs=0.1)


@pytest.mark.parametrize("city", ["bercy", "rennes"])
def test_oscds_pairs_as_another_estimator_finds_them(shared_data: Path, city: str) -> None:
    folder = shared_data / "data" / "fixtures" / "oscd" / "images" / city
    scenes: dict[str, Any] = {}
    for date, part in (("before", "imgs_1"), ("after", "imgs_2")):
        bands = zip(("blue", "green", "red"), ("B02", "B03", "B04"), strict=True)
        scenes[date] = {
            "band_files": {colour: str(next((folder / part).glob(f"*_{band}.tif"))) for colour, band in bands}
        }
    pair, _ = find_pair(load_config(values={**scenes, "output": "x"}, assignments=["grid.resolution_m=10"]))
    registration = pair.registration

    assert registration is not None
    assert registration.row_px is not None
    assert registration.col_px is not None
    window = (40, 40, 256, 256)
    before, after = (pair.read_block(date, window=window).pixels.mean(axis=0) for date in ("before", "after"))
    # OpenCV maximises the correlation of the grey levels themselves, without any Fourier transform.
    grey = [cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0) for image in (before, after)]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-6)
    start = np.eye(2, 3, dtype=np.float32)
    _, matrix = cv2.findTransformECC(grey[0], grey[1], start, cv2.MOTION_TRANSLATION, criteria)
    assert (registration.row_px, registration.col_px) == pytest.approx((matrix[1, 2], matrix[0, 2]), abs=0.25)
    assert registration.agreeing_fraction == 1.0
    assert registration.describe() is None
