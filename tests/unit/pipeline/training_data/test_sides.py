"""No ground lies on both sides, whatever grids the tiles are of, and a tile stays where it is."""

from __future__ import annotations

import itertools

import pytest
import shapely

from model.errors import InputError
from pipeline.training_data.sides import Side, bring_to_squares, choose_sides


def make_grounds(*, n: int, side: float, step: float, shift: float = 0.0) -> list[shapely.Polygon]:
    """Give the ground of n x n tiles."""
    corners = itertools.product((shift + step * at for at in range(n)), repeat=2)
    return [shapely.box(x, y, x + side, y + side) for x, y in corners]


@pytest.mark.parametrize("seed", range(5))
def test_no_ground_is_on_both_sides(seed: int) -> None:
    """Tiles of three runs, with and without margins that their neighbours see as well."""
    grounds = [*make_grounds(n=20, side=128, step=128), *make_grounds(n=20, side=128, step=112, shift=31.0)]
    grounds += make_grounds(n=8, side=256, step=256, shift=7.0)

    sides = choose_sides(grounds, square_m=512, val_fraction=0.3, seed=seed)

    train, val = ([g for g, s in zip(grounds, sides, strict=True) if s is side] for side in (Side.TRAIN, Side.VAL))
    assert train
    assert val
    assert shapely.union_all(train).intersection(shapely.union_all(val)).area < 1e-6
    assert sides == choose_sides(grounds, square_m=512, val_fraction=0.3, seed=seed)


def test_tiles_of_one_grid_all_have_a_side_and_stay_there_when_others_join() -> None:
    grounds = make_grounds(n=16, side=128, step=128)

    sides = choose_sides(grounds[::2], square_m=512, val_fraction=0.3, seed=3)

    assert Side.GAP not in sides
    assert choose_sides(grounds, square_m=512, val_fraction=0.3, seed=3)[::2] == sides
    assert {*choose_sides(grounds, square_m=512, val_fraction=0.01, seed=3)} == {Side.TRAIN, Side.VAL}


def test_one_square_has_no_two_sides() -> None:
    with pytest.raises(InputError, match="1 square"):
        choose_sides(make_grounds(n=3, side=128, step=128), square_m=5_120, val_fraction=0.3, seed=0)


def test_squares_lie_in_metres_whatever_the_grid() -> None:
    tile = shapely.box(621_000, 3_361_872, 621_128, 3_362_000)

    (moved,) = bring_to_squares([tile], crs="EPSG:32614")

    assert moved.area == pytest.approx(128**2, rel=0.002)
