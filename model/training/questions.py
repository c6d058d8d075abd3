"""Open questions and dialogues about a pair, with answers that follow from what is known of it.

ChangeChat-105k's open questions were written by a language model. These are ours: about what, how many, where, built or
removed, and what was there before; asked in several wordings, and only where the truth tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model.conversation import write_prompt
from model.interface import CELL_NAMES, PromptKind
from model.pairs.captions import GroundCover
from model.pairs.facts import ChangeFacts, TargetText, phrase_classify, phrase_count
from model.prompts import load_prompt_book

Phrase = Callable[[ChangeFacts, GroundCover | None], str | None]


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """A question in several wordings, and how it is answered."""

    wordings: tuple[str, ...]
    phrase: Phrase
    """Gives the answer; None where the truth does not tell."""


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


QUESTIONS = (
    OpenQuestion(
        wordings=(
            "What types of objects have changed?",
            "What has changed?",
            "Which objects changed between the images?",
        ),
        phrase=phrase_objects,
    ),
    OpenQuestion(
        wordings=(
            "How many new buildings are there?",
            "How many buildings have been built?",
            "How many houses are new?",
        ),
        phrase=phrase_number,
    ),
    OpenQuestion(
        wordings=(
            "Where are the new buildings located?",
            "Where were buildings constructed?",
            "Where are the new houses?",
        ),
        phrase=phrase_place,
    ),
    OpenQuestion(
        wordings=("Have any buildings been removed?", "Were any houses demolished?", "Did buildings disappear?"),
        phrase=phrase_removed,
    ),
    OpenQuestion(
        wordings=("Have any buildings been built?", "Are there any new buildings?", "Did new houses appear?"),
        phrase=phrase_built,
    ),
    OpenQuestion(
        wordings=(
            "What happened to the trees and bare land?",
            "What did the buildings replace?",
            "What was there before?",
        ),
        phrase=phrase_ground,
    ),
    OpenQuestion(
        wordings=("Are there any new roads?", "Have any roads been built?", "Did new roads appear?"),
        phrase=phrase_roads,
    ),
)


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


def draw_question(
    facts: ChangeFacts, *, cover: GroundCover | None, random: np.random.Generator
) -> tuple[str, TargetText]:
    """Draw an open question that the truth can answer, and its answer."""
    asked = [(str(random.choice(question.wordings)), question.phrase(facts, cover)) for question in QUESTIONS]
    cell = int(random.integers(len(CELL_NAMES)))
    asked.append((f"Has anything changed at the {CELL_NAMES[cell]} of the scene?", phrase_cell(facts, cell=cell)))
    known = [(question, answer) for question, answer in asked if answer is not None]
    question, answer = known[int(random.integers(len(known)))]
    return question, TargetText(text=answer)


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
    facts: ChangeFacts, *, cover: GroundCover | None, description: str, random: np.random.Generator
) -> tuple[str, TargetText]:
    """Draw one of the turns of a dialogue that only make sense with the turns before them.

    The dialogue is ChangeChat's, of three turns, or ends in an open question.
    """
    first, second, third = load_prompt_book().dialogue
    history = [(first.text, phrase_classify(facts).text)]
    count = phrase_count(facts)
    turn = int(random.integers(3))
    if turn == 0:
        return write_prompt(history, question=second.text), count
    # What is not known of roads is no part of the answer, but what is said may well be read.
    history.append((second.text, count.text))
    if turn == 1:
        return write_prompt(history, question=third.text), phrase_details(facts, description=description)
    question, answer = draw_question(facts, cover=cover, random=random)
    return write_prompt(history, question=question), answer


DRAWN_KINDS = (PromptKind.ASK, PromptKind.DIALOGUE)
"""Kinds of prompt that have no fixed question."""
