"""Answers of a model that was taught a few questions: put into words from what it says to those.

So an answer never says anything else than the report, or than the turn before: the same flag, the same numbers, the
same cells. What the model's answers leave open is declined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from model.interface import CELL_NAMES, Answer, PromptKind
from model.pairs.captions import split_words
from model.pairs.facts import ChangeFacts, KindFacts
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate, close_stops, parse_answer
from model.questions.book import CELL_SLOT, load_question_book
from model.questions.direction import Direction, read_direction
from model.questions.phrases import answer_intent, count_noun, phrase_cell, phrase_details
from model.questions.understanding import Meaning, find_language_reply, list_language_replies

_FLAG_INTENTS = frozenset({"classify", "same", "again"})
"""What is asked for where the answer says no more than whether something changed."""

_NOTHING_INTENTS = frozenset({"objects", "built", "removed", "roads"})
"""Likewise where nothing changed; how sure it is that it was just this which changed, nobody has measured."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a model's answers to the questions that it knows say of a pair."""

    is_changed: bool
    building_count: int
    road_count: int | None
    building_cells: tuple[str, ...]
    road_cells: tuple[str, ...]
    description: str
    direction: Direction
    flag_confidence: float
    """Of `is_changed`; NaN where count and flag do not say the same."""
    description_confidence: float


def read_told(answers: Mapping[PromptKind, Answer]) -> Told | None:
    """Read the answers to the four questions that a run asks; None where one of them cannot be read."""
    kinds = PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE
    flag, count, cells = (parse_answer(kind, answers[kind].text) for kind in kinds)
    if not (isinstance(flag, ParsedClassify) and isinstance(count, ParsedCount) and isinstance(cells, ParsedLocate)):
        return None
    description = close_stops(answers[PromptKind.DESCRIBE].text)
    n_buildings, n_roads = (count.building_count or 0, count.road_count) if flag.is_changed else (0, 0)
    agrees = flag.is_changed == bool(n_buildings or n_roads)
    return Told(
        is_changed=flag.is_changed,
        building_count=n_buildings,
        road_count=n_roads,
        building_cells=(cells.building_cells or ()) if n_buildings else (),
        road_cells=(cells.road_cells or ()) if n_roads else (),
        description=description,
        direction=read_direction(description),
        flag_confidence=answers[PromptKind.CLASSIFY].confidence if agrees else math.nan,
        description_confidence=answers[PromptKind.DESCRIBE].confidence,
    )


def decline(question: str) -> Answer:
    """Say that a question cannot be answered: in its own language where that is not English."""
    return Answer(text=find_language_reply(question) or load_question_book().cannot_tell, confidence=math.nan)


def is_declined(text: str) -> bool:
    """Tell whether an answer is one that declines, or asks for English."""
    return split_words(text) == split_words(load_question_book().cannot_tell) or text in list_language_replies()


def list_known_questions() -> tuple[str, ...]:
    """Give one question of each sort that is understood, to show people what can be asked."""
    book = load_question_book()
    examples = [wordings.asked[0] for wordings in book.intents.values() if wordings.asked]
    return *examples, book.cell.asked[0].replace(CELL_SLOT, CELL_NAMES[0])


def reply_to(meaning: Meaning, told: Told | None, *, question: str) -> Answer:
    """Answer a question.

    Args:
        meaning: What it asks for.
        told: What the model says of the pair; None: nothing that can be read.
        question: Its words, for whoever must be told that there is no answer.
    """
    text = None if told is None else _phrase(meaning, told)
    if told is None or not text:
        return decline(question)
    if meaning.intent == "describe":
        return Answer(text=text, confidence=told.description_confidence)
    is_flag = meaning.intent in _FLAG_INTENTS or (meaning.intent in _NOTHING_INTENTS and not told.is_changed)
    return Answer(text=text, confidence=told.flag_confidence if is_flag else math.nan)


def _phrase(meaning: Meaning, told: Told) -> str | None:
    facts = _make_facts(told)
    match meaning.intent:
        case "classify":
            return "Yes, something has changed." if told.is_changed else "No, nothing has changed."
        case "same":
            return "No, something has changed." if told.is_changed else "Yes, nothing has changed."
        case "again":
            return "Something has changed." if told.is_changed else "Nothing has changed."
        case "describe":
            return told.description
        case "details":
            return phrase_details(facts, description=told.description).text
        case "cell":
            return None if meaning.cell is None else phrase_cell(facts, cell=meaning.cell)
        case "built" | "removed" if told.building_count and told.direction not in {Direction.BUILT, Direction.REMOVED}:
            return _phrase_undirected(told)
        case "objects" if told.is_changed and not facts.is_changed:
            # It says that something changed, and neither buildings nor roads.
            return None
    answer = answer_intent(meaning.intent, facts, cover=None, description=told.description)
    return None if answer is None else answer.text


def _phrase_undirected(told: Told) -> str | None:
    """Say how many buildings are different, where the description does not tell whether they came or went."""
    if told.direction is Direction.BOTH:
        return f"Yes; {count_noun(told.building_count, 'building')} changed, some came and some went."
    return None


def _make_facts(told: Told) -> ChangeFacts:
    building = _make_kind(told.building_count, told.building_cells)
    road = None if told.road_count is None else _make_kind(told.road_count, told.road_cells)
    return ChangeFacts(building=building, road=road, is_removal=told.direction is Direction.REMOVED)


def _make_kind(count: int, cells: tuple[str, ...]) -> KindFacts:
    return KindFacts(count=count, is_cell_changed=tuple(name in cells for name in CELL_NAMES))
