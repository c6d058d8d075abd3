from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.interface import CELL_NAMES, PromptKind
from model.pairs.facts import ChangeFacts, KindFacts, phrase_answer
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate, ParsedText, close_stops, parse_answer

IDENTICAL_CAPTIONS = (
    "there is no difference",
    "the two scenes seem identical",
    "the scene is the same as before",
    "no change has occurred",
    "almost nothing has changed",
)
"""The five sentences with which LEVIR-CC says that nothing changed."""


@pytest.mark.parametrize(
    ("text", "is_changed"),
    [
        ("Yes", True),
        ("No", False),
        ("yes.", True),
        (" NO!\n", False),
        ("yes, two houses have been built", True),
        ("No, there is no change.", False),
        ("'Yes'", True),
        ("yes ", True),
        ("no  there is no change ", False),
        ("No, nothing has changed.", False),
        ("There are no changes in roads or buildings between the two images.", False),
        ("No, there is no change. The two images are identical.", False),
        ("No significant changes are visible.", False),
        ("No. The two scenes have not changed.", False),
        ("no no no", False),
        ("No, there is none.", False),
        ("No, they have not.", False),
        ("Yes, there are.", True),
        ("Yes, the two images are different.", True),
        ("Yes. A road was built; two villas appeared.", True),
        ("Yes, I can see that several new houses have been built along the road in the top-left corner.", True),
        ("**Yes**, two buildings and a road were added.", True),
        ("Yes, new buildings.", True),
        *((caption, False) for caption in IDENTICAL_CAPTIONS),
    ],
)
def test_classify_is_read(text: str, is_changed: bool) -> None:
    assert parse_answer(PromptKind.CLASSIFY, text) == ParsedClassify(is_changed=is_changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "...",
        "\u200b",
        "yes or no",
        "No yes",
        "maybe",
        "yesterday",
        "nothing to say",
        "<s>",
        "No buildings changed, but a road was added.",
        "No significant changes are visible, apart from two new houses.",
        "No, there are no changes. However, a new building appears at the top left.",
        "No, there are no changes, except for a road.",
        "No doubt, the two images have changed.",
        "No, they are not the same; new buildings appear.",
        "No, that is wrong: the images have changed.",
        "No longer the same scene.",
        "Nothing has changed but the roads.",
        "Yes, there is no change.",
        "Yes, there is something odd.",
        "No, they have not only changed.",
        "Yes, there are 0 changes.",
        "Yes, the two images are identical.",
        "Yes, they look the same.",
        "Yes, the scene remains unchanged.",
        "Yes, hardly any new buildings.",
        "Yes, they didn't change.",
        "Yes, if the new road counts.",
        "Yes, I have looked at both images.",
        "yes, the images match",
        "Yes?",
        "No?",
        "There is no change?",
        "No 1",
        "no, дома",
        "no changes, кроме домов",
        "no ❌",
        "Yes, the change is negligible",
        "Yes, the difference is only in lighting",
        "Yes, the new image matches the old image",
        "Yes, I am ready to compare the new image",
        "Yes, the building was already there, built in 1990",
        "Yes, buildings rarely change",
        "Yes, changes are ruled out",
        "Yes, changes: []",
        "Yes, the change mask is empty",
        "Yes, the road failed to appear",
        "Yes, it has been changed back",
        "Yes, less than one new building",
        "yes. the statement that there is change is incorrect",
        "Yes, changed ≠",
    ],
)
def test_classify_is_not_guessed(text: str) -> None:
    assert parse_answer(PromptKind.CLASSIFY, text) is None


@pytest.mark.parametrize(
    ("text", "buildings", "roads"),
    [
        ("There are no changes in roads or buildings between the two images.", 0, 0),
        ("there are no changes in roads or buildings between the two images", 0, 0),
        ("no changes", 0, 0),
        ("1 road has changed, and 3 buildings has changed.", 3, 1),
        ("1 road has changed and 3 buildings has changed", 3, 1),
        ("2 new roads and 1 new building", 1, 2),
        ("no new roads and 3 new buildings", 3, 0),
        ("No roads or buildings have changed.", 0, 0),
        ("no roads and buildings", 0, 0),
        ("none of the roads, twelve buildings", 12, 0),
        ("Two roads and one building have changed.", 1, 2),
        ("0 roads and 14 buildings", 14, 0),
        ("There is a new road and 2 houses.", 2, 1),
        ("roads: 1, buildings: 3", 3, 1),
        ("buildings 3 roads 1", 3, 1),
        ("roads: 2", None, 2),
        ("3 buildings has changed.", 3, None),
        ("1 road,3 buildings", 3, 1),
        ("no changes in roads, and 5 buildings", 5, 0),
        ("1 road has changed  and 3 buildings has changed ", 3, 1),
        ("0 roads has changed, and 1 building has changed.", 1, 0),
        ("there are 3 new buildings and 1 new road", 3, 1),
        ("roads  1  buildings  3 ", 3, 1),
        ("road changes: 2, building changes: 5", 5, 2),
        ("2 road changes and 5 building changes", 5, 2),
        ("The number of roads changed is 2 and the number of buildings changed is 3.", 3, 2),
        ("no road has changed, and 2 new villas have been built", 2, 0),
        ("Yes, 1 road and 2 buildings have changed.", 2, 1),
        ("No, there are no changes in roads or buildings between the two images.", 0, 0),
        ("no  there are no changes in roads or buildings between the two images ", 0, 0),
        *((caption, 0, 0) for caption in IDENTICAL_CAPTIONS),
    ],
)
def test_count_is_read(text: str, buildings: int | None, roads: int | None) -> None:
    assert parse_answer(PromptKind.COUNT, text) == ParsedCount(building_count=buildings, road_count=roads)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes",
        "roads",
        "several buildings",
        "a few buildings and 1 road",
        "2 or 3 buildings",
        "from 3 to 5 buildings",
        "2.5 buildings",
        "3 roads and buildings",
        "3 buildings have not changed",
        "1 road, 2 roads",
        "3 3 3 houses",
        "No",
        "there is a change in roads",
        "roads have a change",
        "the buildings and roads 3",
        "buildings 3 of 5 roads 2",
        "1 road and 12",
        "1,200 buildings",
        f"{'9' * 5000} buildings",
        "more than 3 buildings",
        "twenty-one buildings",
        "the trees have been removed",
        "all but 3 buildings have changed",
        "up to 3 buildings",
        "3 buildings remain",
        "3 buildings are the same, 1 road is new",
        "over 3 buildings",
        "-3 buildings",
        "3 buildings didn't change",
        "excluding 2 roads, 3 buildings",
        "no changes in roads or buildings, apart from two new houses",
        "3 buildings ذ changed",
        "three to five buildings",
        "between three and five buildings",
        "a dozen buildings",
        "no fewer than 4 buildings",
        "none of the four houses changed",
        "~3 buildings",
        "<3 buildings",
        "3+ buildings",
        "30% of the buildings",
        "±3 buildings",
        "3? buildings",
        "3/5 buildings",
        "-three buildings",
        "road 66 has changed",
        "house number five has changed",
        "1. building",
        "1) building",
        "the 4 buildings are in both images",
        "two images, one building",
        "3 buildings each in both areas",
        "no large buildings",
        "no other buildings",
        "a building or a road",
        "1 house and 1 villa",
        "one building was removed, one building was built",
        "2 road buildings",
        "buildings: 0 roads",
        "The total number of buildings is 5.",
    ],
)
def test_count_is_not_guessed(text: str) -> None:
    assert parse_answer(PromptKind.COUNT, text) is None


@pytest.mark.parametrize(
    ("text", "buildings", "roads"),
    [
        ("roads: ['top-left', 'top-center']. buildings: [].", (), ("top-left", "top-center")),
        ("roads ['top-left' , 'top-center'] buildings []", (), ("top-left", "top-center")),
        ("roads [] buildings []", (), ()),
        ("Roads: []. Buildings: ['bottom-right'].", ("bottom-right",), ()),
        ("buildings: ['bottom-right', 'top-left', 'bottom-right']", ("top-left", "bottom-right"), None),
        ("roads: [ top - left ] buildings: [ center - center ]", ("center-center",), ("top-left",)),
        ('roads: ["center_left"] buildings: ["middle right"]', ("center-right",), ("center-left",)),
        ("Buildings changed in the top-left and center-center, roads in the bottom right.",
         ("top-left", "center-center"), ("bottom-right",)),
        ("Buildings in the upper left, no roads.", ("top-left",), ()),
        ("There are no changes in the roads, buildings changed at the lower center.", ("bottom-center",), ()),
        ("Roads and buildings have changed in the top-right.", ("top-right",), ("top-right",)),
        ("roads: none. buildings: top-left", ("top-left",), ()),
        ("There are no changes in roads or buildings between the two images.", (), ()),
        ("no roads or buildings", (), ()),
        ("roads ['top-left', 'center-center'] buildings []", (), ("top-left", "center-center")),
        ("roads  []  buildings  ['top-left'] ", ("top-left",), ()),
        ("buildings top left, center right roads bottom center", ("top-left", "center-right"), ("bottom-center",)),
        ("buildings top left center center bottom right", ("top-left", "center-center", "bottom-right"), None),
        ("{'roads': ['top-left'], 'buildings': []}", (), ("top-left",)),
        ("roads have not changed. villas appear in the top-left.", ("top-left",), ()),
        ("no  there are no changes in roads or buildings", (), ()),
        *((caption, (), ()) for caption in IDENTICAL_CAPTIONS),
    ],
)  # fmt: skip
def test_locate_is_read(text: str, buildings: tuple[str, ...] | None, roads: tuple[str, ...] | None) -> None:
    assert parse_answer(PromptKind.LOCATE, text) == ParsedLocate(building_cells=buildings, road_cells=roads)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "top-left",
        "roads",
        "roads: ['top-left', 'top-",
        "roads: ['top'] buildings: []",
        "roads: ['north'] buildings: []",
        "the top-left has a new road",
        "buildings in the top-left while the bottom-right shows a road",
        "buildings in the top-left but not in the center-center",
        "roads: ['top-left'] buildings: [] roads: []",
        "no buildings in the top-left",
        "buildings in all cells but the top-left",
        "buildings everywhere except the top-left",
        "buildings outside of the top-left",
        "roads: all other than ['top-left']. buildings: []",
        "not buildings: ['top-left']",
        "unlike the roads, buildings changed in the top-left",
        "roads: ['top-left'] are gone? buildings: [] as before",
        "buildings might have changed in the top-left",
        "buildings top-left to bottom-right",
        "buildings between the top-left and the bottom-right",
        "buildings: top-left - bottom-right",
        "buildings: top-left..bottom-right",
        "buildings: top-left: yes; top-right: -",
        "buildings: ~top-left",
        "buildings: !top-left",
        "roads none, none of the buildings in the top-left",
        "buildings: [] top-left",
        "buildings: ]['top-left'",
        "buildings located at the top-left of the bottom-right cell",
        "buildings or roads in the top-left",
        "buildings seen at both dates: top-left",
        "buildings in other cells, top-left",
    ],
)
def test_locate_is_not_guessed(text: str) -> None:
    assert parse_answer(PromptKind.LOCATE, text) is None


@given(
    st.lists(st.sampled_from(CELL_NAMES), unique=True),
    st.lists(st.sampled_from(CELL_NAMES), unique=True),
    st.booleans(),
)
def test_the_trained_locate_form_survives_lost_punctuation(
    buildings: list[str], roads: list[str], is_bare: bool
) -> None:
    expected = ParsedLocate(
        building_cells=tuple(sorted(buildings, key=CELL_NAMES.index)),
        road_cells=tuple(sorted(roads, key=CELL_NAMES.index)),
    )

    text = f"roads: {roads}. buildings: {buildings}."
    if is_bare:
        text = text.replace(":", "").replace(".", "").replace("'", "").replace(",", " ,")

    assert parse_answer(PromptKind.LOCATE, text) == expected


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_trained_count_form_is_read_for_every_number(buildings: int, roads: int) -> None:
    text = f"{roads} road has changed, and {buildings} buildings has changed."

    assert parse_answer(PromptKind.COUNT, text) == ParsedCount(building_count=buildings, road_count=roads)


def make_kind_facts(count: int, is_cell_changed: list[bool]) -> KindFacts:
    """Give facts that a mask can have: without a contour no cell is changed."""
    return KindFacts(count=count, is_cell_changed=tuple(count > 0 and is_changed for is_changed in is_cell_changed))


KIND_FACTS = st.builds(make_kind_facts, st.integers(0, 999), st.lists(st.booleans(), min_size=9, max_size=9))


def write_as_the_original_trains(text: str) -> str:
    """Lower case, and blanks for the punctuation that DeltaVLM's own training removes."""
    return re.sub(r"[.!\"()*#:;~]", " ", text.lower())


@given(KIND_FACTS, st.none() | KIND_FACTS, st.booleans(), st.integers(0, 99), st.booleans())
def test_every_trained_answer_is_read_back(
    building: KindFacts, road: KindFacts | None, is_removal: bool, seed: int, is_bare: bool
) -> None:
    facts = ChangeFacts(building=building, road=road, is_removal=is_removal)
    road_told = road or KindFacts(count=0, is_cell_changed=(False,) * 9)
    # ^ where roads are not known, the words say none and give no loss
    said = {
        kind: phrase_answer(kind, facts, random=np.random.default_rng(seed)).text
        for kind in (PromptKind.DESCRIBE, PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE)
    }
    if is_bare:
        said = {kind: write_as_the_original_trains(text) for kind, text in said.items()}

    parsed = {kind: parse_answer(kind, text) for kind, text in said.items()}

    assert parsed == {
        PromptKind.DESCRIBE: ParsedText(text=close_stops(said[PromptKind.DESCRIBE])),
        PromptKind.CLASSIFY: ParsedClassify(is_changed=facts.is_changed),
        PromptKind.COUNT: ParsedCount(building_count=building.count, road_count=road_told.count),
        PromptKind.LOCATE: ParsedLocate(building_cells=tuple(building.cells), road_cells=tuple(road_told.cells)),
    }


@pytest.mark.parametrize("kind", [PromptKind.DESCRIBE, PromptKind.ASK, PromptKind.DIALOGUE])
def test_words_are_kept_as_they_are(kind: PromptKind) -> None:
    assert parse_answer(kind, " <b>A house</b> \n") == ParsedText(text="<b>A house</b>")
    assert parse_answer(kind, "a house appears at the top , and a road . ") == ParsedText(
        text="a house appears at the top, and a road."
    )
    assert parse_answer(kind, "see .gitignore : done !") == ParsedText(text="see .gitignore: done!")
    assert parse_answer(kind, " \n") is None
    assert parse_answer(kind, " . ") is None


@given(st.sampled_from(PromptKind), st.text(alphabet=st.characters(codec="utf-8")))
def test_no_text_raises(kind: PromptKind, text: str) -> None:
    parsed = parse_answer(kind, text)

    assert parsed is None or type(parsed).__name__.startswith("Parsed")
