"""Captions that are turned with their scene say what they said."""

import pytest

from model.pairs.turning import turn_caption


@pytest.mark.parametrize(
    ("text", "turns", "is_flipped", "expected"),
    [
        ("a house at the top left corner .", 0, True, "a house at the top right corner ."),
        ("a house at the top left corner .", 1, False, "a house at the bottom left corner ."),
        ("a house at the top left corner .", 2, False, "a house at the bottom right corner ."),
        ("a house at the top left corner .", 3, False, "a house at the top right corner ."),
        ("a villa in the upper-left corner .", 2, True, "a villa in the lower-left corner ."),
        ("a road on the left becomes wider .", 1, False, "a road on the bottom becomes wider ."),
        ("a road on the upper side .", 1, False, "a road on the left side ."),
        ("a vertical road is built .", 1, False, "a horizontal road is built ."),
        ("a vertical road is built .", 2, True, "a vertical road is built ."),
        ("the road makes a right angle .", 0, True, "the road makes a right angle ."),
        ("many houses are built on the bareland .", 3, True, "many houses are built on the bareland ."),
        ("a house appears above the road .", 0, True, "a house appears above the road ."),
        ("a house appears above the road .", 1, False, None),
    ],
)
def test_sides_go_along_with_the_scene(text, turns, is_flipped, expected):
    assert turn_caption(text, turns=turns, is_flipped=is_flipped) == expected


@pytest.mark.parametrize("place", ["top left", "lower right", "bottom", "right", "upper", "center"])
def test_four_quarter_turns_and_two_flips_lead_back(place):
    text = f"houses are built at the {place} of the scene ."
    turned = text
    for _ in range(4):
        turned = turn_caption(turned, turns=1, is_flipped=False)
    flipped = turn_caption(turn_caption(text, turns=0, is_flipped=True), turns=0, is_flipped=True)
    assert flipped == text
    # What lay level comes back as a side: the words for the upper side are the same place.
    assert turned.replace("top", "upper").replace("bottom", "lower") == text.replace("top", "upper").replace(
        "bottom", "lower"
    )
