"""Questions in words that no training has seen: how many are answered rightly or declined, how many wrongly but surely.

What is asked is of `model.questions.book`: held-out wordings of each intent, held-out kinds of what no two
images tell. What is right follows from a tile's facts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.interface import CELL_NAMES, Answer, ChangeModel, Prompt, PromptKind
from model.pairs.captions import split_words
from model.pairs.facts import ChangeFacts
from model.pairs.folders import LabelledPair
from model.questions.book import CELL_SLOT, load_question_book
from model.questions.phrases import answer_intent, phrase_cell
from model.questions.replies import is_declined

N_PER_TILE = 20
UNKNOWABLE_FRACTION = 0.3
"""How many of a tile's questions cannot be answered by anybody."""
SURE_FROM = 0.8
COUNT_TOLERANCE = 0.2
"""A number of buildings may be off by one, or by this part of it."""
CELL_AGREEMENT = 0.5
"""Least overlap (intersection over union) of the cells that are named with those that changed."""


@dataclass(frozen=True, kw_only=True)
class Phrasing:
    """One question in held-out words, and the answer that the truth gives."""

    intent: str
    """``unknowable`` and ``cell`` beside the intents of the question book."""
    question: str
    truth: str


@dataclass(frozen=True, kw_only=True)
class PhrasingScores:
    """What became of the questions."""

    n_questions: int
    right: float
    """Share that is right, or rightly declined."""
    wrong_and_sure: float
    """Share that is wrong, with a confidence over `SURE_FROM`."""
    declined_unknowable: float
    """Of the questions that nobody can answer, the share that is declined."""
    right_by_intent: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def draw_phrasings(facts: ChangeFacts, *, n_questions: int, random: np.random.Generator) -> list[Phrasing]:
    """Draw held-out questions about one tile: intents and kinds by turns, none twice where there are enough."""
    book = load_question_book()
    n_unknowable = round(n_questions * UNKNOWABLE_FRACTION)
    chosen = random.permutation(len(book.held_out_unknowable))[:n_unknowable]
    declined = [
        Phrasing(intent="unknowable", question=book.held_out_unknowable[index], truth=book.cannot_tell)
        for index in chosen
    ]
    known = []
    for intent, wordings in book.intents.items():
        # A description has no one truth: of it only is asked whether it tells of a change.
        answer = answer_intent(intent, facts, cover=None, description=_describe_flag(facts))
        if answer is not None:
            known += [Phrasing(intent=intent, question=text, truth=answer.text) for text in wordings.held_out]
    for cell, name in enumerate(CELL_NAMES):
        if (said := phrase_cell(facts, cell=cell)) is not None:
            known += [
                Phrasing(intent="cell", question=text.replace(CELL_SLOT, name), truth=said)
                for text in book.cell.held_out
            ]
    taken = random.permutation(len(known))[: n_questions - len(declined)]
    return [*declined, *(known[index] for index in taken)]


def _describe_flag(facts: ChangeFacts) -> str:
    return "something has changed ." if facts.is_changed else "there is no difference ."


def is_right(phrasing: Phrasing, said: str) -> bool:
    """Tell whether an answer means what the truth does; words may differ."""
    if not said.strip() or is_declined(said) or is_declined(phrasing.truth):
        return is_declined(said) and is_declined(phrasing.truth)
    intent, truth = phrasing.intent, phrasing.truth
    if intent in {"classify", "removed", "built", "roads", "cell"}:
        return split_words(said)[:1] == split_words(truth)[:1]
    if intent in {"number", "count"}:
        found, expected = _read_buildings(said), _read_buildings(truth)
        return found is not None and abs(found - (expected or 0)) <= max(1, COUNT_TOLERANCE * (expected or 0))
    if intent in {"place", "locate"}:
        return _agree(_find_cells(said), _find_cells(truth))
    if intent == "objects":
        return _find_kinds(said) == _find_kinds(truth)
    if intent == "describe":
        return _tells_change(said) == _tells_change(truth)
    if intent == "again":
        # What yes or no would mean depends on the question; what stands behind it does not.
        told = re.sub(r"^\W*(?:yes|no)\b\W*", "", said.lower())
        return bool(told) and _tells_change(told) == _tells_change(truth)
    return said.strip().lower() == truth.lower()


def _read_buildings(text: str) -> int | None:
    """Read a number of buildings, which answers name last; none is 0, no number at all None."""
    numbers = re.findall(r"(\d+) (?:new )?building", text)
    if numbers:
        return int(numbers[-1])
    return 0 if re.search(r"\bno (?:new buildings|changes)\b", text) else None


def _find_cells(text: str) -> set[str]:
    # Roads are named first, and are not known everywhere.
    told = text.partition("buildings:")[2] or text
    return {name for name in CELL_NAMES if name in told}


def _agree(found: set[str], truth: set[str]) -> bool:
    return found == truth or (bool(truth) and len(found & truth) >= CELL_AGREEMENT * len(found | truth))


def _find_kinds(text: str) -> set[str]:
    return {kind for kind in ("building", "road") if kind in text.lower()}


def _tells_change(text: str) -> bool:
    words = set(split_words(text))
    return not words & {"no", "nothing", "same", "identical", "similar"}


def evaluate_phrasings(
    model: ChangeModel, pairs: Sequence[LabelledPair], *, n_per_tile: int = N_PER_TILE, seed: int = 0
) -> PhrasingScores:
    """Ask held-out questions about tiles, and compare the answers with the truth.

    Args:
        model: Answers the questions.
        pairs: Tiles with masks, all of one size or not.
        n_per_tile: Questions about each.
        seed: Draws them.
    """
    judged: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        asked = draw_phrasings(pair.facts, n_questions=n_per_tile, random=np.random.default_rng((seed, index)))
        for phrasing, answer in zip(asked, _ask(model, pair, asked), strict=True):
            judged[phrasing.intent].append((is_right(phrasing, answer.text), answer.confidence))
    return summarise_phrasings(judged)


def summarise_phrasings(judged: dict[str, list[tuple[bool, float]]]) -> PhrasingScores:
    """Put whether each answer was right, and its confidence, by intent into shares."""
    flat = [entry for of_intent in judged.values() for entry in of_intent]
    n_questions = max(len(flat), 1)
    shares = {intent: sum(right for right, _ in found) / len(found) for intent, found in sorted(judged.items())}
    return PhrasingScores(
        n_questions=len(flat),
        right=sum(right for right, _ in flat) / n_questions,
        wrong_and_sure=sum(not right and confidence > SURE_FROM for right, confidence in flat) / n_questions,
        declined_unknowable=shares.get("unknowable", 0.0),
        right_by_intent=shares,
    )


def _ask(model: ChangeModel, pair: LabelledPair, asked: Sequence[Phrasing]) -> list[Answer]:
    pixels = np.stack([pair.before, pair.after]).transpose(0, 3, 1, 2)[None]
    prompts = [
        Prompt(name=f"question_{index}", kind=PromptKind.ASK, text=phrasing.question)
        for index, phrasing in enumerate(asked)
    ]
    return [answer for (answer,) in model.answer_prompts(np.ascontiguousarray(pixels), prompts=prompts)]
