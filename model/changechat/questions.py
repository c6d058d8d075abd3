"""Open questions and dialogues about a pair, with answers that follow from what is known of it.

ChangeChat-105k's open questions were written by a language model. These are ours, in the wordings of `questions.yaml`:
about what, how many, where, built or removed, and what was there before; asked only where the truth tells. Beside them
stand questions that no two images tell, which are declined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.conversation import write_prompt
from model.interface import CELL_NAMES, PromptKind
from model.pairs.captions import GroundCover
from model.pairs.facts import ChangeFacts, TargetText, phrase_classify, phrase_count
from model.prompts import load_prompt_book
from model.questions.book import CELL_SLOT, load_question_book
from model.questions.phrases import answer_intent, phrase_cell, phrase_details

UNKNOWABLE_FRACTION = 0.25
"""How often an open question is one that must be declined."""
CELL_FRACTION = 0.1
"""How often it is about one cell."""
CHANGECHAT_FRACTION = 0.5
"""How often a dialogue is ChangeChat's, of fixed turns."""
LATER_FRACTION = 0.6
"""How often a later turn of a free dialogue refers back, where what it asks for can be asked so."""


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
