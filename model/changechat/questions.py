"""Open questions and dialogues about a pair, with answers that follow from what is known of it.

ChangeChat-105k's open questions were written by a language model. These are ours, in the wordings of `questions.yaml`:
about what, how many, where, built or removed, and what was there before; asked only where the truth tells. Beside them
stand questions that no two images tell, which are declined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from model.changechat.question_book import CELL_SLOT, load_question_book
from model.conversation import write_prompt
from model.interface import CELL_NAMES, PromptKind
from model.pairs.captions import GroundCover
from model.pairs.facts import ChangeFacts, TargetText, phrase_classify, phrase_count, phrase_locate
from model.prompts import load_prompt_book

Phrase = Callable[[ChangeFacts, GroundCover | None], TargetText | str | None]

UNKNOWABLE_FRACTION = 0.25
"""How often an open question is one that must be declined."""
CELL_FRACTION = 0.1
"""How often it is about one cell."""
CHANGECHAT_FRACTION = 0.5
"""How often a dialogue is ChangeChat's, of fixed turns."""
LATER_FRACTION = 0.6
"""How often a later turn of a free dialogue refers back, where what it asks for can be asked so."""


def list_names(names: Sequence[str]) -> str:
    """Write names as a list: ``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count_noun(count: int, noun: str) -> str:
    """Write a number and its noun: ``1 road``, ``2 roads``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def phrase_objects(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Name the kinds of object that changed; None where buildings did and roads are not known."""
    if facts.road is None and facts.is_changed:
        return None
    kinds = [name for name, kind in (("buildings", facts.building), ("roads", facts.road)) if kind and kind.count]
    return f"{list_names(kinds).capitalize()} have changed." if kinds else "No objects have changed."


def phrase_number(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say how many buildings were built."""
    if facts.building.count == 0 or facts.is_removal:
        return "There are no new buildings."
    return f"There {'is' if facts.building.count == 1 else 'are'} {count_noun(facts.building.count, 'new building')}."


def phrase_place(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say where buildings were built."""
    if facts.building.count == 0 or facts.is_removal:
        return "There are no new buildings."
    cells = facts.building.cells
    if not cells:
        return None
    return f"The new buildings are located at the {list_names(cells)} of the scene."


def phrase_removed(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say whether buildings are gone."""
    if facts.building.count == 0 or not facts.is_removal:
        return "No, no buildings have been removed."
    return f"Yes, {count_noun(facts.building.count, 'building')} {_has(facts.building.count)} been removed."


def phrase_built(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say whether buildings were built."""
    if facts.building.count == 0 or facts.is_removal:
        return "No, no buildings have been built."
    return f"Yes, {count_noun(facts.building.count, 'building')} {_has(facts.building.count)} been built."


def phrase_ground(facts: ChangeFacts, cover: GroundCover | None) -> str | None:
    """Say what buildings took the place of."""
    if not facts.is_changed:
        return "The trees and the bare land are as they were."
    if facts.is_removal or cover is None or facts.building.count == 0:
        return None
    if cover is GroundCover.TREES:
        return "Trees were removed to make room for buildings."
    return "Buildings were constructed on the bare land."


def phrase_roads(facts: ChangeFacts, _cover: GroundCover | None) -> str | None:
    """Say whether roads were built."""
    if facts.road is None:
        return None
    if facts.road.count == 0 or facts.is_removal:
        return "No, there are no new roads."
    return f"Yes, there {'is' if facts.road.count == 1 else 'are'} {count_noun(facts.road.count, 'new road')}."


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def phrase_again(facts: ChangeFacts, _cover: GroundCover | None) -> str:
    """Say once more whether anything changed."""
    return "Something has changed." if facts.is_changed else "Nothing has changed."


PHRASES: Mapping[str, Phrase] = {
    "classify": lambda facts, _: phrase_classify(facts),
    "count": lambda facts, _: phrase_count(facts),
    "locate": lambda facts, _: phrase_locate(facts),
    "objects": phrase_objects,
    "number": phrase_number,
    "place": phrase_place,
    "removed": phrase_removed,
    "built": phrase_built,
    "ground": phrase_ground,
    "roads": phrase_roads,
    "again": phrase_again,
}
"""How what is meant is answered from the facts; None where the truth does not tell. A description is given."""


def answer_intent(
    intent: str, facts: ChangeFacts, *, cover: GroundCover | None, description: str | None
) -> TargetText | None:
    """Answer what is meant by a question.

    Args:
        intent: ``describe``, or one of `PHRASES`.
        facts: What changed.
        cover: What the ground was covered with.
        description: The change in words; None where nobody has described it.

    Returns:
        None where the truth does not tell.
    """
    answer = description if intent == "describe" else PHRASES[intent](facts, cover)
    return TargetText(text=answer) if isinstance(answer, str) else answer


def phrase_cell(facts: ChangeFacts, *, cell: int) -> str | None:
    """Say whether anything changed in one cell; None where roads are not known and no building changed there."""
    kinds = (facts.building, facts.road)
    if any(kind is not None and kind.is_cell_changed[cell] for kind in kinds):
        what = [
            name
            for name, kind in zip(("buildings", "roads"), kinds, strict=True)
            if kind and kind.is_cell_changed[cell]
        ]
        return f"Yes, {list_names(what)} have changed there."
    return "No, nothing has changed there." if facts.road is not None or not facts.is_changed else None


def _pick(texts: Sequence[str], random: np.random.Generator) -> str:
    return texts[int(random.integers(len(texts)))]


def draw_unknowable(random: np.random.Generator) -> tuple[str, TargetText]:
    """Draw a question that no two images tell, each kind as often as any other, and the answer that declines it."""
    book = load_question_book()
    kind = book.unknowable[int(random.integers(len(book.unknowable)))]
    return _pick(kind, random), TargetText(text=book.cannot_tell)


def draw_cell(facts: ChangeFacts, *, random: np.random.Generator) -> tuple[str, TargetText] | None:
    """Draw a question about one cell and its answer; None where the truth does not tell of that cell."""
    cell = int(random.integers(len(CELL_NAMES)))
    answer = phrase_cell(facts, cell=cell)
    wording = _pick(load_question_book().cell.asked, random)
    return None if answer is None else (wording.replace(CELL_SLOT, CELL_NAMES[cell]), TargetText(text=answer))


def draw_question(
    facts: ChangeFacts, *, cover: GroundCover | None, random: np.random.Generator, description: str | None = None
) -> tuple[str, TargetText]:
    """Draw an open question and its answer: one that the truth can answer, or one that must be declined."""
    draw = random.random()
    if draw < UNKNOWABLE_FRACTION:
        return draw_unknowable(random)
    if draw < UNKNOWABLE_FRACTION + CELL_FRACTION and (asked := draw_cell(facts, random=random)) is not None:
        return asked
    known = _list_known(facts, cover=cover, description=description)
    intent = _pick([intent for intent in known if load_question_book().intents[intent].asked], random)
    return _pick(load_question_book().intents[intent].asked, random), known[intent]


def _list_known(facts: ChangeFacts, *, cover: GroundCover | None, description: str | None) -> dict[str, TargetText]:
    answers = {
        intent: answer_intent(intent, facts, cover=cover, description=description)
        for intent in load_question_book().intents
    }
    return {intent: answer for intent, answer in answers.items() if answer is not None}


def phrase_details(facts: ChangeFacts, *, description: str) -> TargetText:
    """Answer the dialogue's third question: the description, then how many buildings and where."""
    cells = facts.building.cells
    if not facts.is_changed or not facts.building.count:
        return TargetText(text=description)
    verb = "removed" if facts.is_removal else "built"
    place = f" at the {list_names(cells)} of the scene" if cells else ""
    count = facts.building.count
    return TargetText(text=f"{description} {count_noun(count, 'building')} {_has(count)} been {verb}{place}.")


def draw_dialogue_turn(
    facts: ChangeFacts, *, cover: GroundCover | None, description: str | None, random: np.random.Generator
) -> tuple[str, TargetText]:
    """Draw one of the turns of a dialogue that only make sense with the turns before them.

    The dialogue is ChangeChat's, of three turns, or ends in an open question, or is one of open questions alone.
    """
    if random.random() >= CHANGECHAT_FRACTION:
        return draw_free_turn(facts, cover=cover, description=description, random=random)
    first, second, third = load_prompt_book().dialogue
    history = [(first.text, phrase_classify(facts).text)]
    count = phrase_count(facts)
    turn = int(random.integers(3))
    if turn == 0:
        return write_prompt(history, question=second.text), count
    # What is not known of roads is no part of the answer, but what is said may well be read.
    history.append((second.text, count.text))
    if turn == 1 and description is not None:
        return write_prompt(history, question=third.text), phrase_details(facts, description=description)
    question, answer = draw_question(facts, cover=cover, random=random, description=description)
    return write_prompt(history, question=question), answer


def draw_free_turn(
    facts: ChangeFacts, *, cover: GroundCover | None, description: str | None, random: np.random.Generator
) -> tuple[str, TargetText]:
    """Draw a later turn of a dialogue of open questions, which refers back more often than not.

    All turns are answered from the same facts, so that none contradicts another.
    """
    book = load_question_book()
    known = _list_known(facts, cover=cover, description=description)
    history = []
    for _ in range(1 + int(random.integers(2))):
        question, answer = draw_question(facts, cover=cover, random=random, description=description)
        history.append((question, answer.text))
    later = [intent for intent in known if book.intents[intent].later]
    if random.random() >= LATER_FRACTION:
        question, answer = draw_question(facts, cover=cover, random=random, description=description)
    else:
        intent = _pick(later, random)
        question, answer = _pick(book.intents[intent].later, random), known[intent]
    return write_prompt(history, question=question), answer


DRAWN_KINDS = (PromptKind.ASK, PromptKind.ASK, PromptKind.DIALOGUE)
"""Kinds of prompt that have no fixed question, each as often as it is asked beside the fixed ones."""
