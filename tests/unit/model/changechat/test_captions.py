"""Captions files of both forms, with their gaps."""

from __future__ import annotations

import gzip
import json

import pytest

from model.changechat.captions import read_captions, write_as_answer
from model.errors import InputError


def make_levir_entry(number, *sentences, split="train", flag=1):
    return {
        "filepath": split,
        "filename": f"{split}_{number:06d}.png",
        "imgid": number,
        "split": split,
        "changeflag": flag,
        "sentences": list(sentences),
    }


def test_the_published_form_is_read(tmp_path):
    said = {"raw": " a house is built .", "tokens": ["a", "house", "is", "built"]}
    entries = [make_levir_entry(1, said), make_levir_entry(1, said, split="val", flag=0)]
    file = tmp_path / "LevirCCcaptions.json.gz"
    file.write_bytes(gzip.compress(json.dumps({"images": entries}).encode()))

    found = read_captions(file).find("train_000001", split="train")

    assert (found.captions, found.is_changed, found.split) == (("a house is built .",), True, "train")


@pytest.mark.parametrize(
    ("sentence", "caption"),
    [
        ({"raw": " there is no difference ."}, "there is no difference ."),
        ({"tokens": ["no", "change"]}, "no change ."),
        ({"raw": "  ", "tokens": ["no", "change"]}, "no change ."),
        ({"raw": " .", "tokens": []}, None),
        ({"tokens": []}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_caption_without_words_is_left_out_and_counted(tmp_path, sentence, caption):
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"images": [make_levir_entry(1, sentence, {"raw": "a road ."})]}))

    found = read_captions(file).find("train_000001")

    assert found.captions == ((caption, "a road .") if caption else ("a road .",))
    assert found.n_empty == (caption is None)


@pytest.mark.parametrize(
    ("captions", "is_changed"),
    [
        (["there is no difference .", "almost nothing has changed"], False),
        (["there is no difference .", "a tree is gone ."], True),
        ([], None),
    ],
)
def test_without_a_flag_the_words_tell_of_change(tmp_path, captions, is_changed):
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"pairs": [{"filename": "x.png", "captions": captions}]}))

    assert read_captions(file).find("x").is_changed is is_changed


def test_the_first_of_two_entries_counts(tmp_path):
    entries = [{"filename": "x.png", "split": "val", "captions": [text]} for text in ("first", "second")]
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"pairs": entries}))

    book = read_captions(file)

    assert book.find("x", split="val").captions == ("first",)
    assert book.find("x", split="train") is None
    assert book.duplicates == (("val", "x.png"),)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"pairs": 3}', '{"pairs": [{}]}', '{"pairs": [{"filename": "x", "captions": "a"}]}']
)
def test_another_form_is_refused(tmp_path, content):
    file = tmp_path / "captions.json"
    file.write_text(content)

    with pytest.raises(ValueError, match=r"; expected .*; "):
        read_captions(file)


def test_a_captions_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="; expected"):
        read_captions(tmp_path / "captions.json")


@pytest.mark.parametrize(
    ("caption", "answer"),
    [
        ("there is no difference .", "There is no difference."),
        (" a house , and  a road are built . ", "A house, and a road are built."),
        ("Trees gone", "Trees gone"),
    ],
)
def test_answers_are_sentences(caption, answer):
    assert write_as_answer(caption) == answer
