"""Details are what people name, and the captions that name what others see weigh most."""

import pytest

from model.pairs.details import find_agreed, find_details, load_details, share_details, weigh_captions

CAPTIONS = (
    "two houses replace the trees at the top-left corner .",
    "two villas are built .",
    "some trees are removed .",
    "a parking lot appears .",
)


def test_details_are_found_by_their_words():
    assert find_details(CAPTIONS[0]) == {"two", "trees", "top", "left", "corner"}
    assert find_details("the scene is the same as before .") == frozenset()


def test_what_two_people_name_is_there():
    assert find_agreed(CAPTIONS) == {"two", "trees"}


def test_captions_that_tell_what_others_see_weigh_most_and_none_is_lost():
    weights = weigh_captions(CAPTIONS)
    assert weights.argmax() == 0
    assert weights.sum() == pytest.approx(1)
    assert weights.min() > 0


def test_shares_follow_the_order_of_the_details():
    shares = dict(zip(load_details(), share_details(CAPTIONS), strict=True))
    assert shares["two"] == 0.5
    assert shares["parking"] == 0.25
    assert shares["water"] == 0
