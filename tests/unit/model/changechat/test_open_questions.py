"""What is told to a language model about a pair, and which of its questions and answers are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.changechat.assistant import load_question_book, make_request
from model.changechat.open_questions import OpenQuestion, check_reply, find_contradiction, find_items
from model.changechat.pair_notes import MAX_BOXES, ChangedObjects, PairNotes, find_boxes
from model.changechat.reply_cache import ReplyCache
from model.remote.replies import ChatReply

BUILDINGS = ChangedObjects(
    label="building", count=3, cells=("top-left",), boxes=((2, 2, 10, 10), (12, 4, 20, 12), (22, 5, 30, 14))
)
CHANGED = PairNotes(
    captions=("three houses are built .", "three houses are built ."), is_changed=True, objects=(BUILDINGS,)
)
UNCHANGED = PairNotes(
    captions=("the scene is the same as before .",),
    is_changed=False,
    objects=(
        ChangedObjects(label="building", count=0, cells=(), boxes=()),
        ChangedObjects(label="road", count=0, cells=(), boxes=()),
    ),
)
GOOD = [
    {"question": "What was built here?", "answer": "Three houses were built in the top left corner."},
    {"question": "Is the new area residential?", "answer": "Yes, the new buildings look like houses."},
]


# What is told


def test_notes_tell_captions_once_and_a_box_for_every_change() -> None:
    assert CHANGED.to_text() == (
        "The two dates differ.\nCaptions:\n- three houses are built .\n"
        "Changed buildings: 3, in the cells top-left.\n"
        "Boxes of buildings: [2, 2, 10, 10], [12, 4, 20, 12], [22, 5, 30, 14]"
    )
    assert UNCHANGED.to_text().endswith("Changed buildings: 0.\nChanged roads: 0.")
    assert PairNotes(captions=("a",), is_changed=None, objects=()).to_text() == "Captions:\n- a"


def test_boxes_hold_their_contours_in_percent() -> None:
    mask = np.zeros((200, 100), bool)
    mask[20:40, 10:30] = True
    mask[100:201, 99:] = True
    mask[50, 50] = True
    assert find_boxes(mask) == ((10, 10, 30, 20), (50, 25, 51, 26), (99, 50, 100, 100))
    assert find_boxes(np.zeros((10, 10), bool)) == ()


def test_of_very_many_boxes_the_largest_are_told() -> None:
    boxes = tuple((number, 0, number + 1 + number % 2, 1) for number in range(MAX_BOXES + 10))
    notes = PairNotes(
        captions=(),
        is_changed=True,
        objects=(ChangedObjects(label="building", count=len(boxes), cells=(), boxes=boxes),),
    )
    text = notes.to_text()
    assert text.endswith("and 10 smaller ones")
    assert all(str(list(box)) in text for box in boxes if box[2] - box[0] == 2)


def test_a_request_holds_two_worked_examples_and_text_alone() -> None:
    request = make_request(CHANGED, n_questions=4)

    assert [message["role"] for message in request.messages] == ["user", "assistant"] * 2 + ["user"]
    assert all(isinstance(message["content"], str) for message in request.messages)
    assert "exactly 4 questions" in request.messages[0]["content"]
    assert request.messages[-1]["content"] == CHANGED.to_text()
    assert request.temperature == 0.3


@pytest.mark.parametrize(
    ("index", "notes"),
    [
        (
            0,
            PairNotes(
                captions=(),
                is_changed=True,
                objects=(
                    ChangedObjects(
                        label="building",
                        count=3,
                        cells=(),
                        boxes=((41, 38, 49, 47), (55, 37, 63, 46), (70, 39, 79, 48)),
                    ),
                    ChangedObjects(label="road", count=1, cells=(), boxes=((0, 66, 100, 74),)),
                ),
            ),
        ),
        (1, UNCHANGED),
    ],
)
def test_the_examples_themselves_would_be_kept(index: int, notes: PairNotes) -> None:
    reply = load_question_book().examples[index][1]
    outcome = check_reply(reply, notes=notes, max_questions=9)
    assert (len(outcome.accepted), outcome.rejected) == (4, ())


# What is kept


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"Here you are:\n```json\n{json.dumps(GOOD, indent=2)}\n```\nAnything else?",
        json.dumps({"questions": GOOD}),
        f"{json.dumps([*GOOD, {'question': 'What', 'answer': 'x'}])[:-25]}",
    ],
    ids=["a list", "in a fence", "in an object", "cut off"],
)
def test_a_list_is_read_whatever_stands_around_it(text: str) -> None:
    outcome = check_reply(text, notes=CHANGED, max_questions=4)
    assert outcome.accepted == tuple(OpenQuestion(**item) for item in GOOD)
    assert outcome.rejected == ()


@pytest.mark.parametrize(
    "text", ["", "I cannot help with that.", "[", "[]", "[{", '["a", "b"]', "[" * 5000 + "{" * 5000]
)
def test_nonsense_is_one_rejection(text: str) -> None:
    outcome = check_reply(text, notes=CHANGED, max_questions=4)
    assert outcome.accepted == ()
    assert [one.reason for one in outcome.rejected] == ["no JSON list of questions and answers"]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"question": "What was built here?"}, "no question and answer"),
        ({"question": "What was built here?", "answer": ["houses"]}, "no question and answer"),
        ({"question": "What?", "answer": "Houses."}, "question too short or too long"),
        ({"question": "What " * 50, "answer": "Houses."}, "question too short or too long"),
        ({"question": "What was built here?", "answer": " "}, "answer too short or too long"),
        ({"question": "What was built here?", "answer": "Houses. " * 100}, "answer too short or too long"),
        ({"question": "WHAT was built HERE", "answer": "Houses."}, "asked twice"),
        (
            {"question": "Please briefly describe the changes in these two images.", "answer": "Houses."},
            "one of the fixed questions",
        ),
        ({"question": "What do the captions say?", "answer": "Houses."}, "speaks of captions, boxes or masks"),
        (
            {"question": "What is new there?", "answer": "Houses with boxes at 2, 2."},
            "speaks of captions, boxes or masks",
        ),
        ({"question": "How many houses are new?", "answer": "Five houses are new."}, "another count"),
    ],
)
def test_what_cannot_be_used_has_its_reason(item: dict, reason: str) -> None:
    outcome = check_reply(
        json.dumps([item, GOOD[1]]),
        notes=CHANGED,
        asked=["What was built here?"] * (reason == "asked twice"),
        max_questions=4,
    )
    assert [one.reason for one in outcome.rejected] == [reason]
    assert [made.question for made in outcome.accepted] == [GOOD[1]["question"]]


@pytest.mark.parametrize(
    ("notes", "question", "answer", "expected"),
    [
        (CHANGED, "How many buildings were built?", "Four buildings were built.", "another count"),
        (CHANGED, "How many buildings were built?", "Two buildings.", "another count"),
        (CHANGED, "How many buildings were built?", "3 buildings were built.", None),
        (CHANGED, "How many houses are on the left?", "Two houses are on the left.", None),
        (CHANGED, "What is new here?", "Some trees fell. There are 7 new houses.", "another count"),
        (CHANGED, "What is new here?", "A house stands at the edge of the field.", None),
        (CHANGED, "Did buildings change?", "No buildings have changed.", "another count"),
        (CHANGED, "Were houses torn down?", "No houses were demolished.", None),
        # The mask does not cover roads.
        (CHANGED, "Is there a new road?", "Yes, 2 roads were built.", None),
        (CHANGED, "Where are the houses?", "The new houses are in the bottom-right corner.", "another place"),
        (CHANGED, "Where are the houses?", "The new houses are in the top-left corner.", None),
        # 33 % is the border of the cell, and the last box ends at 30 %.
        (CHANGED, "Where are the houses?", "The new houses reach into the top center.", None),
        (
            CHANGED,
            "Has anything changed between the two images?",
            "No, nothing has changed.",
            "changed or not: says otherwise",
        ),
        (CHANGED, "Has anything changed on the right side?", "No, nothing has changed.", None),
        (CHANGED, "Have the trees changed?", "No.", None),
        (UNCHANGED, "Is there any change?", "Yes, there is.", "changed or not: says otherwise"),
        (UNCHANGED, "Is there any change?", "No, there is none.", None),
        (UNCHANGED, "Is there a new road?", "Yes, a road was built.", "another count"),
    ],
)
def test_contradictions(notes: PairNotes, question: str, answer: str, expected: str | None) -> None:
    assert find_contradiction(OpenQuestion(question=question, answer=answer), notes=notes) == expected


def test_no_more_are_kept_than_were_asked_for() -> None:
    assert len(check_reply(json.dumps(GOOD), notes=CHANGED, max_questions=1).accepted) == 1


def test_items_are_found_lazily_and_whole() -> None:
    assert list(find_items('x [{"a": {"b": 1}}, {"c": 2}, {"d"')) == [{"a": {"b": 1}}, {"c": 2}]


# What is paid for once


def test_a_cache_gives_back_what_it_was_given_also_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "replies.jsonl"
    first, second = ChatReply(text="é\n", n_reply_tokens=3), ChatReply(text="b", is_cut_off=True)
    cache = ReplyCache(file)
    cache.add("1", first)
    with file.open("ab") as stream:
        stream.write(b'{"key": "2", "text": "half a li')

    again = ReplyCache(file)
    again.add("2", second)

    last = ReplyCache(file)
    assert (last.find("1"), last.find("2"), last.find("3")) == (first, second, None)


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b"3", b'{"key": 1, "text": "a"}', b'{"key": "1", "text": "a", "x": 1}']
)
def test_a_cache_passes_over_what_is_not_its_own(line: bytes, tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_bytes(line + b"\n")
    assert ReplyCache(file).find("1") is None


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r".+ cannot be written \(.+\); expected .+; make room, or name another --output"
    ):
        ReplyCache(tmp_path)
