"""A made series changes from west to east, a strip per date."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from model.errors import InputError
from pipeline.training_data.scenes import place_border, write_synthetic_pair, write_synthetic_series

DATES = [dt.date(2024, 6, 15), dt.date(2025, 6, 18), dt.date(2026, 6, 20)]


@pytest.mark.parametrize(
    ("n_dates", "width_px", "expected"),
    [(2, 512, [0, 512]), (3, 1024, [0, 512, 1024]), (3, 300, [0, 256, 300]), (5, 2048, [0, 512, 1024, 1536, 2048])],
)
def test_borders_lie_between_tiles(n_dates: int, width_px: int, expected: list[int]) -> None:
    assert [place_border(index, n_dates, width_px=width_px) for index in range(n_dates)] == expected


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read())


def test_scenes_between_are_put_together_of_a_pair(tmp_path: Path) -> None:
    series = write_synthetic_series(tmp_path / "series", dates=DATES, seed=3, size_px=512)
    pair = write_synthetic_pair(tmp_path / "pair", seed=3, size_px=512)

    first, middle, last = map(read, series.scenes)
    assert [path.name for path in series.scenes] == [f"scene_{date:%Y%m%d}.tif" for date in DATES]
    np.testing.assert_array_equal(first, read(pair.before))
    np.testing.assert_array_equal(last, read(pair.after))
    np.testing.assert_array_equal(middle[..., :256], last[..., :256])
    np.testing.assert_array_equal(middle[..., 256:], first[..., 256:])
    with rasterio.open(series.scenes[1]) as file:
        assert file.tags()["ACQUISITION_DATETIME"] == "2025-06-18T15:30:00Z"
    (feature,) = json.loads(series.area.read_text())["features"]
    west = min(x for x, _ in feature["geometry"]["coordinates"][0])
    assert west == pytest.approx(-97.74, abs=0.01)


@pytest.mark.parametrize("dates", [[], DATES[:1], DATES[::-1], [DATES[0], DATES[0]]])
def test_dates_that_make_no_series_are_refused(dates: list[dt.date], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="each later than the one before"):
        write_synthetic_series(tmp_path, dates=dates, seed=3, size_px=512)
    assert list(tmp_path.iterdir()) == []
