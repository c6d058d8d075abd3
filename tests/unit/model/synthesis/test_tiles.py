"""Tiles of shared landscapes: each determined by its seed alone, with a truth that follows misregistration."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rasterio.features import rasterize

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.synthesis.pairs import TILES_PER_LANDSCAPE, SyntheticPair, synthesize_tiles

N_LANDSCAPES = 4
GROWN = {"size_px": 128, "resolution_m": 0.8, "change_level": 0.7}


@pytest.fixture(scope="module")
def tiles() -> list[SyntheticPair]:
    return list(synthesize_tiles(range(N_LANDSCAPES * TILES_PER_LANDSCAPE), **GROWN))


@pytest.fixture(scope="module")
def unshifted() -> list[SyntheticPair]:
    """The same tiles without misregistration."""
    return list(synthesize_tiles(range(N_LANDSCAPES * TILES_PER_LANDSCAPE), max_shift_px=0.0, **GROWN))


def count_contours(pair: SyntheticPair) -> int:
    mask = (pair.change_mask == CHANGED_VALUE).astype(np.uint8)
    return len(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0])


def count_changed(pair: SyntheticPair) -> int:
    return sum(thing.kind == "building" and thing.is_in_before != thing.is_in_after for thing in pair.objects)


def draw_outlines(pair: SyntheticPair, kind: str, *, is_changed: bool) -> np.ndarray:
    """Draws the outlines of one kind with GDAL."""
    rings = [
        [(x, y) for y, x in thing.polygon_px]
        for thing in pair.objects
        if thing.kind == kind and (thing.is_in_before != thing.is_in_after) == is_changed
    ]
    if not rings:
        return np.zeros(pair.change_mask.shape, np.uint8)
    shapes = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in rings]
    return rasterize(shapes, out_shape=pair.change_mask.shape, transform=(1, 0, 0, 0, 1, 0), dtype="uint8")


def test_a_tile_is_determined_by_its_seed_alone(tiles: list[SyntheticPair]) -> None:
    seeds = [TILES_PER_LANDSCAPE + 3, 5, TILES_PER_LANDSCAPE + 2]
    for seed, tile in zip(seeds, synthesize_tiles(seeds, **GROWN), strict=True):
        expected = tiles[seed]
        assert tile.seed == seed
        np.testing.assert_array_equal(tile.before, expected.before)
        np.testing.assert_array_equal(tile.after, expected.after)
        np.testing.assert_array_equal(tile.change_mask, expected.change_mask)
        assert (tile.objects, tile.facts) == (expected.objects, expected.facts)


def test_the_mask_is_the_difference_of_the_outlines(tiles: list[SyntheticPair]) -> None:
    changed = [tile for tile in tiles if tile.change_mask.any()]
    assert len(changed) > len(tiles) / 4
    for tile in changed:
        expected = np.zeros_like(tile.change_mask)
        for kind, value in (("road", ROAD_VALUE), ("building", CHANGED_VALUE)):
            is_new = (draw_outlines(tile, kind, is_changed=True) == 1) & (
                draw_outlines(tile, kind, is_changed=False) == 0
            )
            expected[is_new] = value
        # A pixel centre that lies on an outline to the last bit may fall on either side.
        assert np.count_nonzero(expected != tile.change_mask) <= 6, f"seed {tile.seed}"


def test_contours_count_the_changed_buildings(tiles: list[SyntheticPair], unshifted: list[SyntheticPair]) -> None:
    assert [count_contours(tile) for tile in unshifted] == [count_changed(tile) for tile in unshifted]
    # A border may cut a shifted house in two.
    differing = sum(count_contours(tile) != count_changed(tile) for tile in tiles)
    assert differing <= 0.02 * len(tiles)


def test_the_first_date_is_shifted_and_what_went_is_marked_there(
    tiles: list[SyntheticPair], unshifted: list[SyntheticPair]
) -> None:
    errors = []
    for shifted, still in zip(tiles, unshifted, strict=True):
        np.testing.assert_array_equal(shifted.after, still.after)
        went = {
            name: [np.array(thing.polygon_px) for thing in pair.objects if thing.is_in_before > thing.is_in_after]
            for name, pair in (("shifted", shifted), ("still", still))
        }
        if len(went["still"]) == 0 or len(went["still"]) != len(went["shifted"]):
            continue
        expected = (went["shifted"][0] - went["still"][0])[0]
        assert np.abs(expected).max() <= 2.0
        images = [cv2.cvtColor(pair.before, cv2.COLOR_RGB2GRAY).astype(np.float32) for pair in (still, shifted)]
        window = cv2.createHanningWindow(images[0].shape, cv2.CV_32F)
        (shift_x, shift_y), _ = cv2.phaseCorrelate(images[0], images[1], window)
        errors.append(np.abs(np.array([shift_y, shift_x]) - expected).max())
    assert len(errors) >= 5
    assert np.median(errors) < 0.15
    assert max(errors) < 0.6


def test_demolitions_are_seen_before_and_not_after(tiles: list[SyntheticPair]) -> None:
    n_clearer = n_compared = 0
    for tile in tiles:
        gone = [thing for thing in tile.objects if thing.kind == "building" and thing.is_in_before > thing.is_in_after]
        if len(gone) < 2 or not tile.is_removal:
            continue
        outlines = np.zeros(tile.change_mask.shape, np.uint8)
        for thing in gone:
            corners = np.array([[(x - 0.5, y - 0.5) for y, x in thing.polygon_px]]).round().astype(np.int32)
            cv2.polylines(outlines, corners, isClosed=True, color=1)
        strengths = []
        for image in (tile.before, tile.after):
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
            edges = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
            strengths.append(edges[outlines == 1].mean() / edges.mean())
        n_compared += 1
        n_clearer += strengths[0] > strengths[1]
    assert n_compared >= 5
    assert n_clearer >= 0.9 * n_compared


def test_growth_demolition_and_both_at_once_are_told_apart(tiles: list[SyntheticPair]) -> None:
    kinds = {(tile.is_removal, tile.facts.is_mixed) for tile in tiles if tile.change_mask.any()}
    assert kinds >= {(False, False), (True, False), (False, True)}


def test_facts_agree_with_objects_and_mask(tiles: list[SyntheticPair]) -> None:
    for tile in tiles:
        facts = tile.facts
        for kind, counts in (("building", facts.building), ("road", facts.road)):
            things = [thing for thing in tile.objects if thing.kind == kind]
            assert counts.before == sum(thing.is_in_before for thing in things)
            assert counts.after == counts.before + counts.came - counts.went
        assert facts.replaced is None or facts.building.came or facts.road.came
        assert facts.left_behind is None or facts.building.went or facts.road.went
        if (tile.change_mask > 0).sum() > 500 and not facts.is_mixed:
            assert (facts.left_behind is None) != (facts.replaced is None)
        for land in (facts.before, facts.after):
            assert sum(land.ground.values()) == pytest.approx(1.0)
            assert list(land.ground.values()) == sorted(land.ground.values(), reverse=True)
            assert 0.0 <= land.tree_share <= 1.0
    assert len({tile.facts.setting for tile in tiles}) > 1


def test_light_season_cars_and_ground_are_no_change() -> None:
    seeds = range(0, 8 * TILES_PER_LANDSCAPE, 11)
    differences = []
    for tile in synthesize_tiles(seeds, size_px=96, resolution_m=0.5, change_level=0.0):
        assert not tile.change_mask.any()
        assert all(thing.is_in_before and thing.is_in_after for thing in tile.objects)
        differences.append(np.abs(tile.before.astype(int) - tile.after.astype(int)).mean())
    assert np.median(differences) > 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_shift_px": 3.0}, r"max_shift_px is 3.0; expected 0 to 2 pixels; pass"),
        ({"size_px": 8192}, r"size_px is 8192; expected 64 to 4096 pixels; pass"),
        ({"resolution_m": 5.0}, r"resolution_m is 5.0; expected 0.2 to 2.0 metres"),
        ({"seeds": [-1]}, r"seed is -1; expected an integer from 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(synthesize_tiles(**{"seeds": [0], **arguments}))
