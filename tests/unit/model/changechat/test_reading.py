"""Entries in the words of ChangeChat-105k must come out as questions, histories and references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.changechat.reading import merge_captions, read_changechat, read_records
from model.changechat.schema import Record, Turn, find_split, write_record
from model.errors import InputError
from model.interface import PromptKind

DESCRIBE = "Please briefly describe the changes in these two images."
CLASSIFY = "Please judge whether these two images have changed. Please answer yes or no."
COUNT = "Please determine how many roads and buildings have changed?"
LOCATE = (
    "Please indicate the locations where changes have occurred in the buildings and roads, using a 3x3 grid (namely, "
    "'top', 'center', and 'bottom' vertically and 'left', 'center', 'right' horizontally)."
)
COUNT_SEPARATELY = "If changes have occurred, count the number of road and building changes separately."
IN_DETAIL = "Based on the above analysis, please describe the changes of these two images in detail."


def make_entry(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    """Write an entry as the published training file has it."""
    conversations = []
    for index, (question, answer) in enumerate(turns):
        marks = "" if index else "<image> <image> "
        conversations += [{"from": "human", "value": marks + question}, {"from": "gpt", "value": answer}]
    images = ["train/A/train_000001.png", "train/B/train_000001.png"]
    return {"id": 9, "image": images, "changeflag": 0, "conversations": conversations} | more


def write_file(folder: Path, entries: Any, *, name: str = "changechat_105k_train.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (DESCRIBE, PromptKind.DESCRIBE),
        (CLASSIFY, PromptKind.CLASSIFY),
        (COUNT, PromptKind.COUNT),
        (LOCATE, PromptKind.LOCATE),
        ("Are there any new roads?", PromptKind.ASK),
        ("What new features has appeared in the images?", PromptKind.ASK),
    ],
)
def test_the_question_tells_the_kind(tmp_path, question, kind):
    (instruction,) = read_changechat(write_file(tmp_path, [make_entry((question, "A."))]), images=Path("images"))

    assert (instruction.kind, instruction.answer_kind) == (kind, kind)
    assert (instruction.question, instruction.answer, instruction.references) == (question, "A.", ("A.",))
    assert instruction.before == Path("images/train/A/train_000001.png")
    assert instruction.after == Path("images/train/B/train_000001.png")
    assert (instruction.id, instruction.split, instruction.is_changed) == ("9", "train", False)


def test_a_dialogue_gives_a_question_per_turn_with_its_history(tmp_path):
    entry = make_entry((CLASSIFY, "Yes"), (COUNT_SEPARATELY, "1 road has changed."), (IN_DETAIL, "A road is built."))
    first, second, third = read_changechat(write_file(tmp_path, [entry]), images=Path())

    assert [i.id for i in (first, second, third)] == ["9.1", "9.2", "9.3"]
    assert {i.kind for i in (first, second, third)} == {PromptKind.DIALOGUE}
    assert [i.answer_kind for i in (first, second, third)] == ["classify", "count", "dialogue"]
    assert first.prompt_text == CLASSIFY
    assert third.prompt_text == (f"q: {CLASSIFY} a: Yes  q: {COUNT_SEPARATELY} a: 1 road has changed.  q: {IN_DETAIL}")
    assert third.answer == "A road is built."


def test_captions_of_a_training_pair_are_references_of_each_other(tmp_path):
    entries = [make_entry((DESCRIBE, text), id=index) for index, text in enumerate(("One.", "Two.", "One."))]
    entries.append(make_entry((CLASSIFY, "No"), id=3))
    instructions = read_changechat(write_file(tmp_path, entries), images=Path())

    assert [i.answer for i in instructions] == ["One.", "Two.", "One.", "No"]
    assert [i.references for i in instructions] == [("One.", "Two.")] * 3 + [("No",)]
    assert [i.id for i in merge_captions(instructions)] == ["0", "3"]


def test_evaluation_captions_are_one_question(tmp_path):
    entry = {"image_A": "test/A/x.png", "image_B": "test/B/x.png", "captions": [" a .", "b ."], "changeflag": 1}
    (instruction,) = read_changechat(write_file(tmp_path, [entry], name="c_test.json"), images=Path())

    assert instruction.kind is PromptKind.DESCRIBE
    assert (instruction.question, instruction.answer, instruction.references) == (DESCRIBE, "a .", ("a .", "b ."))
    assert (instruction.id, instruction.split, instruction.is_changed) == ("0", "test", True)


def test_an_id_that_comes_again_gets_a_suffix(tmp_path, caplog):
    file = write_file(tmp_path, [make_entry((CLASSIFY, "No"))] * 3)

    assert [record.id for record in read_records(file)] == ["9", "9-2", "9-3"]
    assert "2 ids" in caplog.text


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("text", "str instead of an object"),
        (make_entry(), "0 messages"),
        (make_entry((CLASSIFY, "No"), conversations=[{"from": "human", "value": "?"}]), "1 messages"),
        (make_entry((CLASSIFY, "No"), conversations=None), "conversations of None"),
        (make_entry((CLASSIFY, "No"), conversations=[{"from": "gpt", "value": "a"}] * 2), "where human speaks"),
        (make_entry((CLASSIFY, "No"), image=["a.png"]), "images ['a.png']"),
        (make_entry((CLASSIFY, "No"), changeflag="no"), "changeflag 'no'"),
        ({"image_A": "a", "image_B": "b", "captions": []}, "captions []"),
    ],
)
def test_an_entry_that_is_no_record_is_named(tmp_path, entry, found):
    file = write_file(tmp_path, [make_entry((CLASSIFY, "No")), entry])

    with pytest.raises(ValueError, match=r"entry 1: .*; expected .*; correct") as problem:
        read_records(file)
    assert found in str(problem.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b'{"a": 1}'])
def test_a_file_of_another_form_is_refused(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_bytes(content)

    with pytest.raises(ValueError, match=r"; expected .*; "):
        read_records(file)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"No such file.*; expected"):
        read_records(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"Is a directory.*; expected"):
        read_records(tmp_path)


@pytest.mark.parametrize("references", [(), ("a .", "b .")])
def test_a_record_is_read_as_it_was_written(tmp_path, references):
    record = Record(
        id="4",
        split="test",
        kind=PromptKind.DESCRIBE,
        before_image="test/A/x.png",
        after_image="test/B/x.png",
        is_changed=True,
        turns=(Turn(question=DESCRIBE, answer="a ."),),
        references=references,
    )

    assert read_records(write_file(tmp_path, [write_record(record)], name="c_test_caption.json")) == [record]


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("changechat_105k_test_loc", "train/A/x.png"), "test"),
        (("captions", "val/A/train_1.png"), "val"),
        (("latest", "A/512_train_000.png"), "train"),
        (("contest", "A/x.png"), ""),
    ],
)
def test_a_split_is_told_by_a_whole_word(names, split):
    assert find_split(*names) == split
