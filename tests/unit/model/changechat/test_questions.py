"""Open questions and dialogues: answers follow from the truth, and what it does not tell is not asked."""

import numpy as np
import pytest

from model.changechat.questions import (
    draw_dialogue_turn,
    draw_free_turn,
    draw_question,
    draw_unknowable,
)
from model.pairs.captions import GroundCover
from model.pairs.facts import ChangeFacts, KindFacts
from model.prompts import load_prompt_book
from model.questions.book import expand, load_question_book
from model.questions.phrases import PHRASES, answer_intent, list_names, phrase_cell, phrase_details

NOTHING = KindFacts(count=0, is_cell_changed=(False,) * 9)
THREE = KindFacts(count=3, is_cell_changed=(True, *(False,) * 7, True))
ONE_ROAD = KindFacts(count=1, is_cell_changed=(False, True, *(False,) * 7))

BUILT = ChangeFacts(building=THREE, road=ONE_ROAD)
BUILT_NO_ROAD_TRUTH = ChangeFacts(building=THREE, road=None)
REMOVED = ChangeFacts(building=THREE, road=None, is_removal=True)
UNCHANGED = ChangeFacts(building=NOTHING, road=NOTHING)


def answer(question: str, facts: ChangeFacts, cover: GroundCover | None = None) -> str | None:
    (intent,) = (name for name, wordings in load_question_book().intents.items() if question in wordings.asked)
    found = answer_intent(intent, facts, cover=cover, description=None)
    return None if found is None else found.text


@pytest.mark.parametrize(
    ("question", "facts", "expected"),
    [
        ("What types of objects have changed?", BUILT, "Buildings and roads have changed."),
        ("What types of objects have changed?", BUILT_NO_ROAD_TRUTH, None),
        ("What types of objects have changed?", UNCHANGED, "No objects have changed."),
        ("How many new buildings are there?", BUILT, "There are 3 new buildings."),
        ("How many new buildings are there?", REMOVED, "There are no new buildings."),
        (
            "Where are the new buildings located?",
            BUILT,
            "The new buildings are located at the top-left and bottom-right of the scene.",
        ),
        ("Have any buildings been removed?", REMOVED, "Yes, 3 buildings have been removed."),
        ("Have any buildings been removed?", BUILT, "No, no buildings have been removed."),
        ("Have any buildings been built?", BUILT, "Yes, 3 buildings have been built."),
        ("Have any buildings been built?", REMOVED, "No, no buildings have been built."),
        ("Are there any new roads?", BUILT, "Yes, there is 1 new road."),
        ("Are there any new roads?", UNCHANGED, "No, there are no new roads."),
        ("Are there any new roads?", BUILT_NO_ROAD_TRUTH, None),
        ("What happened to the trees and bare land?", UNCHANGED, "The trees and the bare land are as they were."),
        ("What happened to the trees and bare land?", BUILT, None),
    ],
)
def test_answers_follow_from_the_truth(question, facts, expected):
    assert answer(question, facts) == expected


def test_what_was_replaced_is_told_by_the_ground():
    question = "What happened to the trees and bare land?"
    assert "Trees were removed" in str(answer(question, BUILT, GroundCover.TREES))
    assert "bare land" in str(answer(question, BUILT, GroundCover.BARE))


def test_a_cell_is_answered_where_the_truth_tells():
    assert phrase_cell(BUILT, cell=0) == "Yes, buildings have changed there."
    assert phrase_cell(BUILT, cell=1) == "Yes, roads have changed there."
    assert phrase_cell(BUILT, cell=4) == "No, nothing has changed there."
    assert phrase_cell(BUILT_NO_ROAD_TRUTH, cell=4) is None


@pytest.mark.parametrize("facts", [BUILT, BUILT_NO_ROAD_TRUTH, REMOVED, UNCHANGED])
def test_only_what_is_known_is_asked(facts):
    random = np.random.default_rng(0)
    asked = [draw_question(facts, cover=None, random=random) for _ in range(300)]
    assert all(target.text for _, target in asked)
    by_road_intent = set(load_question_book().intents["roads"].asked)
    about_roads = [question for question, _ in asked if question in by_road_intent]
    assert bool(about_roads) is (facts.road is not None)
    assert len({question for question, _ in asked}) > 12


def test_dialogue_turns_hold_the_turns_before_them():
    first, second, third = load_prompt_book().dialogue
    random = np.random.default_rng(0)
    turns = [
        draw_dialogue_turn(BUILT, cover=None, description="some houses are built .", random=random) for _ in range(60)
    ]
    assert all(prompt.startswith("q: ") and " a: " in prompt for prompt, _ in turns)
    assert sum(prompt.startswith(f"q: {first.text} a: Yes") for prompt, _ in turns) > 20
    by_second = [target.text for prompt, target in turns if prompt.endswith(f"q: {second.text}")]
    by_third = [target.text for prompt, target in turns if prompt.endswith(f"q: {third.text}")]
    assert set(by_second) == {"1 road has changed, and 3 buildings has changed."}
    assert set(by_third) == {
        "some houses are built . 3 buildings have been built at the top-left and bottom-right of the scene."
    }
    assert len(by_second) + len(by_third) < len(turns)


def test_details_say_no_more_than_there_is():
    assert phrase_details(UNCHANGED, description="nothing has changed .").text == "nothing has changed ."
    assert phrase_details(REMOVED, description="houses are gone .").text.endswith(
        "3 buildings have been removed at the top-left and bottom-right of the scene."
    )


def test_names_are_listed_as_people_list_them():
    assert [list_names(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_braces_stand_for_each_of_their_parts():
    assert expand("How many {new|old} {houses|homes}{| here}?")[:3] == (
        "How many new houses?",
        "How many new houses here?",
        "How many new homes?",
    )
    assert expand("What about the {cell}?") == ("What about the {cell}?",)


def test_each_intent_is_asked_in_many_ways_and_tested_in_others():
    book = load_question_book()
    assert set(book.intents) == {"describe", *PHRASES}
    for name, wordings in book.intents.items():
        if name != "again":
            assert len(wordings.asked) >= 14, name
            assert len(wordings.held_out) >= 3, name
        assert not set(wordings.held_out) & {*wordings.asked, *wordings.later}
    assert sum(len(wordings.asked) for wordings in book.intents.values()) >= 250


def test_what_cannot_be_known_is_declined_in_one_way():
    book, random = load_question_book(), np.random.default_rng(0)
    drawn = [draw_unknowable(random) for _ in range(400)]
    assert {target.text for _, target in drawn} == {"I cannot tell that from these images."}
    assert len(book.unknowable) >= 100
    learned = {question for kind in book.unknowable for question in kind}
    assert len(book.held_out_unknowable) >= 20
    assert not learned & set(book.held_out_unknowable)
    assert {question for question, _ in drawn} <= learned


@pytest.mark.parametrize("facts", [BUILT, REMOVED, UNCHANGED])
def test_later_turns_do_not_contradict_earlier_ones(facts):
    random = np.random.default_rng(1)
    for _ in range(200):
        prompt, target = draw_free_turn(facts, cover=None, description=None, random=random)
        said = prompt + " a: " + target.text
        assert not ("3 buildings have been built" in said and "no buildings have been built" in said)
        assert not ("Something has changed" in said and "Nothing has changed" in said)


def test_follow_ups_refer_back():
    random = np.random.default_rng(2)
    later = set(load_question_book().intents["place"].later)
    asked = [draw_free_turn(BUILT, cover=None, description=None, random=random) for _ in range(300)]
    found = [target.text for prompt, target in asked if prompt.rpartition("q: ")[2] in later]
    assert found
    assert set(found) == {"The new buildings are located at the top-left and bottom-right of the scene."}
