"""Borrowed captions: what a caption says, which of them is typical, and whether it fits a pair."""

import gzip
import json

import numpy as np
import pytest

from model.pairs.captions import (
    MANY,
    CaptionPool,
    GroundCover,
    classify_count,
    find_places,
    is_telling,
    judge_ground,
    read_captions_of_pair,
    read_numbers,
)
from model.pairs.facts import ChangeFacts, KindFacts

NO_CELL = (False,) * 9
TOP_LEFT = (True, *(False,) * 8)
BOTTOM_RIGHT = (*(False,) * 8, True)

HOUSE_AT_TOP_LEFT = (
    "a house is built at the top left corner of the scene .",
    "a house is built in the upper left corner .",
    "a building appears at the top left corner of the scene .",
    "a house appears .",
    "a house with a pool is built .",
)
HOUSE_IN_WOODS = (
    "a house is built in the woods .",
    "a house appears in the forest .",
    "some trees are removed and a house is built .",
    "a house is built in the woods .",
    "a building is built at the bottom right corner .",
)
MANY_HOUSES = (
    "many houses are built along the road .",
    "many houses are built along the road .",
    "rows of houses are built along the road .",
    "a residential area with many houses and roads appears .",
    "many houses are built .",
)


def make_facts(count: int, cells: tuple[bool, ...] = TOP_LEFT, *, is_removal: bool = False) -> ChangeFacts:
    return ChangeFacts(building=KindFacts(count=count, is_cell_changed=cells), road=None, is_removal=is_removal)


@pytest.fixture(scope="module")
def pool() -> CaptionPool:
    return CaptionPool([HOUSE_AT_TOP_LEFT] * 3 + [HOUSE_IN_WOODS] * 3 + [MANY_HOUSES] * 3)


@pytest.mark.parametrize(("count", "number"), [(1, 1), (2, 2), (3, 3), (4, 4), (7, 4), (8, MANY), (40, MANY)])
def test_numbers_fall_into_the_classes_that_words_tell_apart(count, number):
    assert classify_count(count) == number


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a house is built beside the road .", [1]),
        ("two villas appear in the woods .", [2]),
        ("some houses are built along the road .", [3, 4]),
        ("three buildings are constructed .", [3]),
        ("many houses are built along the road .", [MANY]),
        ("a row of houses is built .", []),
        ("a road appears in the forest .", []),
        ("a house with a pool is built .", []),
    ],
)
def test_a_caption_tells_how_many_buildings_it_speaks_of(text, numbers):
    assert read_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "is_usable"),
    [
        ("a house is built .", True),
        ("some houses are demolished .", False),
        ("a parking lot and a house are built .", False),
        ("a road is built .", False),
        ("the houses are white .", False),
    ],
)
def test_captions_of_what_nobody_knows_here_are_left_out(text, is_usable):
    assert is_telling(text) is is_usable


def test_places_are_found_by_their_words():
    assert find_places("houses appear at the top and in the lower-left corner .") == ((0, None), (2, 0))
    assert find_places("some houses appear .") == ()


def test_captions_of_a_pair_are_read_together():
    assert read_captions_of_pair(HOUSE_AT_TOP_LEFT) == (1, None)
    assert read_captions_of_pair(HOUSE_IN_WOODS) == (1, GroundCover.TREES)
    assert read_captions_of_pair(MANY_HOUSES) == (MANY, None)
    assert read_captions_of_pair(["a road is built ."] * 5) is None


def test_the_most_typical_caption_that_fits_is_drawn_most_often(pool):
    random = np.random.default_rng(0)
    drawn = [pool.draw(make_facts(12), cover=None, random=random) for _ in range(200)]
    assert max(set(drawn), key=drawn.count) == "many houses are built along the road ."
    assert 0.6 < drawn.count("many houses are built along the road .") / len(drawn) < 1.0


def test_what_is_drawn_fits_place_and_ground(pool):
    random = np.random.default_rng(0)
    at_top_left = {pool.draw(make_facts(1), cover=None, random=random) for _ in range(50)}
    elsewhere = {pool.draw(make_facts(1, BOTTOM_RIGHT), cover=None, random=random) for _ in range(50)}
    in_woods = {pool.draw(make_facts(1, BOTTOM_RIGHT), cover=GroundCover.TREES, random=random) for _ in range(50)}
    assert any("top left" in text for text in at_top_left)
    assert elsewhere == {"a house appears ."}
    assert "a house is built in the woods ." in in_woods
    assert not any("left" in text for text in in_woods)


def test_nothing_is_borrowed_where_nothing_was_built(pool):
    random = np.random.default_rng(0)
    assert pool.draw(make_facts(0, NO_CELL), cover=None, random=random) is None
    assert pool.draw(make_facts(1, is_removal=True), cover=None, random=random) is None
    assert pool.draw(make_facts(2), cover=None, random=random) is None


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_pool_is_read_from_levir_cc(tmp_path, is_packed):
    def make_image(captions, *, split, flag):
        return {"split": split, "changeflag": flag, "sentences": [{"raw": f" {text}"} for text in captions]}

    images = [
        make_image(MANY_HOUSES, split="train", flag=1),
        make_image(HOUSE_IN_WOODS, split="val", flag=1),
        make_image(["there is no difference ."], split="train", flag=0),
    ]
    content = json.dumps({"images": images}).encode()
    file = tmp_path / ("captions.json.gz" if is_packed else "captions.json")
    file.write_bytes(gzip.compress(content) if is_packed else content)
    assert set(CaptionPool.from_file(file).by_class) == {(MANY, None)}
    with pytest.raises(ValueError, match=r"no changed pair of split 'test'.*; expected LEVIR-CC.*; check the split"):
        CaptionPool.from_file(file, split="test")


@pytest.mark.parametrize(
    ("colour", "cover"),
    [((40, 60, 40), GroundCover.TREES), ((190, 170, 140), GroundCover.BARE), ((105, 109, 100), None)],
)
def test_the_ground_is_judged_by_its_colour(colour, cover):
    image = np.full((20, 20, 3), colour, np.uint8)
    changed = np.zeros((20, 20), bool)
    changed[5:9, 5:9] = True
    assert judge_ground(image, changed=changed) is cover
    assert judge_ground(image, changed=np.zeros((20, 20), bool)) is None
