"""ChangeChat-105k's nouns and the JSON they are written in.

A record is one entry of a file: a pair of images and the turns that are spoken about it. The published training file
and the test files of five kinds hold::

    {"id": 0, "image": ["train/A/x.png", "train/B/x.png"], "changeflag": 0,
     "conversations": [{"from": "human", "value": "<image> <image> ..."}, {"from": "gpt", "value": "..."}]}

with one question and one answer, or, in a dialogue, three of each. The test file of captions holds the references of
a pair together: ``{"image_A": ..., "image_B": ..., "captions": [...], "changeflag": ...}``. Image paths are relative
to one folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.conversation import write_prompt
from model.interface import PromptKind
from model.prompts import infer_kind

SPLITS = ("train", "val", "test")
"""Names of splits that layouts and file names are searched for."""

KIND_SUFFIXES = {
    PromptKind.DESCRIBE: "caption",
    PromptKind.CLASSIFY: "binary",
    PromptKind.COUNT: "count",
    PromptKind.LOCATE: "loc",
    PromptKind.ASK: "open",
    PromptKind.DIALOGUE: "dialog",
}
"""What ChangeChat-105k's file names call the six kinds."""

IMAGE_MARKS = "<image> <image> "
"""Stands before the first question of a record, one mark for each date."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question and its answer."""

    question: str
    """Without image marks."""
    answer: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry of a ChangeChat file."""

    id: str
    """Unique within a split."""
    split: str
    """``train``, ``val``, ``test`` or a name of the user's; empty where the file tells none."""
    kind: PromptKind
    """Interaction type; every turn of a dialogue belongs to `dialogue`."""
    before_image: str
    """Path of the earlier date, relative to the folder of images, with forward slashes."""
    after_image: str
    """Likewise of the later date."""
    is_changed: bool | None
    """The change flag; None where the file tells none."""
    turns: tuple[Turn, ...]
    """One, or those of a dialogue in their order."""
    references: tuple[str, ...] = ()
    """Captions of the pair, where the record is one of an evaluation file: all are right answers to its one turn."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One question about one pair of images, with what was said before it and the answer to learn or compare with."""

    id: str
    """That of the record; ``ID.2`` is the second turn of its dialogue."""
    split: str
    """That of the record; empty where neither the file's name nor the images' tells one."""
    kind: PromptKind
    """Interaction type; every turn of a dialogue belongs to `dialogue`."""
    question: str
    """Without image marks and without history."""
    answer: str
    """The answer of this record; the first reference of an evaluation caption."""
    history: tuple[tuple[str, str], ...] = ()
    """Questions and answers before this one, oldest first."""
    references: tuple[str, ...]
    """All right answers: of a description every caption that the file has of the pair, else the answer alone."""
    before: Path
    """Image of the earlier date."""
    after: Path
    """Image of the later date."""
    is_changed: bool | None = None
    """The change flag; None where the file tells none."""

    @property
    def prompt_text(self) -> str:
        """What the model reads: the question, after the history as DeltaVLM was trained on it."""
        return write_prompt(self.history, question=self.question)

    @property
    def answer_kind(self) -> PromptKind:
        """What form the answer has, and so how it is parsed; in a dialogue, that of the single turn."""
        is_dialogue = self.kind is PromptKind.DIALOGUE
        return infer_kind(self.question, is_first=not self.history) if is_dialogue else self.kind


def write_record(record: Record) -> dict[str, Any]:
    """Put a record into the words of ChangeChat-105k: that of evaluation captions where it has references."""
    number = int(record.id) if record.id.isdecimal() else record.id
    flag = {} if record.is_changed is None else {"changeflag": int(record.is_changed)}
    if record.references:
        images = {"image_A": record.before_image, "image_B": record.after_image}
        return {"id": number, **images, "captions": list(record.references), **flag}
    conversations = []
    for index, turn in enumerate(record.turns):
        marks = IMAGE_MARKS if index == 0 else ""
        conversations.append({"from": "human", "value": f"{marks}{turn.question}"})
        conversations.append({"from": "gpt", "value": turn.answer})
    return {
        "id": number,
        "image": [record.before_image, record.after_image],
        **flag,
        "conversations": conversations,
    }


def find_split(*names: str) -> str:
    """Find the first split that a name tells, such as ``test`` in ``changechat_105k_test_loc``; else empty."""
    for name in names:
        for word in re.split(r"[^a-z]+", name.lower()):
            if word in SPLITS:
                return word
    return ""


def group_by_pair(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Group records by their images, in the order in which the pairs first appear."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.before_image, record.after_image), []).append(record)
    return groups


def arrange_records(records: Sequence[Record]) -> list[Record]:
    """Put the records of each pair into the order of `PromptKind`, and number those of each split from 0.

    Pairs stay in the order in which they first appear, splits in that of `SPLITS`, names of the user's last. So
    records that were made elsewhere, such as open questions, can be given after all others.
    """
    known = [*SPLITS, *sorted({record.split for record in records} - set(SPLITS))]
    arranged = []
    for split in known:
        of_split = [record for record in records if record.split == split]
        for group in group_by_pair(of_split).values():
            arranged.extend(sorted(group, key=lambda record: list(PromptKind).index(record.kind)))
    n_before: dict[str, int] = {}
    numbered = []
    for record in arranged:
        number = n_before.get(record.split, 0)
        n_before[record.split] = number + 1
        numbered.append(replace(record, id=str(number)))
    return numbered
