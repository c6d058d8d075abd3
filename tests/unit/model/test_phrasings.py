"""Held-out questions: what is right follows from the truth, declining is right where nobody knows."""

import numpy as np
import pytest

from model.evaluation.phrasings import (
    Phrasing,
    draw_phrasings,
    evaluate_phrasings,
    is_right,
    summarise_phrasings,
)
from model.images import CHANGED_VALUE
from model.interface import Answer
from model.pairs.facts import ChangeFacts, KindFacts
from model.pairs.folders import LabelledPair
from model.questions.book import load_question_book

NOTHING = KindFacts(count=0, is_cell_changed=(False,) * 9)
TEN = KindFacts(count=10, is_cell_changed=(True, True, *(False,) * 7))
BUILT = ChangeFacts(building=TEN, road=None)
DECLINED = "I cannot tell that from these images."


@pytest.mark.parametrize(
    ("intent", "truth", "said", "expected"),
    [
        ("unknowable", DECLINED, "I cannot tell that from these images", True),
        ("unknowable", DECLINED, "Buildings were constructed", False),
        ("built", "Yes, 10 buildings have been built.", DECLINED, False),
        ("built", "Yes, 10 buildings have been built.", "Yes, 7 buildings have been built.", True),
        ("built", "Yes, 10 buildings have been built.", "", False),
        ("number", "There are 10 new buildings.", "There are 12 new buildings.", True),
        ("number", "There are 10 new buildings.", "There are 13 new buildings.", False),
        ("number", "There are 10 new buildings.", "Some are there.", False),
        ("number", "There are no new buildings.", "There is 1 new building.", True),
        ("count", "0 roads has changed, and 10 buildings has changed.", "10 roads has changed, and 2 buildings", False),
        ("place", "The new buildings are located at the top-left.", "at the top-left and top-center", True),
        ("place", "The new buildings are located at the top-left.", "at the bottom-right", False),
        ("locate", "roads: []. buildings: ['top-left'].", "roads: ['top-right']. buildings: ['top-left'].", True),
        ("objects", "Buildings and roads have changed.", "Buildings have changed.", False),
        ("describe", "something has changed .", "a house is built .", True),
        ("describe", "something has changed .", "the scene is the same as before .", False),
        ("again", "Something has changed.", "No, something has changed.", True),
        ("again", "Nothing has changed.", "Yes, nothing has changed.", True),
        ("again", "Nothing has changed.", "No, something has changed.", False),
        ("again", "Something has changed.", "Yes.", False),
    ],
)
def test_answers_are_judged_by_what_they_mean(intent, truth, said, expected):
    assert is_right(Phrasing(intent=intent, question="?", truth=truth), said) is expected


@pytest.mark.parametrize("facts", [BUILT, ChangeFacts(building=NOTHING, road=NOTHING)])
def test_what_is_drawn_was_never_learned(facts):
    book = load_question_book()
    drawn = draw_phrasings(facts, n_questions=20, random=np.random.default_rng(0))
    assert len(drawn) == 20
    assert sum(phrasing.intent == "unknowable" for phrasing in drawn) == 6
    learned = {text for kind in book.unknowable for text in kind}
    learned |= {text for wordings in book.intents.values() for text in (*wordings.asked, *wordings.later)}
    assert not learned & {phrasing.question for phrasing in drawn}
    assert all(is_right(phrasing, phrasing.truth) for phrasing in drawn)


def test_shares_are_over_all_questions():
    scores = summarise_phrasings({"built": [(True, 0.9), (False, 0.95), (False, 0.4)], "unknowable": [(True, 0.99)]})
    assert scores.right == 0.5
    assert scores.wrong_and_sure == 0.25
    assert scores.declined_unknowable == 1
    assert scores.right_by_intent["built"] == pytest.approx(1 / 3)


class AlwaysDeclining:
    """Answers everything with the one refusal."""

    def answer_prompts(self, pairs, *, prompts, **_):
        return [[Answer(text=DECLINED, confidence=0.9)] * len(pairs) for _ in prompts]


def test_a_model_that_declines_everything_is_right_of_the_unknowable_alone():
    mask = np.zeros((32, 32), np.uint8)
    mask[2:6, 2:6] = CHANGED_VALUE
    image = np.zeros((32, 32, 3), np.uint8)
    pair = LabelledPair(name="p", before=image, after=image, mask=mask, has_road_truth=False)
    scores = evaluate_phrasings(AlwaysDeclining(), [pair, pair])
    assert scores.n_questions == 40
    assert scores.right == pytest.approx(0.3)
    assert scores.declined_unknowable == 1
    assert scores.wrong_and_sure == pytest.approx(0.7)
