"""Dates of composites, tile by tile: counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from shapely.geometry import box

from pipeline.scenes.composite import CompositeScene, compose
from pipeline.scenes.scene import Scene
from pipeline.tiles.made_of import NOTHING, count_dates

DAYS = ("2026-06-20", "2026-06-01", "2026-06-10")
"""In the order in which they count, which is not that of time."""


def make_scene(*days: str) -> CompositeScene:
    dates = [Scene(scene_id=day, datetime=f"{day}T10:00:00Z", parts=(), footprint=box(0, 0, 1, 1)) for day in days]
    return compose(dates, rule="median", cloud_buffer_m=0)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([0b000] * 4, [NOTHING, NOTHING, NOTHING, 0]),
        ([0b001] * 4, [0, 0, 0, 1]),
        # Two of the latest, one of the earliest, one of nothing.
        ([0b001, 0b001, 0b010, 0b000], [1, 0, 0, 2]),
        # As many of either: the earlier.
        ([0b001, 0b001, 0b010, 0b010], [1, 1, 0, 2]),
        # Medians of several dates count with each.
        ([0b111, 0b111, 0b110, 0b110], [1, 2, 0, 3]),
    ],
)
def test_first_middle_and_last_date_of_a_tile(pixels: list[int], expected: list[int]) -> None:
    scene = make_scene(*DAYS)
    made_of = np.zeros((2, 4), dtype=scene.bit_type)
    made_of[:, 2:] = np.array(pixels).reshape(2, 2)
    assert count_dates(made_of, scene=scene, tile_size_px=2) == [[NOTHING, NOTHING, NOTHING, 0], expected]


@pytest.mark.parametrize(("n_dates", "expected"), [(1, "uint8"), (8, "uint8"), (9, "uint16"), (64, "uint64")])
def test_every_date_has_its_bit(n_dates: int, expected: str) -> None:
    scene = make_scene(*(f"2026-{1 + n // 28:02d}-{1 + n % 28:02d}" for n in range(n_dates)))
    assert scene.bit_type == expected
    last = scene.bit_type.type(1 << (n_dates - 1))
    assert count_dates(np.full((1, 1), last), scene=scene, tile_size_px=1) == [[n_dates - 1] * 3 + [1]]
