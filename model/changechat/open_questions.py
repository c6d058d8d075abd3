"""Open questions and answers that a language model wrote about a pair: reading its reply, and refusing what is wrong.

A model that sees no image invents things. What can be checked against the mask is: numbers, places, and whether
anything changed at all. Nothing is mended; what is refused is counted with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from model.changechat.pair_notes import PairNotes
from model.interface import PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate, parse_answer
from model.prompts import find_known_prompt

QUESTION_WORDS = (3, 40)
"""Fewest and most words of a question."""
ANSWER_WORDS = (1, 90)
"""Fewest and most words of an answer."""
PLACE_MARGIN_PERCENT = 10
"""People's cells have no sharp edges: so far from a box still counts as its place."""

_SOURCE_WORDS = re.compile(
    r"\b(?:captions?|annotat\w+|contours?|(?:bounding )?box(?:es)?|coordinates?|masks?|percent\w*|3 ?x ?3|json"
    r"|(?:given|provided|the) (?:facts|information|descriptions?|text))\b"
)
_PART_WORDS = re.compile(
    r"\b(?:top|upper|bottom|lower|left|right|cent(?:er|re)|middle|north\w*|south\w*|east\w*|west\w*|corner|side|edge"
    r"|near|along|beside|row|largest|smallest|bigger|smaller|of (?:them|these|those|the)|each|every|part"
    r"|first)\b"
)
_WHOLE_SCENE = re.compile(
    r"(?:has|have|is|are|did|do|does|was|were|can) .*\b(?:anything|changes?|changed|differences?|differ|different)\b"
)
_KIND_WORDS = re.compile(
    r"\b(?:building|house|villa|road|street|tree|vegetation|forest|field|grass|water|river|land|parking|pool|car|network"
    r"|layout|use)\w*\b"
)
_DIRECTION_WORDS = re.compile(r"\b(?:new\w*|built|constructed|added|appear\w*|removed|demolished|disappear\w*|torn)\b")


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """One question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Something in a reply that is not used."""

    reason: str
    """A few words, equal for equal faults."""
    question: str = ""
    """The question it is about; empty where the whole reply is at fault."""


@dataclass(frozen=True, kw_only=True)
class CheckedReply:
    """What a reply brought."""

    accepted: tuple[OpenQuestion, ...]
    rejected: tuple[Rejection, ...]


def check_reply(text: str, *, notes: PairNotes, asked: Sequence[str] = (), max_questions: int) -> CheckedReply:
    """Read a reply and keep what can be used of it.

    Args:
        text: The model's words: a JSON list, whatever stands around it; whole objects of a list that was cut off count.
        notes: What is known of the pair.
        asked: Questions about the pair that are there already.
        max_questions: Most questions that are kept; more are left out without a word.
    """
    items = list(find_items(text))
    if not items:
        return CheckedReply(accepted=(), rejected=(Rejection(reason="no JSON list of questions and answers"),))
    accepted: list[OpenQuestion] = []
    rejected: list[Rejection] = []
    seen = {_normalise(question) for question in asked}
    for item in items:
        if len(accepted) == max_questions:
            break
        outcome = _check_item(item, notes=notes, seen=seen)
        if isinstance(outcome, OpenQuestion):
            accepted.append(outcome)
            seen.add(_normalise(outcome.question))
        else:
            rejected.append(outcome)
    return CheckedReply(accepted=tuple(accepted), rejected=tuple(rejected))


def find_items(text: str) -> Iterator[Any]:
    """Find the objects of the first JSON list in a text, as far as each is whole; also where the list never ends."""
    start = text.find("[")
    position = start + 1
    decoder = json.JSONDecoder()
    while start >= 0 and (position := text.find("{", position)) >= 0:
        try:
            item, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            # An object that was cut off, or is none.
            return
        yield item


def _check_item(item: dict[str, Any], *, notes: PairNotes, seen: set[str]) -> OpenQuestion | Rejection:
    question, answer = item.get("question"), item.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        return Rejection(reason="no question and answer", question=str(question or "")[:100])
    made = OpenQuestion(question=" ".join(question.split()), answer=" ".join(answer.split()))
    reason = _find_fault_of_form(made, seen=seen) or find_contradiction(made, notes=notes)
    return made if reason is None else Rejection(reason=reason, question=made.question)


def _find_fault_of_form(made: OpenQuestion, *, seen: set[str]) -> str | None:
    for name, text, (least, most) in (
        ("question", made.question, QUESTION_WORDS),
        ("answer", made.answer, ANSWER_WORDS),
    ):
        if not least <= len(text.split()) <= most or not text.isprintable():
            return f"{name} too short or too long"
    if _normalise(made.question) in seen:
        return "asked twice"
    known = find_known_prompt(made.question)
    if known is not None and known.kind is not PromptKind.ASK:
        return "one of the fixed questions"
    if _SOURCE_WORDS.search(f"{made.question} {made.answer}".lower()):
        return "speaks of captions, boxes or masks"
    return None


def find_contradiction(made: OpenQuestion, *, notes: PairNotes) -> str | None:
    """Tell what in an answer cannot be true after all that is known of the pair; None if nothing is found."""
    question = made.question.lower()
    says = parse_answer(PromptKind.CLASSIFY, made.answer)
    is_about_all = bool(_WHOLE_SCENE.match(question)) and not _KIND_WORDS.search(question)
    is_about_all = is_about_all and not _PART_WORDS.search(question) and notes.is_changed is not None
    if isinstance(says, ParsedClassify) and is_about_all and says.is_changed != notes.is_changed:
        return "changed or not: says otherwise"
    for sentence in re.split(r"(?<=[.!?;])\s+", made.answer):
        if _is_count_wrong(sentence, question=question, notes=notes):
            return "another count"
        if _is_place_wrong(sentence, notes=notes):
            return "another place"
    return None


def _is_count_wrong(sentence: str, *, question: str, notes: PairNotes) -> bool:
    """Tell whether a sentence counts more than there is, or less where it speaks of all."""
    counts = parse_answer(PromptKind.COUNT, sentence)
    if not isinstance(counts, ParsedCount):
        return False
    is_about_part = _PART_WORDS.search(f"{question} {sentence.lower()}") is not None
    for label, told in (("building", counts.building_count), ("road", counts.road_count)):
        objects = notes.find_objects(label)
        if objects is None or told is None or told == objects.count:
            continue
        # "One house stands near the road" and "no new houses", where some were torn down, need not be wrong.
        is_total = "how many" in question or (told == 0 and not _DIRECTION_WORDS.search(sentence.lower()))
        if told > objects.count or (is_total and not is_about_part):
            return True
    return False


def _is_place_wrong(sentence: str, *, notes: PairNotes) -> bool:
    """Tell whether a sentence puts buildings or roads into a cell that is far from all that changed."""
    cells = parse_answer(PromptKind.LOCATE, sentence)
    if not isinstance(cells, ParsedLocate):
        return False
    for label, told in (("building", cells.building_cells), ("road", cells.road_cells)):
        objects = notes.find_objects(label)
        if objects is not None and any(not objects.touches(cell, margin=PLACE_MARGIN_PERCENT) for cell in told or ()):
            return True
    return False


def _normalise(question: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", question.lower()))
