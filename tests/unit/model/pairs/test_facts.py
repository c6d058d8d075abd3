"""Masks with known contents must give the facts and the answers that ChangeChat-105k's rules prescribe."""

import numpy as np
import pytest

from model.images import CHANGED_VALUE, ROAD_VALUE
from model.interface import CELL_NAMES, PromptKind
from model.pairs.facts import NO_CHANGE_COUNT, UNCHANGED_DESCRIPTIONS, measure_mask, phrase_answer

SIZE_PX = 96


def make_mask(*, buildings: dict[str, int], roads: dict[str, int]) -> np.ndarray:
    """Put so many separate 8 x 8 squares of each value into each named cell of 32 x 32 pixels."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    for value, cells in ((CHANGED_VALUE, buildings), (ROAD_VALUE, roads)):
        for name, n_squares in cells.items():
            row, col = divmod(CELL_NAMES.index(name), 3)
            for index in range(n_squares):
                top, left = row * 32 + 1 + (index // 3) * 10, col * 32 + 1 + (index % 3) * 10
                mask[top : top + 8, left : left + 8] = value
    return mask


@pytest.mark.parametrize(
    ("buildings", "roads", "count", "locate", "yes_no"),
    [
        ({}, {}, NO_CHANGE_COUNT, "roads: []. buildings: [].", "No"),
        (
            {"top-left": 3},
            {"bottom-right": 1},
            "1 road has changed, and 3 buildings has changed.",
            "roads: ['bottom-right']. buildings: ['top-left'].",
            "Yes",
        ),
        (
            {"center-right": 1, "top-center": 1},
            {},
            "0 roads has changed, and 2 buildings has changed.",
            "roads: []. buildings: ['top-center', 'center-right'].",
            "Yes",
        ),
    ],
)
def test_answers_follow_the_mask(buildings, roads, count, locate, yes_no):
    facts = measure_mask(make_mask(buildings=buildings, roads=roads), has_road_truth=True)
    random = np.random.default_rng(0)
    said = {
        kind: phrase_answer(kind, facts, random=random)
        for kind in (PromptKind.COUNT, PromptKind.LOCATE, PromptKind.CLASSIFY)
    }
    assert said[PromptKind.COUNT].text == count
    assert said[PromptKind.LOCATE].text == locate
    assert said[PromptKind.CLASSIFY].text == yes_no
    assert all(answer.unknown_spans == () for answer in said.values())


def test_unknown_roads_give_no_loss():
    facts = measure_mask(make_mask(buildings={"top-left": 2}, roads={}), has_road_truth=False)
    random = np.random.default_rng(0)
    for kind, unknown in ((PromptKind.COUNT, "0 roads"), (PromptKind.LOCATE, "[]")):
        answer = phrase_answer(kind, facts, random=random)
        assert [answer.text[start:stop] for start, stop in answer.unknown_spans] == [unknown]


@pytest.mark.parametrize(("n_pixels", "is_named"), [(51, False), (52, True)])
def test_a_cell_counts_as_changed_above_five_percent(n_pixels, is_named):
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    # 5 % of a cell of 32 x 32 pixels are 51.2 of them.
    flat = np.zeros(32 * 32, np.uint8)
    flat[:n_pixels] = CHANGED_VALUE
    mask[:32, :32] = flat.reshape(32, 32)
    facts = measure_mask(mask, has_road_truth=False)
    assert facts.building.cells == (["top-left"] if is_named else [])
    assert facts.building.count == 1


@pytest.mark.parametrize(
    ("buildings", "expected"),
    [
        ({"top-left": 1}, "in the top left corner"),
        ({"bottom-center": 2, "bottom-right": 1}, "at the bottom of the scene"),
        ({"center-center": 1}, "in the center of the scene"),
        (dict.fromkeys(CELL_NAMES, 1), "in the whole scene"),
    ],
)
def test_descriptions_name_the_place(buildings, expected):
    facts = measure_mask(make_mask(buildings=buildings, roads={}), has_road_truth=True)
    texts = {phrase_answer(PromptKind.DESCRIBE, facts, random=np.random.default_rng(s)).text for s in range(5)}
    assert all(expected in text for text in texts)


def test_descriptions_tell_removals_and_silence():
    removed = measure_mask(make_mask(buildings={"top-left": 1}, roads={}), has_road_truth=True, is_removal=True)
    unchanged = measure_mask(make_mask(buildings={}, roads={}), has_road_truth=True)
    for seed in range(5):
        random = np.random.default_rng(seed)
        text = phrase_answer(PromptKind.DESCRIBE, removed, random=random).text
        assert "removed" in text or "demolished" in text
        assert phrase_answer(PromptKind.DESCRIBE, unchanged, random=random).text in UNCHANGED_DESCRIPTIONS


def test_a_mask_answers_no_open_question():
    facts = measure_mask(make_mask(buildings={}, roads={}), has_road_truth=True)
    with pytest.raises(ValueError, match="'ask'"):
        phrase_answer(PromptKind.ASK, facts, random=np.random.default_rng(0))
