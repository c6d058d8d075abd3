"""Synthetic pairs: their truth is exact, their pixels are repeatable, and quiet parts stay unchanged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rasterio.features import rasterize

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.synthesis.geometry import rasterize_polygon
from model.synthesis.pairs import BLOCK_PX, SyntheticPair, synthesize_pair
from model.synthesis.truth import SyntheticObject


@pytest.fixture(scope="module")
def changed_pairs() -> list[SyntheticPair]:
    """The first pairs on which houses came, and the first one on which a house went."""
    came, went = [], []
    for seed in range(200):
        pair = synthesize_pair(seed, height_px=160, width_px=160, change_level=0.6)
        houses = [thing for thing in pair.objects if thing.kind == "building"]
        if any(thing.is_in_before and not thing.is_in_after for thing in houses):
            went.append(pair)
        elif sum(thing.is_in_after and not thing.is_in_before for thing in houses) >= 2:
            came.append(pair)
        if len(came) >= 3 and went:
            break
    return [*came[:3], went[0]]


def draw_truth(objects: list[SyntheticObject], shape: tuple[int, int]) -> np.ndarray:
    """Draws polygons with GDAL: a raster of 1 where any of the objects stands."""
    geometries = []
    for thing in objects:
        ring = [(x, y) for y, x in thing.polygon_px]
        geometries.append({"type": "Polygon", "coordinates": [[*ring, ring[0]]]})
    if not geometries:
        return np.zeros(shape, np.uint8)
    return rasterize(geometries, out_shape=shape, transform=(1, 0, 0, 0, 1, 0), dtype="uint8")


def test_equal_seeds_give_equal_pixels_and_truth() -> None:
    first, second = (synthesize_pair(4, height_px=128, width_px=128, change_level=0.6) for _ in range(2))
    np.testing.assert_array_equal(first.before, second.before)
    np.testing.assert_array_equal(first.after, second.after)
    np.testing.assert_array_equal(first.change_mask, second.change_mask)
    assert first.objects == second.objects


def test_pixels_do_not_depend_on_the_number_of_threads() -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        single = synthesize_pair(8, height_px=96, width_px=96)
        cv2.setNumThreads(4)
        several = synthesize_pair(8, height_px=96, width_px=96)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(single.before, several.before)
    np.testing.assert_array_equal(single.after, several.after)


def test_other_seeds_give_other_scenes() -> None:
    first, second = (
        synthesize_pair(5, height_px=64, width_px=64),
        synthesize_pair(6, height_px=64, width_px=64),
    )
    assert not np.array_equal(first.before, second.before)


@pytest.mark.parametrize(
    ("height_px", "width_px", "resolution_m"), [(64, 200, 1.0), (130, 64, 0.3), (64, BLOCK_PX + 70, 0.5)]
)
def test_arrays_have_the_size_asked_for(height_px: int, width_px: int, resolution_m: float) -> None:
    pair = synthesize_pair(2, height_px=height_px, width_px=width_px, resolution_m=resolution_m)
    assert pair.before.shape == pair.after.shape == (height_px, width_px, 3)
    assert pair.change_mask.shape == (height_px, width_px)
    assert {pair.before.dtype, pair.after.dtype, pair.change_mask.dtype} == {np.dtype("uint8")}
    assert (pair.seed, pair.resolution_m) == (2, resolution_m)


def test_mask_is_the_difference_of_the_objects(changed_pairs: list[SyntheticPair]) -> None:
    for pair in changed_pairs:
        expected = np.zeros_like(pair.change_mask)
        for kind, value in (("road", ROAD_VALUE), ("building", CHANGED_VALUE)):
            things = [thing for thing in pair.objects if thing.kind == kind]
            before = draw_truth([thing for thing in things if thing.is_in_before], expected.shape)
            after = draw_truth([thing for thing in things if thing.is_in_after], expected.shape)
            expected[before != after] = value
        differing = np.count_nonzero(expected != pair.change_mask)
        # A pixel centre that lies on an outline to the last bit may fall on either side.
        assert differing <= 4, f"seed {pair.seed}: {differing} pixels differ"
        assert np.count_nonzero(expected) > 200


def test_contours_count_the_changed_buildings(changed_pairs: list[SyntheticPair]) -> None:
    for pair in changed_pairs:
        is_building = (pair.change_mask == CHANGED_VALUE).astype(np.uint8)
        contours, _ = cv2.findContours(is_building, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        changed = [
            thing for thing in pair.objects if thing.kind == "building" and thing.is_in_before != thing.is_in_after
        ]
        assert len(contours) == len(changed) > 0


def test_houses_come_and_go(changed_pairs: list[SyntheticPair]) -> None:
    houses = [thing for pair in changed_pairs for thing in pair.objects if thing.kind == "building"]
    presences = {(thing.is_in_before, thing.is_in_after) for thing in houses}
    assert presences == {(True, True), (False, True), (True, False)}


def measure_edges(image: np.ndarray, things: list[SyntheticObject]) -> float:
    """Measures how strongly brightness changes across the outlines of things, relative to the whole image."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    outlines = np.zeros(gray.shape, np.uint8)
    for thing in things:
        corners = np.array([[(x - 0.5, y - 0.5) for y, x in thing.polygon_px]])
        cv2.polylines(outlines, corners.round().astype(np.int32), isClosed=True, color=1)
    return float(strength[outlines == 1].mean() / strength.mean())


def test_new_houses_are_seen_after_and_not_before(changed_pairs: list[SyntheticPair]) -> None:
    for pair in changed_pairs:
        new = [
            thing for thing in pair.objects if thing.kind == "building" and thing.is_in_after and not thing.is_in_before
        ]
        if not new:
            continue
        assert measure_edges(pair.after, new) > 1.2 * measure_edges(pair.before, new)


def test_change_level_zero_changes_only_the_light() -> None:
    for seed in (1, 4):
        pair = synthesize_pair(seed, height_px=96, width_px=96, change_level=0.0)
        assert not pair.change_mask.any()
        assert all(thing.is_in_before and thing.is_in_after for thing in pair.objects)
        assert not np.array_equal(pair.before, pair.after)


def test_default_level_gives_changed_and_unchanged_tiles() -> None:
    changed = [bool(synthesize_pair(seed, height_px=64, width_px=64).change_mask.any()) for seed in range(40)]
    assert 4 <= sum(changed) <= 24


def test_images_look_like_imagery_rather_than_flat_or_clipped() -> None:
    pair = synthesize_pair(11, height_px=128, width_px=128)
    for image in (pair.before, pair.after):
        assert 40 < image.mean() < 190
        assert image.std() > 8
        assert np.mean((image == 0) | (image == 255)) < 0.05


def test_blocks_join_without_seams() -> None:
    pair = synthesize_pair(4, height_px=64, width_px=BLOCK_PX + 64, change_level=0.0)
    steps = np.abs(np.diff(pair.before.astype(int), axis=1)).mean(axis=(0, 2))
    elsewhere = np.concatenate([steps[BLOCK_PX - 40 : BLOCK_PX - 2], steps[BLOCK_PX + 2 : BLOCK_PX + 40]])
    assert steps[BLOCK_PX - 1] < elsewhere.max() * 1.3


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        (
            [(0.6, 0.6), (0.6, 2.4), (2.4, 2.4), (2.4, 0.6)],
            [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        ),
        (
            [(-5.0, 2.0), (-5.0, 9.0), (2.0, 9.0), (2.0, 2.0)],
            [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
        ),
    ],
    ids=["only pixels whose centre lies inside", "clipped at the border"],
)
def test_rasterize_polygon_takes_pixel_centres(polygon: list, expected: list) -> None:
    found = rasterize_polygon(np.array(polygon), (4, 4))
    assert found is not None
    block, mask = found
    raster = np.zeros((4, 4), int)
    raster[block.window] = mask
    np.testing.assert_array_equal(raster, expected)


def test_rasterize_polygon_outside_is_none() -> None:
    assert rasterize_polygon(np.array([(9.0, 9.0), (9.0, 12.0), (12.0, 9.0)]), (4, 4)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height_px": 63}, r"height_px is 63; expected 64 to 16384"),
        ({"width_px": 0}, r"width_px is 0; expected 64"),
        ({"resolution_m": 0.0}, r"resolution_m is 0.0; expected 0.2 to 2.0 metres"),
        ({"resolution_m": float("nan")}, r"resolution_m is nan"),
        ({"change_level": 1.5}, r"change_level is 1.5; expected 0 \(never\) to 1 \(always\); pass"),
        ({"removal_level": -0.1}, r"removal_level is -0.1; expected 0"),
        ({"seed": -1}, r"seed is -1; expected an integer from 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthesize_pair(**{"seed": 0, **arguments})
